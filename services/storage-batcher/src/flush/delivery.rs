//! One batch on its way: it is sent until the sink has decided every write of it, and what is decided is settled.
//!
//! What has the same effect twice is sent as it is, again and again. What has not is *sealed* first: the journal keeps which writes go
//! together with which ledger document, and from then on they are sent so and in no other way, by the next life of the service too, until
//! the sink has decided. So a ledger document that is there already says that all of them have arrived. A request that is refused for its
//! content was not applied; its writes are sealed anew, in halves, until the guilty one is alone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use rand::Rng as _;
use telemetry::{KeyValue, names};
use tokio::sync::{mpsc, watch};

use super::{allowance::Reserved, retry, slots::Slot, stopped};
use crate::{
    change::Change,
    document::Priority,
    error::Error,
    ledger::{Row, nobody},
    queue::Entry,
    shared::{Resumed, Shared},
    sink::{self, Cause, Unreachable, Verdict},
    store::{Landing, Seal},
};

/// Most outcomes in one commit: until it is on disk, no other is begun and nobody's write is acknowledged.
const MOST_LANDING: usize = 64;

/// Tries after which those who wait for a flush are told that the sink is away.
const PATIENCE: u32 = 3;

/// A batch on its way.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    priority: Priority,
    writes: Vec<Sending>,
    /// What the write budget keeps for them.
    reserved: Reserved,
    /// Whether they must be sealed.
    once: bool,
    /// Parts that the request was divided into, as it was refused.
    parts: u64,
    /// Whether something was divided just now.
    is_divided: bool,
    /// Whether the sink has taken some of the writes.
    is_known_to_take: bool,
    /// What the sink decided and the journal could not yet take: it is written down before anything is sent again.
    landing: Option<Landing>,
    /// What the last request held, until it is counted.
    request: Vec<Arc<Entry>>,
    attempt: u32,
}

/// A write of a batch.
struct Sending {
    entry: Arc<Entry>,
    /// How often it may have been applied already.
    times: u64,
    /// How often the sink has failed at it.
    faults: u32,
    /// The ledger document it is sealed with.
    ledger: Option<Arc<str>>,
    /// With which others it is sealed next.
    part: u64,
}

impl Sending {
    fn new(entry: Arc<Entry>, ledger: Option<Arc<str>>) -> Self {
        Self { entry, times: 0, faults: 0, ledger, part: 0 }
    }
}

