//! What the journal held when the service started, put into memory, and the report of it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use telemetry::{KeyValue, Telemetry, names};

use crate::{
    acks::Acks,
    aggregate::places::Places,
    buckets::Buckets,
    dead_letter::DeadLetters,
    document::{Key, micros},
    keys::Keys,
    ledger::{Ledger, nobody},
    queue::{Accepted, Entry, Queue},
    shared::{Options, Resumed, State},
    status::Recovery,
    store::{Error, Recovered, Seal, Store},
    waiters::Waiters,
};

/// Puts what the file holds into memory, and says what that is.
///
/// # Errors
/// [`Error`] if the file cannot be read.
pub(crate) fn recall(
    options: &Options,
    store: &Store,
    recovered: Recovered,
    now: SystemTime,
) -> Result<(State, Recovery), Error> {
    let mut ledger = Ledger::new(recovered.made, recovered.totals);
    let mut queue = Queue::new(options.limits, recovered.last_sequence);
    let resumed = unseal(store, recovered.seals, now)?;
    resumed.iter().for_each(|(entry, _)| queue.resume(entry));
    let sent: HashSet<u64> = resumed.iter().flat_map(|(entry, _)| entry.records.iter().copied()).collect();
    let oldest = each(store, u64::MAX, now, |write| {
        ledger.accept(write.key.row(), &write.caller, write.weight.naive());
        if !sent.contains(&write.sequence) {
            queue.push(write);
        }
    })?;
    let mut keys = Keys::new(options.keys);
    recovered.keys.into_iter().for_each(|known| keys.insert(known, now));
    let mut buckets = Buckets::new(Arc::clone(&options.rules));
    let open_buckets = recovered.buckets.len() as u64;
    for (key, open) in recovered.buckets {
        ledger.accept(key.row(), &nobody(), open.fresh);
        buckets.reopen(&key, open);
    }
    let mut dead = DeadLetters::default();
    recovered.letters.into_iter().for_each(|letter| dead.add(letter));
    let recovery = Recovery {
        writes: queue.records(),
        bytes: queue.journal_bytes(),
        documents: queue.len() as u64,
        resumed: resumed.len() as u64,
        open_buckets,
        samples: buckets.fresh(),
        dead_letters: dead.len(),
        damaged: recovered.damaged,
        oldest,
        took: store.opening.elapsed(),
    };
    let state = State {
        queue,
        buckets,
        places: Places::recall(recovered.places, &options.rules),
        ledger,
        dead,
        keys,
        resumed,
        waiters: Waiters::default(),
        acks: Acks::default(),
    };
    Ok((state, recovery))
}

impl Recovery {
    /// Tells what was found by a line of the log and by metrics.
    pub(crate) fn tell(&self, last_sequence: u64, now: SystemTime, telemetry: &Telemetry) {
        let oldest_seconds = self.oldest.map(|oldest| (micros(now) - oldest).max(0) / 1_000_000);
        tracing::info!(
            records = self.writes,
            bytes = self.bytes,
            documents = self.documents,
            resumed = self.resumed,
            open_buckets = self.open_buckets,
            samples = self.samples,
            dead_letters = self.dead_letters,
            damaged = self.damaged.found,
            damaged_bytes = self.damaged.bytes,
            damaged_in_all = self.damaged.in_all,
            oldest_seconds,
            took_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            last_sequence,
            "journal recovered"
        );
        if self.damaged.found > 0 {
            tracing::error!(
                records = self.damaged.found,
                "damaged records of the journal set aside in the table damaged"
            );
        }
        let recovered = telemetry.gauge(names::STORAGE_RECOVERED);
        let found = [
            ("write", self.writes),
            ("sample", self.samples),
            ("dead_letter", self.dead_letters),
            ("damaged", self.damaged.found),
        ];
        for (kind, count) in found {
            recovered.set(count as f64, &[KeyValue::new(names::KIND, kind)]);
        }
        telemetry.gauge(names::STORAGE_RECOVERY_TIME).set(self.took.as_secs_f64(), &[]);
    }
}

/// Puts the writes that were on their way together again, each with its ledger document.
fn unseal(store: &Store, seals: Vec<Seal>, now: SystemTime) -> Result<Vec<Resumed>, Error> {
    let through = seals.iter().map(|seal| seal.last).max().unwrap_or_default();
    let mut seals: BTreeMap<u64, Seal> = seals.into_iter().map(|seal| (seal.first, seal)).collect();
    let mut sealed: BTreeMap<Key, (Entry, Seal)> = BTreeMap::new();
    each(store, through, now, |write| {
        if let Some(seal) = seals.remove(&write.sequence) {
            sealed.insert(write.key.clone(), (Entry::from(write), seal));
        } else if let Some((entry, seal)) = sealed.get_mut(&write.key)
            && write.sequence <= seal.last
        {
            // What folded once folds again; what did not waits.
            drop(entry.fold(write));
        }
    })?;
    Ok(sealed.into_values().map(|(entry, seal)| (Arc::new(entry), seal.ledger)).collect())
}

/// Hands over the writes of the journal up to `through`, oldest first and never many at once; returns when the oldest was accepted.
fn each(
    store: &Store,
    through: u64,
    now: SystemTime,
    mut take: impl FnMut(Accepted),
) -> Result<Option<i64>, Error> {
    let (mut oldest, mut after): (Option<i64>, u64) = (None, 0);
    while after < through {
        let page = store.records(after, through)?;
        let Some((last, ..)) = page.last() else { break };
        after = *last;
        for (sequence, record, bytes) in page {
            oldest = Some(oldest.map_or(record.accepted, |oldest| oldest.min(record.accepted)));
            let mut write = Accepted::of(sequence, record, bytes);
            // A clock that was set back must not hold a write for longer than the interval.
            write.at = write.at.min(now);
            take(write);
        }
    }
    Ok(oldest)
}
