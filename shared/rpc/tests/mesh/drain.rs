use std::time::{Duration, Instant};

use contracts::memory::{RecallRequest, RememberRequest};
use rpc::{Code, Fault, HostSettings};
use tokio::{net::TcpStream, sync::Semaphore};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

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
