//! What waits of one document.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use smallvec::{SmallVec, smallvec};

use super::body::Body;
use crate::{
    change::Change,
    codec::Record,
    document::{Key, Priority},
    ledger::Weight,
};

/// Bytes of a write beside its names and fields.
const WRITE_OVERHEAD: usize = 200;

/// One accepted write, on disk under its sequence.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its place in the journal; grows with every write.
    pub sequence: u64,
    /// The document.
    pub key: Key,
    /// What is done to it.
    pub change: Change,
    /// How soon.
    pub priority: Priority,
    /// When it was accepted, on the agent clock.
    pub at: SystemTime,
    /// What it stands for.
    pub weight: Weight,
    /// Whose write it is, by name.
    pub caller: Arc<str>,
    /// Its bytes in the journal.
    pub journal_bytes: u64,
}

/// Writes to one document, folded into one.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The document.
    pub key: Key,
    /// What is to be sent.
    body: Body,
    /// Whether sending that twice in a row is sending it once.
    pub is_repeatable: bool,
    /// How soon: as the most urgent of its writes.
    pub priority: Priority,
    /// The journal's records it stands for, oldest first.
    pub records: SmallVec<[u64; 2]>,
    /// What it stands for.
    pub weight: Weight,
    /// Whose writes those are, in the order of the first of each.
    pub shares: SmallVec<[(Arc<str>, Weight); 1]>,
    /// When the first of its writes was accepted.
    pub since: SystemTime,
    /// Its bytes in a request to the sink, by estimate.
    pub bytes: usize,
    /// Its bytes in the journal.
    pub journal_bytes: u64,
}

/// What the sink does not hold yet of one document.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// On its way; may have arrived.
    pub flight: Option<Arc<Entry>>,
    /// Waiting, oldest first: more than one where no single write does what they do.
    pub waiting: SmallVec<[Arc<Entry>; 1]>,
}

impl Accepted {
    /// Returns a record of the journal as the queue takes it.
    pub(crate) fn of(sequence: u64, record: Record, journal_bytes: u64) -> Self {
        let weight = match record.samples {
            0 => Weight { writes: 1, ..Weight::default() },
            samples => Weight { writes: 0, closings: 1, buckets: record.buckets, samples },
        };
        let since = Duration::from_micros(u64::try_from(record.accepted).unwrap_or(0));
        Self {
            sequence,
            key: record.key,
            change: record.change,
            priority: record.priority,
            at: UNIX_EPOCH + since,
            weight,
            caller: record.caller,
            journal_bytes,
        }
    }

    /// Returns whether both are counted for the same collection and the same caller.
    pub(crate) fn is_counted_with(&self, other: &Self) -> bool {
        let (one, two) = (&self.key, &other.key);
        one.collection == two.collection && self.caller == other.caller && one.tenant == two.tenant
    }
}

impl From<Accepted> for Entry {
    fn from(write: Accepted) -> Self {
        let mut entry = Self {
            key: write.key,
            body: Body::Open(write.change),
            is_repeatable: false,
            priority: write.priority,
            records: smallvec![write.sequence],
            weight: write.weight,
            shares: smallvec![(write.caller, write.weight)],
            since: write.at,
            bytes: 0,
            journal_bytes: write.journal_bytes,
        };
        entry.measure();
        entry
    }
}

impl Entry {
    /// Returns the place of its first write, by which it is found among the ready.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.records.first().copied().unwrap_or_default()
    }

    /// Returns what is to be sent.
    #[must_use]
    pub fn change(&self) -> Cow<'_, Change> {
        self.body.change()
    }

    /// Makes it small while it waits.
    pub(super) fn pack(&mut self) {
        self.body.pack();
        self.records.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.body, Body::Packed(_))
    }

    /// Takes `write` in.
    ///
    /// # Errors
    /// `write` itself if no single write does both.
    pub fn fold(&mut self, mut write: Accepted) -> Result<(), Box<Accepted>> {
        if let Err(apart) = self.body.fold(write.change) {
            write.change = apart;
            return Err(Box::new(write));
        }
        self.priority = self.priority.max(write.priority);
        self.records.push(write.sequence);
        self.weight.add(&write.weight);
        match self.shares.iter_mut().find(|(caller, _)| *caller == write.caller) {
            Some((_, weight)) => weight.add(&write.weight),
            None => self.shares.push((write.caller, write.weight)),
        }
        self.journal_bytes += write.journal_bytes;
        self.measure();
        Ok(())
    }

    /// Returns the place of its last write.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.records.last().copied().unwrap_or_default()
    }

    fn measure(&mut self) {
        let Key { tenant, collection, id } = &self.key;
        let change = self.body.change();
        let bytes = WRITE_OVERHEAD + tenant.len() + collection.len() + id.len() + change.size();
        (self.bytes, self.is_repeatable) = (bytes, change.is_repeatable());
    }
}

impl Overlay {
    /// Takes `write` in, folded into the newest that waits if a single write does both; returns the bytes of what it is part of then.
    pub(super) fn add(&mut self, write: Accepted) -> usize {
        let apart = match self.waiting.last_mut() {
            Some(waiting) => Arc::make_mut(waiting).fold(write),
            None => Err(Box::new(write)),
        };
        if let Err(write) = apart {
            self.waiting.push(Arc::new(Entry::from(*write)));
        }
        self.waiting.last().map_or(0, |waiting| waiting.bytes)
    }

    /// Makes that small whose newest write is the one of `sequence`.
    pub(super) fn pack(&mut self, sequence: u64) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.last() == sequence) {
            Arc::make_mut(waiting).pack();
        }
    }

    /// Sends the oldest of those that wait on its way.
    pub(super) fn depart(&mut self) {
        self.flight = (!self.waiting.is_empty()).then(|| self.waiting.remove(0));
    }

    /// Makes everything that waits urgent.
    pub(super) fn hurry(&mut self) {
        if let Some(last) = self.waiting.last_mut() {
            Arc::make_mut(last).priority = Priority::High;
        }
    }

    /// Returns whether the sink may hold another state than the caller must see.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.entries().next().is_some()
    }

    /// Returns whether this overlay decides the document whatever the sink holds.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.entries().any(|entry| entry.change().is_whole())
    }

    /// Returns how soon what waits must be sent: the first of it goes as the most urgent of it, which cannot go before.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.waiting.iter().map(|entry| entry.priority).max().unwrap_or_default()
    }

    /// Returns whether the write of `sequence` is among what the sink does not hold yet.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        self.entries().any(|entry| entry.records.binary_search(&sequence).is_ok())
    }

    /// Keeps of it what `keep` says.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.flight.take_if(|entry| !keep(entry));
        self.waiting.retain(|entry| keep(entry));
    }

    /// Returns what the sink does not hold yet, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.flight.iter().chain(&self.waiting)
    }
}
