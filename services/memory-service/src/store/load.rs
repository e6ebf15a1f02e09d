//! Reading: every space, a space's memories in the order of their numbers, and single rows.

use std::{ops::ControlFlow, sync::Arc};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _};

use super::{
    Store,
    bytes::Corrupt,
    failed, record,
    tables::{IDS, RECORDS, REMOVED, SPACES, SpaceRow, VECTORS},
    write::Refused,
};
use crate::{
    memory::Memory,
    recall::contents::Contents,
    shape::SpaceKey,
    vector::source::{Unread, Vectors},
};

/// Corrupt rows that are logged one by one; the rest is only counted.
const LOGGED: u64 = 20;

/// Counts what cannot be read.
#[derive(Debug, Default)]
pub(crate) struct Losses(u64);

impl Losses {
    /// Notes a row that cannot be read.
    pub(super) fn note(&mut self, error: Corrupt, space: u32, seq: u64) {
        self.0 += 1;
        if self.0 <= LOGGED {
            tracing::warn!(%error, space, seq, "a stored memory cannot be read and is left out");
        }
    }

    /// Returns how many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0
    }
}

/// The rows of one snapshot.
pub(super) struct Rows {
    records: ReadOnlyTable<(u32, u64), &'static [u8]>,
    vectors: ReadOnlyTable<(u32, u64), &'static [u8]>,
    ids: ReadOnlyTable<(u32, &'static [u8]), u64>,
    removed: ReadOnlyTable<(u32, u64), u64>,
}

/// Returns every space with its key.
pub(super) fn spaces(read: &ReadTransaction) -> Result<Vec<(SpaceKey, SpaceRow)>, Refused> {
    let mut spaces = Vec::new();
    for entry in read.open_table(SPACES)?.iter()? {
        let (key, row) = entry?;
        let (tenant, namespace) = key.value();
        let text = |bytes| str::from_utf8(bytes).map_err(|_| Corrupt::Text);
        spaces.push((SpaceKey::new(text(tenant)?, text(namespace)?), SpaceRow::decode(row.value())?));
    }
    Ok(spaces)
}

/// Returns the space of `key`.
pub(super) fn space(read: &ReadTransaction, key: &SpaceKey) -> Result<Option<SpaceRow>, Refused> {
    let spaces = read.open_table(SPACES)?;
    let row = spaces.get((key.tenant.as_bytes(), key.namespace.as_bytes()))?;
    Ok(row.map(|row| SpaceRow::decode(row.value())).transpose()?)
}

impl Rows {
    /// Opens the tables of `read`.
    pub(super) fn open(read: &ReadTransaction) -> Result<Self, Refused> {
        Ok(Self {
            records: read.open_table(RECORDS)?,
            vectors: read.open_table(VECTORS)?,
            ids: read.open_table(IDS)?,
            removed: read.open_table(REMOVED)?,
        })
    }

