//! The matches of one tenant whose outcome is awaited or known, bounded.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{history::Subject, score::Inputs};

/// Names a match: the same template, version, subject and day give the same one, so whoever sends an observation again gets it again.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id([u8; 16]);

/// A template that matched a subject on a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Match {
    /// The template.
    pub(super) pattern: String,
    /// Its version.
    pub(super) version: u32,
    /// What was seen.
    pub(super) subject: Subject,
    /// When, in seconds since 1970; the first time of the day.
    pub(super) at: i64,
    /// The confidence that was stated.
    pub(super) confidence: f64,
    /// What its score looked at, where it has one.
    pub(super) inputs: Option<Inputs>,
    /// The values its outcome is judged by later.
    pub(super) then: Vec<(String, f64)>,
    /// What came of it.
    pub(super) outcome: Option<Outcome>,
    /// Whether a model's answer was compared with it.
    pub(super) compared: bool,
    /// Orders matches by arrival.
    pub(super) turn: u64,
}

/// What came of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Whether the claim came true.
    pub(super) came_true: bool,
    /// Whether a caller reported it; otherwise it was judged by the template's own condition.
    pub(super) reported: bool,
}

/// The matches of one tenant.
#[derive(Debug)]
pub(super) struct Matches {
    most: usize,
    next: u64,
    all: HashMap<Id, Match>,
    turns: BTreeMap<u64, Id>,
    /// Those that are still to be judged, by subject.
    open: HashMap<Subject, Vec<Id>>,
}

impl Id {
    /// Returns the name of a template's match of `subject` on `day`.
    pub(super) fn of(tenant: &str, pattern: &str, version: u32, subject: &Subject, day: i64) -> Self {
        let mut hasher = blake3::Hasher::new();
        for text in [tenant, pattern, &*subject.0, &*subject.1, &*subject.2] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&version.to_le_bytes());
        hasher.update(&day.to_le_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// Reads an id as it was written; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|number| *number != 0);
        number.filter(|_| text.len() == 32 && !text.starts_with('+')).map(|number| Self(number.to_be_bytes()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether it is among the `share` of ids that are drawn; ids are spread evenly.
    pub(super) fn is_drawn(self, share: f64) -> bool {
        let [a, b, c, d, ..] = self.0;
        f64::from(u32::from_be_bytes([a, b, c, d])) < share * 2_f64.powi(32)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Match {
    /// Makes a match nothing came of yet.
    pub(super) fn new(pattern: &str, version: u32, subject: Subject, at: i64) -> Self {
        Self {
            pattern: pattern.to_owned(),
            version,
            subject,
            at,
            confidence: 0.0,
            inputs: None,
            then: Vec::new(),
            outcome: None,
            compared: false,
            turn: 0,
        }
    }
}

impl Matches {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), next: 0, all: HashMap::new(), turns: BTreeMap::new(), open: HashMap::new() }
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Match> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Match> {
        self.all.get_mut(id)
    }

    /// Adds a match and returns the one that had to make room for it.
    pub(super) fn add(&mut self, id: Id, mut made: Match) -> Option<Id> {
        made.turn = self.next;
        self.next += 1;
        self.turns.insert(made.turn, id);
        if made.outcome.is_none() {
            self.open.entry(made.subject.clone()).or_default().push(id);
        }
        self.all.insert(id, made);
        if self.all.len() <= self.most {
            return None;
        }
        let (_, oldest) = self.turns.pop_first()?;
        self.close(&oldest);
        self.all.remove(&oldest);
        Some(oldest)
    }

    /// Returns the matches of a subject that are still to be judged.
    pub(super) fn open(&self, subject: &Subject) -> Vec<Id> {
        self.open.get(subject).cloned().unwrap_or_default()
    }

    /// Judges a match no more; what came of it can still be reported.
    pub(super) fn close(&mut self, id: &Id) {
        let Some(subject) = self.all.get(id).map(|made| &made.subject) else { return };
        if let Some(open) = self.open.get_mut(subject) {
            open.retain(|other| other != id);
            if open.is_empty() {
                self.open.remove(subject);
            }
        }
    }

    /// Puts back what was kept by an earlier process, in its order; returns those beyond the limit, which are left out, the oldest first.
    pub(super) fn restore(&mut self, mut kept: Vec<(Id, Match)>) -> Vec<Id> {
        kept.sort_by_key(|(_, made)| made.turn);
        let put_back = |(id, made): (Id, Match)| {
            // Its turn stays what it is on disk, and who comes later comes after it.
            self.next = self.next.max(made.turn);
            self.add(id, made)
        };
        kept.into_iter().filter_map(put_back).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::history::Subject, Id, Match, Matches};

    fn id(name: &str) -> Id {
        Id::of("t", "p", 1, &subject(name), 3)
    }

    fn subject(name: &str) -> Subject {
        ("pool".into(), name.into(), "1".into())
    }

    #[test]
    fn every_part_makes_another_id() {
        let ids = [
            id("a"),
            Id::of("u", "p", 1, &subject("a"), 3),
            Id::of("t", "q", 1, &subject("a"), 3),
            Id::of("t", "p", 2, &subject("a"), 3),
            Id::of("t", "p", 1, &subject("b"), 3),
            Id::of("t", "p", 1, &subject("a"), 4),
            Id::of("tp", "", 1, &subject("a"), 3),
            Id::of("t", "p", 1, &("pool".into(), "a".into(), "2".into()), 3),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(Id::parse(&id("a").to_string()), Some(id("a")));
        for wrong in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32), &"0".repeat(32)] {
            assert_eq!(Id::parse(wrong), None);
        }
    }

    #[test]
    fn a_share_of_ids_is_drawn() {
        let drawn = (0..4_000).filter(|number| id(&number.to_string()).is_drawn(0.25)).count();
        assert!((900..1_100).contains(&drawn), "{drawn}");
        assert!(!id("a").is_drawn(0.0) && id("a").is_drawn(1.0));
    }

    #[test]
    fn the_oldest_match_makes_room_and_is_not_judged_any_more() {
        let mut matches = Matches::new(2);
        for name in ["a", "b"] {
            matches.add(id(name), Match::new("p", 1, subject(name), 0));
        }
        assert_eq!(matches.add(id("c"), Match::new("p", 1, subject("c"), 0)), Some(id("a")));
        assert!(matches.open(&subject("a")).is_empty() && matches.get(&id("a")).is_none());
        assert_eq!(matches.open(&subject("b")), [id("b")]);
        matches.close(&id("b"));
        assert!(matches.open(&subject("b")).is_empty() && matches.get(&id("b")).is_some());
    }

    #[test]
    fn who_came_last_stays_last_over_restarts() {
        let mut matches = Matches::new(2);
        for name in ["a", "b", "c"] {
            matches.add(id(name), Match::new("p", 1, subject(name), 0));
        }
        // What is on disk is written when it changes, and not again by a restart.
        let mut disk = matches.all.clone();
        for name in ["d", "e", "f"] {
            let mut next = Matches::new(2);
            assert!(next.restore(disk.clone().into_iter().collect()).is_empty());
            let gone = next.add(id(name), Match::new("p", 1, subject(name), 0)).unwrap();
            disk.remove(&gone);
            disk.insert(id(name), next.get(&id(name)).unwrap().clone());
        }
        let mut smaller = Matches::new(1);
        assert_eq!(smaller.restore(disk.into_iter().collect()), [id("e")]);
        assert!(smaller.get(&id("f")).is_some());
    }
}
