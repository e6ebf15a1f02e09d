//! The writer: each write accepted once and in order, whatever becomes of connections and of the service.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use contracts::storage::*;
use futures::future::join_all;
use parking_lot::Mutex;
use rpc::{Channel, ChannelOptions, Code};
use storage_batcher::client::{Ack, Error, Left, Options, Writer};
use telemetry::Telemetry;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    emulator::Emulator,
    harness::{START, Service, accept, flush, get, increment, merge, numbers, until, urgent, write},
};

const LONG: Duration = Duration::from_secs(60);

/// A way to a service that can be cut and led to another one.
struct Way {
    address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
    open: Arc<Mutex<JoinSet<()>>>,
    _listening: JoinSet<()>,
}

impl Way {
    async fn to(service: &Service) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(Some(service.address())));
        let open = Arc::new(Mutex::new(JoinSet::new()));
        let (aim, carried) = (Arc::clone(&to), Arc::clone(&open));
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                let Some(there) = *aim.lock() else { continue };
                carried.lock().spawn(async move {
                    if let Ok(mut there) = TcpStream::connect(there).await {
                        drop(tokio::io::copy_bidirectional(&mut here, &mut there).await);
                    }
                });
            }
        });
        Self { address, to, open, _listening: listening }
    }

    /// Breaks what is open; what comes is refused until the way leads somewhere again.
    fn cut(&self) {
        *self.to.lock() = None;
        *self.open.lock() = JoinSet::new();
    }

    fn lead_to(&self, service: &Service) {
        *self.to.lock() = Some(service.address());
    }

    fn writer(&self) -> Writer {
        let url = format!("http://{}", self.address);
        let channel = Channel::lazy(&url, ChannelOptions::default(), Telemetry::silent("caller")).unwrap();
        Writer::open(channel, hasty(), &Telemetry::silent("caller"))
    }
}

/// Options that lose no time.
fn hasty() -> Options {
    Options {
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        ..Options::default()
    }
}

fn writer(service: &Service, token: Option<&str>) -> Writer {
    Writer::open(service.channel(token), hasty(), &Telemetry::silent("caller"))
}

async fn send(writer: &Writer, write: DocumentWrite) -> Ack {
    writer.send(write, WriteLevel::Durable).await.unwrap()
}

/// An increment whose key the writer makes.
fn count(id: &str) -> DocumentWrite {
    increment(id, "", 1)
}

/// Waits for acknowledgements, and checks that each write has a place of its own, in order.
async fn all(acks: Vec<Ack>) {
    let sequences: Vec<u64> = join_all(acks).await.into_iter().map(Result::unwrap).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "{sequences:?}");
}

/// Waits until what came to a service over a stream that was cut is on disk: there is room for another stream, and a write behind all is answered.
async fn settled(service: &Service) {
    let mut client = service.client();
    while client.write_stream(futures::stream::empty()).await.is_err() {
        tokio::task::yield_now().await;
    }
    accept(&mut client, vec![merge("fence", "n", 1)]).await;
}

#[tokio::test]
async fn writes_are_accepted_once_and_in_order_over_cuts_and_a_kill() {
    let mut service = Service::with(|config| config.storage_streams = 1).await;
    let way = Way::to(&service).await;
    let writer = way.writer();
    let mut acks = Vec::new();
    let mut killed = Vec::new();
    for round in 0..6_i64 {
        for number in 0..40 {
            acks.push(send(&writer, count("a")).await);
            acks.push(send(&writer, merge("b", "n", 40 * round + number)).await);
        }
        if round % 2 == 0 {
            // Somewhere in the middle: what was answered, and what only came.
            let heard = acks.len() - 30;
            all(acks.drain(..heard).collect()).await;
            way.cut();
            way.lead_to(&service);
        } else {
            way.cut();
            settled(&service).await;
            let revived = service.after_kill(START + 1, |_| {}).await;
            way.lead_to(&revived);
            killed.push(std::mem::replace(&mut service, revived));
        }
    }
    all(acks).await;
    writer.flush().await.unwrap();
    assert_eq!(writer.close(LONG).await, []);
    let mut client = service.client();
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 240)]);
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 239)]);
    for service in killed.into_iter().chain([service]) {
        service.stop().await;
    }
}

