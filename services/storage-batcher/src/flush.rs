//! Flushing: takes due batches out of the queue, sends several at once, and settles what the sink says.
//!
//! There are two lanes, so that high priority neither waits for the rest nor drags it along. A batch that fails is sent again after a
//! pause by the reason ([`retry`]); while the sink is away it keeps its place ([`slots`]), so no more is taken out than may be on its way,
//! and what comes in goes on folding. How many places there are follows what the sink bears ([`aimd`]), and after an outage the rate grows by
//! steps ([`ramp`]). What the write budget has no room for stays in the queue ([`allowance`]); high priority does not ask it. What the sink
//! refuses for good becomes a dead letter.

mod aimd;
pub(crate) mod allowance;
mod delivery;
mod landing;
pub mod ramp;
mod retry;
pub(crate) mod slots;

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use tokio::sync::{mpsc, watch};

use self::delivery::Delivery;
use crate::{
    accept::Command,
    document::Priority,
    error::Error,
    queue::Entry,
    shared::{Shared, State},
};

/// Sends due batches until told to stop; then waits for those on their way.
pub(crate) async fn run(shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let [normal, high] = {
        let resumed = std::mem::take(&mut shared.state.lock().resumed);
        let of = |priority| Delivery::resume(&shared, &resumed, priority).into_iter().collect();
        [Priority::Normal, Priority::High].map(of)
    };
    // Every delivery holds a sender: when the last is gone, so are they.
    let (alive, mut ended) = mpsc::channel(1);
    tokio::join!(
        lane(&shared, Priority::Normal, normal, &alive, stop.clone()),
        lane(&shared, Priority::High, high, &alive, stop),
    );
    drop(alive);
    ended.recv().await;
}

/// Sends what there is of one priority until told to stop, `deliveries` first.
async fn lane(
    shared: &Arc<Shared>,
    priority: Priority,
    mut deliveries: VecDeque<Delivery>,
    alive: &mpsc::Sender<()>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        // A lane with nothing to send takes no place, and a batch is made up when there is one: until then writes go on folding.
        if deliveries.is_empty() && !is_due(shared, priority, &mut stop).await {
            return;
        }
        let slot = tokio::select! {
            slot = shared.slots.take(priority) => slot,
            () = stopped(&mut stop) => return,
        };
        if deliveries.is_empty() {
            let batch = take(shared, priority);
            tracing::debug!(documents = batch.len(), ?priority, sink = shared.sink.name(), "sending a batch");
            deliveries.extend(Delivery::of(shared, priority, batch));
        }
        let Some(delivery) = deliveries.pop_front() else { continue };
        shared.telemetry.spawn(delivery.run(slot, stop.clone(), alive.clone()));
    }
}

/// Takes the next batch of `priority` out of the queue, as far as the budget goes.
fn take(shared: &Shared, priority: Priority) -> Vec<Arc<Entry>> {
    let now = shared.clock.now();
    let mut state = shared.state.lock();
    let due = state.queue.next_len(priority, now);
    let most = match priority {
        Priority::High => due,
        Priority::Normal => usize::try_from(shared.grant(due).now).unwrap_or(usize::MAX),
    };
    state.queue.next_batch(priority, now, most).unwrap_or_default()
}

