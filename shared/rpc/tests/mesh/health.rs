use std::{collections::BTreeMap, time::UNIX_EPOCH};

use clock::Clock;
use contracts::memory::memory_service_server::MemoryServiceServer;
use rpc::{Code, Host, HostSettings, Serving};
use telemetry::Telemetry;
use tokio::sync::watch;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::bystander::{Bystander, LONG, Running};

const MEMORY: &str = "athena.memory.v1.MemoryService";

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn services_begin_as_not_serving_and_serve_when_they_are_ready() {
    let host = Running::start("memory", Bystander::telling().0);
    let mut client = HealthClient::new(host.channel());
    for service in ["", MEMORY] {
        let answer = client.check(asked(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service:?}");
    }
    host.health.serving();
    for service in ["", MEMORY] {
        let answer = client.check(asked(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(client.check(asked("nobody")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_follows_its_service_and_ends_with_the_drain() {
    let host = Running::start("memory", Bystander::telling().0);
    let mut client = HealthClient::new(host.channel());
    let mut watch = client.watch(asked(MEMORY)).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    host.health.serving();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let done = host.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_service_whose_check_fails_is_not_serving_until_it_passes() {
    let (clock, hand) = Clock::manual(UNIX_EPOCH);
    let telemetry = Telemetry::silent("memory");
    let settings = HostSettings::defaults();
    let (fine, state) = watch::channel(false);
    let host = Host::bind(&settings, 0, telemetry.clone(), clock)
        .unwrap()
        .add(MemoryServiceServer::new(Bystander::telling().0))
        .check(MEMORY, move || std::future::ready(*state.borrow()));
    let health = host.health();
    health.serving();
    let run = telemetry.spawn(host.run(std::future::pending()));
    for serving in [false, true] {
        fine.send(serving).unwrap();
        let turn = async {
            while health.is_serving(MEMORY) != Some(serving) {
                hand.advance(settings.health_check_interval);
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, turn).await.unwrap();
    }
    run.abort();
}

#[tokio::test]
async fn one_call_lists_every_name_and_a_lost_part_takes_nothing_down() {
    let part = "athena.memory.v1.MemoryService/upstream";
    let host = Running::start_with("memory", &HostSettings::defaults(), Bystander::telling().0, |host| {
        host.part(part, futures::stream::pending())
    });
    host.health.serving();
    let state = |states: &BTreeMap<String, Serving>, name: &str| states.get(name).copied();
    let states = rpc::states(&host.channel()).await.unwrap();
    assert_eq!(state(&states, part), Some(Serving::Unknown));
    assert_eq!(state(&states, ""), Some(Serving::Yes));
    host.health.set(part, false);
    let states = rpc::states(&host.channel()).await.unwrap();
    assert_eq!(state(&states, part), Some(Serving::No));
    for name in ["", MEMORY, "athena.llm.v1.LlmGatewayService", "liveness", "readiness"] {
        assert_eq!(state(&states, name), Some(Serving::Yes), "{name}");
    }
    rpc::until_serving(&host.channel(), MEMORY).await.unwrap();
    assert_eq!(state(&states, "nobody"), None);
}

#[tokio::test]
async fn a_part_follows_its_peer_through_loss_and_return() {
    let part = "athena.memory.v1.MemoryService/peer";
    let peer = Running::start("peer", Bystander::telling().0);
    let states = rpc::follow(peer.channel(), MEMORY);
    let host = Running::start_with("memory", &HostSettings::defaults(), Bystander::telling().0, |host| {
        host.part(part, states)
    });
    host.health.serving();
    let becomes = async |serving| {
        let there = async {
            while host.health.is_serving(part) != Some(serving) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, there).await.unwrap();
    };
    peer.health.serving();
    becomes(true).await;
    peer.health.set(MEMORY, false);
    becomes(false).await;
    peer.health.set(MEMORY, true);
    becomes(true).await;
    let address = peer.address;
    peer.kill().await;
    becomes(false).await;
    assert_eq!(host.health.is_serving(MEMORY), Some(true));
    let telemetry = Telemetry::silent("peer");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let back = Host::over(listener, &HostSettings::defaults(), telemetry.clone(), Clock::system()).unwrap();
    let back = back.add(MemoryServiceServer::new(Bystander::telling().0));
    back.health().serving();
    telemetry.spawn(back.run(std::future::pending()));
    becomes(true).await;
}