#[tokio::test]
async fn a_service_that_drains_costs_its_writers_nothing() {
    let service = Service::start().await;
    let way = Way::to(&service).await;
    let writer = Arc::new(way.writer());
    let sending = {
        let writer = Arc::clone(&writer);
        service.telemetry.spawn(async move {
            let mut acks = Vec::new();
            for _ in 0..500 {
                acks.push(send(&writer, count("a")).await);
                tokio::task::yield_now().await;
            }
            all(acks).await;
        })
    };
    let mut client = service.client();
    until(&mut client, |costs| costs.naive_documents > 20).await;
    let service = service.restart_at(START + 1).await;
    way.lead_to(&service);
    sending.await.unwrap();
    assert_eq!(numbers(get(&mut service.client(), "a").await), [("n".to_owned(), 500)]);
    assert_eq!(writer.close(LONG).await, []);
    service.stop().await;
}

#[tokio::test]
async fn a_bad_write_in_the_middle_is_told_to_its_sender_alone() {
    let service = Service::start().await;
    let writer = writer(&service, None);
    let good = send(&writer, merge("a", "n", 1)).await;
    let bad = send(&writer, DocumentWrite { mode: 0, ..merge("a", "n", 2) }).await;
    let last = send(&writer, merge("a", "m", 3)).await;
    let Err(Error::Refused(fault)) = bad.await else { panic!("it is invalid") };
    assert_eq!((fault.code(), &*fault.violations()[0].field), (Code::InvalidArgument, "write.mode"));
    assert_eq!((good.await.unwrap(), last.await.unwrap()), (1, 2));
    writer.flush().await.unwrap();
    assert_eq!(writer.close(LONG).await, []);
    assert!(matches!(writer.send(merge("a", "n", 1), WriteLevel::Durable).await, Err(Error::Closed)));
    service.stop().await;
}

#[tokio::test]
async fn a_write_too_large_to_be_sent_is_told_to_its_sender_alone() {
    let service =
        Service::with(|config| config.host.max_message_bytes = config::ByteSize::new(64 << 10)).await;
    let options = Options { max_write_bytes: 64 << 10, ..hasty() };
    let writer = Writer::open(service.channel(None), options, &Telemetry::silent("caller"));
    let first = send(&writer, merge("a", "n", 1)).await;
    let large = write(
        WriteMode::Merge,
        "a",
        &[("n", Value { kind: Some(value::Kind::StringValue("x".repeat(64 << 10))) })],
    );
    let Err(Error::Refused(fault)) = writer.send(large, WriteLevel::Durable).await else {
        panic!("it is too large")
    };
    assert_eq!(fault.code(), Code::OutOfRange);
    let last = send(&writer, merge("a", "n", 2)).await;
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (1, 2));
    assert_eq!(writer.close(LONG).await, []);
    service.stop().await;
}

#[tokio::test]
async fn a_full_journal_holds_the_writer_up_and_nothing_overtakes() {
    let service = Service::with(|config| config.journal_max_writes = 7).await;
    let writer = writer(&service, None);
    let mut acks = Vec::new();
    for number in 0..50 {
        acks.push(send(&writer, merge("a", "n", number)).await);
        acks.push(send(&writer, count("b")).await);
    }
    let mut client = service.client();
    let flushed = writer.flush();
    let flushing = async {
        loop {
            flush(&mut client).await;
        }
    };
    tokio::select! {
        done = flushed => done.unwrap(),
        () = flushing => {}
    }
    all(acks).await;
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 49)]);
    assert_eq!(numbers(get(&mut client, "b").await), [("n".to_owned(), 50)]);
    assert_eq!(writer.close(LONG).await, []);
    service.stop().await;
}

