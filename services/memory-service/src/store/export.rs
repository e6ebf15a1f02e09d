//! A space read page by page: no snapshot is held while somebody takes his time.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    Store, failed,
    load::{Losses, Rows},
    tables::SpaceRow,
};
use crate::{
    error::Error,
    memory::{Memory, Record},
    space::Space,
};

/// Some memories of a space, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The memories with their vectors.
    pub(crate) records: Vec<Record>,
    /// The number after which the next page begins; absent after the last one.
    pub(crate) after: Option<u64>,
    /// Memories that could not be read.
    pub(crate) corrupt: u64,
}

impl Store {
    /// Reads the memories of `space` after number `after` until they have about `bytes`. Blocks the thread.
    ///
    /// A memory that is there from the first page to the last is on one of them; one that is written again meanwhile may be on two,
    /// as it was and later as it is.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read.
    pub(crate) fn page(&self, space: &Space, after: u64, bytes: usize) -> Result<Page, Error> {
        let (number, vectors, shape) = (space.number(), space.site().vectors, space.shape().clone());
        let row = SpaceRow { number, generation: 0, next: 0, shape, vectors, coming: None };
        let read = |read: &redb::ReadTransaction| {
            let (mut page, mut losses, mut taken) = (Page::default(), Losses::default(), 0);
            Rows::open(read)?.each(&row, (after, u64::MAX), &mut losses, |seq, memory, vector| {
                taken += weight(&memory, vector);
                page.records.push(Record { memory: Arc::new(memory), embedding: vector.to_vec() });
                if taken < bytes {
                    return ControlFlow::Continue(());
                }
                page.after = Some(seq);
                ControlFlow::Break(())
            })?;
            page.corrupt = losses.count();
            Ok(page)
        };
        self.journal.read(read).map_err(failed)
    }
}

/// Returns about how many bytes a memory takes as text.
fn weight(memory: &Memory, vector: &[f32]) -> usize {
    let lists = memory.pools.iter().chain(&memory.tags).chain(&memory.sources).map(|name| name.len() + 3);
    let facts = memory.metadata.iter().map(|(name, value)| name.len() + value.len() + 6);
    memory.content.len() + memory.category.len() + lists.chain(facts).sum::<usize>() + vector.len() * 12 + 256
}
