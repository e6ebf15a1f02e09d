//! Flushing: takes due batches out of the queue, sends several at once, and settles what the sink says.
//!
//! A batch that fails is sent again after a growing, jittered pause, and keeps its place among the concurrent batches meanwhile. What
//! the sink refuses for good is dropped, logged and counted.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rand::Rng as _;
use telemetry::{KeyValue, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::{
    accept::Command,
    batcher::Shared,
    fold::Folded,
    ledger::minute,
    queue::Entry,
    sink::{Unreachable, Verdict},
    store::Landing,
};

/// Longest pause between two sendings of one batch.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Tries after which those who wait for a flush are told that the sink is away.
const PATIENCE: u32 = 3;

/// A batch on its way.
struct Delivery {
    shared: Arc<Shared>,
    /// Each write with how often it may have been applied already.
    entries: Vec<(Arc<Entry>, u64)>,
    /// What the sink decided and the journal could not yet take: it is written down before anything is sent again.
    landing: Option<Landing>,
    /// What the last request held, until it is counted.
    request: Vec<Arc<Entry>>,
    attempt: u32,
}

impl Delivery {
    fn new(shared: Arc<Shared>, batch: Vec<Arc<Entry>>) -> Self {
        let entries = batch.into_iter().map(|entry| (entry, 0)).collect();
        Self { shared, entries, landing: None, request: Vec::new(), attempt: 0 }
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>, _slot: OwnedSemaphorePermit) {
        while !self.entries.is_empty() {
            self.attempt += 1;
            let failure = if let Some(landing) = self.landing.take() {
                self.land(landing).await;
                None
            } else {
                // What is given up here stays in the journal and is sent after the next start.
                let attempt = tokio::select! {
                    result = self.attempt() => result,
                    () = stopped(&mut stop) => return,
                };
                self.settle(attempt).await
            };
            self.tell(failure.as_deref());
            if self.entries.is_empty() {
                return;
            }
            let pause = async {
                tokio::time::sleep(pause(self.shared.options.retry_backoff, self.attempt)).await;
                if self.landing.is_some() {
                    self.shared.store.writable().await;
                }
            };
            tokio::select! {
                () = pause => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    async fn attempt(&mut self) -> Result<Vec<Verdict>, Unreachable> {
        self.request = self.entries.iter().map(|(entry, _)| Arc::clone(entry)).collect();
        self.shared.sink.send(&self.request).await
    }

    /// Settles what is decided and keeps the rest for another sending; returns why there is a rest.
    async fn settle(&mut self, attempt: Result<Vec<Verdict>, Unreachable>) -> Option<String> {
        let verdicts = match attempt {
            Ok(verdicts) => verdicts,
            Err(error) => {
                if error.lost {
                    self.count_sent(|_| true);
                }
                vec![Verdict::Retry(error.reason); self.entries.len()]
            }
        };
        self.count_sent(|index| verdicts.get(index) == Some(&Verdict::Accepted));
        let landing = Landing {
            entries: self
                .entries
                .iter()
                .zip(&verdicts)
                .filter(|(_, verdict)| !matches!(verdict, Verdict::Retry(_)))
                .map(|((entry, sendings), verdict)| (Arc::clone(entry), verdict.clone(), *sendings))
                .collect(),
            minute: minute(self.shared.clock.now()),
        };
        if !landing.entries.is_empty() {
            self.land(landing).await;
        }
        verdicts.into_iter().find_map(|verdict| match verdict {
            Verdict::Retry(reason) => Some(reason),
            _ => None,
        })
    }

    /// Counts the request, tells those who have nothing left to wait for, and after a while those who wait in vain.
    fn tell(&mut self, failure: Option<&str>) {
        // Without a reason the sink has yet to be asked for the rest.
        let reason = if self.landing.is_some() { Some("the journal could not be written") } else { failure };
        if let Some(reason) = reason {
            tracing::warn!(
                sink = self.shared.sink.name(),
                documents = self.entries.len(),
                attempt = self.attempt,
                reason,
                "documents not settled, trying again"
            );
        }
        let request = std::mem::take(&mut self.request);
        let mut state = self.shared.state.lock();
        state.waiters.count_request(&request);
        state.waiters.release();
        if let Some(reason) = reason
            && self.attempt >= PATIENCE
        {
            state.waiters.give_up(&self.entries, &Unreachable::refused(reason));
        }
    }

    /// Writes the outcome of `landing` down; if that fails, it is kept with its writes.
    async fn land(&mut self, landing: Landing) {
        let settled = self.shared.store.settle(landing.clone(), Arc::clone(&self.shared.sink)).await;
        let (verdicts, deltas) = match settled {
            Ok(settled) => settled,
            Err(error) => {
                let documents = landing.entries.len();
                tracing::error!(error = %error, documents, "outcome of a batch not written down");
                self.landing = Some(landing);
                return;
            }
        };
        let done: Vec<_> = landing
            .entries
            .iter()
            .zip(&verdicts)
            .filter(|(_, verdict)| !matches!(verdict, Verdict::Retry(_)))
            .map(|((entry, ..), verdict)| (entry, verdict))
            .collect();
        for (entry, verdict) in &done {
            if let Verdict::Refused(reason) = verdict {
                let (collection, document) = (&*entry.key.collection, &*entry.key.id);
                tracing::error!(collection, document, reason, "document refused for good and dropped");
                self.shared.meters.refused.add(1, &[]);
            }
        }
        // Taken here: one who asks for a flush in between must not be answered without the request that settled his writes.
        let request = std::mem::take(&mut self.request);
        let mut state = self.shared.state.lock();
        state.waiters.count_request(&request);
        state.ledger.add(&deltas);
        state.queue.land(done.iter().map(|(entry, _)| *entry));
        for (entry, verdict) in &done {
            state.waiters.settle(entry, verdict);
        }
        drop(state);
        let settled: HashSet<u64> = done.iter().map(|(entry, _)| entry.first()).collect();
        self.entries.retain(|(entry, _)| !settled.contains(&entry.first()));
        self.shared.work.notify_one();
        self.shared.landed.notify_waiters();
    }

    /// Counts the writes whose place `applied` names as sent once more.
    fn count_sent(&mut self, applied: impl Fn(usize) -> bool) {
        for (index, (entry, sendings)) in self.entries.iter_mut().enumerate() {
            if applied(index) {
                *sendings += 1;
                let kind = if matches!(entry.folded, Folded::Delete) { "delete" } else { "write" };
                self.shared.meters.operations.add(1, &[KeyValue::new(names::OPERATION_TYPE, kind)]);
            }
        }
    }
}

/// Sends due batches until told to stop; then waits for those on their way.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(shared.options.concurrency));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(batch) = next_batch(&shared, &mut stop).await else { break };
        tracing::debug!(documents = batch.len(), sink = shared.sink.name(), "sending a batch");
        let delivery = Delivery::new(Arc::clone(&shared), batch);
        shared.telemetry.spawn(delivery.run(stop.clone(), slot));
    }
    let all = u32::try_from(shared.options.concurrency).unwrap_or(u32::MAX);
    drop(slots.acquire_many(all).await);
}

/// Closes buckets as their time comes, until told to stop.
pub(crate) async fn tick(
    shared: Arc<Shared>,
    commands: tokio::sync::mpsc::Sender<Command>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let end = shared.state.lock().buckets.next_end();
        let due = async {
            match end {
                Some(end) => shared.clock.sleep_until(end + shared.options.lateness).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = shared.ticks.notified() => continue,
            () = stopped(&mut stop) => return,
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        if commands.send(Command::Close { tenant: None, answer }).await.is_err() {
            return;
        }
        if let Ok(Err(error)) = answered.await {
            tracing::error!(error = %error, "buckets not closed, trying again");
            let pause = async {
                tokio::time::sleep(shared.options.retry_backoff).await;
                shared.store.writable().await;
            };
            tokio::select! {
                () = pause => {}
                () = stopped(&mut stop) => return,
            }
        }
    }
}

async fn next_batch(shared: &Shared, stop: &mut watch::Receiver<bool>) -> Option<Vec<Arc<Entry>>> {
    loop {
        // Listening before looking: a write in between is not missed.
        let work = shared.work.notified();
        let deadline = {
            let mut state = shared.state.lock();
            if let Some(batch) = state.queue.next_batch(shared.clock.now()) {
                return Some(batch);
            }
            state.queue.next_deadline()
        };
        let due = async {
            match deadline {
                Some(moment) => shared.clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            () = due => {}
            () = stopped(stop) => return None,
        }
    }
}

/// Waits until the service is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Returns how long to wait before sending number `attempt + 1`: twice as long each time, between half and the whole of it.
fn pause(first: Duration, attempt: u32) -> Duration {
    let whole = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MAX_PAUSE);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::{Duration, UNIX_EPOCH},
    };

    use clock::Clock;
    use futures::future::BoxFuture;
    use journal::Journal;
    use parking_lot::Mutex;
    use telemetry::Telemetry;
    use tokio::sync::{Semaphore, mpsc};

    use super::{MAX_PAUSE, pause};
    use crate::{
        accept::NewWrite,
        batcher::{Batcher, Options},
        document::{Change, Fields, Key, Priority},
        queue::{Entry, Limits},
        sink::{Page, Range, Sink, Unreachable, Verdict},
        store::Store,
    };

    /// Tells which documents arrive, lets requests through one by one, and puts some documents off once.
    #[derive(Debug)]
    struct Gate {
        arrivals: mpsc::UnboundedSender<Vec<String>>,
        pass: Semaphore,
        put_off: Mutex<BTreeSet<&'static str>>,
        /// How often the outcome cannot be written down.
        broken: AtomicU32,
    }

    impl Sink for Gate {
        fn name(&self) -> &'static str {
            "gate"
        }

        fn send<'a>(&'a self, writes: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
            Box::pin(async move {
                let ids: Vec<_> = writes.iter().map(|entry| entry.key.id.to_string()).collect();
                self.arrivals.send(ids.clone()).unwrap();
                self.pass.acquire().await.unwrap().forget();
                let judge = |id: &String| match self.put_off.lock().remove(id.as_str()) {
                    true => Verdict::Retry("busy".to_owned()),
                    false => Verdict::Accepted,
                };
                Ok(ids.iter().map(judge).collect())
            })
        }

        fn apply(&self, _: &redb::WriteTransaction, _: &Entry) -> Result<Verdict, redb::Error> {
            let left = self.broken.load(Ordering::SeqCst);
            if left == 0 {
                return Ok(Verdict::Accepted);
            }
            self.broken.store(left - 1, Ordering::SeqCst);
            Err(redb::Error::Corrupted("broken".to_owned()))
        }

        fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn list<'a>(&'a self, _: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
            Box::pin(std::future::ready(Ok(Page::default())))
        }
    }

    struct Bench {
        batcher: Batcher,
        gate: Arc<Gate>,
        arrivals: mpsc::UnboundedReceiver<Vec<String>>,
        _folder: tempfile::TempDir,
    }

    async fn bench(documents: usize, put_off: &[&'static str]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("storage.redb");
        let store = Store::new(Journal::open(path, &journal::Options::default()).unwrap());
        let (sender, arrivals) = mpsc::unbounded_channel();
        let put_off = Mutex::new(put_off.iter().copied().collect());
        let gate =
            Arc::new(Gate { arrivals: sender, pass: Semaphore::new(0), put_off, broken: AtomicU32::new(0) });
        let options = Options {
            limits: Limits { documents, bytes: 1 << 20, interval: Duration::from_secs(60) },
            concurrency: 2,
            lateness: Duration::ZERO,
            journal_max_bytes: 1 << 20,
            price: 0.18,
            retry_backoff: Duration::from_millis(1),
        };
        let (clock, _) = Clock::manual(UNIX_EPOCH);
        let sink = Arc::clone(&gate) as Arc<dyn Sink>;
        let telemetry = Telemetry::silent("storage-batcher");
        let batcher = Batcher::start(options, store, sink, telemetry, clock).await.unwrap();
        Bench { batcher, gate, arrivals, _folder: folder }
    }

    fn write(id: &str) -> NewWrite {
        let (key, change) = (Key::new("t", "c", id), Change::Merge(Fields::new()));
        NewWrite { key, change, priority: Priority::Normal }
    }

    #[tokio::test]
    async fn no_more_batches_than_allowed_are_on_their_way() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(1, &[]).await;
        let writes = ["a", "b", "c", "d"].map(write).into();
        batcher.write("t".into(), writes).await.unwrap();
        assert_eq!(arrivals.recv().await.unwrap(), ["a"]);
        assert_eq!(arrivals.recv().await.unwrap(), ["b"]);
        assert!(arrivals.try_recv().is_err());
        gate.pass.add_permits(1);
        assert_eq!(arrivals.recv().await.unwrap(), ["c"]);
        assert!(arrivals.try_recv().is_err());
        gate.pass.add_permits(10);
        assert_eq!(arrivals.recv().await.unwrap(), ["d"]);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
    }

    #[tokio::test]
    async fn only_the_document_that_was_put_off_is_sent_again() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(3, &["b"]).await;
        gate.pass.add_permits(10);
        batcher.write("t".into(), ["a", "b", "c"].map(write).into()).await.unwrap();
        assert_eq!(arrivals.recv().await.unwrap(), ["a", "b", "c"]);
        assert_eq!(arrivals.recv().await.unwrap(), ["b"]);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
        assert_eq!(batcher.costs("t").0.total.written, 3);
    }

    #[tokio::test]
    async fn what_the_sink_took_is_not_sent_again_because_the_journal_failed() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(2, &["b"]).await;
        gate.broken.store(2, Ordering::SeqCst);
        gate.pass.add_permits(10);
        batcher.write("t".into(), ["a", "b"].map(write).into()).await.unwrap();
        assert_eq!(arrivals.recv().await.unwrap(), ["a", "b"]);
        assert_eq!(arrivals.recv().await.unwrap(), ["b"]);
        let report = batcher.flush("t".into(), false).await.unwrap();
        assert!(report.refused.is_empty());
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
        assert!(arrivals.try_recv().is_err());
        assert_eq!(gate.broken.load(Ordering::SeqCst), 0);
        assert_eq!(batcher.costs("t").0.total.written, 2);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_stop_its_write() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(1, &[]).await;
        {
            let mut asked = std::pin::pin!(batcher.write("t".into(), vec![write("a")]));
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(asked.as_mut().poll(context).is_pending())
            });
            assert!(polled.await, "the commit takes longer than one look");
        }
        assert_eq!(arrivals.recv().await.unwrap(), ["a"]);
        gate.pass.add_permits(1);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
    }

    #[test]
    fn pauses_grow_with_jitter_up_to_a_limit() {
        let first = Duration::from_millis(100);
        for attempt in 1..40 {
            let whole = first.saturating_mul(1 << (attempt - 1).min(16)).min(MAX_PAUSE);
            let pause = pause(first, attempt);
            assert!(pause >= whole / 2 && pause <= whole, "{attempt}: {pause:?}");
        }
    }
}
