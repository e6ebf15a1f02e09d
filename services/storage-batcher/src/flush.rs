//! Flushing: takes due batches out of the queue, sends several at once, and settles what the sink says.
//!
//! A batch that fails is sent again after a growing, jittered pause, and keeps its place among the concurrent batches meanwhile. What
//! the sink refuses for good is dropped, logged and counted.

mod delivery;

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{Semaphore, watch};

use self::delivery::Delivery;
use crate::{accept::Command, batcher::Shared, queue::Entry};

/// Sends due batches until told to stop; then waits for those on their way.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(shared.options.concurrency));
    let resumed = std::mem::take(&mut shared.state.lock().resumed);
    let mut deliveries: VecDeque<_> = Delivery::resume(&shared, resumed).into_iter().collect();
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        while deliveries.is_empty() {
            let Some(batch) = next_batch(&shared, &mut stop).await else { break };
            tracing::debug!(documents = batch.len(), sink = shared.sink.name(), "sending a batch");
            deliveries.extend(Delivery::of(&shared, batch));
        }
        let Some(delivery) = deliveries.pop_front() else { break };
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

    use crate::{
        accept::NewWrite,
        batcher::{Batcher, Options},
        change::Change,
        document::{Fields, Key, Priority},
        keys,
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

        fn send<'a>(
            &'a self,
            writes: &'a [Arc<Entry>],
            _: Option<&'a str>,
        ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
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

        fn apply(&self, _: &redb::WriteTransaction, _: &Entry, _: i64) -> Result<Verdict, redb::Error> {
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
            keys: keys::Limits { count: 10, age: Duration::from_secs(60) },
            last_written: None,
            retry_backoff: Duration::from_millis(1),
        };
        let (clock, _) = Clock::manual(UNIX_EPOCH);
        let sink = Arc::clone(&gate) as Arc<dyn Sink>;
        let telemetry = Telemetry::silent("storage-batcher");
        let batcher = Batcher::start(options, store, sink, telemetry, clock).await.unwrap();
        Bench { batcher, gate, arrivals, _folder: folder }
    }

    fn write(id: &str) -> NewWrite {
        let (key, change) = (Key::new("t", "c", id), Change::merge(Fields::new()));
        NewWrite { key, change, priority: Priority::Normal, idempotency_key: None }
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
}
