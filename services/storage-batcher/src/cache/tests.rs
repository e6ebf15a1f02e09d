//! What is read through the cache, over a remote sink that takes its time, loses answers and is written to by others.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use futures::future::BoxFuture;
use journal::Journal;
use parking_lot::Mutex;
use proptest::prelude::*;
use telemetry::Telemetry;

use super::{Limits, Reads};
use crate::{
    aggregate::rules::Rules,
    batcher::Batcher,
    budget,
    change::Change,
    document::{Fields, Key, Priority, Value},
    error::Error,
    keys, queue,
    queue::Entry,
    shared::Options,
    sink::{Cause, Page, Range, Sink, Unreachable, Verdict},
    store::Store,
    write::NewWrite,
};

const TTL: Duration = Duration::from_secs(300);
const LIMITS: Limits = Limits { ttl: TTL, entries: 100, bytes: 1 << 20 };

/// Holds documents elsewhere. Every request takes some turns of the runtime before and after it is done.
#[derive(Debug, Default)]
struct Remote {
    documents: Mutex<BTreeMap<Key, Fields>>,
    reads: AtomicU64,
    requests: AtomicU64,
    /// Every so many requests that write, an answer is lost.
    loses: u64,
}

impl Remote {
    async fn take_time(&self) {
        for _ in 0..self.requests.fetch_add(1, Ordering::SeqCst) % 7 {
            tokio::task::yield_now().await;
        }
    }

    fn set(&self, id: &str, number: i64) {
        self.documents.lock().insert(key(id), fields(number));
    }
}

impl Sink for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }

    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        Box::pin(async move {
            self.take_time().await;
            for entry in writes {
                let mut documents = self.documents.lock();
                let before = documents.remove(&entry.key);
                if let Some(after) = entry.change().apply(before, 0) {
                    documents.insert(entry.key.clone(), after);
                }
            }
            self.take_time().await;
            let requests = self.requests.load(Ordering::SeqCst);
            if self.loses > 0 && requests.is_multiple_of(self.loses) {
                let reason = "lost".to_owned();
                return Err(Unreachable { reason, cause: Cause::Away, lost: true, damaged: false });
            }
            Ok(vec![Verdict::Accepted; writes.len()])
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.take_time().await;
            let found = self.documents.lock().get(key).cloned();
            self.take_time().await;
            Ok(found)
        })
    }

    fn list<'a>(&'a self, _: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.take_time().await;
            let all = self.documents.lock().clone();
            self.take_time().await;
            Ok(Page {
                documents: all.into_iter().map(|(key, fields)| (key.id, fields)).collect(),
                more: false,
            })
        })
    }
}

struct Bench {
    batcher: Batcher,
    remote: Arc<Remote>,
    clock: Clock,
    hand: Hand,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new(loses: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let remote = Arc::new(Remote { loses, ..Remote::default() });
        let batcher = open(folder.path(), &remote, &clock).await;
        Self { batcher, remote, clock, hand, folder }
    }

    /// Ends in the middle of what is on its way, and starts on the same journal.
    async fn restart(&mut self) {
        self.batcher.drain(Duration::ZERO).await;
        self.batcher = open(self.folder.path(), &self.remote, &self.clock).await;
    }

    async fn write(&self, id: &str, change: Change) {
        let write = NewWrite {
            key: key(id),
            change,
            priority: Priority::Normal,
            idempotency_key: None,
            caller: "".into(),
        };
        self.batcher.write("t".into(), vec![write]).await.unwrap();
    }

