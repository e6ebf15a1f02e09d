//! A space as it is at one moment, for whoever looks at all of it: plans of prunes, and audits.

use std::{ops::ControlFlow, sync::Arc};

use redb::ReadTransaction;

use super::{
    Found, Refused, Store, failed,
    load::{self, Rows},
    tables::SpaceRow,
};
use crate::{error::Error, memory::Memory, space::SpaceKey};

/// A space at one moment.
pub(crate) struct View {
    rows: Rows,
    /// The space's own row.
    pub(crate) space: SpaceRow,
}

impl Store {
    /// Lets `look` look at the space of `key` as it is now; nothing if there is none. Blocks the thread; nobody else waits, but the file grows
    /// by what is written meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    pub(crate) fn view<T>(
        &self,
        key: &SpaceKey,
        look: impl FnOnce(&View) -> Result<T, Refused>,
    ) -> Result<Option<T>, Error> {
        let read = |read: &ReadTransaction| {
            let Some(space) = load::space(read, key)? else { return Ok(None) };
            look(&View { rows: Rows::open(read)?, space }).map(Some)
        };
        self.journal.read(read).map_err(failed)
    }
}

impl View {
    /// Hands over the memories in the order of their numbers, as long as `each` wants more.
    ///
    /// # Errors
    /// Those of the database; a memory that cannot be read is left out.
    pub(crate) fn each(&self, each: impl FnMut(u64, Memory) -> ControlFlow<()>) -> Result<(), Refused> {
        self.rows.memories(self.space.number, 0, each)
    }

    /// Returns the memory of number `seq`, if it is there and can be read.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn memory(&self, seq: u64) -> Result<Option<Memory>, Refused> {
        Ok(readable(self.rows.memory((self.space.number, seq)))?.flatten())
    }

    /// Returns the memory of number `seq` with its vector, if both can be read.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) fn found(&self, seq: u64) -> Result<Option<Found>, Refused> {
        let (key, mut vector) = ((self.space.vectors, seq), vec![0.0; self.space.shape.dimensions]);
        let memory = self.memory(seq)?;
        let is_there = readable(self.rows.vector(key, &mut vector))? == Some(true);
        Ok(memory.filter(|_| is_there).map(|memory| (Arc::new(memory), vector)))
    }
}

/// Takes a row that cannot be read for none.
fn readable<T>(read: Result<T, Refused>) -> Result<Option<T>, Refused> {
    match read {
        Err(Refused::Corrupt(_)) => Ok(None),
        other => other.map(Some),
    }
}
