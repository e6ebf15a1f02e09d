//! A hunt for answers that are served though they are no longer true.
//!
//! Writes, deletions, expiries and recalls in random order, and recalls that are cut in three (asked, run, kept) with other steps in between,
//! as they come about where several run at once. Every answer is compared with a look at every memory.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use caching::Sizing;
use clock::{Clock, Hand};
use futures::FutureExt as _;

use super::{Answers, Key, Room};
use crate::{
    held::Held,
    index::Index,
    memory::{Change, Memory, Record},
    plan::{Planner, Wish},
    query::{Filter, Query},
    recall::{self, Answer, Means},
    space::Space,
    stop::Stop,
    vector::{metric::Metric, pool::Pool},
};

/// Ids that memories take turns with.
const IDS: u64 = 60;
/// Recalls under way at a time.
const UNDER_WAY: usize = 4;
/// How long a hunt may take.
const LONGEST: Duration = Duration::from_hours(1);

/// What a hunt found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Recalls that were answered.
    pub recalls: u64,
    /// Those that the cache answered.
    pub cached: u64,
    /// Answers with a memory that was forgotten, changed or expired, or without one that belongs there.
    pub stale: u64,
    /// Writes.
    pub writes: u64,
}

/// One space, its cache, and what is true of it.
struct Hunt {
    random: Random,
    hand: Hand,
    clock: Clock,
    answers: Answers,
    space: Space,
    held: Held,
    pool: Pool,
    planner: Planner,
    truth: BTreeMap<String, Arc<Memory>>,
    generation: u64,
    /// Recalls that the cache could not answer and that are run but not kept yet.
    under_way: Vec<(Query, Arc<Answer>)>,
    caught: Caught,
}

/// A generator of numbers that are the same for the same seed (Marsaglia: "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

/// Hunts for `steps` steps that are the same for the same `seed`.
///
/// # Errors
/// The system's, if a thread cannot be started.
pub fn hunt(steps: u64, seed: u64) -> io::Result<Caught> {
    let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_hours(24));
    let room = Room {
        entries: 100,
        bytes: 1 << 20,
        sizing: Sizing { least: 10, most: 200, auto: true },
        ttl: Duration::from_secs(600),
        rare_ttl: Duration::from_secs(60),
        frequent: 3,
    };
    let mut hunt = Hunt {
        random: Random(seed | 1),
        hand,
        answers: Answers::new(room, clock.clone(), None),
        clock,
        space: Space::apart(Index::new(Metric::Cosine, 1, 0)),
        held: Held::default(),
        pool: Pool::new(1, 1)?,
        planner: Planner::default(),
        truth: BTreeMap::new(),
        generation: 0,
        under_way: Vec::new(),
        caught: Caught::default(),
    };
    (0..steps).for_each(|_| hunt.step());
    Ok(hunt.caught)
}

impl Hunt {
    fn step(&mut self) {
        match self.random.below(100) {
            0..10 => self.write(),
            10..14 => {
                let seconds = self.random.below(20);
                self.hand.advance(Duration::from_secs(seconds));
            }
            14..40 if !self.under_way.is_empty() => {
                let number = self.random.below(self.under_way.len() as u64);
                let (query, answer) = self.under_way.swap_remove(usize::try_from(number).unwrap_or_default());
                self.answers.keep(&self.space, query, &answer);
            }
            _ => self.recall(),
        }
    }

