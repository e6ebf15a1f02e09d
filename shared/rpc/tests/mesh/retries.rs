use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use contracts::memory::{RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient};
use rpc::{Channel, ChannelOptions, Client as _, Code, Fault};
use telemetry::Telemetry;

use crate::bystander::{Bystander, Running};

/// Is UNAVAILABLE for the first `times` calls; counts all.
fn absent(times: u32) -> (Bystander, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let bystander = Bystander::new(move |_| {
        let earlier = counter.fetch_add(1, Ordering::SeqCst);
        let outcome = if earlier < times { Err(Fault::new(Code::Unavailable, "not yet")) } else { Ok(()) };
        std::future::ready(outcome)
    });
    (bystander, calls)
}

#[tokio::test]
async fn a_read_is_repeated_until_the_server_is_back() {
    let (bystander, calls) = absent(2);
    let host = Running::start("memory", bystander);
    host.memory().recall(RecallRequest::default()).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_write_that_is_not_safe_to_repeat_is_made_once() {
    let (bystander, calls) = absent(1);
    let host = Running::start("memory", bystander);
    let status = host.memory().remember(RememberRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "not yet"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn repetitions_end_at_their_limit() {
    let (bystander, calls) = absent(u32::MAX);
    let host = Running::start("memory", bystander);
    let status = host.memory().recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(calls.load(Ordering::SeqCst), 1 + ChannelOptions::default().retries);
}

#[tokio::test]
async fn other_failures_are_not_repeated() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let host = Running::start(
        "memory",
        Bystander::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Err(Fault::new(Code::Internal, "broken")))
        }),
    );
    let status = host.memory().recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_in_a_service_is_internal_and_not_repeated() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let host = Running::start(
        "memory",
        Bystander::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            async { panic!("a mistake") }
        }),
    );
    let status = host.memory().recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "the service failed"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let telemetry = Telemetry::silent("test");
    let channel = Channel::lazy(&format!("http://{address}"), ChannelOptions::default(), telemetry).unwrap();
    let status = MemoryServiceClient::over(channel).recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_call_is_unavailable() {
    let (bystander, mut seen) = Bystander::stuck();
    let host = Running::start("memory", bystander);
    let mut client = host.memory();
    let call = host.telemetry.spawn(async move { client.remember(RememberRequest::default()).await });
    seen.recv().await.unwrap();
    host.kill().await;
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[test]
fn an_address_that_is_no_url_is_refused() {
    for wrong in ["", "localhost", "127.0.0.1:7102", "ftp://host", "http://"] {
        let made = Channel::lazy(wrong, ChannelOptions::default(), Telemetry::silent("test"));
        assert!(matches!(made, Err(rpc::Error::Url { .. })), "{wrong}");
    }
}
