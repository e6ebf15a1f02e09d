//! Writes in which memories become one: what they were goes to the trash in the commit that puts the one.

use redb::{ReadableTable as _, WriteTransaction};

use super::{
    Store, erase, failed,
    forgettings::{encode, next},
    tables::{FORGETTINGS, SpaceRow, TRASH},
    write::{self, Committed, Refused, Tables},
};
use crate::{
    backend::Merge,
    error::Error,
    shape::{Shape, SpaceKey},
    upkeep::forgettings::{Cause, Forgetting},
};

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Merged {
    /// It was written; with the number by which the merge can be undone.
    Done(Committed, u64),
    /// A memory that was to be merged is another one since, or gone: nothing was written. The space has come to this generation.
    Moved(u64),
}

impl Store {
    /// Writes `merge`, whose vectors are of `shape`, to the space of `key`, which is made of it if it is missing, and returns once it is on
    /// disk.
    ///
    /// # Errors
    /// Those of [`Store::commit`]; nothing was written then.
    pub(crate) async fn merge(&self, key: &SpaceKey, shape: &Shape, merge: Merge) -> Result<Merged, Error> {
        let (key, shape, most) = (key.clone(), shape.clone(), self.namespaces);
        let mut rows = write::encoded(merge.puts());
        let mut parts = write::encoded(merge.joins.iter().flat_map(|join| &join.parts));
        let bytes = write::size(&rows) + write::size(&parts);
        let apply =
            move |write: &WriteTransaction| apply(write, (&key, &shape, most), &merge, &mut rows, &mut parts);
        let done = self.journal.commit_sized(bytes, apply).await.map_err(failed)?;
        if let Merged::Done(committed, _) = &done {
            self.uncache(committed);
        }
        Ok(done)
    }
}

fn apply(
    write: &WriteTransaction,
    (key, shape, most): (&SpaceKey, &Shape, u32),
    merge: &Merge,
    rows: &mut write::Rows,
    parts: &mut write::Rows,
) -> Result<Merged, Refused> {
    let mut space = match write::find(write, key)? {
        Some(space) => space,
        None if merge.joins.iter().any(|join| join.older.is_some()) => return Ok(Merged::Moved(0)),
        None => write::make(write, key, shape, most)?,
    };
    if !is_there(write, &space, merge)? {
        return Ok(Merged::Moved(space.generation));
    }
    let number = keep(write, &mut space, merge, parts)?;
    if merge.window.is_zero() {
        erase::leave(write)?;
    }
    write::put(write, key, &space)?;
    let committed = write::apply(write, key, shape, most, &merge.change, rows)?;
    Ok(Merged::Done(committed, number))
}

/// Returns whether every memory that is merged is still the one that was looked at.
fn is_there(write: &WriteTransaction, space: &SpaceRow, merge: &Merge) -> Result<bool, Refused> {
    let tables = Tables::open(write, space)?;
    for join in &merge.joins {
        let (Some(older), Some(put)) = (join.older, merge.puts().get(join.at)) else { continue };
        let id = (space.number, put.memory.id.as_bytes());
        if tables.ids.get(id)?.is_none_or(|seq| seq.value() != older) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts what becomes one into the trash, under where it goes on, and returns the number of the forgetting. What was never stored gets a number
/// as if it had been, since rows lie under one.
fn keep(
    write: &WriteTransaction,
    space: &mut SpaceRow,
    merge: &Merge,
    parts: &mut write::Rows,
) -> Result<u64, Refused> {
    let tables = Tables::open(write, space)?;
    let (mut log, mut trash) = (write.open_table(FORGETTINGS)?, write.open_table(TRASH)?);
    let number = next(&log, space.number)?;
    let (mut rows, mut memories) = (parts.iter_mut(), 0);
    let first = space.next + merge.joins.iter().map(|join| join.parts.len() as u64).sum::<u64>();
    for join in &merge.joins {
        let onward = Some(first + join.at as u64);
        memories += join.parts.len() as u64 + u64::from(join.older.is_some());
        if let Some(older) = join.older.filter(|_| !merge.window.is_zero()) {
            let place = (space.number, older);
            if let Some(memory) = tables.records.get(place)?
                && let Some(vector) = tables.vectors.get((space.vectors, older))?
            {
                trash.insert((space.number, number, older), (memory.value(), vector.value(), onward))?;
            }
        }
        for (memory, vector) in rows.by_ref().take(join.parts.len()) {
            let place = (space.number, space.next);
            space.next += 1;
            if !merge.window.is_zero() {
                let kept = (memory.under(place), vector.under((space.vectors, place.1)), onward);
                trash.insert((space.number, number, place.1), kept)?;
            }
        }
    }
    let entry = Forgetting::new(number, Cause::Merged, memories, merge.at, merge.window);
    log.insert((space.number, number), encode(space.number, &entry).as_slice())?;
    Ok(number)
}
