//! What was forgotten, by what, and until when it can be undone.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::memory::Record;

/// What made memories go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody named their ids.
    Named,
    /// Their time was over.
    Expired,
    /// Their categories had more than their quotas.
    Quota,
    /// The space had more than it may.
    Prune,
    /// They became one with another.
    Merged,
}

/// Where a forgetting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// What went is kept, and comes back if asked for.
    Undoable,
    /// It came back.
    Undone,
    /// It is gone for good.
    Purged,
}

/// Memories that went together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forgetting {
    /// Its number in its space, from 1 on.
    pub(crate) number: u64,
    /// When.
    pub(crate) at: SystemTime,
    /// By what.
    pub(crate) cause: Cause,
    /// How many memories.
    pub(crate) memories: u64,
    /// Until when it can be undone.
    pub(crate) until: SystemTime,
    /// Where it stands.
    pub(crate) state: State,
}

/// Why a forgetting is not undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// There is none of that number, or it is too long ago to be listed.
    #[error("there is no forgetting of this number")]
    Unknown,
    /// Its time is over.
    #[error("the time in which it could be undone is over")]
    Over,
    /// It was undone before.
    #[error("it was undone before")]
    Undone,
}

/// A memory that went, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    /// What it was.
    pub(crate) record: Record,
    /// The number under which its id went on, where it did: that of the memory it was merged into. Absent: the id led nowhere then.
    pub(crate) onward: Option<u64>,
}

/// The forgettings of a space; the last ones, and all that are not over.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    entries: BTreeMap<u64, Forgetting>,
    next: u64,
    /// How many that are over are listed still.
    most: usize,
}

impl Log {
    /// Makes the log of what was kept of it; `most` forgettings that are over stay listed.
    pub(crate) fn new(entries: impl IntoIterator<Item = Forgetting>, next: u64, most: usize) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.number, entry)).collect();
        Self { entries, next: next.max(1), most }
    }

    /// Takes note that `memories` went at `now` by `cause`, to be undone within `window`.
    pub(crate) fn add(
        &mut self,
        cause: Cause,
        memories: u64,
        now: SystemTime,
        window: Duration,
    ) -> Forgetting {
        // A window that never ends within what can be told ends at once: bytes must not stay by an overflow.
        let until = now.checked_add(window).unwrap_or(now);
        let entry = Forgetting { number: self.next, at: now, cause, memories, until, state: State::Undoable };
        self.entries.insert(self.next, entry.clone());
        self.next += 1;
        entry
    }

    /// Returns the forgetting of `number` if it can be undone at `now`.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub(crate) fn undoable(&self, number: u64, now: SystemTime) -> Result<&Forgetting, Refused> {
        let entry = self.entries.get(&number).ok_or(Refused::Unknown)?;
        match entry.state {
            State::Undone => Err(Refused::Undone),
            State::Undoable if now < entry.until => Ok(entry),
            State::Undoable | State::Purged => Err(Refused::Over),
        }
    }

    /// Returns the numbers of those whose kept memories are to be removed for good at `now`, oldest first.
    pub(crate) fn due(&self, now: SystemTime) -> Vec<u64> {
        let due = |entry: &&Forgetting| entry.state == State::Undoable && entry.until <= now;
        self.entries.values().filter(due).map(|entry| entry.number).collect()
    }

    /// Takes note of what became of a forgetting, and returns the numbers that are listed no longer.
    pub(crate) fn end(&mut self, number: u64, state: State) -> Vec<u64> {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = state;
        }
        let over = self.entries.values().filter(|entry| entry.state != State::Undoable);
        let over: Vec<u64> = over.map(|entry| entry.number).collect();
        let gone = over[..over.len().saturating_sub(self.most)].to_vec();
        for number in &gone {
            self.entries.remove(number);
        }
        gone
    }

    /// Returns at most `most` forgettings, the last first, from before `before` if that is given.
    pub(crate) fn list(&self, before: Option<u64>, most: usize) -> Vec<&Forgetting> {
        self.entries.range(..before.unwrap_or(u64::MAX)).rev().map(|(_, entry)| entry).take(most).collect()
    }
}