impl Delivery {
    /// Returns what brings `batch` to the sink: one delivery for what may come twice and one for what must not.
    pub(super) fn of(
        shared: &Arc<Shared>,
        priority: Priority,
        batch: Vec<Arc<Entry>>,
    ) -> impl Iterator<Item = Self> {
        let is_once = |entry: &Arc<Entry>| shared.is_once(entry);
        let (once, plain): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_once);
        let deliveries = [(plain, false), (once, true)].map(|(entries, once)| {
            let writes = entries.into_iter().map(|entry| Sending::new(entry, None)).collect();
            Self::new(shared, priority, writes, once)
        });
        deliveries.into_iter().filter(|delivery| !delivery.writes.is_empty())
    }

    /// Returns what goes on with the writes of `priority` among those that were sealed when the service ended.
    pub(super) fn resume(shared: &Arc<Shared>, sealed: &[Resumed], priority: Priority) -> Option<Self> {
        // Those of one ledger document go together, as the most urgent of them.
        let mut groups: BTreeMap<&Arc<str>, Vec<&Arc<Entry>>> = BTreeMap::new();
        for (entry, ledger) in sealed {
            groups.entry(ledger).or_default().push(entry);
        }
        let mut writes = Vec::new();
        for (ledger, entries) in groups {
            if entries.iter().map(|entry| entry.priority).max() == Some(priority) {
                let sending = |entry| Sending::new(Arc::clone(entry), Some(Arc::clone(ledger)));
                writes.extend(entries.into_iter().map(sending));
            }
        }
        (!writes.is_empty()).then(|| Self::new(shared, priority, writes, true))
    }

    fn new(shared: &Arc<Shared>, priority: Priority, writes: Vec<Sending>, once: bool) -> Self {
        let mut delivery = Self {
            shared: Arc::clone(shared),
            priority,
            writes,
            reserved: shared.allowance.none(),
            once,
            parts: 0,
            is_divided: false,
            is_known_to_take: false,
            landing: None,
            request: Vec::new(),
            attempt: 0,
        };
        // Here, so that the next batch does not count on it. If there is no room, it waits when it is to be sent.
        delivery.reserved.resize(delivery.cost(), priority);
        delivery
    }

    /// Sends until everything is decided, or until told to stop: what is given up then stays in the journal and is sent after the next start.
    pub(super) async fn run(mut self, slot: Slot, mut stop: watch::Receiver<bool>, _alive: mpsc::Sender<()>) {
        let mut slot = Some(slot);
        self.leave_unchanged().await;
        while !self.writes.is_empty() {
            self.attempt += 1;
            let put_off = if let Some(landing) = self.landing.take() {
                self.land(landing).await;
                None
            } else {
                let told = tokio::select! {
                    told = self.send(&mut slot) => told,
                    () = stopped(&mut stop) => return,
                };
                self.learn(&told, &mut slot);
                self.settle(told).await
            };
            self.tell(put_off.as_ref().map(|(_, reason)| reason.as_str()));
            if self.writes.is_empty() {
                return;
            }
            if !self.shared.store.state().is_ready() {
                // What needs no disk goes on.
                slot = None;
            }
            let cause = put_off.map_or(Cause::Away, |(cause, _)| cause);
            tokio::select! {
                () = self.pause(cause) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// Sends once, when the budget allows, there is a place and it is this batch's turn. High priority waits only for a place.
    async fn send(&mut self, slot: &mut Option<Slot>) -> Result<Vec<Verdict>, Unreachable> {
        self.afford(slot).await;
        if slot.is_none() {
            *slot = Some(self.shared.slots.take(self.priority).await);
        }
        let wait = self.shared.ramp.lock().admit(self.writes.len(), Instant::now());
        if self.priority == Priority::Normal && !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        self.attempt().await
    }

    /// Waits until the budget has room for the next sending; the place is given up meanwhile, and who asks for a flush is told.
    async fn afford(&mut self, slot: &mut Option<Slot>) {
        let shared = Arc::clone(&self.shared);
        loop {
            // Listening before looking: nothing that comes in between is missed.
            let (changed, asked) = (shared.allowance.changed(), shared.flushes.notified());
            let Some(moment) = self.reserved.resize(self.cost(), self.priority) else { return };
            *slot = None;
            let wait = moment.duration_since(shared.clock.now()).unwrap_or_default();
            let entries = self.writes.iter().map(|write| &write.entry);
            shared.state.lock().waiters.give_up(entries, &Error::Held { wait });
            tokio::select! {
                () = changed => {}
                () = asked => {}
                () = shared.clock.sleep_until(moment) => {}
            }
        }
    }

    /// Returns the documents that the next sending writes, ledger documents among them.
    fn cost(&self) -> u64 {
        let ledgers: HashSet<_> = self.writes.iter().map(|write| (&write.ledger, write.part)).collect();
        let beside = if self.once && self.shared.sink.needs_ledger() { ledgers.len() } else { 0 };
        (self.writes.len() + beside) as u64
    }

    /// Waits before the next sending.
    async fn pause(&mut self, cause: Cause) {
        if std::mem::take(&mut self.is_divided) {
            // The sink answered: that was no try in vain.
            self.attempt -= 1;
            return;
        }
        let (first, roll) = (self.shared.options.retry_backoff, rand::rng().random_range(0.0..=1.0));
        tokio::time::sleep(retry::pause(first, cause, self.attempt, roll)).await;
        if self.landing.is_some() || self.once {
            self.shared.store.writable().await;
        }
    }

    /// Takes in what an answer says of the sink: how many batches it bears, and whether it is there. One that decided something is asked for
    /// the rest when there is a place again.
    fn learn(&mut self, told: &Result<Vec<Verdict>, Unreachable>, slot: &mut Option<Slot>) {
        let unreachable;
        let verdicts = match told {
            Ok(verdicts) => verdicts.as_slice(),
            Err(error) => {
                unreachable = [error.verdict()];
                &unreachable
            }
        };
        let causes = || {
            verdicts.iter().filter_map(|verdict| match verdict {
                Verdict::Retry(cause, _) => Some(*cause),
                _ => None,
            })
        };
        let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
        let is_overloaded = causes().any(Cause::is_overload);
        if let Some(slot) = slot
            && (is_overloaded || accepted > 0)
        {
            slot.learn(is_overloaded);
        }
        let (now, waiting) = (Instant::now(), self.shared.state.lock().queue.len());
        let mut ramp = self.shared.ramp.lock();
        if accepted > 0 {
            self.is_known_to_take = true;
            ramp.took(accepted, waiting, now);
        } else if !self.is_divided
            && causes().any(|cause| matches!(cause, Cause::Away | Cause::Quota | Cause::Setup))
        {
            ramp.away(now);
        }
        drop(ramp);
        if causes().count() < verdicts.len() {
            *slot = None;
        }
    }

    /// Settles the writes after which the sink would hold what it holds.
    async fn leave_unchanged(&mut self) {
        let Some(last) = &self.shared.last_written else { return };
        // What is sealed may have arrived: only the sink can tell.
        let same = self.writes.iter().filter(|write| write.ledger.is_none() && last.holds(&write.entry));
        let entries: Vec<_> = same.map(|write| (Arc::clone(&write.entry), Verdict::Unchanged, 0)).collect();
        if !entries.is_empty() {
            self.land(Landing { entries, ledgers: Vec::new(), now: self.shared.clock.now() }).await;
            self.tell(None);
        }
    }

    async fn attempt(&mut self) -> Result<Vec<Verdict>, Unreachable> {
        self.request = self.writes.iter().map(|write| Arc::clone(&write.entry)).collect();
        if !self.once {
            return self.shared.sink.send(&self.request, None).await;
        }
        self.seal().await?;
        let mut verdicts = Vec::with_capacity(self.writes.len());
        let mut refused = HashSet::new();
        for group in self.writes.chunk_by(|one, two| one.ledger == two.ledger) {
            let entries: Vec<_> = group.iter().map(|write| Arc::clone(&write.entry)).collect();
            let ledger = group.first().and_then(|write| write.ledger.as_deref());
            let told = match self.shared.sink.send(&entries, ledger).await {
                Ok(told) => told,
                // Whether it arrived is asked with the next sending.
                Err(error) => vec![error.verdict(); entries.len()],
            };
            if entries.len() > 1 && told.iter().all(Verdict::is_refused) {
                refused.extend(ledger.map(Arc::from));
            }
            verdicts.extend(told);
        }
        self.part(&refused);
        let many =
            self.writes.len() > 1 && !self.is_known_to_take && verdicts.iter().all(Verdict::is_refused);
        for (write, verdict) in self.writes.iter().zip(&mut verdicts) {
            // Those of a request that was refused as a whole are asked in parts. Many that are refused singly are not all bad at once: what
            // is wrong is what their requests have in common.
            if let Verdict::Refused(reason) = verdict
                && (write.ledger.is_none() || many)
            {
                *verdict = Verdict::Retry(Cause::Setup, std::mem::take(reason));
            }
        }
        Ok(verdicts)
    }

    /// Halves the requests with the ledger documents `refused`, which were not applied, and takes the seals off.
    fn part(&mut self, refused: &HashSet<Arc<str>>) {
        self.is_divided = !refused.is_empty();
        for ledger in refused {
            let of = |write: &&mut Sending| write.ledger.as_ref() == Some(ledger);
            let count = self.writes.iter_mut().filter(of).count();
            for (place, write) in self.writes.iter_mut().filter(of).enumerate() {
                write.ledger = None;
                write.part = self.parts + if place < count / 2 { 1 } else { 2 };
            }
            self.parts += 2;
        }
    }

    /// Seals those that are not: each part with a ledger document of its own.
    async fn seal(&mut self) -> Result<(), Unreachable> {
        let mut ledgers: HashMap<u64, Arc<str>> = HashMap::new();
        let open = self.writes.iter().filter(|write| write.ledger.is_none());
        let seals: Vec<_> = open
            .map(|Sending { entry, part, .. }| Seal {
                first: entry.first(),
                last: entry.last(),
                ledger: Arc::clone(ledgers.entry(*part).or_insert_with(sink::new_ledger)),
            })
            .collect();
        if seals.is_empty() {
            return Ok(());
        }
        self.shared.store.seal(seals.clone()).await.map_err(Unreachable::refused)?;
        let open = self.writes.iter_mut().filter(|write| write.ledger.is_none());
        for (write, seal) in open.zip(seals) {
            write.ledger = Some(seal.ledger);
        }
        Ok(())
    }

    /// Settles what is decided and keeps the rest for another sending; returns why there is a rest.
    async fn settle(&mut self, told: Result<Vec<Verdict>, Unreachable>) -> Option<(Cause, String)> {
        let most = self.shared.options.fault_tries;
        let mut sent = 0;
        let verdicts = match told {
            Ok(verdicts) => {
                let told = self.writes.iter_mut().zip(verdicts);
                told.map(|(write, verdict)| retry::judge(verdict, &mut write.faults, most)).collect()
            }
            Err(error) => {
                if error.lost {
                    sent += self.count_sent(|_| true);
                }
                vec![error.verdict(); self.writes.len()]
            }
        };
        sent += self.count_sent(|index| verdicts.get(index) == Some(&Verdict::Accepted));
        let decided = self.writes.iter().zip(&verdicts);
        let landing = Landing {
            entries: decided
                .filter(|(_, verdict)| !matches!(verdict, Verdict::Retry(..)))
                .map(|(write, verdict)| (Arc::clone(&write.entry), verdict.clone(), write.times))
                .collect(),
            ledgers: self.ledgers(&verdicts),
            now: self.shared.clock.now(),
        };
        let ledgers = landing.ledgers.len() as u64;
        self.reserved.spend(sent + ledgers);
        if ledgers > 0 {
            self.shared.meters.operations.add(ledgers, &[KeyValue::new(names::OPERATION_TYPE, "ledger")]);
        }
        if !landing.entries.is_empty() {
            self.land(landing).await;
        }
        retry::slowest(&verdicts).map(|(cause, reason)| (cause, reason.to_owned()))
    }

    /// Returns for whom the ledger documents of the accepted writes were written: the first of each.
    fn ledgers(&self, verdicts: &[Verdict]) -> Vec<(Row, Arc<str>)> {
        let mut seen = HashSet::new();
        let accepted = self.writes.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Accepted);
        accepted
            .filter(|(write, _)| self.shared.sink.needs_ledger() && write.ledger.is_some())
            .filter(|(write, _)| seen.insert(write.ledger.clone()))
            .map(|(Sending { entry, .. }, _)| {
                let caller = entry.shares.first().map(|(caller, _)| Arc::clone(caller));
                let row = entry.key.row();
                (row, caller.unwrap_or_else(nobody))
            })
            .collect()
    }

    /// Counts the request, tells those who have nothing left to wait for, and after a while those who wait in vain.
    fn tell(&mut self, failure: Option<&str>) {
        // Without a reason the sink has yet to be asked for the rest.
        let reason = if self.landing.is_some() { Some("the journal could not be written") } else { failure };
        if let Some(reason) = reason {
            tracing::warn!(
                sink = self.shared.sink.name(),
                documents = self.writes.len(),
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
            && !self.is_divided
        {
            let entries = self.writes.iter().map(|write| &write.entry);
            state.waiters.give_up(entries, &Error::Sink(Unreachable::refused(reason)));
        }
    }

    /// Writes the outcome of `landing` down, some documents at a time; if that fails, what is left of it is kept with its writes.
    async fn land(&mut self, mut landing: Landing) {
        while !landing.entries.is_empty() {
            let later = landing.entries.split_off(landing.entries.len().min(MOST_LANDING));
            let settled = self.shared.store.settle(landing.clone(), Arc::clone(&self.shared.sink)).await;
            let (verdicts, deltas) = match settled {
                Ok(settled) => settled,
                Err(error) => {
                    landing.entries.extend(later);
                    let documents = landing.entries.len();
                    tracing::error!(error = %error, documents, "outcome of a batch not written down");
                    self.landing = Some(landing);
                    return;
                }
            };
            let entries = landing.entries.iter().map(|(entry, ..)| entry).zip(&verdicts);
            let done: Vec<_> =
                entries.filter(|(_, verdict)| !matches!(verdict, Verdict::Retry(..))).collect();
            // Taken here: one who asks for a flush in between must not be answered without the request that settled his writes.
            let request = std::mem::take(&mut self.request);
            self.shared.land(&request, &done, &deltas, landing.now);
            // A landing is made by going through the writes, so it has their order.
            let mut settled = done.iter().map(|(entry, _)| entry.first()).peekable();
            self.writes.retain(|write| settled.next_if_eq(&write.entry.first()).is_none());
            debug_assert!(settled.next().is_none(), "what is settled is sent no more");
            landing = Landing { entries: later, ledgers: Vec::new(), now: landing.now };
        }
    }

    /// Counts the writes whose place `applied` names as sent once more, and returns how many they are.
    fn count_sent(&mut self, applied: impl Fn(usize) -> bool) -> u64 {
        let (mut sent, mut deletes) = (0, 0);
        for (_, write) in self.writes.iter_mut().enumerate().filter(|(index, _)| applied(*index)) {
            write.times += 1;
            sent += 1;
            deletes += u64::from(matches!(*write.entry.change(), Change::Delete));
        }
        for (count, kind) in [(sent - deletes, "write"), (deletes, "delete")] {
            if count > 0 {
                self.shared.meters.operations.add(count, &[KeyValue::new(names::OPERATION_TYPE, kind)]);
            }
        }
        sent
    }
}
