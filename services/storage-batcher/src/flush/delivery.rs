//! One batch on its way: it is sent until the sink has decided every write of it, and what is decided is settled.
//!
//! What has the same effect twice is sent as it is, again and again. What has not is *sealed* first: the journal keeps which writes go
//! together with which ledger document, and from then on they are sent so and in no other way, by the next life of the service too, until
//! the sink has decided. So a ledger document that is there already says that all of them have arrived. A request that is refused for its
//! content was not applied; its writes are sealed anew, each on its own.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rand::Rng as _;
use telemetry::{KeyValue, names};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::stopped;
use crate::{
    batcher::{Resumed, Shared},
    change::Change,
    ledger::Row,
    queue::Entry,
    sink::{Unreachable, Verdict},
    store::{Landing, Seal},
};

/// Longest pause between two sendings of one batch.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Tries after which those who wait for a flush are told that the sink is away.
const PATIENCE: u32 = 3;

/// A batch on its way.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    writes: Vec<Sending>,
    /// Whether they must be sealed.
    once: bool,
    /// Whether each of them is sealed on its own.
    alone: bool,
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
    /// The ledger document it is sealed with.
    ledger: Option<Arc<str>>,
}

impl Delivery {
    /// Returns what brings `batch` to the sink: one delivery for what may come twice and one for what must not.
    pub(super) fn of(shared: &Arc<Shared>, batch: Vec<Arc<Entry>>) -> impl Iterator<Item = Self> {
        let is_once = |entry: &Arc<Entry>| shared.sink.needs_ledger() && !entry.change.is_repeatable();
        let (once, plain): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_once);
        let deliveries = [(plain, false), (once, true)].map(|(entries, once)| {
            let sending = |entry| Sending { entry, times: 0, ledger: None };
            Self::new(shared, entries.into_iter().map(sending).collect(), once)
        });
        deliveries.into_iter().filter(|delivery| !delivery.writes.is_empty())
    }

    /// Returns what goes on with the writes that were sealed when the service ended.
    pub(super) fn resume(shared: &Arc<Shared>, mut sealed: Vec<Resumed>) -> Option<Self> {
        // Those of one ledger document go together.
        sealed.sort_by(|(_, one), (_, two)| one.cmp(two));
        let sending = |(entry, ledger)| Sending { entry, times: 0, ledger: Some(ledger) };
        let writes: Vec<_> = sealed.into_iter().map(sending).collect();
        (!writes.is_empty()).then(|| Self::new(shared, writes, true))
    }

    fn new(shared: &Arc<Shared>, writes: Vec<Sending>, once: bool) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, writes, once, alone: false, landing: None, request: Vec::new(), attempt: 0 }
    }

    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>, _slot: OwnedSemaphorePermit) {
        self.leave_unchanged().await;
        while !self.writes.is_empty() {
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
            if self.writes.is_empty() {
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
                Err(error) => vec![Verdict::Retry(error.reason); entries.len()],
            };
            if entries.len() > 1 && told.iter().all(Verdict::is_refused) {
                refused.extend(ledger.map(Arc::from));
            }
            verdicts.extend(told);
        }
        self.part(&refused);
        let many = self.writes.len() > 1 && verdicts.iter().all(Verdict::is_refused);
        for (write, verdict) in self.writes.iter().zip(&mut verdicts) {
            // Those of a request that was refused as a whole are asked singly. Many that are refused singly are not all bad at once: what
            // is wrong is what their requests have in common.
            if let Verdict::Refused(reason) = verdict
                && (write.ledger.is_none() || many)
            {
                *verdict = Verdict::Retry(std::mem::take(reason));
            }
        }
        Ok(verdicts)
    }

    /// Takes the seal off those of the requests `refused`, which were not applied.
    fn part(&mut self, refused: &HashSet<Arc<str>>) {
        for write in &mut self.writes {
            if write.ledger.as_ref().is_some_and(|ledger| refused.contains(ledger)) {
                write.ledger = None;
                self.alone = true;
            }
        }
    }

    /// Seals those that are not.
    async fn seal(&mut self) -> Result<(), Unreachable> {
        let together = new_ledger();
        let open = self.writes.iter().filter(|write| write.ledger.is_none());
        let seals: Vec<_> = open
            .map(|Sending { entry, .. }| Seal {
                first: entry.first(),
                last: entry.last(),
                ledger: if self.alone { new_ledger() } else { Arc::clone(&together) },
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
    async fn settle(&mut self, attempt: Result<Vec<Verdict>, Unreachable>) -> Option<String> {
        let verdicts = match attempt {
            Ok(verdicts) => verdicts,
            Err(error) => {
                if error.lost {
                    self.count_sent(|_| true);
                }
                vec![Verdict::Retry(error.reason); self.writes.len()]
            }
        };
        self.count_sent(|index| verdicts.get(index) == Some(&Verdict::Accepted));
        let decided = self.writes.iter().zip(&verdicts);
        let landing = Landing {
            entries: decided
                .filter(|(_, verdict)| !matches!(verdict, Verdict::Retry(_)))
                .map(|(write, verdict)| (Arc::clone(&write.entry), verdict.clone(), write.times))
                .collect(),
            ledgers: self.ledgers(&verdicts),
            now: self.shared.clock.now(),
        };
        if !landing.entries.is_empty() {
            self.land(landing).await;
        }
        verdicts.into_iter().find_map(|verdict| match verdict {
            Verdict::Retry(reason) => Some(reason),
            _ => None,
        })
    }

    /// Returns for whom the ledger documents of the accepted writes were written: the first of each.
    fn ledgers(&self, verdicts: &[Verdict]) -> Vec<Row> {
        let mut seen = HashSet::new();
        let accepted = self.writes.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Accepted);
        accepted
            .filter(|(write, _)| self.shared.sink.needs_ledger() && write.ledger.is_some())
            .filter(|(write, _)| seen.insert(write.ledger.clone()))
            .map(|(write, _)| (Arc::clone(&write.entry.key.tenant), Arc::clone(&write.entry.key.collection)))
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
        {
            let entries: Vec<_> = self.writes.iter().map(|write| Arc::clone(&write.entry)).collect();
            state.waiters.give_up(&entries, &Unreachable::refused(reason));
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
        self.note(&done);
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
        self.writes.retain(|write| !settled.contains(&write.entry.first()));
        self.shared.work.notify_one();
        self.shared.landed.notify_waiters();
    }

    /// Remembers what the sink holds now, and tells which documents were refused.
    fn note(&self, done: &[(&Arc<Entry>, &Verdict)]) {
        for (entry, verdict) in done {
            if let Some(last) = &self.shared.last_written {
                last.note(entry, verdict);
            }
            if let Verdict::Refused(reason) = verdict {
                let (collection, document) = (&*entry.key.collection, &*entry.key.id);
                tracing::error!(collection, document, reason, "document refused for good and dropped");
                self.shared.meters.refused.add(1, &[]);
            }
        }
    }

    /// Counts the writes whose place `applied` names as sent once more.
    fn count_sent(&mut self, applied: impl Fn(usize) -> bool) {
        for (index, write) in self.writes.iter_mut().enumerate() {
            if applied(index) {
                write.times += 1;
                let kind = if matches!(write.entry.change, Change::Delete) { "delete" } else { "write" };
                self.shared.meters.operations.add(1, &[KeyValue::new(names::OPERATION_TYPE, kind)]);
            }
        }
    }
}

/// Returns an id that no other ledger document has. It is random, so that those of one second do not lie beside each other.
fn new_ledger() -> Arc<str> {
    format!("{:032x}", rand::rng().random::<u128>()).into()
}

/// Returns how long to wait before sending number `attempt + 1`: twice as long each time, between half and the whole of it.
fn pause(first: Duration, attempt: u32) -> Duration {
    let whole = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MAX_PAUSE);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{MAX_PAUSE, pause};

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
