//! What is known about memories that are handed in: looked up in memory, and read.

use std::{sync::Arc, time::SystemTime};

use journal::Reason;

use super::Inner;
use crate::{
    error::Error,
    hygiene::{
        near,
        settle::{Alike, Duplicates, Given, Known, Manner},
    },
    memory::Record,
    recall::contents::Contents as _,
    space::Space,
    store::Stored,
    vector::source::{Unread, Vectors as _},
};

/// Which memories of a space have to be read to settle one: by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    /// The one in these words that its agent recalled last.
    heard: Option<u64>,
    /// Those that may say the same; that one first.
    alike: Vec<u64>,
    /// Whether it has to be seen if there is one of its id.
    by_id: bool,
}

impl Candidates {
    pub(super) fn is_none(&self) -> bool {
        self.heard.is_none() && self.alike.is_empty() && !self.by_id
    }
}

/// Looks up which memories have to be read; reads none.
pub(super) fn candidates(
    space: &Space,
    given: &[Given],
    heard: &[Option<u64>],
    manner: Manner,
    now: SystemTime,
) -> Vec<Candidates> {
    let index = space.index();
    let of = |(Given { record, is_named }, heard): (&Given, &Option<u64>)| {
        if manner.of(*is_named) == Duplicates::Keep {
            return Candidates::default();
        }
        let heard = heard.filter(|seq| index.holds(*seq, now));
        let others =
            index.saying(record.saying, now, manner.most).into_iter().filter(|seq| heard != Some(*seq));
        Candidates { heard, alike: heard.into_iter().chain(others).collect(), by_id: *is_named }
    };
    given.iter().zip(heard).map(of).collect()
}

impl Inner {
    /// Reads what has to be known about a memory. Blocks the thread.
    pub(super) fn known(&self, space: &Space, given: &Given, candidates: Candidates) -> Result<Known, Error> {
        let Candidates { heard, alike, by_id } = candidates;
        let memory = &given.record.memory;
        let stored = Stored { store: &self.store, site: space.site() };
        let mut known = Vec::with_capacity(alike.len());
        for seq in alike {
            let is_heard = heard == Some(seq);
            known.extend(record(&stored, seq)?.map(|record| Alike { seq, record, is_heard }));
        }
        let heard = known.iter().find(|alike| alike.is_heard).map(|alike| &alike.record.memory);
        let repeats = heard.filter(|heard| near::repeats(memory, heard)).map(|heard| Arc::clone(&heard.id));
        // One that cannot be read is there: writing its id repairs it.
        let is_there = by_id && !matches!(self.store.seq(space.number(), &memory.id), Ok(None));
        Ok(Known { is_there, repeats, alike: known })
    }
}

/// Reads a memory; nothing if it is gone meanwhile, or damaged.
fn record(stored: &Stored<'_>, seq: u64) -> Result<Option<Record>, Error> {
    let mut embedding = Vec::new();
    let memories = stored.memories(&[seq]).and_then(|memories| {
        stored.read(&[seq], &mut |_, vector| embedding = vector.to_vec())?;
        Ok(memories)
    });
    match memories {
        Ok(memories) => Ok(memories.into_iter().next().map(|memory| Record::new(memory, embedding))),
        Err(Unread::Gone(_) | Unread::Damaged(_)) => Ok(None),
        Err(Unread::Failed(error)) => Err(Error::Store(Reason::Store, error)),
    }
}
