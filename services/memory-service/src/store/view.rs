//! A space as it is at one moment, for whoever looks at all of it: plans of prunes, audits, exports.

use std::ops::ControlFlow;

use redb::ReadTransaction;

use super::{
    Store, failed_by,
    load::{self, Rows},
    tables::SpaceRow,
    write::Refused,
};
use crate::{
    backend,
    error::Error,
    memory::Memory,
    shape::{Shape, SpaceKey},
};

/// A space at one moment.
struct View {
    rows: Rows,
    space: SpaceRow,
}

impl Store {
    /// Lets `look` look at the space of `key` as it is now; nothing if there is none. Blocks the thread; nobody else waits, but the file grows
    /// by what is written meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read, and those of `look`.
    pub(crate) fn view<T>(
        &self,
        key: &SpaceKey,
        look: impl FnOnce(&dyn backend::View) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let read = |read: &ReadTransaction| {
            let Some(space) = load::space(read, key)? else { return Ok(None) };
            look(&View { rows: Rows::open(read)?, space }).map(Some)
        };
        self.journal.read(read).map_err(failed_by)
    }
}

impl backend::View for View {
    fn space(&self) -> (u32, u64) {
        (self.space.number, self.space.generation)
    }

    fn shape(&self) -> &Shape {
        &self.space.shape
    }

    fn each(&self, after: u64, each: &mut dyn FnMut(u64, Memory) -> ControlFlow<()>) -> Result<(), Error> {
        Ok(self.rows.memories(self.space.number, after, each)?)
    }

    fn memory(&self, seq: u64) -> Result<Option<Memory>, Error> {
        Ok(readable(self.rows.memory((self.space.number, seq)))?.flatten())
    }

    fn vector(&self, seq: u64) -> Result<Option<Vec<f32>>, Error> {
        let (key, mut vector) = ((self.space.vectors, seq), vec![0.0; self.space.shape.dimensions]);
        Ok(readable(self.rows.vector(key, &mut vector))?.filter(|is_there| *is_there).map(|_| vector))
    }
}

/// Takes a row that cannot be read for none.
fn readable<T>(read: Result<T, Refused>) -> Result<Option<T>, Error> {
    match read {
        Err(Refused::Corrupt(_)) => Ok(None),
        other => Ok(Some(other?)),
    }
}
