//! Memories in memory, numbered as a store numbers them: what calibration, benchmarks and tests recall from.

use std::{collections::HashMap, sync::Arc};

use crate::{
    memory::Memory,
    recall::contents::Contents,
    record::{Change, Record},
    vector::source::{Unread, Vectors},
    written::{Removed, Written},
};

/// Memories by id and by number.
#[derive(Debug, Default)]
pub(crate) struct Held {
    ids: HashMap<Arc<str>, u64>,
    records: HashMap<u64, Record>,
    last: u64,
}

impl Held {
    /// Takes a write and says what an index has to know of it.
    pub(crate) fn write(&mut self, change: Change) -> Written {
        let first = self.last + 1;
        let gone: Vec<u64> = match &change {
            Change::Put(records) => records.iter().filter_map(|record| self.put(record)).collect(),
            Change::Forget(ids) => ids.iter().filter_map(|id| self.ids.remove(id.as_str())).collect(),
        };
        let mut memory = |seq| self.records.remove(&seq).map(|record| record.memory);
        let removed = gone.into_iter().map(|seq| Removed { seq, memory: memory(seq) }).collect();
        Written { change: Arc::new(change), first, removed }
    }

    /// Takes a record and returns the number of the one that it replaces.
    fn put(&mut self, record: &Record) -> Option<u64> {
        self.last += 1;
        self.records.insert(self.last, record.clone());
        self.ids.insert(Arc::clone(&record.memory.id), self.last)
    }

    fn record(&self, seq: u64) -> Result<&Record, Unread> {
        self.records.get(&seq).ok_or(Unread::Gone(seq))
    }
}

impl Vectors for Held {
    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Unread> {
        seqs.iter().enumerate().try_for_each(|(place, seq)| {
            each(place, &self.record(*seq)?.embedding);
            Ok(())
        })
    }
}

impl Contents for Held {
    fn memories(&self, seqs: &[u64]) -> Result<Vec<Arc<Memory>>, Unread> {
        seqs.iter().map(|seq| Ok(Arc::clone(&self.record(*seq)?.memory))).collect()
    }
}