    /// Hands over the memories of `space` after number `after` and up to `last`, in the order of their numbers, each with its vector. Rows
    /// that cannot be read are noted and left out.
    pub(super) fn each(
        &self,
        space: &SpaceRow,
        (after, last): (u64, u64),
        losses: &mut Losses,
        mut each: impl FnMut(u64, Memory, &[f32]) -> ControlFlow<()>,
    ) -> Result<(), Refused> {
        let (number, set) = (space.number, space.vectors);
        let Some(first) = after.checked_add(1).filter(|first| *first <= last) else { return Ok(()) };
        let mut vectors = self.vectors.range((set, first)..=(set, last))?;
        let mut vector = vec![0.0; space.shape.dimensions];
        let mut next = vectors.next().transpose()?;
        for entry in self.records.range((number, first)..=(number, last))? {
            let (key, row) = entry?;
            let key = key.value();
            let place = (set, key.1);
            // No vector is without its memory, but in a file that is damaged.
            while next.as_ref().is_some_and(|(at, _)| at.value() < place) {
                next = vectors.next().transpose()?;
            }
            let decoded = match &next {
                Some((at, bytes)) if at.value() == place => record::vector(place, bytes.value(), &mut vector),
                _ => Err(Corrupt::Dimensions),
            };
            match decoded.and_then(|()| record::memory(key, row.value())) {
                Err(error) => losses.note(error, number, key.1),
                Ok(memory) => {
                    if each(key.1, memory, &vector).is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands over the memories of `space` after number `after` in the order of their numbers, without their vectors. What cannot be read is
    /// left out.
    pub(super) fn memories(
        &self,
        space: u32,
        after: u64,
        each: &mut dyn FnMut(u64, Memory) -> ControlFlow<()>,
    ) -> Result<(), Refused> {
        let Some(first) = after.checked_add(1) else { return Ok(()) };
        for entry in self.records.range((space, first)..=(space, u64::MAX))? {
            let (key, row) = entry?;
            let key = key.value();
            // A start counts and tells what it cannot read.
            if let Ok(memory) = record::memory(key, row.value())
                && each(key.1, memory).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// Returns the number of the memory of `id`.
    pub(super) fn seq(&self, space: u32, id: &str) -> Result<Option<u64>, Refused> {
        Ok(self.ids.get((space, id.as_bytes()))?.map(|seq| seq.value()))
    }

    /// Returns a memory by its number.
    pub(super) fn memory(&self, key: record::Key) -> Result<Option<Memory>, Refused> {
        let row = self.records.get(key)?;
        Ok(row.map(|row| record::memory(key, row.value())).transpose()?)
    }

    /// Reads the vector of a set and a number into `vector`; returns whether it is there.
    pub(super) fn vector(&self, key: record::Key, vector: &mut [f32]) -> Result<bool, Refused> {
        let row = self.vectors.get(key)?;
        Ok(row.map(|row| record::vector(key, row.value(), vector)).transpose()?.is_some())
    }

    /// Hands over the numbers of what was removed from `space` by a write after `generation`.
    pub(super) fn removed(
        &self,
        space: u32,
        generation: u64,
        mut each: impl FnMut(u64),
    ) -> Result<(), Refused> {
        for entry in self.removed.range((space, 0)..=(space, u64::MAX))? {
            let (key, by) = entry?;
            if by.value() > generation {
                each(key.value().1);
            }
        }
        Ok(())
    }
}

/// Where the rows of a space lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The number of the space.
    pub(crate) space: u32,
    /// The set that its vectors lie in.
    pub(crate) vectors: u32,
    /// Values of its vectors.
    pub(crate) dimensions: usize,
}

/// The memories and vectors of one space, read from the store by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'s> {
    /// The store.
    pub(crate) store: &'s Store,
    /// Where they lie.
    pub(crate) site: Site,
}

impl Stored<'_> {
    /// Reads something of each of `seqs`; `None` of one that is not there.
    fn each(
        &self,
        seqs: &[u64],
        mut each: impl FnMut(&Rows, usize, u64) -> Result<Option<()>, Refused>,
    ) -> Result<(), Unread> {
        let read = |read: &ReadTransaction| {
            let rows = Rows::open(read)?;
            for (place, seq) in seqs.iter().enumerate() {
                match each(&rows, place, *seq) {
                    Ok(Some(())) => {}
                    Ok(None) => return Ok(Err(Unread::Gone(*seq))),
                    Err(Refused::Corrupt(_)) => return Ok(Err(Unread::Damaged(*seq))),
                    Err(error) => return Err(error),
                }
            }
            Ok(Ok(()))
        };
        self.store.journal.read(read).unwrap_or_else(|error| Err(Unread::Failed(failed(error).into())))
    }
}

impl Vectors for Stored<'_> {
    fn read(&self, seqs: &[u64], each: &mut dyn FnMut(usize, &[f32])) -> Result<(), Unread> {
        let mut vector = vec![0.0; self.site.dimensions];
        self.each(seqs, |rows, place, seq| {
            let is_there = rows.vector((self.site.vectors, seq), &mut vector)?;
            Ok(is_there.then(|| each(place, &vector)))
        })
    }
}

impl Contents for Stored<'_> {
    fn memories(&self, seqs: &[u64]) -> Result<Vec<Arc<Memory>>, Unread> {
        let mut memories = Vec::with_capacity(seqs.len());
        self.each(seqs, |rows, _, seq| {
            let memory = self.store.cached(rows, (self.site.space, seq))?;
            Ok(memory.map(|memory| memories.push(memory)))
        })?;
        Ok(memories)
    }
}
