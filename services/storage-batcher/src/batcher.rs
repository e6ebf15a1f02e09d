//! The service behind its adapter: what callers can ask, over one journal and one sink.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clock::Clock;
use parking_lot::Mutex;
use telemetry::{Counter, KeyValue, Telemetry, names};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    accept::{self, Command, NewSample, NewWrite, Receipt},
    buckets::Buckets,
    document::Key,
    error::Error,
    flush,
    keys::{self, Keys},
    last_written::{self, LastWritten},
    ledger::{Costs, Ledger},
    queue::{Accepted, Entry, Limits, Queue},
    sink::Sink,
    store::{Recovered, Seal, Store},
    waiters::{Report, Waiters},
};

/// Requests that may wait for the accepting task before callers wait for room.
const COMMANDS: usize = 4_096;

/// How the batcher behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a batch goes out.
    pub limits: Limits,
    /// Most batches on their way at once.
    pub concurrency: usize,
    /// How long after its end a bucket waits for late samples.
    pub lateness: Duration,
    /// Most bytes of writes and samples that are not at the sink.
    pub journal_max_bytes: u64,
    /// USD for 100,000 documents written.
    pub price: f64,
    /// How long idempotency keys are known.
    pub keys: keys::Limits,
    /// How much of what was written is remembered, so that what changes nothing is not sent; `None` sends everything.
    pub last_written: Option<last_written::Limits>,
    /// First pause after a sink that did not take a batch; it doubles up to 30 s.
    pub retry_backoff: Duration,
}

/// The running batcher. Dropping it without [`Batcher::drain`] stops it as a kill would: what is acknowledged is on disk.
#[derive(Debug)]
pub struct Batcher {
    pub(crate) shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the tasks of one batcher share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) store: Store,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) clock: Clock,
    pub(crate) telemetry: Telemetry,
    pub(crate) meters: Meters,
    pub(crate) state: Mutex<State>,
    /// What the sink holds, if this service is the only one that writes there.
    pub(crate) last_written: Option<LastWritten>,
    /// Something may be ready to be sent.
    pub(crate) work: Notify,
    /// A bucket may have been opened.
    pub(crate) ticks: Notify,
    /// Something was settled.
    pub(crate) landed: Notify,
}

/// A write that was on its way when the service ended, and the ledger document it is sealed with.
pub(crate) type Resumed = (Arc<Entry>, Arc<str>);

/// The memory of what is on disk.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) buckets: Buckets,
    pub(crate) ledger: Ledger,
    pub(crate) waiters: Waiters,
    pub(crate) keys: Keys,
    /// Sent first.
    pub(crate) resumed: Vec<Resumed>,
}

#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) operations: Counter,
    pub(crate) refused: Counter,
}

impl Batcher {
    /// Recovers what `store` holds and starts to work.
    ///
    /// # Errors
    /// [`Error::Store`] if the journal cannot be read.
    pub async fn start(
        options: Options,
        store: Store,
        sink: Arc<dyn Sink>,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Self, Error> {
        let recovered = store.recover(clock.now()).await?;
        let state = recall(&options, recovered, clock.now());
        let meters = Meters {
            operations: telemetry.counter(names::FIRESTORE_OPERATIONS),
            refused: telemetry.counter(names::STORAGE_REFUSED),
        };
        let last_written = options.last_written.map(LastWritten::new);
        let shared = Arc::new(Shared {
            options,
            store,
            sink,
            clock,
            telemetry: telemetry.clone(),
            meters,
            state: Mutex::new(state),
            last_written,
            work: Notify::new(),
            ticks: Notify::new(),
            landed: Notify::new(),
        });
        let (commands, waiting) = mpsc::channel(COMMANDS);
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            telemetry.spawn(accept::run(Arc::clone(&shared), waiting)),
            telemetry.spawn(flush::run(Arc::clone(&shared), stopped.clone())),
            telemetry.spawn(flush::tick(Arc::clone(&shared), commands.clone(), stopped)),
        ];
        Ok(Self { shared, commands, stop, tasks: Mutex::new(tasks) })
    }

    /// Accepts writes of one tenant, all or none; returns when they are on disk.
    ///
    /// # Errors
    /// [`Error::Full`] if the journal is full, [`Error::Store`] if it cannot be written.
    pub async fn write(&self, tenant: Arc<str>, writes: Vec<NewWrite>) -> Result<Receipt, Error> {
        self.ask(|answer| Command::Write { tenant, writes, answer }).await
    }

