#![expect(clippy::unwrap_used, reason = "a test that cannot set up its host has failed")]

use std::time::Duration;

use contracts::memory::memory_service_server::MemoryServiceServer;
use rpc::{Host, HostSettings, Serving};
use telemetry::Telemetry;
use tokio::sync::oneshot;

use crate::bystander::{Bystander, LONG};

const MEMORY: &str = "athena.memory.v1.MemoryService";

fn host(telemetry: &Telemetry) -> Host {
    let settings = HostSettings { drain_delay: LONG * 10, ..HostSettings::defaults() };
    let host = Host::bind(&settings, 0, telemetry.clone(), clock::Clock::system()).unwrap();
    host.add(MemoryServiceServer::new(Bystander::telling().0))
}

#[derive(Debug, thiserror::Error)]
#[error("not opened")]
struct NotOpened;

impl From<rpc::Error> for NotOpened {
    fn from(_: rpc::Error) -> Self {
        Self
    }
}

#[tokio::test]
async fn a_host_answers_while_its_store_is_opened_and_serves_when_it_is() {
    let telemetry = Telemetry::silent("memory");
    let host = host(&telemetry);
    let url = format!("http://{}", host.local_addr());
    let (open, opened) = oneshot::channel::<()>();
    let (finish, finished) = oneshot::channel::<()>();
    let (stop, stopped) = oneshot::channel::<()>();
    let opening = async move {
        opened.await.map_err(|_| NotOpened)?;
        // Work beside the serving, which is waited for.
        Ok::<_, NotOpened>(async move { drop(finished.await) })
    };
    let run = telemetry.spawn(host.run_opening(async { drop(stopped.await) }, opening));
    let channel = rpc::Channel::lazy(&url, rpc::ChannelOptions::default(), telemetry.clone()).unwrap();
    assert_eq!(rpc::states(&channel).await.unwrap()[MEMORY], Serving::No);
    open.send(()).unwrap();
    tokio::time::timeout(LONG, rpc::until_serving(&channel, MEMORY)).await.unwrap().unwrap();
    // Ends the long delay of this host's drain, too.
    drop(stop);
    let draining = async { while rpc::states(&channel).await.unwrap()[MEMORY] == Serving::Yes {} };
    tokio::time::timeout(LONG, draining).await.unwrap();
    finish.send(()).unwrap();
    run.abort();
}

#[tokio::test]
async fn a_host_whose_store_cannot_be_opened_stops_at_once() {
    let telemetry = Telemetry::silent("memory");
    let opening = async { Err::<std::future::Ready<()>, _>(NotOpened) };
    let run = host(&telemetry).run_opening(std::future::pending(), opening);
    // Its drain has a long delay, which is for balancers that know it.
    tokio::time::timeout(Duration::from_secs(20), run).await.unwrap().unwrap_err();
}
