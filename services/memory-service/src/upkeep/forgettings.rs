//! What was forgotten, by what, and until when it can be undone.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::memory::Record;

/// What made memories go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Cause {
    /// Every cause.
    pub(crate) const ALL: [Self; 5] = [Self::Named, Self::Expired, Self::Quota, Self::Prune, Self::Merged];

    /// Returns its name, as metrics and log lines have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Expired => "expired",
            Self::Quota => "quota",
            Self::Prune => "prune",
            Self::Merged => "merged",
        }
    }
}

impl Forgetting {
    /// Takes note that `memories` went at `now` by `cause`, to be undone within `window`. Without a window they are gone for good at once.
    pub(crate) fn new(number: u64, cause: Cause, memories: u64, now: SystemTime, window: Duration) -> Self {
        // A window that never ends within what can be told ends at once: bytes must not stay by an overflow.
        let until = now.checked_add(window).unwrap_or(now);
        let state = if until > now { State::Undoable } else { State::Purged };
        Self { number, at: now, cause, memories, until, state }
    }

    /// Says whether it can be undone at `now`.
    ///
    /// # Errors
    /// [`Refused`] says why not.
    pub(crate) fn undoable(&self, now: SystemTime) -> Result<(), Refused> {
        match self.state {
            State::Undone => Err(Refused::Undone),
            State::Undoable if now < self.until => Ok(()),
            State::Undoable | State::Purged => Err(Refused::Over),
        }
    }
}

/// Returns which of `entries`, which rise by their numbers, are listed no longer: of those that are over all but the last `most`.
pub(crate) fn surplus<'f>(entries: impl IntoIterator<Item = &'f Forgetting>, most: usize) -> Vec<u64> {
    let over = entries.into_iter().filter(|entry| entry.state != State::Undoable);
    let mut over: Vec<u64> = over.map(|entry| entry.number).collect();
    over.truncate(over.len().saturating_sub(most));
    over
}

/// Returns what an undo writes, and how many memories stay as they are since their ids were written again.
///
/// A memory comes back if its id still leads where the forgetting left it, as `leads` tells: nowhere, or to what it was merged into. One that
/// was merged before its own id led anywhere comes back beside the one that it was merged into, or not at all: its words are still there then. What had expired comes back without its expiration; it would go again at once otherwise.
pub(crate) fn restore(
    cause: Cause,
    kept: Vec<Kept>,
    leads: impl Fn(&str) -> Option<u64>,
) -> (Vec<Record>, u64) {
    let all = kept.len();
    let leads: Vec<Option<u64>> = kept.iter().map(|kept| leads(&kept.record.memory.id)).collect();
    let both = || kept.iter().zip(&leads);
    let parting: HashSet<Option<u64>> =
        both().filter(|(kept, leads)| kept.onward == **leads).map(|(kept, _)| kept.onward).collect();
    let comes: Vec<bool> = both()
        .map(|(kept, leads)| *leads == kept.onward || leads.is_none() && parting.contains(&kept.onward))
        .collect();
    let untouched = kept.into_iter().zip(comes).filter(|(_, comes)| *comes).map(|(kept, _)| kept);
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
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Cause, Forgetting, Kept, Refused, State, restore, surplus};
    use crate::memory::{Memory, Record};

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: u32) -> SystemTime {
        UNIX_EPOCH + HOUR * hours
    }

    fn kept(id: &str, onward: Option<u64>) -> Kept {
        let memory = Memory { id: id.into(), expires: Some(at(1)), ..Memory::bare() };
        Kept { record: Record::new(memory, vec![1.0]), onward }
    }

    fn ids(records: &[Record]) -> Vec<&str> {
        records.iter().map(|record| &*record.memory.id).collect()
    }

    #[test]
    fn a_forgetting_can_be_undone_until_its_window_ends() {
        let made = Forgetting::new(7, Cause::Named, 2, at(1), HOUR * 2);
        assert_eq!((made.number, made.until, made.state), (7, at(3), State::Undoable));
        assert_eq!((made.undoable(at(2)), made.undoable(at(3))), (Ok(()), Err(Refused::Over)));
        let purged = Forgetting { state: State::Purged, ..made.clone() };
        let undone = Forgetting { state: State::Undone, ..made };
        assert_eq!(
            (purged.undoable(at(2)), undone.undoable(at(2))),
            (Err(Refused::Over), Err(Refused::Undone))
        );
    }

    #[test]
    fn without_a_window_nothing_can_be_undone() {
        for window in [Duration::ZERO, Duration::MAX] {
            let made = Forgetting::new(1, Cause::Named, 1, at(0), window);
            assert_eq!((made.state, made.undoable(at(0))), (State::Purged, Err(Refused::Over)));
        }
    }

    #[test]
    fn what_is_over_is_listed_for_a_while_and_what_is_not_always() {
        let mut all: Vec<_> =
            (1..=5).map(|number| Forgetting::new(number, Cause::Expired, 1, at(0), HOUR)).collect();
        assert!(surplus(&all, 2).is_empty());
        all[1..].iter_mut().for_each(|entry| entry.state = State::Purged);
        assert_eq!(surplus(&all, 2), [2, 3]);
        assert!(surplus(&all, 4).is_empty());
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
    fn what_was_merged_before_it_was_stored_comes_back_with_what_it_was_merged_into() {
        let trash = || vec![kept("older", Some(7)), kept("new", Some(7))];
        let (back, stay) = restore(Cause::Merged, trash(), |id| (id == "older").then_some(7));
        assert_eq!((ids(&back), stay), (vec!["older", "new"], 0));
        let (back, stay) = restore(Cause::Merged, trash(), |id| (id == "older").then_some(9));
        assert_eq!((ids(&back).len(), stay), (0, 2), "it was written again");
        let (back, _) = restore(Cause::Merged, trash(), |_| Some(7));
        assert_eq!(ids(&back), ["older", "new"]);
        let (back, stay) = restore(Cause::Merged, trash(), |id| Some(if id == "older" { 7 } else { 8 }));
        assert_eq!((ids(&back), stay), (vec!["older"], 1), "the other id leads elsewhere");
    }

    #[test]
    fn what_expired_comes_back_to_stay() {
        let (back, _) = restore(Cause::Expired, vec![kept("a", None)], |_| None);
        assert_eq!(back[0].memory.expires, None);
    }
}
