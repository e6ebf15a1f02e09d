//! The query cache: answers that are served again, and when not.
//!
//! An answer is kept under its space, the space's generation and the canonical query, so that no recall finds one from before a write. It is
//! not served outside the time in which nothing that it holds expires ([`Fresh`](crate::index::Fresh)). How long it is
//! served depends on the question: one that is asked often may have an older answer.

mod asked;

#[cfg(any(test, feature = "bench"))]
#[cfg_attr(not(feature = "bench"), expect(unreachable_pub, reason = "the benchmarks hand it out"))]
pub(crate) mod hunt;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use caching::{Bytes, Cache, Options, Outlook, Sizing, Told};
use clock::Clock;
use parking_lot::Mutex;

use self::asked::Asked;
use crate::{known::Known, query::Query, recall::Answer};

/// Bytes that an answer takes beside its memories, and each memory beside its words, about.
const OVERHEAD_BYTES: usize = 300;

/// How much is kept, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    /// Most answers, at first.
    pub(crate) entries: u64,
    /// Most bytes.
    pub(crate) bytes: u64,
    /// Between which sizes the cache is watched, and whether it takes another by itself.
    pub(crate) sizing: Sizing,
    /// How long the answer of a frequent question is served, on the agent clock.
    pub(crate) ttl: Duration,
    /// How long that of any other is.
    pub(crate) rare_ttl: Duration,
    /// How often a question is asked within `ttl` to be frequent.
    pub(crate) frequent: u32,
}

/// Under what an answer is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The number of the space it is about, which is never given again.
    pub(crate) space: u32,
    /// The last write that it knows of.
    pub(crate) generation: u64,
    /// The question.
    pub(crate) query: Query,
}

/// The query cache of all spaces.
#[derive(Debug)]
pub(crate) struct Answers {
    entries: Cache<Key, Arc<Answer>>,
    asked: Mutex<Asked>,
    rare_ttl: Duration,
    frequent: u32,
}

/// What the query cache holds, did, and would do at other sizes.
#[derive(Clone, Debug)]
pub(crate) struct AnswersStats {
    /// What it holds and did.
    pub(crate) stats: caching::Stats,
    /// What it would do.
    pub(crate) outlook: Outlook,
    /// How long the answer of a frequent question is served, and that of another.
    pub(crate) ttls: (Duration, Duration),
}

impl Answers {
    /// Makes an empty cache that tells `resized` when it has another capacity.
    pub(crate) fn new(room: Room, clock: Clock, resized: Option<Told>) -> Self {
        let Room { entries, bytes, sizing, ttl, rare_ttl, frequent } = room;
        let asked = Mutex::new(Asked::new(ttl, clock.now()));
        let bytes = Some(Bytes { most: bytes, of: size });
        let options = Options { entries, ttl, bytes, sizing: Some(sizing), resized };
        Self { entries: Cache::with(options, clock), asked, rare_ttl, frequent }
    }

    /// Asks for the answer of `key` at `now`; that it was asked for counts.
    pub(crate) fn get(&self, key: &Key, now: SystemTime) -> Option<Arc<Answer>> {
        let asked = self.asked.lock().count(&(key.space, &key.query), now);
        let serves = |hit: &caching::Hit<Arc<Answer>>| self.serves(hit, asked, now);
        self.entries.get_if(key, serves).map(|hit| hit.value)
    }

    /// Returns whether [`Answers::get`] would find the answer of `key`; counts nothing.
    pub(crate) fn holds(&self, key: &Key, now: SystemTime) -> bool {
        let asked = 1 + self.asked.lock().times(&(key.space, &key.query), now);
        self.entries.peek(key).is_some_and(|hit| self.serves(&hit, asked, now))
    }

    /// Keeps the answer to `query` until the next write to `space`. One that has vectors is not kept: they are most of its bytes.
    pub(crate) fn keep(&self, space: &Known, query: Query, answer: &Arc<Answer>) {
        if query.include_embedding {
            return;
        }
        let key = Key { space: space.number(), generation: answer.generation, query };
        self.entries.insert(key.clone(), Arc::clone(answer));
        space.note_answer();
        if space.generation() != key.generation {
            // A write passed us by after its own purge: an answer that may hold a forgotten memory is not kept.
            self.entries.remove(&key);
        }
    }

    /// Lets go of what was known before the write that made `generation`: nobody can find it any more, and what it holds of the
    /// dead has to go as well.
    pub(crate) fn forget_before(&self, space: &Known, generation: u64) {
        if space.take_answered() {
            let number = space.number();
            self.entries.invalidate_if(|key, _| key.space == number && key.generation < generation);
        }
    }

