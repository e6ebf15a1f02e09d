//! The state of a host's services, as `grpc.health.v1` tells it.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use crate::{Draining, Fault};

/// Sets which services of a host are serving. All begin as NOT_SERVING, and so does `""`, the host as a whole.
///
/// Cheap to clone. A service counts as serving when it was set so, its last check (if it has one) went well, and the host
/// does not drain. `""` counts as serving when all services do, and it was set so itself.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    services: BTreeMap<String, Entry>,
    draining: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    set: bool,
    checked: bool,
}

impl Health {
    pub(crate) fn new() -> Self {
        let health = Self(Arc::new(watch::Sender::new(State::default())));
        health.register("");
        health
    }

    pub(crate) fn register(&self, service: &str) {
        self.0.send_modify(|state| {
            state.services.insert(service.to_owned(), Entry { set: false, checked: true });
        });
    }

    /// Sets every service and `""` to SERVING.
    pub fn serving(&self) {
        self.set_all(true);
    }

    /// Sets every service and `""` to NOT_SERVING.
    pub fn not_serving(&self) {
        self.set_all(false);
    }

    /// Sets one service, by its full name (`athena.memory.v1.MemoryService`, or `""`). An unknown name is passed over.
    pub fn set(&self, service: &str, serving: bool) {
        self.change(service, |entry| entry.set = serving);
    }

    /// Returns whether a service is serving; `None` if the host has none of that name.
    #[must_use]
    pub fn is_serving(&self, service: &str) -> Option<bool> {
        self.0.borrow().is_serving(service)
    }

    pub(crate) fn checked(&self, service: &str, fine: bool) {
        self.change(service, |entry| entry.checked = fine);
    }

    /// Ends the serving for good.
    pub(crate) fn drain(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    fn set_all(&self, serving: bool) {
        self.0.send_modify(|state| state.services.values_mut().for_each(|entry| entry.set = serving));
    }

    fn change(&self, service: &str, change: impl FnOnce(&mut Entry)) {
        self.0.send_modify(|state| {
            if let Some(entry) = state.services.get_mut(service) {
                change(entry);
            }
        });
    }

    /// Returns the state of a service now and after each change, until the host is gone.
    fn follow(&self, service: String) -> impl Stream<Item = ServingStatus> + Send + use<> {
        let changes = tokio_stream::wrappers::WatchStream::new(self.0.subscribe());
        let mut last = None;
        changes.filter_map(move |state| {
            let status = state.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
            let news = (last != Some(status)).then_some(status);
            last = Some(status);
            std::future::ready(news)
        })
    }
}

impl State {
    fn is_serving(&self, service: &str) -> Option<bool> {
        let entry = self.services.get(service)?;
        let own = entry.is_fine() && !self.draining;
        Some(own && (!service.is_empty() || self.services.values().all(Entry::is_fine)))
    }

    fn status(&self, service: &str) -> Option<ServingStatus> {
        self.is_serving(service)
            .map(|yes| if yes { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

impl Entry {
    fn is_fine(&self) -> bool {
        self.set && self.checked
    }
}

/// The rpc service over a [`Health`]. Its watches end when the host drains: they would keep the connection open.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    pub(crate) health: Health,
    pub(crate) draining: Draining,
}

#[tonic::async_trait]
impl health_server::Health for Answers {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = self.health.0.borrow().status(&service);
        let status =
            status.ok_or_else(|| Fault::new(Code::NotFound, "this host has no service of that name"))?;
        Ok(Response::new(response(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let states = self.health.follow(request.into_inner().service);
        // The drain itself is a change, and the last one: it is told before the end.
        let last = self.draining.started();
        let states = states.take_until(Box::pin(async move {
            last.await;
            tokio::task::yield_now().await;
        }));
        Ok(Response::new(states.map(|status| Ok(response(status))).boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let health = Health::new();
        health.register("a");
        health.register("b");
        health
    }

    #[test]
    fn everything_begins_as_not_serving() {
        let health = health();
        for service in ["", "a", "b"] {
            assert_eq!(health.is_serving(service), Some(false));
        }
        assert_eq!(health.is_serving("c"), None);
    }

    #[test]
    fn the_whole_serves_only_if_every_part_does() {
        let health = health();
        health.serving();
        assert_eq!(health.is_serving(""), Some(true));
        health.set("b", false);
        assert_eq!((health.is_serving(""), health.is_serving("a")), (Some(false), Some(true)));
        health.set("b", true);
        health.checked("a", false);
        assert_eq!((health.is_serving(""), health.is_serving("a")), (Some(false), Some(false)));
    }

    #[test]
    fn a_drain_is_for_good() {
        let health = health();
        health.serving();
        health.drain();
        health.serving();
        assert_eq!(health.is_serving("a"), Some(false));
    }

    #[tokio::test]
    async fn a_watch_tells_each_change_once() {
        let health = health();
        let mut states = Box::pin(health.follow("a".into()));
        assert_eq!(states.next().await, Some(ServingStatus::NotServing));
        health.set("b", true);
        health.set("a", true);
        assert_eq!(states.next().await, Some(ServingStatus::Serving));
    }
}
