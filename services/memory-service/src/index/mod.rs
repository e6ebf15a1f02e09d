//! The memories of one tenant as they lie in memory: rows, and the bitmaps that say which rows pass a filter.

mod arena;
pub(crate) mod column;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod entities;
mod postings;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod text;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod threads;

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::{Instant, SystemTime},
};

use roaring::{MultiOps as _, RoaringBitmap};

use arena::Arena;
pub(crate) use arena::{CHUNK_ROWS, Rows};
use postings::{Buckets, Names};

use crate::{
    explain::{Stage, named},
    memory::{Change, Record},
    query::Filter,
};

/// The memories of one tenant.
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

/// The candidates of a filter, in rows that no later write touches.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The rows of the tenant at `generation`.
    pub(crate) rows: Rows,
    /// The rows that passed the filter.
    pub(crate) candidates: RoaringBitmap,
    /// When the next memory expires.
    pub(crate) fresh_until: Option<SystemTime>,
    /// The write after which this was the state.
    pub(crate) generation: u64,
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

    /// Combines the bitmaps of `filter` and of what has not expired at `now`, and notes each stage. Confidence is a column of
    /// the rows: [`Selection::keep_confident`] looks at it without holding up a writer.
    pub(crate) fn select(&self, filter: &Filter, now: SystemTime, stages: &mut Vec<Stage>) -> Selection {
        let mut narrowing = Narrowing { candidates: self.live.clone(), stages };
        let fresh_until = self.expiries.range((Excluded(now), Unbounded)).next().map(|(at, _)| *at);
        if !self.expiries.is_empty() {
            let expired = || self.live.clone() - self.expiries.range(..=now).map(|(_, rows)| rows).union();
            narrowing.by("filter.expiry", "what has not expired".to_owned(), expired);
        }
        for (name, what, wanted, known) in [
            ("filter.category", "categories", &filter.categories, &self.categories),
            ("filter.pool", "pools", &filter.pools, &self.pools),
            ("filter.agent", "agents", &filter.agents, &self.agents),
            ("filter.tag", "tags", &filter.tags, &self.tags),
            ("filter.thread", "threads", &filter.threads, &self.threads),
        ] {
            if !wanted.is_empty() {
                narrowing.by(name, named(what, wanted), || known.any_of(wanted));
            }
        }
        if let Some(edges) = edges(filter) {
            let detail = format!("buckets of 6 h {edges} row by row");
            let inside = || self.times.between(filter.start, filter.end, |row| self.arena.rows().time(row));
            narrowing.by("filter.time", detail, inside);
        }
        let candidates = narrowing.candidates;
        Selection { rows: self.arena.rows().clone(), candidates, fresh_until, generation: self.generation }
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

/// Candidates that become fewer, stage by stage.
struct Narrowing<'a> {
    candidates: RoaringBitmap,
    stages: &'a mut Vec<Stage>,
}

impl Narrowing<'_> {
    fn by(&mut self, name: &'static str, detail: String, rows: impl FnOnce() -> RoaringBitmap) {
        let (start, rows_in) = (Instant::now(), self.candidates.len());
        self.candidates &= rows();
        let rows_out = self.candidates.len();
        self.stages.push(Stage { name, detail, rows_in, rows_out, duration: start.elapsed() });
    }
}

/// Says which edges of a filter's time are looked at row by row; nothing where there are none.
fn edges(filter: &Filter) -> Option<&'static str> {
    match (filter.start.is_some(), filter.end.is_some()) {
        (true, true) => Some("from start to end, both edges"),
        (true, false) => Some("from start on, the edge"),
        (false, true) => Some("up to end, the edge"),
        (false, false) => None,
    }
}

impl Selection {
    /// Drops candidates that are less sure than `minimum`, and notes the stage.
    pub(crate) fn keep_confident(&mut self, minimum: f64, stages: &mut Vec<Stage>) {
        if minimum > 0.0 {
            let (start, rows_in) = (Instant::now(), self.candidates.len());
            let rows = &self.rows;
            self.candidates.retain(|row| rows.confidence(row) >= minimum);
            let (rows_out, duration) = (self.candidates.len(), start.elapsed());
            let detail = format!("column scan for at least {minimum}");
            stages.push(Stage { name: "filter.confidence", detail, rows_in, rows_out, duration });
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::Index;
    use crate::{
        memory::{Change, Memory, Record},
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

    fn ids(index: &Index, filter: &Filter) -> Vec<String> {
        let mut stages = Vec::new();
        let mut selection = index.select(filter, UNIX_EPOCH, &mut stages);
        selection.keep_confident(filter.min_confidence, &mut stages);
        selection.candidates.iter().map(|row| selection.rows.memory(row).unwrap().id.to_string()).collect()
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
    fn a_selection_is_not_touched_by_a_later_write() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        let selection = index.select(&Filter::default(), UNIX_EPOCH, &mut Vec::new());
        index.apply(&Change::Forget(vec!["a".into()]), 2);
        assert_eq!(selection.generation, 1);
        assert!(selection.rows.memory(0).is_some());
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
            let selection = index.select(&Filter::default(), at(second), &mut Vec::new());
            (selection.candidates.len(), selection.fresh_until)
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