    fn write(&mut self) {
        self.generation += 1;
        self.caught.writes += 1;
        let id = self.random.below(IDS).to_string();
        let change = if self.random.below(3) == 0 {
            self.truth.remove(&id);
            Change::Forget(vec![id])
        } else {
            let expires = (self.random.below(3) == 0)
                .then(|| self.clock.now() + Duration::from_secs(self.random.below(120)));
            let memory = Arc::new(Memory {
                id: id.as_str().into(),
                category: self.random.below(3).to_string(),
                content: self.generation.to_string(),
                time: UNIX_EPOCH + Duration::from_secs(self.random.below(90_000)),
                expires,
                ..Memory::bare()
            });
            self.truth.insert(id, Arc::clone(&memory));
            Change::Put(vec![Record::new(memory, vec![1.0])])
        };
        // As the engine writes: in memory, then out of the query cache. The first poll applies it, as its predecessors are there.
        let written = self.held.write(change);
        let _ = self.space.apply(self.generation, written).now_or_never();
        self.space.compact(Index::is_sparse);
        self.answers.forget_before(&self.space, self.generation);
    }

    fn recall(&mut self) {
        let (query, now) = (self.query(), self.clock.now());
        let key =
            Key { space: self.space.number(), generation: self.space.generation(), query: query.clone() };
        let hit = self.answers.get(&key, now);
        self.caught.cached += u64::from(hit.is_some());
        let answer = hit.clone().or_else(|| self.run(&query, now));
        self.caught.recalls += 1;
        let is_true = answer.as_ref().is_some_and(|answer| self.is_true(&query, answer, now));
        self.caught.stale += u64::from(!is_true);
        if let (None, Some(answer)) = (hit, answer) {
            if self.under_way.len() < UNDER_WAY {
                self.under_way.push((query, answer));
            } else {
                self.answers.keep(&self.space, query, &answer);
            }
        }
    }

    fn query(&mut self) -> Query {
        let categories = (0..self.random.below(3)).map(|_| self.random.below(3).to_string()).collect();
        let start =
            (self.random.below(2) == 0).then(|| UNIX_EPOCH + Duration::from_hours(self.random.below(4)));
        let filter = Filter { categories, start, ..Filter::default() };
        let limit = if self.random.below(2) == 0 { 3 } else { 100 };
        Query { filter, ..Query::newest(limit) }.canonical(Metric::Cosine)
    }

    fn run(&self, query: &Query, now: SystemTime) -> Option<Arc<Answer>> {
        let wanted = recall::wanted(query, &embedding::Hashing::new(1)).now_or_never()?.ok()?;
        let means = Means {
            planner: &self.planner,
            wish: Wish { threads: 1, strategy: None },
            batch: 16,
            reads: 16,
            half_life: LONGEST,
            pool: &self.pool,
            contents: &self.held,
        };
        let stop = Arc::new(Stop::at(Instant::now() + LONGEST));
        recall::run(&self.space, query, wanted, now, &means, &stop).ok().map(|ran| Arc::new(ran.answer))
    }

    /// Returns whether `answer` is what a look at every memory finds.
    fn is_true(&self, query: &Query, answer: &Answer, now: SystemTime) -> bool {
        let Filter { categories, start, .. } = &query.filter;
        let passes = |memory: &&Arc<Memory>| {
            (categories.is_empty() || categories.contains(&memory.category))
                && start.is_none_or(|start| start <= memory.time)
                && memory.expires.is_none_or(|at| now < at)
        };
        let mut expected: Vec<&Arc<Memory>> = self.truth.values().filter(passes).collect();
        let candidates = expected.len() as u64;
        // The content says which write made it.
        let written = |memory: &Memory| memory.content.parse::<u64>().unwrap_or_default();
        expected.sort_by_key(|memory| Reverse((memory.time, written(memory))));
        expected.truncate(query.limit);
        answer.candidates == candidates
            && answer.found.len() == expected.len()
            && answer.found.iter().zip(expected).all(|(found, expected)| found.memory == *expected)
    }
}

#[cfg(test)]
mod tests {
    use super::hunt;

    #[test]
    fn no_recall_is_served_what_is_no_longer_true() {
        let caught = hunt(20_000, 7).unwrap();
        assert_eq!(caught.stale, 0, "{caught:?}");
        assert!(caught.cached > 1_000 && caught.writes > 1_000, "{caught:?}");
    }
}