#[tokio::test]
async fn a_close_says_what_is_left_and_it_is_accepted_once_when_it_is_sent_again() {
    let emulator = Emulator::start().await;
    let service = emulator.batcher().await;
    let writer = writer(&service, None);
    let held = emulator.hold().await;
    let first = send(&writer, count("a")).await;
    assert_eq!(first.await.unwrap(), 1);
    let waits = writer.send(count("a"), WriteLevel::Stored).await.unwrap();
    emulator.arrived().await;
    let (left, flushed) = tokio::join!(writer.close(Duration::from_millis(10)), writer.flush());
    assert!(matches!(flushed, Err(Error::Closed)), "who waits does not wait for ever");
    let [Left { write, level: WriteLevel::Stored }] = &left[..] else { panic!("{left:?}") };
    assert!(matches!(waits.await, Err(Error::Closed)));
    drop(held);
    let mut client = service.client();
    assert!(!write.idempotency_key.is_empty());
    assert_eq!(accept(&mut client, vec![write.clone()]).await.sequences, [2]);
    assert_eq!(numbers(get(&mut client, "a").await), [("n".to_owned(), 2)]);
    service.stop().await;
    emulator.stop().await;
}

#[tokio::test]
async fn without_a_service_a_writer_takes_what_it_has_room_for_and_gives_it_back() {
    let nobody = testkit::port_nobody_listens_on();
    let channel =
        Channel::lazy(&nobody.url(), ChannelOptions::default(), Telemetry::silent("caller")).unwrap();
    let options = Options { max_writes: 3, key_prefix: Some("job".to_owned()), ..hasty() };
    let writer = Writer::open(channel, options, &Telemetry::silent("caller"));
    for number in 0..3 {
        send(&writer, merge("a", "n", number)).await;
    }
    assert!(
        futures::poll!(std::pin::pin!(writer.send(merge("a", "n", 4), WriteLevel::Durable))).is_pending()
    );
    let left = writer.close(Duration::from_millis(10)).await;
    let keys: Vec<_> = left.iter().map(|left| &*left.write.idempotency_key).collect();
    assert_eq!(keys, ["job-1", "job-2", "job-3"]);
}

#[tokio::test]
async fn a_writer_that_is_not_let_in_says_why_to_all() {
    let tokens = |config: &mut storage_batcher::Config| {
        config.host.auth_tokens = config::Secret::new("right=acme:agent");
    };
    let service = Service::with(tokens).await;
    let writer = writer(&service, Some("wrong"));
    let ack = send(&writer, merge("a", "n", 1)).await;
    let Err(Error::Failed(fault)) = ack.await else { panic!("it must not be let in") };
    assert_eq!(fault.code(), Code::Unauthenticated);
    assert!(matches!(writer.flush().await, Err(Error::Failed(_))));
    assert!(matches!(writer.send(merge("a", "n", 1), WriteLevel::Durable).await, Err(Error::Failed(_))));
    assert_eq!(writer.close(LONG).await.len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_full_batch_on_its_way_holds_no_stream_up_and_the_last_write_needs_no_other() {
    let emulator = Emulator::start().await;
    let service = Service::with(|config| {
        emulator.configure(config);
        config.firestore_batch_size = 2;
        config.firestore_max_concurrent_writes = 1;
    })
    .await;
    let writer = writer(&service, None);
    let held = emulator.hold().await;
    let mut acks = Vec::new();
    for number in 0..20 {
        acks.push(send(&writer, urgent(merge(&format!("p{number}"), "n", number))).await);
    }
    emulator.arrived().await;
    // Batches are full and under way, and writes go on being accepted.
    acks.push(send(&writer, merge("last", "n", 1)).await);
    all(acks).await;
    drop(held);
    let mut client = service.client();
    until(&mut client, |costs| costs.waiting == 1).await;
    service.hand.advance(LONG);
    until(&mut client, |costs| costs.waiting == 0).await;
    assert_eq!(numbers(get(&mut client, "last").await), [("n".to_owned(), 1)]);
    assert_eq!(writer.close(LONG).await, []);
    service.stop().await;
    emulator.stop().await;
}
