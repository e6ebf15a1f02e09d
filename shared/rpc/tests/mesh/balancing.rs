//! Several servers behind one channel, and one server that comes and goes.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::memory::{RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient};
use futures::future::BoxFuture;
use rpc::{
    BreakerOptions, Channel, ChannelOptions, Client as _, Code, Fault, HostSettings,
    net::{Io, Network, Tcp},
};
use telemetry::Telemetry;

use crate::bystander::{Bystander, Running, free_port};

/// Answers, and counts.
fn counting() -> (Bystander, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let bystander = Bystander::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(()))
    });
    (bystander, calls)
}

fn client(urls: &str, options: ChannelOptions) -> MemoryServiceClient<Channel> {
    MemoryServiceClient::over(Channel::lazy(urls, options, Telemetry::silent("test")).unwrap())
}

/// Makes `calls` one after another; returns how many failed.
async fn failures(client: &mut MemoryServiceClient<Channel>, calls: u32) -> u32 {
    let mut failed = 0;
    for _ in 0..calls {
        failed += u32::from(client.remember(RememberRequest::default()).await.is_err());
    }
    failed
}

fn none_repeated() -> ChannelOptions {
    ChannelOptions { retries: 0, ..ChannelOptions::default() }
}

#[tokio::test]
async fn a_dead_server_of_three_costs_no_call_and_the_others_share() {
    let ((one, ones), (other, others)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    let urls = format!("{},http://127.0.0.1:{},{}", one.url(), free_port(), other.url());
    let mut client = client(&urls, none_repeated());
    assert_eq!(failures(&mut client, 200).await, 0);
    let (ones, others) = (ones.load(Ordering::SeqCst), others.load(Ordering::SeqCst));
    assert_eq!(ones + others, 200);
    assert!(ones > 40 && others > 40, "{ones} and {others}");
}

#[tokio::test]
async fn a_server_that_dies_between_calls_costs_none() {
    let ((one, _), (other, others)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    let mut client = client(&format!("{},{}", one.url(), other.url()), none_repeated());
    assert_eq!(failures(&mut client, 50).await, 0);
    one.kill().await;
    let before = others.load(Ordering::SeqCst);
    assert_eq!(failures(&mut client, 50).await, 0);
    assert_eq!(others.load(Ordering::SeqCst), before + 50);
}

#[tokio::test]
async fn a_server_that_says_that_it_does_not_serve_is_passed_over_and_found_again() {
    let ((one, ones), (other, others)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    one.health.serving();
    other.health.not_serving();
    let mut client = client(&format!("{},{}", one.url(), other.url()), none_repeated());
    assert_eq!(failures(&mut client, 50).await, 0);
    assert_eq!((ones.load(Ordering::SeqCst), others.load(Ordering::SeqCst)), (50, 0));
    other.health.serving();
    one.health.not_serving();
    // The news travels beside the calls.
    while others.load(Ordering::SeqCst) == 0 {
        assert_eq!(failures(&mut client, 1).await, 0);
    }
    let before = others.load(Ordering::SeqCst);
    while ones.load(Ordering::SeqCst) + others.load(Ordering::SeqCst) < before + 500 {
        assert_eq!(failures(&mut client, 1).await, 0);
    }
    assert!(others.load(Ordering::SeqCst) > before, "nobody calls the server that serves again");
}

#[tokio::test]
async fn where_none_says_that_it_serves_the_calls_are_made_all_the_same() {
    let ((one, _), (other, _)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    one.health.not_serving();
    other.health.not_serving();
    let mut client = client(&format!("{},{}", one.url(), other.url()), none_repeated());
    assert_eq!(failures(&mut client, 20).await, 0);
}

#[tokio::test]
async fn a_write_waits_for_a_server_that_is_just_restarting() {
    let port = free_port();
    let mut client = client(&format!("http://127.0.0.1:{port}"), none_repeated());
    let telemetry = Telemetry::silent("test");
    let call = telemetry.spawn(async move { client.remember(RememberRequest::default()).await });
    // The first attempt is refused, whenever it is made; one of the next finds the host.
    tokio::task::yield_now().await;
    let (bystander, calls) = counting();
    let _host = Running::start_at("memory", port, &HostSettings::defaults(), bystander, |host| host);
    call.await.unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn calls_of_a_server_that_is_gone_fail_at_once_and_find_it_when_it_is_back() {
    let port = free_port();
    let mut client = client(&format!("http://127.0.0.1:{port}"), none_repeated());
    assert_eq!(failures(&mut client, 30).await, 30);
    let status = client.remember(RememberRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let (bystander, _) = counting();
    let _host = Running::start_at("memory", port, &HostSettings::defaults(), bystander, |host| host);
    // The longest wait between two attempts to connect is a second.
    let patience = tokio::time::Instant::now() + Duration::from_secs(5);
    while failures(&mut client, 1).await == 1 {
        assert!(tokio::time::Instant::now() < patience, "the server is not found again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_came_back_is_found_when_the_last_other_goes() {
    let ((one, ones), (other, _)) = (counting(), counting());
    let port = free_port();
    let settings = HostSettings::defaults();
    let dead = Running::start_at("one", port, &settings, one.clone(), |host| host);
    let other = Running::start("other", other);
    dead.health.serving();
    other.health.serving();
    let mut client = client(&format!("http://127.0.0.1:{port},{}", other.url()), none_repeated());
    assert_eq!(failures(&mut client, 20).await, 0);
    dead.kill().await;
    // Long enough that it is tried again in vain, and then left alone for a while.
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        assert_eq!(failures(&mut client, 1).await, 0);
    }
    let before = ones.load(Ordering::SeqCst);
    let _back = Running::start_at("one", port, &settings, one, |host| host);
    // As a server goes that is restarted.
    other.stop().await.unwrap().unwrap();
    assert_eq!(failures(&mut client, 20).await, 0);
    assert_eq!(ones.load(Ordering::SeqCst), before + 20);
}

/// A resolver whose answers a test changes.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    fn set(&self, addresses: Vec<SocketAddr>) {
        self.0.lock().unwrap().insert("memory".to_owned(), addresses);
    }
}

impl Network for Names {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let found = self.0.lock().unwrap().get(host).cloned();
        Box::pin(std::future::ready(found.ok_or_else(|| io::ErrorKind::NotFound.into())))
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Tcp.connect(address)
    }
}

#[tokio::test]
async fn a_name_is_looked_up_again_when_its_server_has_moved() {
    let ((one, _), (other, others)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    let names = Names::default();
    names.set(vec![one.address]);
    let options = ChannelOptions { network: Arc::new(names.clone()), ..none_repeated() };
    let mut client = client("http://memory:7102", options);
    assert_eq!(failures(&mut client, 10).await, 0);
    names.set(vec![other.address]);
    one.kill().await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while failures(&mut client, 1).await == 1 {
        assert!(tokio::time::Instant::now() < patience, "the new address is not found");
        tokio::task::yield_now().await;
    }
    assert!(others.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn new_addresses_of_a_name_take_their_share() {
    let ((one, _), (other, others)) = (counting(), counting());
    let (one, other) = (Running::start("one", one), Running::start("other", other));
    let names = Names::default();
    names.set(vec![one.address]);
    let options = ChannelOptions {
        network: Arc::new(names.clone()),
        resolve_interval: Duration::from_secs(1),
        ..none_repeated()
    };
    let mut client = client("http://memory:7102", options);
    assert_eq!(failures(&mut client, 10).await, 0);
    names.set(vec![one.address, other.address]);
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while others.load(Ordering::SeqCst) == 0 {
        assert!(tokio::time::Instant::now() < patience, "nobody calls the new server");
        assert_eq!(failures(&mut client, 1).await, 0);
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unavailable() {
    let options = ChannelOptions { network: Arc::new(Names::default()), ..ChannelOptions::default() };
    let status = client("http://nowhere:1", options).recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(Fault::from(&status).reason_word(), Some("NO_ADDRESS"));
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_until_a_probe_succeeds() {
    let (sick, calls) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    let (is_sick, counter) = (sick.clone(), calls.clone());
    let host = Running::start(
        "memory",
        Bystander::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            let outcome = match is_sick.load(Ordering::SeqCst) {
                0 => Ok(()),
                _ => Err(Fault::new(Code::Unavailable, "out of order")),
            };
            std::future::ready(outcome)
        }),
    );
    let breaker = BreakerOptions { open: Duration::from_millis(200), ..BreakerOptions::default() };
    let mut client = client(&host.url(), ChannelOptions { breaker, ..none_repeated() });
    assert_eq!(failures(&mut client, 50).await, 50);
    let status = client.remember(RememberRequest::default()).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((status.code(), fault.reason_word()), (Code::Unavailable, Some("CIRCUIT_OPEN")));
    assert!(fault.retry_delay().is_some());
    // Five failures opened it; a probe or two may have gone through since.
    assert!((5..=7).contains(&calls.load(Ordering::SeqCst)), "{calls:?}");
    sick.store(0, Ordering::SeqCst);
    let patience = tokio::time::Instant::now() + Duration::from_secs(10);
    while failures(&mut client, 1).await == 1 {
        assert!(tokio::time::Instant::now() < patience, "the breaker stays open");
        tokio::task::yield_now().await;
    }
    assert_eq!(failures(&mut client, 20).await, 0);
}

#[tokio::test]
async fn what_the_caller_did_wrong_does_not_open_a_breaker() {
    let host =
        Running::start("memory", Bystander::new(|_| async { Err(Fault::invalid("id", "must be given")) }));
    let mut client = client(&host.url(), none_repeated());
    for _ in 0..30 {
        let status = client.remember(RememberRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_failure_that_says_why_does_not_open_a_breaker() {
    let fault = || Fault::new(Code::Unavailable, "the disk is read-only").reason("DISK_READ_ONLY");
    let host = Running::start("memory", Bystander::new(move |_| std::future::ready(Err(fault()))));
    let mut client = client(&host.url(), none_repeated());
    for _ in 0..30 {
        let status = client.remember(RememberRequest::default()).await.unwrap_err();
        assert_eq!(Fault::from(&status).reason_word(), Some("DISK_READ_ONLY"));
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_alone_and_one_slow_rpc_is_not_its_fault() {
    let host = Running::start("memory", Bystander::stuck().0);
    let options = ChannelOptions { timeout: Duration::from_millis(20), ..none_repeated() };
    let mut silent = client(&host.url(), options);
    let mut late = 0;
    loop {
        match silent.remember(RememberRequest::default()).await.unwrap_err().code() {
            // On a busy machine the first ones may not even have a connection in time.
            Code::DeadlineExceeded if late < 50 => late += 1,
            code => break assert_eq!(code, Code::Unavailable, "the breaker is open"),
        }
    }
    assert!(late >= 5, "{late}");

    // `remember` never ends here, `recall` does.
    let mixed = Running::start(
        "memory",
        Bystander::new(|seen| async move {
            if seen.rpc == "remember" {
                std::future::pending::<()>().await;
            }
            Ok(())
        }),
    );
    let timeout = Duration::from_millis(200);
    let mut client = client(&mixed.url(), ChannelOptions { timeout, ..none_repeated() });
    for _ in 0..7 {
        let mut slow = client.clone();
        let slow = async move { slow.remember(RememberRequest::default()).await };
        let quick = async { client.recall(RecallRequest::default()).await };
        let (slow, quick) = tokio::join!(slow, quick);
        assert_eq!(slow.unwrap_err().code(), Code::DeadlineExceeded);
        quick.unwrap();
    }
}
