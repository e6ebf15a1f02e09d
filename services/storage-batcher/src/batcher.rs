//! The service behind its adapter: what callers can ask, over one journal and one sink.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use clock::Clock;
use parking_lot::Mutex;
use telemetry::Telemetry;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    accept::{self, Command, Fate, Redeemed},
    aggregate::rules::Rules,
    cache::Reads,
    dead_letter::Letter,
    error::Error,
    flush::{self, allowance::Allowance, ramp::Ramp, slots::Slots},
    last_written::LastWritten,
    ledger::Costs,
    recall::recall,
    shared::{Meters, Options, Shared},
    sink::Sink,
    status::Status,
    store::Store,
    waiters::Report,
    write::{NewSample, NewWrite, Receipt},
};

/// Requests that may wait for the accepting task before callers wait for room.
const COMMANDS: usize = 4_096;

/// The running batcher. Dropping it without [`Batcher::drain`] stops it as a kill would: what is acknowledged is on disk.
#[derive(Debug)]
pub struct Batcher {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
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
        let recalling = {
            let (options, store, now) = (options.clone(), store.clone(), clock.now());
            move || recall(&options, &store, recovered, now)
        };
        let recalled = telemetry.spawn_blocking(recalling).await.map_err(|_| Error::NotReady)?;
        let (state, recovery) = recalled?;
        recovery.tell(state.queue.last(), clock.now(), &telemetry);
        let meters = Meters::new(&telemetry);
        meters.measure(&state);
        let slots = Arc::new(Slots::new(options.concurrency));
        let ramp = Mutex::new(Ramp::new(options.ramp, state.queue.len(), Instant::now()));
        let sent = state.ledger.sent_by_minute();
        let interval = options.limits.interval;
        let allowance = Arc::new(Allowance::new(options.budget, sent, clock.clone(), interval, &telemetry));
        let last_written = options.last_written.map(LastWritten::new);
        let reads = options.cache.map(|limits| Reads::new(limits, clock.clone()));
        let shared = Arc::new(Shared {
            options,
            store,
            sink,
            clock,
            telemetry: telemetry.clone(),
            meters,
            state: Mutex::new(state),
            last_written,
            reads,
            slots,
            ramp,
            allowance,
            recovery,
            work: Notify::new(),
            urgent: Notify::new(),
            ticks: Notify::new(),
            flushes: Notify::new(),
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
        self.ask(|answer| Command::Write { tenant, writes, stored: None, answer: answer.into() }).await
    }

    /// Accepts writes of one tenant as [`Batcher::write`] does, and returns when the sink has taken them, within `patience` of wall time.
    ///
    /// # Errors
    /// As [`Batcher::write`]; [`Error::Durable`] if the time was over before, [`Error::Rejected`] if the sink refused one of them for good.
    pub async fn write_through(
        &self,
        tenant: Arc<str>,
        writes: Vec<NewWrite>,
        patience: Duration,
    ) -> Result<Receipt, Error> {
        let (done, stored) = oneshot::channel();
        let until = tokio::time::Instant::now() + patience;
        let command = |answer: oneshot::Sender<_>| {
            let answer = answer.into();
            Command::Write { tenant, writes, stored: Some(done), answer }
        };
        let receipt = self.ask(command).await?;
        match tokio::time::timeout_at(until, stored).await {
            Ok(Ok(Ok(()))) => Ok(receipt),
            Ok(Ok(Err(rejected))) => Err(Error::Rejected(rejected)),
            // The service ends, and sends it when it starts again.
            Ok(Err(_)) | Err(_) => {
                Err(Error::Durable { sequence: receipt.sequences.last().copied().unwrap_or_default() })
            }
        }
    }

    /// Returns up to `limit` dead letters of `tenant` of a greater sequence than `after`, and whether there are more.
    #[must_use]
    pub fn dead_letters(&self, tenant: &Arc<str>, after: u64, limit: usize) -> (Vec<Arc<Letter>>, bool) {
        self.shared.state.lock().dead.page(tenant, after, limit)
    }

    /// Does with those dead letters of `tenant` that are there as `fate` says, all or none; returns them when that is on disk. What is
    /// written again is a write of `caller`.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be written.
    pub async fn redeem(
        &self,
        (tenant, caller): (Arc<str>, Arc<str>),
        sequences: Vec<u64>,
        fate: Fate,
    ) -> Result<Vec<Redeemed>, Error> {
        self.ask(|answer| Command::Letters { tenant, caller, sequences, fate, answer }).await
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
        self.shared.wake();
        self.shared.flushes.notify_waiters();
        done.await.map_err(|_| Error::NotReady)?
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

    /// Returns how the service is.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let (concurrency, batches) = shared.slots.count();
        let ramp = shared.ramp.lock().rate(Instant::now());
        let mut state = shared.state.lock();
        let due = state.queue.due_len(shared.clock.now());
        let held = state.held();
        Status {
            writes: held.writes,
            bytes: held.bytes,
            max_writes: shared.options.journal_max_writes,
            max_bytes: shared.options.journal_max_bytes,
            dead_letters: state.dead.len(),
            dead_letter_bytes: state.dead.bytes(),
            refusing: self.journal().reason(),
            recovery: shared.recovery.clone(),
            sink: shared.sink.name(),
            documents: state.queue.len() as u64,
            concurrency: u32::try_from(concurrency).unwrap_or(u32::MAX),
            batches: u32::try_from(batches).unwrap_or(u32::MAX),
            ramp,
            budget: shared.allowance.standing(),
            held: shared.held_back(due as u64),
            cache: shared.reads.as_ref().map(Reads::stats).zip(shared.options.cache),
            read_price: shared.options.read_price,
        }
    }

    /// Returns how samples become documents.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.shared.options.rules
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

    /// Sends what waits now, and does not wait for it.
    pub fn send_all(&self) {
        self.shared.state.lock().queue.make_due();
        self.shared.wake();
    }

    /// Sends what waits, as far as the write budget goes and for at most `patience` of wall time, and stops. What is not sent stays in the
    /// journal, and open buckets stay open. Lets go of the file at last and returns the documents left.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.send_all();
        let shared = Arc::clone(&self.shared);
        let empty = async move {
            loop {
                let landed = shared.landed.notified();
                let mut landed = std::pin::pin!(landed);
                landed.as_mut().enable();
                let is_empty = shared.state.lock().queue.is_empty();
                if is_empty || shared.is_held_back() {
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

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use clock::Clock;
    use journal::Journal;
    use telemetry::Telemetry;

    use super::Batcher;
    use crate::{
        aggregate::rules::Rules,
        budget,
        change::Change,
        document::{Key, Priority, Value},
        error::Error,
        keys,
        queue::Limits,
        shared::Options,
        sink::embedded::Embedded,
        store::Store,
        write::NewWrite,
    };

    async fn start(folder: &tempfile::TempDir) -> Batcher {
        let path = folder.path().join("storage.redb");
        let journal = Journal::open(path, &journal::Options::default()).unwrap();
        let options = Options {
            limits: Limits { documents: 1, bytes: 1 << 20, interval: Duration::from_secs(60) },
            concurrency: 1,
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
        let sink = Arc::new(Embedded::open(journal.clone()).await.unwrap());
        let telemetry = Telemetry::silent("storage-batcher");
        Batcher::start(options, Store::new(journal, Instant::now()), sink, telemetry, Clock::system())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_write_goes_on_when_its_caller_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let batcher = start(&folder).await;
        let key = Key { tenant: "t".into(), collection: "pools".into(), id: "a".into() };
        let write = NewWrite {
            key,
            change: Change::Delete,
            priority: Priority::Normal,
            idempotency_key: None,
            caller: "".into(),
        };
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
    async fn of_writes_that_find_no_room_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let batcher = start(&folder).await;
        let write = |id: &str, bytes| NewWrite {
            key: Key::new("t", "pools", id),
            change: Change::set([("text".to_owned(), Value::Text("x".repeat(bytes)))]),
            priority: Priority::Normal,
            idempotency_key: Some(id.into()),
            caller: "".into(),
        };
        // They share a commit: all of them ask before the accepting task has its turn.
        let (first, refused, last) = tokio::join!(
            batcher.write("t".into(), vec![write("a", 1)]),
            batcher.write("t".into(), vec![write("b", 1), write("c", 600_000), write("d", 600_000)]),
            batcher.write("t".into(), vec![write("e", 1)]),
        );
        assert_eq!((first.unwrap().sequences, last.unwrap().sequences), (vec![1], vec![2]));
        assert!(matches!(refused, Err(Error::Full { setting: "journal_max_bytes", .. })));
        // Nor are their keys known.
        assert_eq!(batcher.write("t".into(), vec![write("b", 2)]).await.unwrap().sequences, [3]);
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
        drop(batcher);
        let batcher = start(&folder).await;
        assert_eq!(batcher.costs("t").0.total.written, 3);
        assert!(matches!(batcher.get(&Key::new("t", "pools", "c")).await, Err(Error::NoDocument)));
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
