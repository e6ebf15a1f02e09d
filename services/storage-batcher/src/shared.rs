//! What the tasks of one batcher share: how it behaves, and the memory of what is on disk.

use std::{
    collections::BTreeSet,
    ops::Add,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clock::Clock;
use parking_lot::Mutex;
use telemetry::{Counter, Gauge, KeyValue, Telemetry, names};
use tokio::sync::{Notify, oneshot};

use crate::{
    acks::{Acks, Outcome, Rejected},
    aggregate::{places::Places, rules::Rules},
    buckets::Buckets,
    budget,
    cache::{self, Reads},
    dead_letter::DeadLetters,
    document::{Key, Priority},
    flush::{
        allowance::{Allowance, Grant},
        ramp::{self, Ramp},
        slots::Slots,
    },
    keys::{self, Keys},
    last_written::{self, LastWritten},
    ledger::Ledger,
    queue::{Accepted, Entry, Limits, Queue},
    sink::Sink,
    status::{self, Recovery},
    store::Store,
    waiters::Waiters,
};

/// How the batcher behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a batch goes out.
    pub limits: Limits,
    /// Most batches of normal priority on their way at once.
    pub concurrency: usize,
    /// How samples become documents.
    pub rules: Arc<Rules>,
    /// Most bytes of writes and samples that are not at the sink.
    pub journal_max_bytes: u64,
    /// Most of those writes and samples.
    pub journal_max_writes: u64,
    /// USD for 100,000 documents written.
    pub price: f64,
    /// USD for 100,000 documents read.
    pub read_price: f64,
    /// How long idempotency keys are known.
    pub keys: keys::Limits,
    /// How much of what was written is remembered, so that what changes nothing is not sent; `None` sends everything.
    pub last_written: Option<last_written::Limits>,
    /// First pause after a sink that did not take a batch; it doubles.
    pub retry_backoff: Duration,
    /// Whether every batch is sent with a ledger document where the sink knows them.
    pub ledger_always: bool,
    /// Faults of one write, at a sink that answers, after which it is refused for good.
    pub fault_tries: u32,
    /// How fast what gathered while the sink or the service was away is sent; `None` as fast as it can.
    pub ramp: Option<ramp::Limits>,
    /// How many documents may be sent.
    pub budget: budget::Limits,
    /// How much of what was read is remembered; `None` asks the sink every time.
    pub cache: Option<cache::Limits>,
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
    /// What was read of it lately, if that costs something.
    pub(crate) reads: Option<Reads>,
    /// Places for batches on their way.
    pub(crate) slots: Arc<Slots>,
    /// The rate of catching up.
    pub(crate) ramp: Mutex<Ramp>,
    /// What the write budget lets through.
    pub(crate) allowance: Arc<Allowance>,
    /// What was found at the start.
    pub(crate) recovery: Recovery,
    /// Something of normal priority may be ready to be sent.
    pub(crate) work: Notify,
    /// Something of high priority may be.
    pub(crate) urgent: Notify,
    /// A bucket may have been opened.
    pub(crate) ticks: Notify,
    /// Somebody asked for a flush.
    pub(crate) flushes: Notify,
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
    pub(crate) places: Places,
    pub(crate) ledger: Ledger,
    pub(crate) waiters: Waiters,
    pub(crate) acks: Acks,
    pub(crate) dead: DeadLetters,
    pub(crate) keys: Keys,
    /// Sent first.
    pub(crate) resumed: Vec<Resumed>,
}

/// Writes, samples and dead letters that are not at the sink, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) writes: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) operations: Counter,
    pub(crate) refused: Counter,
    pub(crate) held: Gauge,
    journal_writes: Gauge,
    journal_bytes: Gauge,
    dead_letters: Gauge,
}