    /// Accepts samples of one tenant, all or none; returns its open buckets when they are on disk.
    ///
    /// # Errors
    /// As [`Batcher::write`].
    pub async fn record(&self, tenant: Arc<str>, samples: Vec<NewSample>) -> Result<u64, Error> {
        self.ask(|answer| Command::Record { tenant, samples, answer }).await
    }

    /// Sends everything of `tenant` accepted so far and waits for it. Buckets whose time is over are closed first, and all of
    /// the tenant's if `close_open_buckets`.
    ///
    /// # Errors
    /// [`Error::Sink`] if the sink did not take it after three sendings: it is sent further all the same.
    pub async fn flush(&self, tenant: Arc<str>, close_open_buckets: bool) -> Result<Report, Error> {
        let closing = close_open_buckets.then(|| Arc::clone(&tenant));
        self.ask(|answer| Command::Close { tenant: closing, answer }).await?;
        let done = {
            let mut state = self.shared.state.lock();
            let through = state.queue.make_due();
            let outstanding = state.queue.outstanding(&tenant, through);
            state.waiters.add(tenant, through, outstanding)
        };
        self.shared.work.notify_one();
        Ok(done.await.map_err(|_| Error::NotReady)??)
    }

    /// Returns the ledger of `tenant` and the price of 100,000 documents in USD.
    #[must_use]
    pub fn costs(&self, tenant: &str) -> (Costs, f64) {
        let costs = self.shared.state.lock().ledger.costs(tenant, self.shared.clock.now());
        (costs, self.shared.options.price)
    }

    /// Returns whether the tasks that accept, send and close run and the journal is open. It may take no writes just now:
    /// reads are answered then, and [`Batcher::journal`] says so.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let ended = self.tasks.lock().iter().any(JoinHandle::is_finished);
        !ended && !matches!(self.journal(), journal::State::Closed)
    }

    /// Returns whether the journal takes writes.
    #[must_use]
    pub fn journal(&self) -> journal::State {
        self.shared.store.state()
    }

    /// Returns the present moment on the agent clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.shared.clock.now()
    }

    /// Returns how many documents, of all tenants, are not at the sink.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// Sends what waits, for at most `patience` of wall time, and stops. What is not sent stays in the journal, and open buckets
    /// stay open. Lets go of the file at last and returns the documents left.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.shared.state.lock().queue.make_due();
        self.shared.work.notify_one();
        let shared = Arc::clone(&self.shared);
        let empty = async move {
            loop {
                let landed = shared.landed.notified();
                let mut landed = std::pin::pin!(landed);
                landed.as_mut().enable();
                if shared.state.lock().queue.is_empty() {
                    return;
                }
                landed.await;
            }
        };
        let drained = tokio::time::timeout(patience, empty).await;
        let left = self.pending();
        if drained.is_err() {
            tracing::warn!(documents = left, "documents left in the journal");
        }
        let tasks = std::mem::take(&mut *self.tasks.lock());
        self.stop.send_replace(true);
        // An accepting task that is gone already needs no word.
        drop(self.commands.send(Command::Stop).await);
        for task in tasks {
            drop(task.await);
        }
        self.shared.store.close().await;
        left
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Error::NotReady)?;
        answered.await.unwrap_or(Err(Error::NotReady))
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

impl Shared {
    /// Returns what waits, as `look` sees it, and the state of affairs it belongs to.
    pub(crate) fn snapshot<T>(&self, look: impl FnOnce(&Queue) -> T) -> (u64, T) {
        let state = self.state.lock();
        (state.queue.landings(), look(&state.queue))
    }

    /// Returns whether nothing was settled since `snapshot`: what was read from the sink since then is not newer than it.
    pub(crate) fn is_current(&self, snapshot: u64) -> bool {
        self.state.lock().queue.landings() == snapshot
    }

    /// Counts documents read from the sink.
    pub(crate) fn count_read(&self, documents: usize) {
        self.meters.operations.add(documents as u64, &[KeyValue::new(names::OPERATION_TYPE, "read")]);
    }
}

