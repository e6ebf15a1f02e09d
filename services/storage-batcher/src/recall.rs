//! What the journal held when the service started, put into memory, and the report of it.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use telemetry::{KeyValue, Telemetry, names};

use crate::{
    accept,
    acks::Acks,
    batcher::{Options, Resumed, State},
    buckets::Buckets,
    codec::Record,
    dead_letter::DeadLetters,
    document::Key,
    keys::Keys,
    ledger::Ledger,
    queue::{Accepted, Entry, Queue},
    status::Recovery,
    store::{Recovered, Seal},
    waiters::Waiters,
};

/// A record of the journal with its place, as it was encoded.
type Bytes = (u64, Vec<u8>);

/// Puts what the file held into memory, and says what that was.
pub(crate) fn recall(options: &Options, recovered: Recovered, now: SystemTime) -> (State, Recovery) {
    let mut queue = Queue::new(options.limits, recovered.last_sequence);
    let mut oldest: Option<i64> = None;
    let mut read = |(sequence, bytes): &Bytes| {
        // What cannot be read was set aside just before.
        let record = Record::decode(bytes).ok()?;
        oldest = Some(oldest.map_or(record.accepted, |oldest| oldest.min(record.accepted)));
        let mut write = accept::accepted(*sequence, record, bytes.len() as u64);
        // A clock that was set back must not hold a write for longer than the interval.
        write.at = write.at.min(now);
        Some(write)
    };
    let (resumed, rest) = unseal(recovered.seals, recovered.records, &mut read);
    resumed.iter().for_each(|(entry, _)| queue.resume(entry));
    // Each is let go of as it is taken in.
    rest.into_iter().filter_map(|record| read(&record)).for_each(|write| queue.push(write));
    let mut keys = Keys::new(options.keys);
    recovered.keys.into_iter().for_each(|known| keys.insert(known, now));
    let mut buckets = Buckets::default();
    let open_buckets = recovered.buckets.len() as u64;
    for (key, open) in recovered.buckets {
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
        took: recovered.took,
    };
    let ledger = Ledger::new(recovered.made, recovered.totals);
    let state = State {
        queue,
        buckets,
        ledger,
        dead,
        keys,
        resumed,
        waiters: Waiters::default(),
        acks: Acks::default(),
    };
    (state, recovery)
}

impl Recovery {
    /// Tells what was found by a line of the log and by metrics.
    pub(crate) fn tell(&self, last_sequence: u64, now: SystemTime, telemetry: &Telemetry) {
        let oldest_seconds = self.oldest.map(|oldest| (accept::micros(now) - oldest).max(0) / 1_000_000);
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

/// Puts the writes that were on their way together again, each with its ledger document, and returns what was not.
fn unseal(
    seals: Vec<Seal>,
    records: Vec<Bytes>,
    mut read: impl FnMut(&Bytes) -> Option<Accepted>,
) -> (Vec<Resumed>, Vec<Bytes>) {
    if seals.is_empty() {
        return (Vec::new(), records);
    }
    let mut seals: BTreeMap<u64, Seal> = seals.into_iter().map(|seal| (seal.first, seal)).collect();
    let mut sealed: BTreeMap<Key, (Entry, Seal)> = BTreeMap::new();
    let mut rest = Vec::new();
    for record in records {
        let Some(write) = read(&record) else { continue };
        if let Some(seal) = seals.remove(&write.sequence) {
            sealed.insert(write.key.clone(), (Entry::from(write), seal));
            continue;
        }
        let is_apart = match sealed.get_mut(&write.key) {
            // What folded once folds again.
            Some((entry, seal)) if write.sequence <= seal.last => entry.fold(write).is_err(),
            _ => true,
        };
        rest.extend(is_apart.then_some(record));
    }
    let resumed = sealed.into_values().map(|(entry, seal)| (Arc::new(entry), seal.ledger)).collect();
    (resumed, rest)
}
