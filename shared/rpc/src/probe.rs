//! Asks other hosts how they are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_prost::ProstCodec;

use crate::{
    Channel, Fault,
    chance::Chance,
    listing::{self, ListRequest, ListResponse},
};

/// Mean wait before a broken watch is opened again; each failure doubles it.
const FIRST: Duration = Duration::from_millis(250);
/// Longest mean wait.
const LONGEST: Duration = Duration::from_secs(5);

/// What a host says of one of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It serves.
    Yes,
    /// It does not serve now.
    No,
    /// The host has not heard of it yet, or knows no such name.
    Unknown,
}

/// Waits until the service of this full name says that it serves (`""`: the whole host), by its own stream of health.
///
/// # Errors
/// As the call fails: UNAVAILABLE if nothing answers, or the stream ends before.
pub async fn until_serving(channel: &Channel, service: &str) -> Result<(), Fault> {
    let fault = |status: Status| Fault::from(&status);
    let request = HealthCheckRequest { service: service.to_owned() };
    let watch = HealthClient::new(channel.clone()).watch(request).await.map_err(fault)?;
    let mut states = watch.into_inner();
    while let Some(state) = states.message().await.map_err(fault)? {
        if state.status() == ServingStatus::Serving {
            return Ok(());
        }
    }
    Err(Fault::new(Code::Unavailable, "the stream of health ended"))
}

/// Follows whether the service of this full name serves, for as long as the stream is polled; a host that cannot be reached,
/// or knows no such name, does not serve it. For [`crate::Host::part`].
///
/// It stays subscribed (`Watch`), and asks again after a jittered wait when that breaks.
pub fn follow(channel: Channel, service: &'static str) -> impl Stream<Item = bool> + Send {
    let chance = Arc::new(Chance::new());
    let attempts = futures::stream::unfold(0, move |failures: u32| {
        let (channel, chance) = (channel.clone(), Arc::clone(&chance));
        async move {
            let request = HealthCheckRequest { service: service.to_owned() };
            let watch = HealthClient::new(channel).watch(request).await;
            let next = if watch.is_ok() { 0 } else { failures.saturating_add(1) };
            let states = match watch {
                Ok(states) => {
                    let states = states.into_inner().take_while(|state| std::future::ready(state.is_ok()));
                    states.map(|state| state.is_ok_and(|it| it.status() == ServingStatus::Serving)).boxed()
                }
                Err(_) => futures::stream::empty().boxed(),
            };
            let pause = chance.backoff(FIRST, LONGEST, failures);
            let pause = async move { tokio::time::sleep(pause).await };
            let pause = futures::stream::once(pause).filter_map(|()| std::future::ready(None));
            Some((states.chain(futures::stream::iter([false])).chain(pause), next))
        }
    });
    attempts.flatten()
}

/// Turns the last outcome that a watch holds, if there is one yet, into states for [`crate::Host::part`].
pub fn outcomes(last: watch::Receiver<Option<bool>>) -> impl Stream<Item = bool> + Send {
    WatchStream::new(last).filter_map(std::future::ready)
}

/// Asks a host for all of its names and their states: services, their parts (`service/part`), `""`, `liveness` and
/// `readiness`.
///
/// # Errors
/// As the call fails: UNAVAILABLE if nothing answers, UNIMPLEMENTED if that is no host of ours.
pub async fn states(channel: &Channel) -> Result<BTreeMap<String, Serving>, Fault> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let fault = |status: Status| Fault::from(&status);
    client.ready().await.map_err(fault)?;
    let codec = ProstCodec::<ListRequest, ListResponse>::default();
    let path = PathAndQuery::from_static(listing::PATH);
    let answer = client.unary(tonic::Request::new(ListRequest {}), path, codec).await.map_err(fault)?;
    let states = answer.into_inner().statuses.into_iter();
    Ok(states.map(|(name, response)| (name, state_of(&response))).collect())
}

fn state_of(response: &HealthCheckResponse) -> Serving {
    match response.status() {
        ServingStatus::Serving => Serving::Yes,
        ServingStatus::NotServing => Serving::No,
        ServingStatus::Unknown | ServingStatus::ServiceUnknown => Serving::Unknown,
    }
}
