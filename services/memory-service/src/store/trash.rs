//! What was forgotten and can still come back: it goes to the trash in the commit that deletes it, and back in the one that undoes it.
//!
//! A row lies in the trash as it was, byte by byte, under the number of its forgetting; an undo puts it back as a new memory, with a new
//! number. So an index, a cache or a checkpoint need to know of neither.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use redb::{ReadableTable as _, WriteTransaction};

use super::{
    Store, erase, failed,
    forgettings::{all, encode, entry, next},
    record,
    tables::{FORGETTINGS, SpaceRow, TRASH},
    write::{self, Committed, Refused, Tables, find},
};
use crate::{
    backend::{Forget, Purged, Which},
    error::Error,
    memory::Record,
    shape::SpaceKey,
    upkeep::forgettings::{Forgetting, Kept, Refused as Over, State, restore},
};

/// What was forgotten.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forgot {
    /// The write.
    pub(crate) committed: Committed,
    /// The ids that lead nowhere now.
    pub(crate) ids: Vec<String>,
    /// The number of the forgetting; absent if there was nothing to forget.
    pub(crate) number: Option<u64>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Undone {
    /// The write.
    pub(crate) committed: Committed,
    /// The memories that came back.
    pub(crate) records: Vec<Record>,
    /// Memories that stay forgotten: their ids were written again, or their rows cannot be read.
    pub(crate) stayed: u64,
}

impl Store {
    /// Deletes memories of the space of `key`, keeps them as long as that can be undone, and returns once it is on disk.
    ///
    /// # Errors
    /// Those of [`Store::commit`]; nothing was forgotten then.
    pub(crate) async fn forget(&self, key: &SpaceKey, forget: Forget) -> Result<Forgot, Error> {
        let key = key.clone();
        let write = move |write: &WriteTransaction| self::forget(write, &key, &forget);
        let done = self.journal.commit(write).await.map_err(failed)?;
        self.uncache(&done.committed);
        Ok(done)
    }

    /// Brings back what the forgetting of `number` took from the space of `key`, and returns once it is on disk.
    ///
    /// # Errors
    /// [`Error::NoForgetting`], [`Error::Over`] or [`Error::Undone`] if it cannot be undone at `now`, and those of [`Store::commit`]; nothing came back then.
    pub(crate) async fn undo(&self, key: &SpaceKey, number: u64, now: SystemTime) -> Result<Undone, Error> {
        let key = key.clone();
        let write = move |write: &WriteTransaction| undo(write, &key, number, now);
        let done = self.journal.commit(write).await.map_err(failed)?;
        self.uncache(&done.committed);
        Ok(done)
    }

    /// Removes up to `most` memories for good that the forgettings of `numbers` took from `space`, whether their time is over or not.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(crate) async fn purge(&self, space: u32, numbers: Vec<u64>, most: usize) -> Result<Purged, Error> {
        let write = move |write: &WriteTransaction| purge(write, space, &numbers, most);
        self.journal.commit(write).await.map_err(failed)
    }

    /// Lists forgettings of `space` no longer.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(crate) async fn unlist(&self, space: u32, numbers: Vec<u64>) -> Result<(), Error> {
        self.journal.commit(move |write| unlist(write, space, &numbers)).await.map_err(failed)
    }
}

/// Deletes memories of the space of `key`, and keeps them for as long as the forgetting can be undone.
fn forget(write: &WriteTransaction, key: &SpaceKey, forget: &Forget) -> Result<Forgot, Refused> {
    let space = find(write, key)?;
    let mut done = Forgot { committed: Committed::nothing(space.as_ref()), ids: Vec::new(), number: None };
    let Some(mut space) = space else { return Ok(done) };
    let mut tables = Tables::open(write, &space)?;
    let (mut log, mut trash) = (write.open_table(FORGETTINGS)?, write.open_table(TRASH)?);
    let number = next(&log, space.number)?;
    for (id, seq) in wanted(&tables, space.number, &forget.which)? {
        let place = (space.number, seq);
        if !forget.window.is_zero()
            && let Some(memory) = tables.records.get(place)?
            && let Some(vector) = tables.vectors.get((space.vectors, seq))?
        {
            trash.insert((space.number, number, seq), (memory.value(), vector.value(), None))?;
        }
        tables.ids.remove((space.number, id.as_bytes()))?;
        done.committed.removed.push(tables.remove(place, space.generation + 1)?);
        done.ids.push(id);
    }
    if done.ids.is_empty() {
        return Ok(done);
    }
    if forget.window.is_zero() {
        erase::leave(write)?;
    }
    let count = done.ids.len() as u64;
    let entry = Forgetting::new(number, forget.cause, count, forget.at, forget.window);
    log.insert((space.number, number), encode(space.number, &entry).as_slice())?;
    done.number = Some(number);
    done.committed.touched = u32::try_from(count).unwrap_or(u32::MAX);
    done.committed.end(write, key, &mut space)?;
    Ok(done)
}

