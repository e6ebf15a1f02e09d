//! The log of forgettings: how an entry lies on disk, and what is to be seen of it.

use std::{collections::BTreeSet, ops::Range, time::SystemTime};

use redb::{ReadTransaction, ReadableTable};

use super::{
    Store,
    bytes::{Corrupt, Reader, checksum, write_time},
    failed,
    refused::Refused,
    tables::{FORGETTINGS, TRASH},
};
use crate::{
    error::Error,
    upkeep::forgettings::{Cause, Forgetting, State, surplus},
};

impl Store {
    /// Returns at most `most` forgettings of `space` whose numbers lie in `numbers`, the last first. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) fn forgettings(
        &self,
        space: u32,
        numbers: Range<u64>,
        most: usize,
    ) -> Result<Vec<Forgetting>, Error> {
        let read = |read: &ReadTransaction| last(&read.open_table(FORGETTINGS)?, space, numbers, most);
        self.journal.read(read).map_err(failed)
    }

    /// Returns the forgettings of `space` whose memories are kept and cannot come back any more at `now`, or at no time, and those beyond the
    /// `most` that are over and stay listed. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) fn due(
        &self,
        space: u32,
        now: Option<SystemTime>,
        most: usize,
    ) -> Result<(Vec<u64>, Vec<u64>), Error> {
        let read = |read: &ReadTransaction| {
            let entries = all(&read.open_table(FORGETTINGS)?, space)?;
            let is_open = |entry: &&Forgetting| now.is_some_and(|now| entry.undoable(now).is_ok());
            let open: BTreeSet<u64> = entries.iter().filter(is_open).map(|entry| entry.number).collect();
            let ended = |entry: &&Forgetting| entry.state == State::Undoable && !open.contains(&entry.number);
            let mut purge: BTreeSet<u64> = entries.iter().filter(ended).map(|entry| entry.number).collect();
            // What was broken off in the middle, and what has no entry that can be read.
            purge.extend(kept(read, space)?.into_iter().filter(|number| !open.contains(number)));
            Ok((purge.into_iter().collect(), surplus(&entries, most)))
        };
        self.journal.read(read).map_err(failed)
    }
}

fn kept(read: &ReadTransaction, space: u32) -> Result<Vec<u64>, Refused> {
    let trash = read.open_table(TRASH)?;
    let (mut numbers, mut from) = (Vec::new(), Some(0));
    // One step a forgetting and not one a memory.
    while let Some(least) = from {
        let first = trash.range((space, least, 0)..=(space, u64::MAX, u64::MAX))?.next().transpose()?;
        let number = first.map(|(key, _)| key.value().1);
        numbers.extend(number);
        from = number.and_then(|number| number.checked_add(1));
    }
    Ok(numbers)
}

/// Returns the number that the next forgetting of `space` gets. The last entry is never taken off the list, so none is given twice.
pub(super) fn next(log: &impl ReadableTable<(u32, u64), &'static [u8]>, space: u32) -> Result<u64, Refused> {
    let last = log.range((space, 0)..=(space, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(1, |(key, _)| key.value().1 + 1))
}

/// Returns the entry of `number`; one that cannot be read is none.
pub(super) fn entry(
    log: &impl ReadableTable<(u32, u64), &'static [u8]>,
    space: u32,
    number: u64,
) -> Result<Option<Forgetting>, Refused> {
    Ok(log.get((space, number))?.and_then(|row| readable(space, number, row.value())))
}

/// Returns every entry of `space` that can be read, by number.
pub(super) fn all(
    log: &impl ReadableTable<(u32, u64), &'static [u8]>,
    space: u32,
) -> Result<Vec<Forgetting>, Refused> {
    let mut entries = last(log, space, 0..u64::MAX, usize::MAX)?;
    entries.reverse();
    Ok(entries)
}

fn last(
    log: &impl ReadableTable<(u32, u64), &'static [u8]>,
    space: u32,
    numbers: Range<u64>,
    most: usize,
) -> Result<Vec<Forgetting>, Refused> {
    let mut entries = Vec::new();
    for row in log.range((space, numbers.start)..(space, numbers.end))?.rev() {
        if entries.len() == most {
            break;
        }
        let (key, row) = row?;
        entries.extend(readable(space, key.value().1, row.value()));
    }
    Ok(entries)
}

fn readable(space: u32, number: u64, row: &[u8]) -> Option<Forgetting> {
    let entry = decode(space, number, row);
    if let Err(error) = &entry {
        tracing::warn!(%error, space, number, "the entry of a forgetting cannot be read: it cannot be undone");
    }
    entry.ok()
}

/// Returns the row of an entry: eight bytes of checksum, which its key goes into, then its parts.
pub(super) fn encode(space: u32, entry: &Forgetting) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    write_time(&mut bytes, entry.at);
    bytes.push(of_cause(entry.cause));
    bytes.extend_from_slice(&entry.memories.to_le_bytes());
    write_time(&mut bytes, entry.until);
    bytes.push(of_state(entry.state));
    let sum = sum(space, entry.number, &bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(space: u32, number: u64, bytes: &[u8]) -> Result<Forgetting, Corrupt> {
    let (stored, body) = bytes.split_first_chunk().ok_or(Corrupt::Length)?;
    if u64::from_le_bytes(*stored) != sum(space, number, body) {
        return Err(Corrupt::Checksum);
    }
    let mut reader = Reader(body);
    let at = reader.time()?;
    let [cause] = reader.array()?;
    let (memories, until) = (reader.long()?, reader.time()?);
    let [state] = reader.array()?;
    reader.end()?;
    let cause = Cause::ALL.into_iter().find(|one| of_cause(*one) == cause).ok_or(Corrupt::Version)?;
    let states = [State::Undoable, State::Undone, State::Purged];
    let state = states.into_iter().find(|one| of_state(*one) == state).ok_or(Corrupt::Version)?;
    Ok(Forgetting { number, at, cause, memories, until, state })
}

fn sum(space: u32, number: u64, body: &[u8]) -> u64 {
    checksum(&[&space.to_le_bytes(), &number.to_le_bytes(), body])
}

fn of_cause(cause: Cause) -> u8 {
    match cause {
        Cause::Named => 0,
        Cause::Expired => 1,
        Cause::Quota => 2,
        Cause::Prune => 3,
        Cause::Merged => 4,
    }
}

fn of_state(state: State) -> u8 {
    match state {
        State::Undoable => 0,
        State::Undone => 1,
        State::Purged => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{decode, encode};
    use crate::upkeep::forgettings::{Cause, Forgetting, State};

    #[test]
    fn an_entry_comes_back_and_a_changed_byte_is_noticed() {
        for cause in Cause::ALL {
            for state in [State::Undoable, State::Undone, State::Purged] {
                let made = Forgetting::new(7, cause, u64::MAX, UNIX_EPOCH, Duration::from_millis(1500));
                let entry = Forgetting { state, ..made };
                let bytes = encode(3, &entry);
                assert_eq!(decode(3, 7, &bytes), Ok(entry));
                assert!(decode(3, 8, &bytes).is_err() && decode(4, 7, &bytes).is_err());
                for place in 0..bytes.len() {
                    let mut changed = bytes.clone();
                    changed[place] ^= 1;
                    assert!(decode(3, 7, &changed).is_err(), "byte {place}");
                }
            }
        }
    }
}