/// Closes buckets as their time comes, until told to stop.
pub(crate) async fn tick(
    shared: Arc<Shared>,
    commands: tokio::sync::mpsc::Sender<Command>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let next = shared.state.lock().buckets.next_due();
        let due = async {
            match next {
                Some(moment) => shared.clock.sleep_until(moment).await,
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

/// Waits until documents of `priority` are due and may leave; returns false when told to stop.
async fn is_due(shared: &Shared, priority: Priority, stop: &mut watch::Receiver<bool>) -> bool {
    loop {
        // Listening before looking: a write in between is not missed.
        let work = match priority {
            Priority::Normal => shared.work.notified(),
            Priority::High => shared.urgent.notified(),
        };
        let room = shared.allowance.changed();
        let deadline = match next(shared, priority) {
            Next::Now => return true,
            Next::At(moment) => Some(moment),
            Next::Unknown => None,
        };
        let due = async {
            match deadline {
                Some(moment) => shared.clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            () = room => {}
            () = due => {}
            () = stopped(stop) => return false,
        }
    }
}

/// When there is something to send.
enum Next {
    Now,
    At(SystemTime),
    /// When something comes.
    Unknown,
}

/// Returns when there is something of `priority` to send. Who waits for what the budget holds back is told so.
fn next(shared: &Shared, priority: Priority) -> Next {
    let now = shared.clock.now();
    let mut state = shared.state.lock();
    let due = state.queue.next_len(priority, now);
    match priority {
        Priority::High if due > 0 => return Next::Now,
        Priority::High => return Next::Unknown,
        Priority::Normal => {}
    }
    let held = shared.held_back(state.queue.due_len(now) as u64);
    shared.meters.held.set(held.documents as f64, &[]);
    let grant = shared.grant(due);
    if grant.now > 0 {
        return Next::Now;
    }
    if due == 0 {
        return state.queue.next_deadline().map_or(Next::Unknown, Next::At);
    }
    let more = grant.more.unwrap_or(now);
    let State { queue, waiters, .. } = &mut *state;
    let wait = more.duration_since(now).unwrap_or_default();
    waiters.give_up(queue.due_now(), &Error::Held { wait });
    Next::At(more)
}

/// Waits until the service is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::{Duration, Instant, UNIX_EPOCH},
    };

    use clock::Clock;
    use futures::future::BoxFuture;
    use journal::Journal;
    use parking_lot::Mutex;
    use telemetry::Telemetry;
    use tokio::sync::{Semaphore, mpsc};

    use crate::{
        aggregate::rules::Rules,
        batcher::Batcher,
        budget,
        change::Change,
        document::{Fields, Key, Priority},
        keys,
        queue::{Entry, Limits},
        shared::Options,
        sink::{Cause, Page, Range, Sink, Unreachable, Verdict},
        store::Store,
        write::NewWrite,
    };

    /// Tells which documents arrive, lets requests through one by one, and puts some documents off some times.
    #[derive(Debug)]
    struct Gate {
        arrivals: mpsc::UnboundedSender<Vec<String>>,
        pass: Semaphore,
        put_off: Mutex<BTreeMap<&'static str, (Cause, u32)>>,
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
                let judge = |id: &String| match self.put_off.lock().get_mut(id.as_str()) {
                    Some((cause, times)) if *times > 0 => {
                        *times -= 1;
                        Verdict::Retry(*cause, "not now".to_owned())
                    }
                    _ => Verdict::Accepted,
                };
                Ok(ids.iter().map(judge).collect())
            })
        }

        fn apply(
            &self,
            _: &redb::WriteTransaction,
            writes: &[&Entry],
            _: i64,
        ) -> Result<Vec<Verdict>, redb::Error> {
            let left = self.broken.load(Ordering::SeqCst);
            if left == 0 {
                return Ok(vec![Verdict::Accepted; writes.len()]);
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

    async fn bench(documents: usize, put_off: &[(&'static str, Cause, u32)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("storage.redb");
        let store = Store::new(Journal::open(path, &journal::Options::default()).unwrap(), Instant::now());
        let (sender, arrivals) = mpsc::unbounded_channel();
        let put_off = Mutex::new(put_off.iter().map(|(id, cause, times)| (*id, (*cause, *times))).collect());
        let gate =
            Arc::new(Gate { arrivals: sender, pass: Semaphore::new(0), put_off, broken: AtomicU32::new(0) });
        let options = Options {
            limits: Limits { documents, bytes: 1 << 20, interval: Duration::from_secs(60) },
            concurrency: 2,
            rules: Arc::new(Rules::built_in(Duration::ZERO)),
            journal_max_bytes: 1 << 20,
            journal_max_writes: 1_000,
            price: 0.18,
            read_price: 0.06,
            keys: keys::Limits { count: 10, age: Duration::from_secs(60) },
            last_written: None,
            retry_backoff: Duration::from_millis(1),
            fault_tries: 3,
            ledger_always: false,
            ramp: None,
            budget: budget::Limits::default(),
            cache: None,
        };
        let (clock, _) = Clock::manual(UNIX_EPOCH);
        let sink = Arc::clone(&gate) as Arc<dyn Sink>;
        let telemetry = Telemetry::silent("storage-batcher");
        let batcher = Batcher::start(options, store, sink, telemetry, clock).await.unwrap();
        Bench { batcher, gate, arrivals, _folder: folder }
    }

    fn write(id: &str) -> NewWrite {
        let (key, change) = (Key::new("t", "c", id), Change::merge(Fields::new()));
        NewWrite { key, change, priority: Priority::Normal, idempotency_key: None, caller: "".into() }
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
        let Bench { batcher, gate, mut arrivals, _folder } = bench(3, &[("b", Cause::Contention, 1)]).await;
        gate.pass.add_permits(10);
        batcher.write("t".into(), ["a", "b", "c"].map(write).into()).await.unwrap();
        assert_eq!(arrivals.recv().await.unwrap(), ["a", "b", "c"]);
        assert_eq!(arrivals.recv().await.unwrap(), ["b"]);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
        assert_eq!(batcher.costs("t").0.total.written, 3);
    }

    #[tokio::test]
    async fn what_the_sink_took_is_not_sent_again_because_the_journal_failed() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(2, &[("b", Cause::Contention, 1)]).await;
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
    async fn a_large_batch_is_settled_in_parts_and_none_of_it_is_sent_again() {
        let Bench { batcher, gate, mut arrivals, _folder } = bench(200, &[]).await;
        gate.broken.store(1, Ordering::SeqCst);
        gate.pass.add_permits(10);
        let writes = (0..200).map(|number| write(&number.to_string())).collect();
        batcher.write("t".into(), writes).await.unwrap();
        assert_eq!(arrivals.recv().await.unwrap().len(), 200);
        let report = batcher.flush("t".into(), false).await.unwrap();
        assert!(report.refused.is_empty());
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
        assert!(arrivals.try_recv().is_err());
        assert_eq!((gate.broken.load(Ordering::SeqCst), batcher.costs("t").0.total.written), (0, 200));
    }

    #[tokio::test]
    async fn documents_that_are_put_off_hold_no_place_while_the_sink_takes_others() {
        let put_off = [("a", Cause::Contention, 1_000_000), ("c", Cause::Contention, 1_000_000)];
        let Bench { batcher, gate, mut arrivals, _folder } = bench(2, &put_off).await;
        gate.pass.add_permits(1_000_000);
        // More of these batches than there are places.
        batcher.write("t".into(), ["a", "b", "c", "d", "e", "f"].map(write).into()).await.unwrap();
        while arrivals.recv().await.unwrap() != ["e", "f"] {}
        batcher.drain(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_write_at_which_the_sink_fails_and_fails_is_a_dead_letter_and_the_others_arrive() {
        let put_off = [("b", Cause::Fault, 1_000_000), ("c", Cause::Contention, 5)];
        let Bench { batcher, gate, arrivals: _arrivals, _folder } = bench(3, &put_off).await;
        gate.pass.add_permits(1_000_000);
        batcher.write("t".into(), ["a", "b", "c"].map(write).into()).await.unwrap();
        while batcher.pending() > 0 {
            tokio::task::yield_now().await;
        }
        let (letters, more) = batcher.dead_letters(&"t".into(), 0, 10);
        assert_eq!((letters.len(), more, &*letters[0].key.id), (1, false, "b"));
        assert_eq!(letters[0].reason, "not now (3 times)");
        assert_eq!(batcher.costs("t").0.total.written, 2);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
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
