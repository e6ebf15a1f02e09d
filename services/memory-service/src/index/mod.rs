//! The memories of one space as they lie in memory: rows, and the bitmaps that say which rows pass a filter.

mod arena;
pub(crate) mod column;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod entities;
mod narrow;
mod postings;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod text;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod threads;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::SystemTime,
};

use roaring::RoaringBitmap;

use arena::Arena;
pub(crate) use arena::{CHUNK_ROWS, Rows};
pub(crate) use narrow::{Narrow, Report, Test};
use postings::{Buckets, Names};

use crate::{
    memory::{Change, Record},
    query::Filter,
};

/// The memories of one space.
#[derive(Debug)]
pub(crate) struct Index {
    arena: Arena,
    ids: HashMap<Arc<str>, u32>,
    live: RoaringBitmap,
    categories: Names,
    pools: Names,
    agents: Names,
    tags: Names,
    threads: Names,
    times: Buckets,
    /// Rows by when they expire.
    expiries: BTreeMap<SystemTime, RoaringBitmap>,
    generation: u64,
}

/// When an answer holds what has not expired, and all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fresh {
    /// From then on; absent: always.
    pub(crate) from: Option<SystemTime>,
    /// Until then; absent: for ever.
    pub(crate) until: Option<SystemTime>,
}

impl Fresh {
    /// Returns whether it holds at `now`.
    pub(crate) fn holds_at(&self, now: SystemTime) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

impl Index {
    /// Makes an index without memories, for vectors of `dimensions` values, whose last write was `generation`.
    pub(crate) fn new(dimensions: usize, generation: u64) -> Self {
        Self {
            arena: Arena::new(dimensions),
            ids: HashMap::new(),
            live: RoaringBitmap::new(),
            categories: Names::default(),
            pools: Names::default(),
            agents: Names::default(),
            tags: Names::default(),
            threads: Names::default(),
            times: Buckets::default(),
            expiries: BTreeMap::new(),
            generation,
        }
    }

    /// Applies the write that made `generation`.
    pub(crate) fn apply(&mut self, change: &Change, generation: u64) {
        match change {
            Change::Put(records) => records.iter().for_each(|record| self.put(record)),
            Change::Forget(ids) => ids.iter().for_each(|id| self.forget(id)),
        }
        self.generation = generation;
    }

    /// Stores one record; a memory of its id is replaced.
    pub(crate) fn put(&mut self, record: &Record) {
        let id = &record.memory.id;
        let row = match self.ids.get(id).copied() {
            Some(row) => {
                self.unlist(row);
                self.arena.put(row, record);
                row
            }
            None => {
                let row = self.arena.insert(record);
                self.ids.insert(Arc::clone(id), row);
                row
            }
        };
        self.live.insert(row);
        let memory = &*record.memory;
        self.categories.insert(&memory.category, row);
        memory.pools.iter().for_each(|pool| self.pools.insert(pool, row));
        if !memory.agent.is_empty() {
            self.agents.insert(&memory.agent, row);
        }
        memory.tags.iter().for_each(|tag| self.tags.insert(tag, row));
        if let Some(place) = &memory.place {
            self.threads.insert(&place.thread, row);
        }
        self.times.insert(memory.time, row);
        if let Some(expires) = memory.expires {
            self.expiries.entry(expires).or_default().insert(row);
        }
    }

    /// Returns the write after which this is the state.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the number of memories.
    pub(crate) fn len(&self) -> u64 {
        self.live.len()
    }

    /// Returns the number of memories of each category.
    pub(crate) fn categories(&self) -> BTreeMap<String, u64> {
        self.categories.counts()
    }

    /// Returns the memory of `id` with its vector.
    #[cfg(test)]
    pub(crate) fn get(&self, id: &str) -> Option<(Arc<crate::memory::Memory>, Vec<f32>)> {
        let row = *self.ids.get(id)?;
        let memory = self.arena.rows().memory(row)?;
        Some((Arc::clone(memory), self.arena.rows().vector(row).to_vec()))
    }

    /// Resolves the names and times of `filter`, so that the planner can be told of them and the candidates be picked.
    pub(crate) fn narrow<'a>(&'a self, filter: &'a Filter, now: SystemTime) -> Narrow<'a> {
        Narrow::new(self, filter, now)
    }

    /// Returns the rows as they are now.
    pub(crate) fn rows(&self) -> &Rows {
        self.arena.rows()
    }

