use std::time::{Duration, Instant};

use contracts::{
    llm::GenerateStreamRequest,
    memory::{RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient},
};
use rpc::{Client as _, Code, Fault, HostSettings};
use tokio::{net::TcpStream, sync::Semaphore};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::bystander::{Bystander, LONG, Running};

#[tokio::test]
async fn a_call_under_way_is_finished_and_the_port_is_closed() {
    let gate = std::sync::Arc::new(Semaphore::new(0));
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let opener = gate.clone();
    let host = Running::start(
        "memory",
        Bystander::new(move |_| {
            sender.send(()).unwrap();
            let gate = gate.clone();
            async move {
                gate.acquire().await.map_err(|_| Fault::new(Code::Aborted, "gate is gone"))?.forget();
                Ok(())
            }
        }),
    );
    let mut client = host.memory();
    let call = host.telemetry.spawn(async move { client.remember(RememberRequest::default()).await });
    seen.recv().await.unwrap();
    let address = host.address;
    let mut watch =
        HealthClient::new(host.channel()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let done = host.stop();
    // The watch ends after the listener is closed.
    while let Ok(state) = watch.message().await {
        assert!(state.is_some(), "a watch that its host ends is not complete");
    }
    assert!(TcpStream::connect(address).await.is_err());
    opener.add_permits(1);
    call.await.unwrap().unwrap();
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_hold_a_shutdown() {
    let host = Running::start("memory", Bystander::telling().0);
    let silent = TcpStream::connect(host.address).await.unwrap();
    let mut client = host.memory();
    client.recall(RecallRequest::default()).await.unwrap();
    let began = Instant::now();
    host.stop().await.unwrap().unwrap();
    assert!(began.elapsed() < HostSettings::defaults().drain_timeout / 2, "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_stuck_call_holds_a_shutdown_no_longer_than_the_drain() {
    let drain_timeout = Duration::from_millis(100);
    let settings = HostSettings { drain_timeout, ..HostSettings::defaults() };
    let (bystander, mut seen) = Bystander::stuck();
    let host = Running::start_with("memory", &settings, bystander, |host| host);
    let captured = host.captured.clone();
    let mut client = host.memory();
    let call = host.telemetry.spawn(async move { client.remember(RememberRequest::default()).await });
    seen.recv().await.unwrap();
    let began = Instant::now();
    host.stop().await.unwrap().unwrap();
    assert!(drain_timeout / 2 <= began.elapsed() && began.elapsed() < LONG / 6, "{:?}", began.elapsed());
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    // The handler itself is gone too: its span has ended.
    captured.until(|spans| spans.iter().any(|span| span.name.ends_with("Remember"))).await;
}

#[tokio::test]
async fn new_calls_are_served_until_balancers_had_time_to_notice() {
    let drain_delay = Duration::from_millis(300);
    let settings = HostSettings { drain_delay, ..HostSettings::defaults() };
    let host = Running::start_with("memory", &settings, Bystander::telling().0, |host| host);
    host.health.serving();
    let mut health = HealthClient::new(host.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let (channel, address) = (host.channel(), host.address);
    let began = Instant::now();
    let done = host.stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    // On a connection of its own: the port is still open.
    MemoryServiceClient::over(channel).recall(RecallRequest::default()).await.unwrap();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    assert!(drain_delay <= began.elapsed(), "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).await.is_err());
    done.await.unwrap().unwrap();
    assert!(began.elapsed() < drain_delay + settings.drain_timeout / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_open_stream_ends_with_a_status_at_the_end_of_the_drain() {
    let drain_timeout = Duration::from_millis(400);
    let settings = HostSettings { drain_timeout, ..HostSettings::defaults() };
    let host = Running::start_with("llm", &settings, Bystander::stuck().0, |host| host);
    let mut pieces = host.llm().generate_stream(GenerateStreamRequest::default()).await.unwrap().into_inner();
    assert!(pieces.message().await.unwrap().is_some());
    let began = Instant::now();
    let done = host.stop();
    let status = pieces.message().await.unwrap_err();
    assert_eq!(Fault::from(&status).reason_word(), Some("DRAINING"));
    assert_eq!(status.code(), Code::Unavailable);
    done.await.unwrap().unwrap();
    assert!(drain_timeout / 2 <= began.elapsed() && began.elapsed() < LONG / 6, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_balancer_that_follows_health_loses_no_call_to_a_drain() {
    for _ in 0..3 {
        let settings = HostSettings { drain_delay: Duration::from_millis(200), ..HostSettings::defaults() };
        let leaving = Running::start_with("memory", &settings, Bystander::telling().0, |host| host);
        let staying = Running::start("memory", Bystander::telling().0);
        leaving.health.serving();
        let mut watch = HealthClient::new(leaving.channel())
            .watch(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        let (told, news) = tokio::sync::watch::channel(true);
        let (first, second) = (leaving.memory(), staying.memory());
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (mut first, mut second, news) = (first.clone(), second.clone(), news.clone());
                staying.telemetry.spawn(async move {
                    let mut here = 0;
                    while *news.borrow() {
                        // A write: nothing repeats it.
                        first.remember(RememberRequest::default()).await.unwrap();
                        here += 1;
                    }
                    second.remember(RememberRequest::default()).await.unwrap();
                    here
                })
            })
            .collect();
        // Under load, and not before it.
        first.clone().remember(RememberRequest::default()).await.unwrap();
        let done = leaving.stop();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        told.send(false).unwrap();
        let served: Vec<u32> =
            futures::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert!(served.iter().all(|calls| *calls > 0), "{served:?}");
        done.await.unwrap().unwrap();
    }
}
