//! How often questions were asked lately.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    time::{Duration, SystemTime},
};

/// Most questions that are told apart within one stretch of time; then the next one begins early.
const MOST: usize = 65_536;

/// Counts by hash, in the present stretch of time and the one before it: what was asked between one and two stretches ago.
#[derive(Debug)]
pub(super) struct Asked {
    stretch: Duration,
    began: SystemTime,
    present: HashMap<u64, u32>,
    before: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Asked {
    /// Makes counts for stretches of `stretch`, the first from `now` on.
    pub(super) fn new(stretch: Duration, now: SystemTime) -> Self {
        Self {
            stretch,
            began: now,
            present: HashMap::new(),
            before: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Counts `question` and returns how often it was asked, this time included.
    pub(super) fn count(&mut self, question: &impl Hash, now: SystemTime) -> u32 {
        self.go_on(now);
        let hash = self.hasher.hash_one(question);
        let held = self.present.entry(hash).or_default();
        *held = held.saturating_add(1);
        held.saturating_add(self.before.get(&hash).copied().unwrap_or_default())
    }

    /// Returns how often `question` was asked.
    pub(super) fn times(&mut self, question: &impl Hash, now: SystemTime) -> u32 {
        self.go_on(now);
        let hash = self.hasher.hash_one(question);
        let of = |counts: &HashMap<u64, u32>| counts.get(&hash).copied().unwrap_or_default();
        of(&self.present).saturating_add(of(&self.before))
    }

    fn go_on(&mut self, now: SystemTime) {
        // A clock that was set back begins anew too.
        let since = now.duration_since(self.began).unwrap_or(self.stretch * 2);
        if since < self.stretch && self.present.len() < MOST {
            return;
        }
        self.before = std::mem::take(&mut self.present);
        if since >= self.stretch * 2 {
            self.before.clear();
        }
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Asked, MOST};

    #[test]
    fn what_was_asked_is_forgotten_after_two_stretches() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let mut asked = Asked::new(Duration::from_secs(10), at(0));
        assert_eq!((asked.count(&"q", at(0)), asked.count(&"q", at(9)), asked.count(&"r", at(9))), (1, 2, 1));
        assert_eq!(asked.times(&"q", at(12)), 2);
        assert_eq!(asked.count(&"q", at(12)), 3);
        assert_eq!(asked.times(&"q", at(23)), 1, "only the last stretch counts");
        assert_eq!(asked.times(&"q", at(90)), 0);
    }

    #[test]
    fn a_flood_of_questions_is_bounded() {
        let mut asked = Asked::new(Duration::from_secs(10), UNIX_EPOCH);
        for question in 0..3 * MOST {
            asked.count(&question, UNIX_EPOCH);
        }
        assert!(asked.present.len() + asked.before.len() <= 2 * MOST);
    }
}