    async fn get(&self, id: &str) -> Option<Fields> {
        match self.batcher.get(&key(id)).await {
            Ok(seen) => Some(seen.fields),
            Err(Error::NoDocument) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn list(&self) -> BTreeMap<String, Fields> {
        let listed = self.batcher.list(range()).await.unwrap();
        listed.documents.into_iter().map(|seen| (seen.id.to_string(), seen.fields)).collect()
    }

    async fn flush(&self) {
        // Told that answers are lost, or that it is done: it goes on until it is.
        drop(self.batcher.flush("t".into(), false).await);
        while self.batcher.pending() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn read(&self) -> u64 {
        self.remote.reads.load(Ordering::SeqCst)
    }
}

async fn open(folder: &Path, remote: &Arc<Remote>, clock: &Clock) -> Batcher {
    let journal = Journal::open(folder.join("storage.redb"), &journal::Options::default()).unwrap();
    let options = Options {
        limits: queue::Limits { documents: 3, bytes: 1 << 20, interval: Duration::from_secs(60) },
        concurrency: 2,
        rules: Arc::new(Rules::built_in(Duration::ZERO)),
        journal_max_bytes: 1 << 20,
        journal_max_writes: 1_000,
        price: 0.18,
        read_price: 0.06,
        keys: keys::Limits { count: 10, age: Duration::from_secs(60) },
        last_written: None,
        retry_backoff: Duration::from_micros(1),
        fault_tries: 3,
        ledger_always: false,
        ramp: None,
        budget: budget::Limits::default(),
        cache: Some(LIMITS),
    };
    let sink = Arc::clone(remote) as Arc<dyn Sink>;
    let telemetry = Telemetry::silent("storage-batcher");
    Batcher::start(options, Store::new(journal, Instant::now()), sink, telemetry, clock.clone())
        .await
        .unwrap()
}

fn key(id: &str) -> Key {
    Key::new("t", "c", id)
}

fn range() -> Range {
    let (tenant, collection) = ("t".into(), "c".into());
    Range { tenant, collection, after: String::new(), before: None, limit: 100, only: Vec::new() }
}

fn fields(number: i64) -> Fields {
    Fields::from([("n".to_owned(), Value::Integer(number))])
}

#[tokio::test]
async fn what_was_read_is_not_read_again_until_it_is_old_and_others_are_seen_then() {
    let bench = Bench::new(0).await;
    bench.remote.set("a", 1);
    for _ in 0..3 {
        assert_eq!((bench.get("a").await, bench.get("none").await), (Some(fields(1)), None));
        assert_eq!(bench.list().await.len(), 1);
    }
    assert_eq!(bench.read(), 3);
    let stats = bench.batcher.shared.reads.as_ref().unwrap().stats();
    assert_eq!((stats.hits, stats.misses, stats.saved, stats.entries), (6, 3, 6, 3));
    bench.remote.set("a", 2);
    bench.hand.advance(TTL);
    assert_eq!(bench.get("a").await, Some(fields(1)), "late by the TTL");
    bench.hand.advance(Duration::from_secs(1));
    assert_eq!(bench.get("a").await, Some(fields(2)));
    assert_eq!(bench.list().await["a"], fields(2));
    bench.batcher.drain(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_landing_forgets_its_document_and_the_pages_of_its_collection_and_nothing_else() {
    let bench = Bench::new(0).await;
    for id in ["a", "b"] {
        bench.remote.set(id, 1);
        bench.get(id).await;
    }
    bench.list().await;
    let other = Range { collection: "other".into(), ..range() };
    bench.batcher.list(other.clone()).await.unwrap();
    assert_eq!(bench.read(), 4);
    bench.write("a", Change::merge(Fields::from([("m".to_owned(), Value::Integer(5))]))).await;
    assert_eq!(bench.get("a").await.unwrap().len(), 2, "what waits is laid over what is remembered");
    assert_eq!(bench.read(), 4);
    bench.flush().await;
    assert_eq!((bench.get("a").await.unwrap().len(), bench.get("b").await), (2, Some(fields(1))));
    assert_eq!(bench.list().await["a"].len(), 2);
    bench.batcher.list(other).await.unwrap();
    assert_eq!(bench.read(), 6, "one document and one page");
    bench.batcher.drain(Duration::from_secs(60)).await;
}

#[test]
fn what_was_read_across_a_landing_is_not_kept() {
    let reads = Reads::new(LIMITS, Clock::manual(UNIX_EPOCH).0);
    let (before, page) = (reads.ticket(), Page::default());
    reads.landed([&key("a")].into_iter());
    reads.keep_document(before, &key("a"), None);
    reads.keep_page(before, &range(), &page);
    assert!(reads.document(&key("a")).is_none() && reads.page(&range()).is_none());
    let other = Key::new("t", "other", "a");
    reads.keep_document(before, &other, None);
    assert_eq!(reads.document(&other), Some(None));
    reads.keep_page(reads.ticket(), &range(), &page);
    assert!(reads.page(&range()).is_some());
    reads.landed([&key("b")].into_iter());
    assert!(reads.page(&range()).is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, i64),
    Merge(usize, i64),
    Delete(usize),
    Flush,
    /// Reads while what waits is being sent.
    Race(usize),
    Get(usize),
    List,
    Wait(u64),
    Restart,
}

const IDS: [&str; 4] = ["a", "b", "c", "d"];

fn step() -> impl Strategy<Value = Step> {
    let id = 0..IDS.len();
    prop_oneof![
        4 => (id.clone(), 0..9_i64).prop_map(|(id, number)| Step::Set(id, number)),
        3 => (id.clone(), 0..9_i64).prop_map(|(id, number)| Step::Merge(id, number)),
        1 => id.clone().prop_map(Step::Delete),
        2 => Just(Step::Flush),
        4 => id.clone().prop_map(Step::Race),
        4 => id.prop_map(Step::Get),
        2 => Just(Step::List),
        1 => (0..200_u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

async fn walk(steps: Vec<Step>, loses: u64) {
    let mut bench = Bench::new(loses).await;
    let mut model: BTreeMap<String, Fields> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Set(id, number) => {
                bench.write(IDS[id], Change::set(fields(number))).await;
                model.insert(IDS[id].to_owned(), fields(number));
            }
            Step::Merge(id, number) => {
                let merged = Fields::from([("m".to_owned(), Value::Integer(number))]);
                bench.write(IDS[id], Change::merge(merged.clone())).await;
                model.entry(IDS[id].to_owned()).or_default().extend(merged);
            }
            Step::Delete(id) => {
                bench.write(IDS[id], Change::Delete).await;
                model.remove(IDS[id]);
            }
            Step::Flush => bench.flush().await,
            Step::Race(id) => {
                let (id, bench) = (IDS[id], &bench);
                let (one, (), all, two) =
                    tokio::join!(bench.get(id), bench.flush(), bench.list(), bench.get(id));
                assert_eq!((one.as_ref(), two.as_ref()), (model.get(id), model.get(id)));
                assert_eq!(all, model);
            }
            Step::Get(id) => assert_eq!(bench.get(IDS[id]).await.as_ref(), model.get(IDS[id])),
            Step::List => assert_eq!(bench.list().await, model),
            Step::Wait(seconds) => bench.hand.advance(Duration::from_secs(seconds)),
            Step::Restart => bench.restart().await,
        }
    }
    bench.flush().await;
    assert_eq!(bench.list().await, model);
    for id in IDS {
        assert_eq!(bench.get(id).await.as_ref(), model.get(id));
    }
    bench.batcher.drain(Duration::from_secs(60)).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Nobody reads anything older than what was acknowledged, whatever is remembered, on its way or lost.
    #[test]
    fn no_read_is_older_than_what_was_acknowledged(
        steps in prop::collection::vec(step(), 1..40),
        // A request to write counts twice: an odd number, so that not every one of them is lost.
        loses in prop_oneof![Just(0_u64), Just(3), Just(5)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(walk(steps, loses));
    }
}