/// Returns the ids and numbers of those memories that are there.
fn wanted(tables: &Tables<'_>, space: u32, which: &Which) -> Result<Vec<(String, u64)>, Refused> {
    let mut found = Vec::new();
    match which {
        Which::Ids(ids) => {
            for id in ids {
                let seq = tables.ids.get((space, id.as_bytes()))?.map(|seq| seq.value());
                found.extend(seq.map(|seq| (id.clone(), seq)));
            }
        }
        // The space that was meant was dropped, and this is another.
        Which::Seqs(of, _) if *of != space => {}
        Which::Seqs(_, seqs) => {
            for seq in seqs {
                let row = tables.records.get((space, *seq))?;
                let id = row.and_then(|row| record::memory((space, *seq), row.value()).ok());
                found.extend(id.map(|memory| (memory.id.to_string(), *seq)));
            }
        }
    }
    Ok(found)
}

/// Brings back what the forgetting of `number` took, as far as its ids lead where it left them.
fn undo(write: &WriteTransaction, key: &SpaceKey, number: u64, now: SystemTime) -> Result<Undone, Refused> {
    let mut space = find(write, key)?.ok_or(Over::Unknown)?;
    let mut log = write.open_table(FORGETTINGS)?;
    let entry = entry(&log, space.number, number)?.ok_or(Over::Unknown)?;
    entry.undoable(now)?;
    let (kept, lost) = take(write, &space, number)?;
    let mut tables = Tables::open(write, &space)?;
    let mut leads = HashMap::new();
    for kept in &kept {
        let id = &kept.record.memory.id;
        if let Some(seq) = tables.ids.get((space.number, id.as_bytes()))? {
            leads.insert(Arc::clone(id), seq.value());
        }
    }
    let (records, stayed) = restore(entry.cause, kept, |id| leads.get(id).copied());
    let mut committed = Committed { first: space.next, ..Committed::nothing(Some(&space)) };
    if !records.is_empty() {
        let mut rows = write::encoded(&records);
        for seq in tables.put(&mut space, &records, &mut rows)? {
            committed.removed.push(tables.remove((space.number, seq), space.generation + 1)?);
        }
        committed.touched = u32::try_from(committed.removed.len()).unwrap_or(u32::MAX);
        committed.end(write, key, &mut space)?;
    }
    let entry = Forgetting { state: State::Undone, ..entry };
    log.insert((space.number, number), encode(space.number, &entry).as_slice())?;
    Ok(Undone { committed, records, stayed: stayed + lost })
}

/// Takes what is kept of a forgetting out of the trash; also returns how much of it cannot be read.
fn take(write: &WriteTransaction, space: &SpaceRow, number: u64) -> Result<(Vec<Kept>, u64), Refused> {
    let (mut kept, mut lost) = (Vec::new(), 0);
    let mut trash = write.open_table(TRASH)?;
    let all = (space.number, number, 0)..=(space.number, number, u64::MAX);
    for row in trash.extract_from_if(all, |_, _| true)? {
        let (place, row) = row?;
        let seq = place.value().2;
        let (key, (memory, vector, onward)) = ((space.number, seq), row.value());
        let mut embedding = vec![0.0; space.shape.dimensions];
        // Of the set of now: a change of sets ends what was forgotten before it.
        let read = record::vector((space.vectors, seq), vector, &mut embedding);
        let read = read.and_then(|()| record::memory(key, memory));
        match read {
            Ok(memory) => kept.push(Kept { record: Record::new(memory, embedding), onward }),
            Err(error) => {
                tracing::warn!(%error, space = key.0, seq = key.1, "a forgotten memory cannot be read and stays forgotten");
                lost += 1;
            }
        }
    }
    Ok((kept, lost))
}

/// Removes up to `most` memories for good that forgettings took; one cannot be undone from its first memory on.
fn purge(write: &WriteTransaction, space: u32, numbers: &[u64], most: usize) -> Result<Purged, Refused> {
    let (mut log, mut trash) = (write.open_table(FORGETTINGS)?, write.open_table(TRASH)?);
    let mut done = Purged::default();
    for number in numbers {
        if let Some(entry) = entry(&log, space, *number)?.filter(|entry| entry.state == State::Undoable) {
            let entry = Forgetting { state: State::Purged, ..entry };
            log.insert((space, *number), encode(space, &entry).as_slice())?;
        }
        let all = (space, *number, 0)..=(space, *number, u64::MAX);
        for row in trash.extract_from_if(all, |_, _| true)?.take(most - done.removed) {
            row?;
            done.removed += 1;
        }
        if done.removed == most {
            // There may be more of this one.
            break;
        }
        done.ended += 1;
    }
    if done.removed > 0 {
        erase::leave(write)?;
    }
    Ok(done)
}

/// Lists forgettings no longer.
fn unlist(write: &WriteTransaction, space: u32, numbers: &[u64]) -> Result<(), Refused> {
    let mut log = write.open_table(FORGETTINGS)?;
    for number in numbers {
        log.remove((space, *number))?;
    }
    Ok(())
}

/// Ends every forgetting of a space: none can be undone any more.
pub(super) fn end_all(write: &WriteTransaction, space: u32) -> Result<(), Refused> {
    let mut log = write.open_table(FORGETTINGS)?;
    let open: Vec<Forgetting> =
        all(&log, space)?.into_iter().filter(|entry| entry.state == State::Undoable).collect();
    for entry in open {
        let entry = Forgetting { state: State::Purged, ..entry };
        log.insert((space, entry.number), encode(space, &entry).as_slice())?;
    }
    Ok(())
}
