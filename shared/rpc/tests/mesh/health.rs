use std::time::UNIX_EPOCH;

use clock::Clock;
use contracts::memory::memory_service_server::MemoryServiceServer;
use rpc::{Code, Host, HostSettings};
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
