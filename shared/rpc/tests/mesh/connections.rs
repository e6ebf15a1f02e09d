#![expect(clippy::unwrap_used, reason = "a test that cannot set up its host has failed")]

use std::time::Duration;

use contracts::memory::{RecallRequest, memory_service_client::MemoryServiceClient};
use futures::stream::{FuturesUnordered, StreamExt as _};
use rpc::{Code, HostSettings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use tonic::{Status, body::Body, client::GrpcService};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::bystander::{Bystander, LONG, Running};

fn start(settings: &HostSettings) -> Running {
    Running::start_with("memory", settings, Bystander::telling().0, |host| host)
}

/// Asks for a page on a connection of its own, which stays open.
async fn ask(host: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    stream
}

async fn is_answered(stream: &mut TcpStream) {
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let host = start(&HostSettings { max_connections: 2, ..HostSettings::defaults() });
    let (mut first, mut second) = (ask(&host).await, ask(&host).await);
    is_answered(&mut first).await;
    is_answered(&mut second).await;
    let mut third = ask(&host).await;
    // Real time: that nothing happens can only be seen by waiting.
    let waited = tokio::time::timeout(Duration::from_millis(200), third.read_u8()).await;
    assert!(waited.is_err(), "{waited:?}");
    drop(first);
    tokio::time::timeout(LONG, is_answered(&mut third)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_gives_its_room_up() {
    let handshake_timeout = Duration::from_millis(100);
    let host = start(&HostSettings { max_connections: 2, handshake_timeout, ..HostSettings::defaults() });
    let mut silent = TcpStream::connect(host.address).await.unwrap();
    let mut half = TcpStream::connect(host.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    host.memory().recall(RecallRequest::default()).await.unwrap();
    for stream in [&mut silent, &mut half] {
        let mut rest = Vec::new();
        // A reset is as good an end as any.
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
}

/// Calls from sixteen tasks until `end`; returns how many succeeded, and what the others said.
async fn load<T>(client: MemoryServiceClient<T>, end: Instant) -> (u64, Vec<Status>)
where
    T: GrpcService<Body> + Clone,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let callers = (0..16).map(|_| {
        let mut client = client.clone();
        async move {
            let (mut done, mut failed) = (0, Vec::new());
            while Instant::now() < end {
                match client.recall(RecallRequest::default()).await {
                    Ok(_) => done += 1,
                    Err(status) => failed.push(status),
                }
            }
            (done, failed)
        }
    });
    let outcomes = callers.collect::<FuturesUnordered<_>>().collect::<Vec<_>>().await;
    let done = outcomes.iter().map(|(done, _)| done).sum();
    (done, outcomes.into_iter().flat_map(|(_, failed)| failed).collect())
}

#[tokio::test]
async fn no_call_fails_when_connections_end_for_their_age() {
    let age = Duration::from_millis(500);
    let host = start(&HostSettings { max_connection_age: age, ..HostSettings::defaults() });
    // tonic's own client loses the calls that it has not sent yet when it hears of the end.
    let plain = tonic::transport::Endpoint::from_shared(host.url()).unwrap().connect_lazy();
    let (done, failed) = load(MemoryServiceClient::new(plain), Instant::now() + age * 4).await;
    println!("connections of 500 ms for 2 s, tonic's channel: {done} calls, {} failed", failed.len());
    assert!(failed.iter().all(|status| status.message().contains("canceled")), "{failed:?}");
    let (done, failed) = load(host.memory(), Instant::now() + age * 4).await;
    println!("connections of 500 ms for 2 s, our channel: {done} calls, {} failed", failed.len());
    assert!(failed.is_empty() && done > 100, "{done} {failed:?}");
}

#[tokio::test]
async fn a_watch_ends_with_the_age_of_its_connection() {
    let host =
        start(&HostSettings { max_connection_age: Duration::from_millis(200), ..HostSettings::defaults() });
    let mut client = HealthClient::new(host.channel());
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let ended = tokio::time::timeout(LONG, watch.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_a_client_still_says_while_its_connection_ends_is_no_reset() {
    let host = start(&HostSettings::defaults());
    let mut stream = TcpStream::connect(host.address).await.unwrap();
    let last = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(last).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    // The first word to a socket that is closed is answered by a reset; the next one meets it.
    for _ in 0..100 {
        stream.write_all(b"late").await.unwrap();
    }
}