impl Shared {
    /// Returns what waits, as `look` sees it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Queue) -> T) -> T {
        look(&self.state.lock().queue)
    }

    /// Returns how many of `due` documents of normal priority the budget lets leave now, with the ledger document that may go along.
    pub(crate) fn grant(&self, due: usize) -> Grant {
        let ledger = self.spare();
        let grant = self.allowance.grant((due as u64).saturating_add(ledger));
        Grant { now: grant.now.saturating_sub(ledger), ..grant }
    }

    /// Returns when the last of `documents` of normal priority may leave, if nothing else does.
    pub(crate) fn all_by(&self, documents: u64) -> SystemTime {
        self.allowance.all_by(documents.saturating_add(self.spare()))
    }

    /// Returns the ledger documents that may go along with a batch.
    fn spare(&self) -> u64 {
        u64::from(self.sink.needs_ledger())
    }

    /// Returns what the budget holds back of `due` documents of normal priority.
    pub(crate) fn held_back(&self, due: u64) -> status::Held {
        let granted = self.grant(usize::try_from(due).unwrap_or(usize::MAX)).now.min(due);
        let until = (granted < due).then(|| self.all_by(due));
        status::Held { documents: due - granted, until }
    }

    /// Returns whether nothing is on its way and the budget holds back all that is due.
    pub(crate) fn is_held_back(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let due = state.queue.next_len(Priority::Normal, now);
        let is_idle = self.slots.count().1 == 0 && state.queue.next_len(Priority::High, now) == 0;
        is_idle && due > 0 && self.grant(due).now == 0
    }

    /// Returns whether `entry` must be sent with a ledger document.
    pub(crate) fn is_once(&self, entry: &Entry) -> bool {
        self.sink.needs_ledger() && (self.options.ledger_always || !entry.is_repeatable)
    }

    /// Lets both lanes look for something to send.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
        self.urgent.notify_one();
    }

    /// Tells how much waits.
    pub(crate) fn measure(&self, state: &State) {
        self.meters.measure(state);
    }

    /// Counts documents read from the sink.
    pub(crate) fn count_read(&self, documents: usize) {
        self.meters.operations.add(documents as u64, &[KeyValue::new(names::OPERATION_TYPE, "read")]);
    }
}

impl Add for Held {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { writes: self.writes + other.writes, bytes: self.bytes + other.bytes }
    }
}

impl State {
    /// Takes in writes that are on disk.
    pub(crate) fn take(&mut self, writes: Vec<Accepted>) {
        // Most of those that came together are of one caller and one collection.
        for alike in writes.chunk_by(|one, two| one.is_counted_with(two)) {
            // A sample waits since it was recorded, not since its bucket was closed.
            let count = alike.iter().map(|write| write.weight.writes).sum();
            if let Some(first) = alike.first()
                && count > 0
            {
                self.ledger.accept(first.key.row(), &first.caller, count);
            }
        }
        writes.into_iter().for_each(|write| self.queue.push(write));
    }

    /// Returns what is not at the sink.
    pub(crate) fn held(&self) -> Held {
        Held {
            writes: self.queue.records() + self.buckets.fresh() + self.dead.len(),
            bytes: self.queue.journal_bytes() + self.buckets.bytes() + self.dead.bytes(),
        }
    }

    /// Tells `done` when the sink has taken `writes`, of which some may be known from before, and sends them at once.
    pub(crate) fn await_stored(&mut self, writes: Vec<(Key, u64)>, done: oneshot::Sender<Outcome>) {
        let mut outstanding = BTreeSet::new();
        for (key, sequence) in writes {
            if self.queue.overlay(&key).holds(sequence) {
                self.queue.hurry(&key);
                outstanding.insert(sequence);
            } else if let Some(letter) = self.dead.holding(&key.tenant, sequence) {
                let reason = letter.reason.as_str().into();
                // One who left does not need the answer.
                drop(done.send(Err(Rejected { key, reason })));
                return;
            }
        }
        self.acks.add(&outstanding, done);
    }
}

impl Meters {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        Self {
            operations: telemetry.counter(names::FIRESTORE_OPERATIONS),
            refused: telemetry.counter(names::STORAGE_REFUSED),
            held: telemetry.gauge(names::STORAGE_HELD),
            journal_writes: telemetry.gauge(names::STORAGE_JOURNAL_WRITES),
            journal_bytes: telemetry.gauge(names::STORAGE_JOURNAL_BYTES),
            dead_letters: telemetry.gauge(names::STORAGE_DEAD_LETTERS),
        }
    }

    pub(crate) fn measure(&self, state: &State) {
        let held = state.held();
        self.journal_writes.set(held.writes as f64, &[]);
        self.journal_bytes.set(held.bytes as f64, &[]);
        self.dead_letters.set(state.dead.len() as f64, &[]);
    }
}