    /// Returns between which changes by expiry the present state lies: from the last one up to now, until the next.
    pub(crate) fn fresh(&self, now: SystemTime) -> Fresh {
        Fresh {
            from: self.expiries.range(..=now).next_back().map(|(at, _)| *at),
            until: self.expiries.range((Excluded(now), Unbounded)).next().map(|(at, _)| *at),
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(row) = self.ids.remove(id) {
            self.unlist(row);
            self.arena.remove(row);
        }
    }

    fn unlist(&mut self, row: u32) {
        self.live.remove(row);
        if let Some(memory) = self.arena.rows().memory(row) {
            self.categories.remove(&memory.category, row);
            memory.pools.iter().for_each(|pool| self.pools.remove(pool, row));
            self.agents.remove(&memory.agent, row);
            memory.tags.iter().for_each(|tag| self.tags.remove(tag, row));
            if let Some(place) = &memory.place {
                self.threads.remove(&place.thread, row);
            }
            self.times.remove(memory.time, row);
            if let Some(Entry::Occupied(mut rows)) = memory.expires.map(|at| self.expiries.entry(at)) {
                rows.get_mut().remove(row);
                if rows.get().is_empty() {
                    rows.remove();
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use roaring::RoaringBitmap;

    use super::{Index, Report};
    use crate::{
        explain::Node,
        memory::{Change, Memory, Record},
        plan::Strategy,
        query::Filter,
    };

    pub(crate) fn record(id: &str, embedding: &[f32]) -> Record {
        let memory = Memory {
            id: id.into(),
            category: "c".into(),
            content: "content".into(),
            pools: vec!["p".into()],
            time: UNIX_EPOCH,
            confidence: 0.5,
            ..Memory::bare()
        };
        Record { memory: Arc::new(memory), embedding: embedding.to_vec() }
    }

    /// The rows that pass `filter` at `now`, by joining bitmaps.
    pub(crate) fn candidates(index: &Index, filter: &Filter, now: SystemTime) -> RoaringBitmap {
        let narrow = index.narrow(filter, now);
        let picked = narrow.pick(Strategy::Filtered, None, &mut Report::of(Node::new("", "", 0.0, None)));
        let rows = picked.parts.into_iter().next().unwrap_or_default();
        rows.into_iter()
            .filter(|row| picked.tests.iter().all(|test| test.passes(index.rows(), *row)))
            .collect()
    }

    fn ids(index: &Index, filter: &Filter) -> Vec<String> {
        let rows = candidates(index, filter, UNIX_EPOCH);
        rows.iter().map(|row| index.rows().memory(row).unwrap().id.to_string()).collect()
    }

    #[test]
    fn a_replaced_memory_is_found_by_what_it_says_now() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        let mut newer = record("a", &[2.0]);
        let memory = Arc::get_mut(&mut newer.memory).unwrap();
        (memory.category, memory.pools, memory.time) =
            ("d".into(), vec!["q".into()], UNIX_EPOCH + Duration::from_hours(100));
        index.apply(&Change::Put(vec![newer]), 2);
        let by = |filter: Filter| ids(&index, &filter).len();
        assert_eq!(by(Filter { categories: vec!["c".into()], ..Filter::default() }), 0);
        assert_eq!(by(Filter { pools: vec!["p".into()], ..Filter::default() }), 0);
        assert_eq!(by(Filter { end: Some(UNIX_EPOCH + Duration::from_hours(99)), ..Filter::default() }), 0);
        assert_eq!(
            by(Filter { categories: vec!["d".into()], pools: vec!["q".into()], ..Filter::default() }),
            1
        );
        assert_eq!((index.len(), index.generation()), (1, 2));
        assert_eq!(index.get("a").unwrap().1, [2.0]);
    }

    #[test]
    fn a_forgotten_memory_is_nowhere() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0]), record("b", &[1.0])]), 1);
        index.apply(&Change::Forget(vec!["a".into(), "unknown".into()]), 2);
        assert!(index.get("a").is_none());
        assert_eq!(ids(&index, &Filter::default()), ["b"]);
        assert_eq!(index.categories().get("c"), Some(&1));
        index.apply(&Change::Forget(vec!["b".into()]), 3);
        assert!(index.categories().is_empty());
    }

    #[test]
    fn rows_in_use_are_not_touched_by_a_later_write() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        let rows = index.rows().clone();
        index.apply(&Change::Forget(vec!["a".into()]), 2);
        assert!(rows.memory(0).is_some());
    }

    #[test]
    fn an_expired_memory_is_not_found_and_the_next_expiry_is_known() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let until = |id: &str, second| {
            let mut record = record(id, &[1.0]);
            Arc::get_mut(&mut record.memory).unwrap().expires = Some(at(second));
            record
        };
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![until("a", 10), until("b", 20), record("c", &[1.0])]), 1);
        let found = |index: &Index, second| {
            (candidates(index, &Filter::default(), at(second)).len(), index.fresh(at(second)).until)
        };
        assert_eq!(found(&index, 9), (3, Some(at(10))));
        assert_eq!(found(&index, 10), (2, Some(at(20))));
        assert_eq!(found(&index, 20), (1, None));
        index.apply(&Change::Put(vec![record("b", &[1.0])]), 2);
        index.apply(&Change::Forget(vec!["a".into()]), 3);
        assert_eq!(found(&index, 0), (2, None), "what was replaced or forgotten does not expire");
    }

    #[test]
    fn confidence_is_a_lower_bound() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        assert_eq!(ids(&index, &Filter { min_confidence: 0.5, ..Filter::default() }), ["a"]);
        assert!(ids(&index, &Filter { min_confidence: 0.51, ..Filter::default() }).is_empty());
    }
}
