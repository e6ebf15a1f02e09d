//! Writes of one commit, as they get their sequences.

use crate::{codec::Record, queue::Accepted, store::Group};

/// Writes in the order of their sequences, which follow `last`.
pub(super) struct Sequenced {
    /// The newest sequence given.
    pub(super) last: u64,
    pub(super) writes: Vec<Accepted>,
}

impl Sequenced {
    /// Begins behind the sequence `last`.
    pub(super) fn after(last: u64) -> Self {
        Self { last, writes: Vec::new() }
    }

    /// Appends a record, which is written with `group`; returns its sequence.
    pub(super) fn append(&mut self, group: &mut Group, record: Record) -> u64 {
        self.last += 1;
        let bytes = group.records.push(self.last, &record);
        self.writes.push(Accepted::of(self.last, record, bytes as u64));
        self.last
    }

    /// Takes all but the first `count` back, which follow `last` again; returns what they were.
    pub(super) fn take_back(&mut self, group: &mut Group, count: usize, last: u64) -> Vec<Accepted> {
        group.records.truncate(count);
        self.last = last;
        self.writes.split_off(count)
    }
}