/// Puts what the file held into memory.
fn recall(options: &Options, recovered: Recovered, now: SystemTime) -> State {
    let mut queue = Queue::new(options.limits, recovered.last_sequence);
    let records = recovered.records.len();
    let writes = recovered.records.into_iter().map(|(sequence, record, bytes)| {
        let mut write = accept::accepted(sequence, record, bytes);
        // A clock that was set back must not hold a write for longer than the interval.
        write.at = write.at.min(now);
        write
    });
    let (resumed, rest) = unseal(recovered.seals, writes);
    resumed.iter().for_each(|(entry, _)| queue.resume(entry));
    rest.into_iter().for_each(|write| queue.push(write));
    let mut keys = Keys::new(options.keys);
    recovered.keys.into_iter().for_each(|known| keys.insert(known, now));
    let mut buckets = Buckets::default();
    let open_buckets = recovered.buckets.len();
    for (key, open) in recovered.buckets {
        buckets.reopen(&key, open);
    }
    tracing::info!(
        records,
        documents = queue.len(),
        open_buckets,
        resumed = resumed.len(),
        damaged = recovered.damaged,
        last_sequence = recovered.last_sequence,
        "journal recovered"
    );
    let ledger = Ledger::new(recovered.made, recovered.totals);
    State { queue, buckets, ledger, waiters: Waiters::default(), keys, resumed }
}

/// Puts the writes that were on their way together again, each with its ledger document, and returns what was not.
fn unseal(seals: Vec<Seal>, writes: impl Iterator<Item = Accepted>) -> (Vec<Resumed>, Vec<Accepted>) {
    let mut seals: BTreeMap<u64, Seal> = seals.into_iter().map(|seal| (seal.first, seal)).collect();
    let mut sealed: BTreeMap<Key, (Entry, Seal)> = BTreeMap::new();
    let mut rest = Vec::new();
    for write in writes {
        if let Some(seal) = seals.remove(&write.sequence) {
            sealed.insert(write.key.clone(), (Entry::from(write), seal));
            continue;
        }
        let write = match sealed.get_mut(&write.key) {
            // What folded once folds again.
            Some((entry, seal)) if write.sequence <= seal.last => entry.fold(write).err().map(|apart| *apart),
            _ => Some(write),
        };
        rest.extend(write);
    }
    let resumed = sealed.into_values().map(|(entry, seal)| (Arc::new(entry), seal.ledger)).collect();
    (resumed, rest)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use clock::Clock;
    use journal::Journal;
    use telemetry::Telemetry;

    use super::{Batcher, Options};
    use crate::{
        accept::NewWrite,
        change::Change,
        document::{Key, Priority},
        keys,
        queue::Limits,
        sink::embedded::Embedded,
        store::Store,
    };

    async fn start(folder: &tempfile::TempDir) -> Batcher {
        let path = folder.path().join("storage.redb");
        let journal = Journal::open(path, &journal::Options::default()).unwrap();
        let options = Options {
            limits: Limits { documents: 1, bytes: 1 << 20, interval: Duration::from_secs(60) },
            concurrency: 1,
            lateness: Duration::ZERO,
            journal_max_bytes: 1 << 20,
            price: 0.18,
            keys: keys::Limits { count: 10, age: Duration::from_secs(60) },
            last_written: None,
            retry_backoff: Duration::from_millis(1),
        };
        let sink = Arc::new(Embedded::open(journal.clone()).await.unwrap());
        let telemetry = Telemetry::silent("storage-batcher");
        Batcher::start(options, Store::new(journal), sink, telemetry, Clock::system()).await.unwrap()
    }

    #[tokio::test]
    async fn a_write_goes_on_when_its_caller_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let batcher = start(&folder).await;
        let key = Key { tenant: "t".into(), collection: "pools".into(), id: "a".into() };
        let write =
            NewWrite { key, change: Change::Delete, priority: Priority::Normal, idempotency_key: None };
        {
            let call = std::pin::pin!(batcher.write("t".into(), vec![write]));
            assert!(futures::poll!(call).is_pending());
        }
        while batcher.costs("t").0.total.settled == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
    }

    #[tokio::test]
    async fn a_batcher_one_of_whose_tasks_is_dead_is_not_well() {
        for task in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let batcher = start(&folder).await;
            assert!(batcher.is_well());
            batcher.tasks.lock()[task].abort();
            while !batcher.tasks.lock()[task].is_finished() {
                tokio::task::yield_now().await;
            }
            assert!(!batcher.is_well(), "task {task}");
            batcher.shared.store.close().await;
        }
    }
}
