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
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use roaring::RoaringBitmap;

use arena::Arena;
pub(crate) use arena::{CHUNK_ROWS, Rows};
use postings::{Buckets, Names};

use crate::{
    explain::{Stage, named},
    memory::{Change, Memory, Record},
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
    times: Buckets,
    generation: u64,
}

/// The candidates of a filter, in rows that no later write touches.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The rows of the tenant at `generation`.
    pub(crate) rows: Rows,
    /// The rows that passed the filter.
    pub(crate) candidates: RoaringBitmap,
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
            times: Buckets::default(),
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
        self.categories.insert(&record.memory.category, row);
        record.memory.pools.iter().for_each(|pool| self.pools.insert(pool, row));
        self.times.insert(record.memory.time, row);
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
    pub(crate) fn get(&self, id: &str) -> Option<(Arc<Memory>, Vec<f32>)> {
        let row = *self.ids.get(id)?;
        let memory = self.arena.rows().memory(row)?;
        Some((Arc::clone(memory), self.arena.rows().vector(row).to_vec()))
    }

    /// Combines the bitmaps of `filter`'s categories, pools and times, and notes each stage. Confidence is a column of
    /// the rows: [`Selection::keep_confident`] looks at it without holding up a writer.
    pub(crate) fn select(&self, filter: &Filter, stages: &mut Vec<Stage>) -> Selection {
        let mut candidates = self.live.clone();
        let mut narrow = |name: &'static str, detail: String, rows: Option<&dyn Fn() -> RoaringBitmap>| {
            let (start, rows_in) = (Instant::now(), candidates.len());
            if let Some(rows) = rows {
                candidates &= rows();
            }
            stages.push(Stage {
                name,
                detail,
                rows_in,
                rows_out: candidates.len(),
                duration: start.elapsed(),
            });
        };
        let categories = || self.categories.any_of(&filter.categories);
        let detail = named("categories", &filter.categories);
        narrow("filter.category", detail, (!filter.categories.is_empty()).then_some(&categories));
        let pools = || self.pools.any_of(&filter.pools);
        narrow("filter.pool", named("pools", &filter.pools), (!filter.pools.is_empty()).then_some(&pools));
        let times = || self.times.between(filter.start, filter.end, |row| self.arena.rows().time(row));
        let (bounded, detail) = match (filter.start.is_some(), filter.end.is_some()) {
            (true, true) => (true, "buckets of 6 h from start to end, both edges row by row"),
            (true, false) => (true, "buckets of 6 h from start on, the edge row by row"),
            (false, true) => (true, "buckets of 6 h up to end, the edge row by row"),
            (false, false) => (false, "every time"),
        };
        narrow("filter.time", detail.to_owned(), bounded.then_some(&times));
        Selection { rows: self.arena.rows().clone(), candidates, generation: self.generation }
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
            self.times.remove(memory.time, row);
        }
    }
}

impl Selection {
    /// Drops candidates that are less sure than `minimum`, and notes the stage.
    pub(crate) fn keep_confident(&mut self, minimum: f64, stages: &mut Vec<Stage>) {
        let (start, rows_in) = (Instant::now(), self.candidates.len());
        let mut detail = "every confidence".to_owned();
        if minimum > 0.0 {
            let rows = &self.rows;
            self.candidates.retain(|row| rows.confidence(row) >= minimum);
            detail = format!("column scan for at least {minimum}");
        }
        let rows_out = self.candidates.len();
        stages.push(Stage {
            name: "filter.confidence",
            detail,
            rows_in,
            rows_out,
            duration: start.elapsed(),
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::BTreeMap,
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
            metadata: BTreeMap::new(),
        };
        Record { memory: Arc::new(memory), embedding: embedding.to_vec() }
    }

    fn ids(index: &Index, filter: &Filter) -> Vec<String> {
        let mut stages = Vec::new();
        let mut selection = index.select(filter, &mut stages);
        selection.keep_confident(filter.min_confidence, &mut stages);
        assert_eq!(
            stages.iter().map(|stage| stage.name).collect::<Vec<_>>(),
            ["filter.category", "filter.pool", "filter.time", "filter.confidence"]
        );
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
        let selection = index.select(&Filter::default(), &mut Vec::new());
        index.apply(&Change::Forget(vec!["a".into()]), 2);
        assert_eq!(selection.generation, 1);
        assert!(selection.rows.memory(0).is_some());
    }

    #[test]
    fn confidence_is_a_lower_bound() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        assert_eq!(ids(&index, &Filter { min_confidence: 0.5, ..Filter::default() }), ["a"]);
        assert!(ids(&index, &Filter { min_confidence: 0.51, ..Filter::default() }).is_empty());
    }
}
