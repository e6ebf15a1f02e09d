//! Remembers for a while what recalls returned, so that it is not stored back as something new.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime},
};

/// What recalls returned lately; bounded in number and in time.
///
/// Kept is the number of what was returned and no word of it: what repeats it is found by what memories that say the same have in common
/// ([`Saying`](super::saying::Saying)), and compared with the memory itself. So nothing is taken for an echo of what is not there any more.
#[derive(Debug)]
pub(crate) struct Echoes {
    heard: HashMap<Key, Heard>,
    /// What was heard, by when; what was heard again is there twice, and its first place means nothing.
    order: VecDeque<(SystemTime, Key)>,
    most: usize,
    life: Duration,
    hasher: RandomState,
}

/// The space, the agent, and the words.
type Key = (u32, u64, u64);

/// A memory that was returned.
#[derive(Clone, Copy, Debug)]
struct Heard {
    seq: u64,
    at: SystemTime,
}

/// Who recalled: a space, and the agent that the recall was for; empty where it was for none or for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener<'a> {
    /// The number of the space.
    pub(crate) space: u32,
    /// The agent.
    pub(crate) agent: &'a str,
}

impl Echoes {
    /// Makes a memory of at most `most` memories that were returned, each kept for `life` of the agent clock.
    pub(crate) fn new(most: usize, life: Duration) -> Self {
        let (heard, order) = (HashMap::new(), VecDeque::new());
        Self { heard, order, most, life, hasher: RandomState::new() }
    }

    /// Takes note of what a recall returned at `now`: words, and the number of the memory that says them. Not of what an explanation
    /// returned: nobody hears that.
    pub(crate) fn hear(
        &mut self,
        who: Listener<'_>,
        said: impl Iterator<Item = (u64, u64)>,
        now: SystemTime,
    ) {
        if self.most == 0 {
            return;
        }
        let agent = self.hasher.hash_one(who.agent);
        for (words, seq) in said {
            let key = (who.space, agent, words);
            self.heard.insert(key, Heard { seq, at: now });
            self.order.push_back((now, key));
            while self.order.len() > self.most
                || self.order.front().is_some_and(|(at, _)| !self.is_fresh(*at, now))
            {
                let Some((at, key)) = self.order.pop_front() else { break };
                if self.heard.get(&key).is_some_and(|heard| heard.at == at) {
                    self.heard.remove(&key);
                }
            }
        }
    }

    /// Returns the number of the memory in these words that `who`, or somebody who did not say for whom, recalled last and lately.
    pub(crate) fn heard(&self, who: Listener<'_>, words: u64, now: SystemTime) -> Option<u64> {
        let of = |agent: &str| self.heard.get(&(who.space, self.hasher.hash_one(agent), words));
        let heard = [of(who.agent), of("")].into_iter().flatten();
        heard.filter(|heard| self.is_fresh(heard.at, now)).max_by_key(|heard| heard.at).map(|heard| heard.seq)
    }

    fn is_fresh(&self, at: SystemTime, now: SystemTime) -> bool {
        // A clock that went back makes nothing old.
        now.duration_since(at).unwrap_or_default() < self.life
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Echoes, Listener};

    const SCOUT: Listener<'_> = Listener { space: 1, agent: "scout" };
    const ANYBODY: Listener<'_> = Listener { agent: "", ..SCOUT };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Hears the memory whose number is that of its words, and ten.
    fn hear(echoes: &mut Echoes, who: Listener<'_>, words: u64, now: u64) {
        echoes.hear(who, [(words, words + 10)].into_iter(), at(now));
    }

    #[test]
    fn what_an_agent_recalled_is_known_until_its_life_is_over() {
        let mut echoes = Echoes::new(100, Duration::from_secs(10));
        hear(&mut echoes, SCOUT, 1, 0);
        assert_eq!(echoes.heard(SCOUT, 1, at(9)), Some(11));
        assert_eq!((echoes.heard(SCOUT, 1, at(10)), echoes.heard(SCOUT, 2, at(9))), (None, None));
        hear(&mut echoes, SCOUT, 1, 8);
        hear(&mut echoes, SCOUT, 2, 12);
        assert_eq!(echoes.heard(SCOUT, 1, at(17)), Some(11), "heard again");
    }

    #[test]
    fn an_agent_hears_its_own_recalls_and_those_for_nobody() {
        let mut echoes = Echoes::new(100, Duration::from_secs(10));
        hear(&mut echoes, SCOUT, 1, 0);
        hear(&mut echoes, ANYBODY, 2, 0);
        assert_eq!((echoes.heard(SCOUT, 2, at(1)), echoes.heard(ANYBODY, 1, at(1))), (Some(12), None));
        assert_eq!(echoes.heard(Listener { agent: "other", ..SCOUT }, 1, at(1)), None);
        assert_eq!(echoes.heard(Listener { space: 2, ..SCOUT }, 1, at(1)), None);
        echoes.hear(ANYBODY, [(1, 99)].into_iter(), at(5));
        assert_eq!(echoes.heard(SCOUT, 1, at(6)), Some(99), "the last one counts");
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut echoes = Echoes::new(5, Duration::from_secs(1000));
        for round in 0..200 {
            hear(&mut echoes, SCOUT, round % 7, round);
            assert!(echoes.order.len() <= 5 && echoes.heard.len() <= 5);
        }
        // 199 % 7 is 3.
        assert!(echoes.heard(SCOUT, 3, at(199)).is_some() && echoes.heard(SCOUT, 5, at(199)).is_none());
        hear(&mut echoes, SCOUT, 9, 5000);
        assert_eq!(echoes.heard.len(), 1, "what is over goes");
        let mut deaf = Echoes::new(0, Duration::from_secs(1000));
        hear(&mut deaf, SCOUT, 1, 0);
        assert_eq!(deaf.heard(SCOUT, 1, at(0)), None);
    }
}