/// Returns what an undo writes, and how many memories stay as they are since their ids were written again.
///
/// A memory comes back if its id still leads where the forgetting left it, as `leads` tells: nowhere, or to what it was merged into.
/// What had expired comes back without its expiration; it would go again at once otherwise.
pub(crate) fn restore(
    cause: Cause,
    kept: Vec<Kept>,
    leads: impl Fn(&str) -> Option<u64>,
) -> (Vec<Record>, u64) {
    let all = kept.len();
    let untouched = kept.into_iter().filter(|kept| leads(&kept.record.memory.id) == kept.onward);
    let back: Vec<Record> = untouched
        .map(|Kept { mut record, .. }| {
            if cause == Cause::Expired {
                Arc::make_mut(&mut record.memory).expires = None;
            }
            record
        })
        .collect();
    let stay = (all - back.len()) as u64;
    (back, stay)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::{Cause, Kept, Log, Refused, State, restore};
    use crate::memory::{Memory, Record};

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: u32) -> SystemTime {
        UNIX_EPOCH + HOUR * hours
    }

    fn kept(id: &str, onward: Option<u64>) -> Kept {
        let memory = Memory { id: id.into(), expires: Some(at(1)), ..Memory::bare() };
        Kept { record: Record { memory: Arc::new(memory), embedding: vec![1.0] }, onward }
    }

    fn ids(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| &*record.memory.id).collect()
    }

    #[test]
    fn a_forgetting_can_be_undone_until_its_window_ends_and_is_due_then() {
        let mut log = Log::new([], 0, 10);
        let first = log.add(Cause::Named, 2, at(0), HOUR * 2);
        let second = log.add(Cause::Prune, 5, at(1), HOUR * 2);
        assert_eq!((first.number, second.number, second.until), (1, 2, at(3)));
        assert_eq!(log.undoable(1, at(1)), Ok(&first));
        assert_eq!(log.undoable(1, at(2)), Err(Refused::Over));
        assert_eq!((log.due(at(1)), log.due(at(2)), log.due(at(3))), (vec![], vec![1], vec![1, 2]));
        log.end(1, State::Purged);
        log.end(2, State::Undone);
        assert_eq!(
            (log.undoable(1, at(0)), log.undoable(2, at(2))),
            (Err(Refused::Over), Err(Refused::Undone))
        );
        assert_eq!(log.undoable(3, at(0)), Err(Refused::Unknown));
        assert!(log.due(at(9)).is_empty());
    }

    #[test]
    fn without_a_window_nothing_can_be_undone() {
        let mut log = Log::new([], 1, 10);
        for window in [Duration::ZERO, Duration::MAX] {
            let number = log.add(Cause::Named, 1, at(0), window).number;
            assert_eq!(log.undoable(number, at(0)), Err(Refused::Over));
        }
        assert_eq!(log.due(at(0)), [1, 2]);
    }

    #[test]
    fn what_is_over_is_listed_for_a_while_and_what_is_not_always() {
        let mut log = Log::new([], 1, 2);
        for _ in 0..5 {
            log.add(Cause::Expired, 1, at(0), HOUR);
        }
        let gone: Vec<u64> = [2, 3, 4, 5].into_iter().flat_map(|n| log.end(n, State::Purged)).collect();
        assert_eq!(gone, [2, 3]);
        let listed =
            |before, most| log.list(before, most).iter().map(|entry| entry.number).collect::<Vec<_>>();
        assert_eq!((listed(None, 9), listed(Some(5), 1)), (vec![5, 4, 1], vec![4]));
    }

    #[test]
    fn an_id_that_was_written_again_stays_as_it_is() {
        let trash = vec![
            kept("a", None),
            kept("b", None),
            kept("c", Some(7)),
            kept("d", Some(7)),
            kept("e", Some(8)),
        ];
        let leads = |id: &str| match id {
            "b" => Some(9),
            "c" => Some(7),
            "d" => Some(10),
            _ => None,
        };
        let (back, stay) = restore(Cause::Merged, trash, leads);
        assert_eq!((ids(&back), stay), (vec!["a", "c"], 3));
        assert_eq!(back[0].memory.expires, Some(at(1)));
    }

    #[test]
    fn what_expired_comes_back_to_stay() {
        let (back, _) = restore(Cause::Expired, vec![kept("a", None)], |_| None);
        assert_eq!(back[0].memory.expires, None);
    }
}
