//! The same loads over plain tonic and over ours: each test shows a fault of tonic 0.14 and that it is gone here. Where a
//! newer tonic no longer has one, its test fails, and what mends it can go.

use std::{sync::Arc, time::Duration};

use contracts::memory::{
    RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient,
    memory_service_server::MemoryServiceServer,
};
use rpc::{Channel, ChannelOptions, Client as _, Code};
use telemetry::Telemetry;
use tokio::sync::Notify;
use tonic::transport::{Endpoint, Server, server::TcpIncoming};

use crate::bystander::{Bystander, Running, free_port};

const CALLS: u32 = 300;

fn answering() -> Bystander {
    Bystander::new(|_| std::future::ready(Ok(())))
}

/// Counts the calls that fail, one after another.
macro_rules! failures {
    ($client:expr) => {{
        let mut failed = 0;
        for _ in 0..CALLS {
            failed += u32::from($client.remember(RememberRequest::default()).await.is_err());
        }
        failed
    }};
}

#[tokio::test]
async fn a_dead_endpoint_of_three_fails_calls_of_a_plain_channel_only() {
    let (one, other) = (Running::start("one", answering()), Running::start("other", answering()));
    let urls = [one.url(), format!("http://127.0.0.1:{}", free_port()), other.url()];
    let endpoints = urls.iter().map(|url| Endpoint::from_shared(url.clone()).unwrap());
    let mut plain = MemoryServiceClient::new(tonic::transport::Channel::balance_list(endpoints));
    let before = failures!(plain);

    let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
    let channel = Channel::lazy(&urls.join(","), options, Telemetry::silent("test")).unwrap();
    let mut ours = MemoryServiceClient::over(channel);
    let after = failures!(ours);
    println!("1 of 3 endpoints dead: {before} of {CALLS} calls fail over plain tonic, {after} over ours");
    assert!(before > 0);
    assert_eq!(after, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_unknown_to_a_plain_channel() {
    let (bystander, mut seen) = Bystander::stuck();
    let host = Running::start("memory", bystander);
    let plain = Endpoint::from_shared(host.url()).unwrap().connect_lazy();
    let (mut plain, mut ours) = (MemoryServiceClient::new(plain), host.memory());
    let before = host.telemetry.spawn(async move { plain.remember(RememberRequest::default()).await });
    let after = host.telemetry.spawn(async move { ours.remember(RememberRequest::default()).await });
    seen.recv().await.unwrap();
    seen.recv().await.unwrap();
    host.kill().await;
    let code = |outcome: Result<_, tonic::Status>| outcome.map(drop).unwrap_err().code();
    let (before, after) = (code(before.await.unwrap().map(drop)), code(after.await.unwrap().map(drop)));
    println!("connection lost: {before:?} over plain tonic, {after:?} over ours");
    assert_eq!((before, after), (Code::Unknown, Code::Unavailable));
}

#[tokio::test]
async fn an_expired_deadline_is_cancelled_to_a_plain_channel_and_server() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let (telemetry, stop) = (Telemetry::silent("test"), Arc::new(Notify::new()));
    let stopped = stop.clone();
    let serving = telemetry.spawn(async move {
        let server = Server::builder().add_service(MemoryServiceServer::new(Bystander::stuck().0));
        server.serve_with_incoming_shutdown(incoming, async move { stopped.notified().await }).await
    });
    let short = || {
        let mut request = tonic::Request::new(RecallRequest::default());
        request.set_timeout(Duration::from_millis(50));
        request
    };
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let before = MemoryServiceClient::new(plain).recall(short()).await.unwrap_err().code();
    let host = Running::start("memory", Bystander::stuck().0);
    let after = host.memory().recall(short()).await.unwrap_err().code();
    println!("deadline over: {before:?} over plain tonic, {after:?} over ours");
    assert_eq!((before, after), (Code::Cancelled, Code::DeadlineExceeded));
    stop.notify_one();
    serving.await.unwrap().unwrap();
}

/// Leaves `LATE` calls a moment before they are answered, and returns how many others on the connection are harmed by it.
macro_rules! harmed_by_late_answers {
    ($client:expr, $telemetry:expr) => {{
        let leaving = (0..LEAVERS).map(|_| {
            let client = $client.clone();
            $telemetry.spawn(async move {
                for _ in 0..LATE / LEAVERS {
                    let mut client = client.clone();
                    let call = client.recall(RecallRequest::default());
                    drop(tokio::time::timeout(Duration::from_millis(1), call).await);
                }
            })
        });
        let leaving = futures::future::join_all(leaving);
        let mut client = $client.clone();
        let others = async {
            let (mut made, mut harmed) = (0, 0);
            loop {
                made += 1;
                harmed += u32::from(client.remember(RememberRequest::default()).await.is_err());
                if made >= CALLS && harmed > 0 || made >= 10 * CALLS {
                    return harmed;
                }
            }
        };
        futures::future::join(leaving, others).await.1
    }};
}

const LEAVERS: u32 = 64;
const LATE: u32 = 6_400;

#[tokio::test]
async fn answers_that_come_too_late_harm_no_other_call_of_a_channel() {
    let host = Running::start(
        "memory",
        Bystander::new(|seen| async move {
            if seen.rpc == "recall" {
                // Real time: the answer comes when its caller has just left.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        }),
    );
    let telemetry = Telemetry::silent("test");
    let plain = MemoryServiceClient::new(Endpoint::from_shared(host.url()).unwrap().connect_lazy());
    let before = harmed_by_late_answers!(plain, telemetry);
    let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
    let ours = MemoryServiceClient::over(host.channel_with(options));
    let after = harmed_by_late_answers!(ours, telemetry);
    println!("{LATE} answers too late: {before} others fail over plain tonic, {after} over ours");
    assert_eq!(after, 0);
}