    /// Lets go of everything that is known of a space.
    pub(crate) fn forget_all(&self, space: u32) {
        self.entries.invalidate_if(|key, _| key.space == space);
    }

    /// Returns what the cache holds, did and would do.
    pub(crate) fn stats(&self) -> AnswersStats {
        AnswersStats {
            stats: self.entries.stats(),
            outlook: self.entries.outlook().unwrap_or_default(),
            ttls: (self.entries.ttl(), self.rare_ttl),
        }
    }

    fn serves(&self, hit: &caching::Hit<Arc<Answer>>, asked: u32, now: SystemTime) -> bool {
        hit.value.fresh.holds_at(now) && (hit.age <= self.rare_ttl || asked >= self.frequent)
    }
}

/// Returns how many bytes a key and its answer take, about.
fn size(key: &Key, answer: &Arc<Answer>) -> u64 {
    let memories: usize = answer.found.iter().map(|found| OVERHEAD_BYTES + found.memory.bytes()).sum();
    (OVERHEAD_BYTES + key.query.bytes() + memories) as u64
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use caching::Sizing;
    use clock::Clock;

    use super::{Answers, Key, Room};
    use crate::{
        index::Fresh,
        known::{Known, Total},
        query::Query,
        recall::Answer,
        shape::{Metric, Shape},
    };

    const TTL: Duration = Duration::from_secs(600);

    pub(super) fn room() -> Room {
        Room {
            entries: 10,
            bytes: 1 << 20,
            sizing: Sizing { least: 10, most: 10, auto: false },
            ttl: TTL,
            rare_ttl: TTL / 10,
            frequent: 3,
        }
    }

    fn space(generation: u64) -> Known {
        let shape = Shape { embedder: Shape::BROUGHT.to_owned(), dimensions: 1, metric: Metric::Cosine };
        Known::new(1, shape, generation, Total::default())
    }

    fn query() -> Query {
        Query::newest(1)
    }

    fn answer(fresh: Fresh) -> Arc<Answer> {
        Arc::new(Answer { found: Vec::new(), candidates: 0, error: 0.0, fresh, generation: 0 })
    }

    fn key() -> Key {
        Key { space: 1, generation: 0, query: query() }
    }

    #[test]
    fn a_frequent_question_may_have_an_older_answer() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let (answers, space) = (Answers::new(room(), clock.clone(), None), space(0));
        answers.keep(&space, query(), &answer(Fresh::default()));
        hand.advance(Duration::from_secs(61));
        assert!(answers.get(&key(), clock.now()).is_none(), "asked once");
        answers.keep(&space, query(), &answer(Fresh::default()));
        assert!(answers.get(&key(), clock.now()).is_some(), "young");
        hand.advance(Duration::from_secs(61));
        assert!(answers.get(&key(), clock.now()).is_some(), "asked three times");
        hand.advance(TTL);
        assert!(answers.get(&key(), clock.now()).is_none());
    }

    #[test]
    fn an_answer_is_not_served_once_a_memory_of_it_expired_or_before_one_did() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(50));
        let (answers, space) = (Answers::new(room(), clock.clone(), None), space(0));
        let at = |second| Some(UNIX_EPOCH + Duration::from_secs(second));
        answers.keep(&space, query(), &answer(Fresh { from: at(50), until: at(60) }));
        assert!(answers.holds(&key(), clock.now()));
        assert!(!answers.holds(&key(), UNIX_EPOCH + Duration::from_secs(49)), "the clock was set back");
        hand.advance(Duration::from_secs(10));
        assert!(answers.get(&key(), clock.now()).is_none());
        assert_eq!(answers.stats().stats.entries, 0, "what cannot be served is let go of");
    }

    #[test]
    fn an_answer_that_a_write_passed_by_is_not_kept() {
        let answers = Answers::new(room(), Clock::manual(UNIX_EPOCH).0, None);
        let space = space(7);
        answers.keep(&space, query(), &answer(Fresh::default()));
        assert_eq!(answers.stats().stats.entries, 0);
    }

    #[test]
    fn an_answer_with_vectors_is_not_kept() {
        let answers = Answers::new(room(), Clock::manual(UNIX_EPOCH).0, None);
        let space = space(0);
        let heavy = Query { include_embedding: true, ..query() };
        answers.keep(&space, heavy, &answer(Fresh::default()));
        assert_eq!(answers.stats().stats.entries, 0);
    }
}
