//! The state of a host's services, as `grpc.health.v1` tells it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use crate::Fault;

/// The name under which a prober learns that the process answers at all, whatever it can do.
const LIVENESS: &str = "liveness";
/// The name under which a prober learns what it learns under `""`.
const READINESS: &str = "readiness";

/// Sets which services of a host are serving. All begin as NOT_SERVING, and so does `""`, the host as a whole.
///
/// Cheap to clone. A service counts as serving when it was set so, its last check (if it has one) went well, and the host
/// does not drain. `""` counts as serving when all services do, and it was set so itself; `readiness` is another name of it.
/// `liveness` counts as serving as long as anything answers.
///
/// A part (`package.Service/peer`, see [`crate::Host::part`]) is something that a service can do without for a while: a
/// peer, an upstream. It is UNKNOWN until something is heard of it, and never counts for its service or for `""`.
#[derive(Clone, Debug)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    names: BTreeMap<String, Entry>,
    draining: bool,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Service {
        set: bool,
        checked: bool,
    },
    /// What was heard last.
    Part(Option<bool>),
}

impl Health {
    pub(crate) fn new() -> Self {
        let health = Self(Arc::new(watch::Sender::new(State::default())));
        health.register("");
        health
    }

    pub(crate) fn register(&self, service: &str) {
        self.insert(service, Entry::Service { set: false, checked: true });
    }

    pub(crate) fn register_part(&self, part: &str) {
        self.insert(part, Entry::Part(None));
    }

    /// Sets every service and `""` to SERVING.
    pub fn serving(&self) {
        self.set_all(true);
    }

    /// Sets every service and `""` to NOT_SERVING.
    pub fn not_serving(&self) {
        self.set_all(false);
    }

    /// Sets one service or part, by its full name (`athena.memory.v1.MemoryService`, or `""`), and returns whether that is news.
    /// An unknown name is passed over.
    pub fn set(&self, name: &str, serving: bool) -> bool {
        self.change(name, |entry| match entry {
            Entry::Service { set, .. } => std::mem::replace(set, serving) != serving,
            Entry::Part(heard) => heard.replace(serving) != Some(serving),
        })
    }

    /// Returns whether a service or part is serving; `None` if the host has none of that name. A part of which nothing was
    /// heard yet is not.
    #[must_use]
    pub fn is_serving(&self, name: &str) -> Option<bool> {
        Some(self.0.borrow().status(name)? == ServingStatus::Serving)
    }

    /// Takes the outcome of a service's check, and returns whether that is news.
    pub(crate) fn checked(&self, service: &str, fine: bool) -> bool {
        self.change(service, |entry| match entry {
            Entry::Service { checked, .. } => std::mem::replace(checked, fine) != fine,
            Entry::Part(_) => false,
        })
    }

    /// Ends the serving for good, and returns whether anything was serving.
    pub(crate) fn drain(&self) -> bool {
        let mut served = false;
        self.0.send_modify(|state| {
            let own = state.names.iter().filter(|(name, entry)| !name.is_empty() && entry.is_service());
            served = !state.draining && own.into_iter().any(|(_, entry)| entry.is_fine());
            state.draining = true;
        });
        served
    }

    /// Returns every name with its state.
    pub(crate) fn all(&self) -> HashMap<String, HealthCheckResponse> {
        let state = self.0.borrow();
        let names = state.names.keys().map(String::as_str).chain([LIVENESS, READINESS]);
        let known = names.filter_map(|name| Some((name.to_owned(), response(state.status(name)?))));
        known.collect()
    }

    fn insert(&self, name: &str, entry: Entry) {
        self.0.send_modify(|state| {
            state.names.insert(name.to_owned(), entry);
        });
    }

    fn set_all(&self, serving: bool) {
        self.0.send_modify(|state| {
            for entry in state.names.values_mut() {
                if let Entry::Service { set, .. } = entry {
                    *set = serving;
                }
            }
        });
    }

    /// Changes an entry; `change` says whether it did, so that only news wake the watches.
    fn change(&self, name: &str, change: impl FnOnce(&mut Entry) -> bool) -> bool {
        self.0.send_if_modified(|state| state.names.get_mut(name).is_some_and(change))
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
    fn status(&self, name: &str) -> Option<ServingStatus> {
        if name == LIVENESS {
            return Some(ServingStatus::Serving);
        }
        let name = if name == READINESS { "" } else { name };
        let entry = self.names.get(name)?;
        let whole = !name.is_empty() || self.names.values().all(Entry::is_fine);
        Some(match entry {
            _ if self.draining => ServingStatus::NotServing,
            Entry::Part(None) => ServingStatus::Unknown,
            Entry::Part(Some(false)) => ServingStatus::NotServing,
            Entry::Part(Some(true)) => ServingStatus::Serving,
            Entry::Service { .. } if whole && entry.is_fine() => ServingStatus::Serving,
            Entry::Service { .. } => ServingStatus::NotServing,
        })
    }
}

impl Entry {
    fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }

    /// Whether the host as a whole may serve.
    fn is_fine(&self) -> bool {
        match self {
            Self::Service { set, checked } => *set && *checked,
            Self::Part(_) => true,
        }
    }
}

/// The rpc service over a [`Health`].
#[derive(Clone, Debug)]
pub(crate) struct Answers(pub(crate) Health);

#[tonic::async_trait]
impl health_server::Health for Answers {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = self.0.0.borrow().status(&service);
        let status =
            status.ok_or_else(|| Fault::new(Code::NotFound, "this host has no service of that name"))?;
        Ok(Response::new(response(status)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let states = self.0.follow(request.into_inner().service);
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
        health.set("a", true);
        assert!(health.drain() && !health.drain());
        health.serving();
        assert_eq!(health.is_serving("a"), Some(false));
    }

    #[test]
    fn a_part_is_unknown_until_it_is_heard_of_and_takes_nothing_down() {
        let health = health();
        health.register_part("a/peer");
        health.serving();
        let status = |name: &str| health.0.borrow().status(name).unwrap();
        assert_eq!(status("a/peer"), ServingStatus::Unknown);
        health.set("a/peer", true);
        assert_eq!(status("a/peer"), ServingStatus::Serving);
        assert!(health.set("a/peer", false) && !health.set("a/peer", false));
        assert_eq!(status("a/peer"), ServingStatus::NotServing);
        assert_eq!((status(""), status("a")), (ServingStatus::Serving, ServingStatus::Serving));
        health.drain();
        health.set("a/peer", true);
        assert_eq!(status("a/peer"), ServingStatus::NotServing);
    }

    #[test]
    fn probes_have_names_of_their_own() {
        let health = health();
        assert_eq!(
            (health.is_serving("liveness"), health.is_serving("readiness")),
            (Some(true), Some(false))
        );
        health.serving();
        assert_eq!(health.is_serving("readiness"), Some(true));
        health.drain();
        assert_eq!(
            (health.is_serving("liveness"), health.is_serving("readiness")),
            (Some(true), Some(false))
        );
        let all = health.all();
        let names: std::collections::BTreeSet<_> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "a", "b", "liveness", "readiness"].into());
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
