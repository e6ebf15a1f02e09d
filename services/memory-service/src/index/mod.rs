//! The memories of one space as they are searched: rows that are only appended, and the bitmaps that say which rows pass a filter.
//!
//! A memory that is written again gets a new row; rows of what is gone are dead, left out by every bitmap, and removed by the owner of the
//! index when there are as many of them as of live ones. Contents and full vectors are in the store alone, under the number of the row's memory.

pub(crate) mod column;
pub(crate) mod entities;
pub(crate) mod facts;
mod image;
mod left;
mod narrow;
mod postings;
mod sayings;
pub(crate) mod text;
pub(crate) mod threads;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound::{Excluded, Unbounded},
    time::SystemTime,
};

use roaring::RoaringBitmap;

use column::Column;
use entities::Entities;
use facts::Facts;
pub(crate) use narrow::{Narrow, Report, Test};
use postings::{Buckets, Names};
use sayings::Sayings;
use text::{Search, Text};
use threads::{Links, Threads};

use crate::{
    hygiene::{claims::Claims, saying::Saying},
    memory::{Change, Claim, Memory},
    query::Filter,
    vector::{
        arena::{Arena, Rows},
        metric::Metric,
    },
    written::{Removed, Written},
};

/// Dead rows from which on it pays to remove them.
const FEW: u64 = 4096;

/// The memories of one space.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    vectors: Arena,
    dimensions: usize,
    text: Text,
    facts: Column<Facts>,
    live: RoaringBitmap,
    categories: Names,
    pools: Names,
    agents: Names,
    tags: Names,
    threads: Names,
    neighbours: Threads,
    sayings: Sayings,
    claims: Claims,
    entities: Entities,
    times: Buckets,
    /// Rows by when they expire.
    expiries: BTreeMap<SystemTime, RoaringBitmap>,
    generation: u64,
}

/// What a ranking looks at, as it was at one moment: what is written later does not show in it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Codes of the vectors.
    pub(crate) rows: Rows,
    /// What else is known of each row.
    pub(crate) facts: Column<Facts>,
    /// Who is whose neighbour.
    pub(crate) links: Links,
    /// What each row says.
    pub(crate) sayings: Column<Saying>,
    /// The write after which this was the state.
    pub(crate) generation: u64,
}

/// What the words of a question mean here.
#[derive(Debug)]
pub(crate) struct Words {
    /// Their postings.
    pub(crate) search: Search,
    /// The rows about each entity that is named.
    pub(crate) named: Vec<RoaringBitmap>,
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
    pub(crate) fn new(metric: Metric, dimensions: usize, generation: u64) -> Self {
        Self {
            vectors: Arena::new(metric, dimensions),
            dimensions,
            text: Text::new(),
            facts: Column::new(Facts::NONE),
            live: RoaringBitmap::new(),
            categories: Names::default(),
            pools: Names::default(),
            agents: Names::default(),
            tags: Names::default(),
            threads: Names::default(),
            neighbours: Threads::new(),
            sayings: Sayings::default(),
            claims: Claims::default(),
            entities: Entities::default(),
            times: Buckets::default(),
            expiries: BTreeMap::new(),
            generation,
        }
    }

    /// Applies the write that made `generation`.
    pub(crate) fn apply(&mut self, written: &Written, generation: u64) {
        if let Change::Put(records) = &*written.change {
            for (record, seq) in records.iter().zip(written.first..) {
                self.put(seq, &record.memory, record.saying, &record.embedding);
            }
        }
        written.removed.iter().for_each(|removed| self.remove(removed));
        self.generation = generation;
    }

    /// Appends a memory that says `saying`, whose number `seq` is greater than every number before. Its id is no concern of the index.
    pub(crate) fn put(&mut self, seq: u64, memory: &Memory, saying: Saying, vector: &[f32]) {
        // 2³² rows are not reached: a space of half as many live memories would take terabytes before.
        let Some(row) = self.vectors.push(seq, vector) else { return };
        self.text.insert(row, &memory.content);
        self.facts.set(row, Facts::of(memory));
        self.live.insert(row);
        self.categories.insert(&memory.category, row);
        for pool in &memory.pools {
            self.pools.insert(pool, row);
            self.entities.insert(pool);
        }
        if !memory.agent.is_empty() {
            self.agents.insert(&memory.agent, row);
        }
        memory.tags.iter().for_each(|tag| self.tags.insert(tag, row));
        if let Some(place) = &memory.place {
            self.threads.insert(&place.thread, row);
            self.neighbours.insert(&place.thread, place.position, row);
        }
        self.sayings.insert(row, saying);
        if let Some(claim) = &memory.claim {
            self.claims.insert(seq, claim);
        }
        self.times.insert(memory.time, row);
        if let Some(expires) = memory.expires {
            self.expiries.entry(expires).or_default().insert(row);
        }
    }

    /// Returns how many values its vectors have.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Returns by what they are compared.
    pub(crate) fn metric(&self) -> Metric {
        self.vectors.rows().metric()
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

    /// Resolves the names and times of `filter`, so that the planner can be told of them and the candidates be picked.
    pub(crate) fn narrow<'a>(&'a self, filter: &'a Filter, now: SystemTime) -> Narrow<'a> {
        Narrow::new(self, filter, now)
    }

    /// Returns what a ranking looks at, as it is now.
    pub(crate) fn view(&self) -> View {
        View {
            rows: self.vectors.rows().clone(),
            facts: self.facts.clone(),
            links: self.neighbours.links().clone(),
            sayings: self.sayings.column().clone(),
            generation: self.generation,
        }
    }

    /// Returns what the words of `text` mean here, as it is now.
    pub(crate) fn words(&self, text: &str) -> Words {
        let named = self.entities.named(text).into_iter();
        let named = named.filter_map(|name| self.pools.get(name).cloned()).collect();
        Words { search: self.text.search(text), named }
    }

    /// Returns every live row.
    pub(crate) fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    /// Returns the numbers of the memories that have expired at `now`, the first one first.
    pub(crate) fn expired(&self, now: SystemTime) -> Vec<u64> {
        let rows = self.expiries.range(..=now).flat_map(|(_, rows)| rows.iter());
        rows.map(|row| self.vectors.rows().seq(row)).collect()
    }

    /// Returns the numbers of up to `most` memories that may say what `saying` says and have not expired at `now`, the last written first.
    pub(crate) fn saying(&self, saying: Saying, now: SystemTime, most: usize) -> Vec<u64> {
        let rows = self.sayings.rows(saying).filter(|row| self.is_found(*row, now));
        rows.take(most).map(|row| self.vectors.rows().seq(row)).collect()
    }

    /// Returns the numbers of up to `most` memories that state another value than `claim` for its subject and field and have not expired at
    /// `now`, the last written first.
    pub(crate) fn against(&self, claim: &Claim, now: SystemTime, most: usize) -> Vec<u64> {
        self.claims.against(claim, most, |seq| self.holds(seq, now))
    }

    /// Returns whether the memory under `seq` is there and has not expired at `now`.
    pub(crate) fn holds(&self, seq: u64, now: SystemTime) -> bool {
        self.row(seq).is_some_and(|row| self.is_found(row, now))
    }

    /// Returns whether the memory under `seq` is there, be it expired.
    pub(crate) fn has(&self, seq: u64) -> bool {
        self.row(seq).is_some()
    }

    fn row(&self, seq: u64) -> Option<u32> {
        self.vectors.rows().row(seq).filter(|row| self.live.contains(*row))
    }

    fn is_found(&self, row: u32, now: SystemTime) -> bool {
        self.facts.get(row).expires.is_none_or(|at| now < at)
    }

    /// Returns between which changes by expiry the present state lies: from the last one up to now, until the next.
    pub(crate) fn fresh(&self, now: SystemTime) -> Fresh {
        Fresh {
            from: self.expiries.range(..=now).next_back().map(|(at, _)| *at),
            until: self.expiries.range((Excluded(now), Unbounded)).next().map(|(at, _)| *at),
        }
    }

    fn dead(&self) -> u64 {
        self.vectors.rows().len() as u64 - self.live.len()
    }

    fn remove(&mut self, removed: &Removed) {
        let row = self.vectors.rows().row(removed.seq).filter(|row| self.live.remove(*row));
        // What could not be read when it was loaded has no row.
        let Some(row) = row else { return };
        match &removed.memory {
            Some(memory) => {
                memory.claim.iter().for_each(|claim| self.claims.remove(removed.seq, claim));
                self.unlist(row, memory);
            }
            None => self.leave_out([removed.seq]),
        }
    }

    fn unlist(&mut self, row: u32, memory: &Memory) {
        self.text.remove(row, &memory.content);
        self.sayings.remove(row);
        self.categories.remove(&memory.category, row);
        for pool in &memory.pools {
            self.pools.remove(pool, row);
            if self.pools.get(pool).is_none() {
                self.entities.remove(pool);
            }
        }
        self.agents.remove(&memory.agent, row);
        memory.tags.iter().for_each(|tag| self.tags.remove(tag, row));
        if let Some(place) = &memory.place {
            self.threads.remove(&place.thread, row);
            self.neighbours.remove(&place.thread, place.position, row);
        }
        self.times.remove(memory.time, row);
        if let Some(Entry::Occupied(mut rows)) = memory.expires.map(|at| self.expiries.entry(at)) {
            rows.get_mut().remove(row);
            if rows.get().is_empty() {
                rows.remove();
            }
        }
    }

    /// Leaves out the rows of `seqs`, of which it is not known any more what they were; slow, and once for all of them.
    pub(crate) fn leave_out(&mut self, seqs: impl IntoIterator<Item = u64>) {
        let rows = seqs.into_iter().filter_map(|seq| self.vectors.rows().row(seq));
        let gone: RoaringBitmap = rows.collect();
        self.live -= gone;
        self.text.recount(&self.live);
        let live = std::mem::take(&mut self.live);
        self.names().into_iter().for_each(|names| names.retain(&live));
        self.neighbours = self.neighbours.renumbered(|row| live.contains(row).then_some(row));
        self.sayings.retain(&live);
        let rows = self.vectors.rows();
        self.claims.retain(|seq| rows.row(seq).is_some_and(|row| live.contains(row)));
        self.live = live;
        self.derive();
    }

    fn names(&mut self) -> [&mut Names; 5] {
        [&mut self.categories, &mut self.pools, &mut self.agents, &mut self.tags, &mut self.threads]
    }

    /// Makes what follows from the rest: entities, and the rows by time and by expiration.
    fn derive(&mut self) {
        (self.entities, self.times, self.expiries) = Default::default();
        self.pools.iter().for_each(|(pool, _)| self.entities.insert(pool));
        for row in &self.live {
            let Facts { time, expires, .. } = self.facts.get(row);
            self.times.insert(time, row);
            if let Some(expires) = expires {
                self.expiries.entry(expires).or_default().insert(row);
            }
        }
    }

    /// Returns whether it pays to remove the dead rows.
    pub(crate) fn is_sparse(&self) -> bool {
        self.dead() > FEW.max(self.live.len())
    }

    /// Returns whether there are dead rows.
    pub(crate) fn has_dead(&self) -> bool {
        self.dead() > 0
    }

    /// Removes the dead rows: the live ones are numbered anew, in their order.
    pub(crate) fn compact(&mut self) {
        let mut places = vec![None; self.vectors.rows().len()];
        for (row, place) in self.live.iter().zip(0_u32..) {
            places[row as usize] = Some(place);
        }
        let place = |row: u32| places.get(row as usize).copied().flatten();
        self.vectors = self.vectors.compacted(self.live.iter());
        self.sayings = self.sayings.compacted(&self.live);
        self.text = self.text.compacted(place);
        let mut facts = Column::new(Facts::NONE);
        self.live.iter().zip(0..).for_each(|(row, place)| facts.set(place, self.facts.get(row)));
        self.facts = facts;
        self.names().into_iter().for_each(|names| names.renumber(place));
        self.neighbours = self.neighbours.renumbered(place);
        postings::renumber(&mut self.live, place);
        self.derive();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use roaring::RoaringBitmap;

    use super::{FEW, Index, Report};
    use crate::{
        explain::Node,
        held::Held,
        hygiene::saying::Saying,
        memory::{Change, Claim, Memory, Record},
        plan::Strategy,
        query::Filter,
        recall::contents::Contents as _,
        vector::metric::Metric,
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
        Record::new(memory, embedding.to_vec())
    }

    /// The rows that pass `filter` at `now`, by joining bitmaps.
    pub(crate) fn candidates(index: &Index, filter: &Filter, now: SystemTime) -> RoaringBitmap {
        let narrow = index.narrow(filter, now);
        let picked = narrow.pick(Strategy::Filtered, None, &mut Report::of(Node::new("", "", 0.0, None)));
        let rows = picked.parts.into_iter().next().unwrap_or_default();
        let passes = |row: &u32| picked.tests.iter().all(|test| test.passes(&index.facts.get(*row)));
        rows.into_iter().filter(passes).collect()
    }

    /// The numbers of the memories that pass `filter` at `now`.
    pub(crate) fn seqs(index: &Index, filter: &Filter, now: SystemTime) -> Vec<u64> {
        candidates(index, filter, now).iter().map(|row| index.vectors.rows().seq(row)).collect()
    }

    /// An index and what it was made of.
    struct Made {
        index: Index,
        held: Held,
    }

    impl Made {
        fn new() -> Self {
            Self { index: Index::new(Metric::Cosine, 1, 0), held: Held::default() }
        }

        fn write(&mut self, change: Change) {
            let generation = self.index.generation() + 1;
            self.index.apply(&self.held.write(change), generation);
            if self.index.is_sparse() {
                self.index.compact();
            }
        }

        fn forget(&mut self, ids: &[&str]) {
            self.write(Change::Forget(ids.iter().map(|id| (*id).to_owned()).collect()));
        }

        fn ids_at(&self, filter: &Filter, now: SystemTime) -> Vec<String> {
            let memories = self.held.memories(&seqs(&self.index, filter, now)).unwrap();
            memories.iter().map(|memory| memory.id.to_string()).collect()
        }

        fn ids(&self, filter: &Filter) -> Vec<String> {
            self.ids_at(filter, UNIX_EPOCH)
        }
    }

    #[test]
    fn a_replaced_memory_is_found_by_what_it_says_now() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0])]));
        let mut newer = record("a", &[2.0]);
        let memory = Arc::get_mut(&mut newer.memory).unwrap();
        (memory.category, memory.pools, memory.time) =
            ("d".into(), vec!["q".into()], UNIX_EPOCH + Duration::from_hours(100));
        made.write(Change::Put(vec![newer]));
        let by = |filter: Filter| made.ids(&filter).len();
        assert_eq!(by(Filter { categories: vec!["c".into()], ..Filter::default() }), 0);
        assert_eq!(by(Filter { pools: vec!["p".into()], ..Filter::default() }), 0);
        assert_eq!(by(Filter { end: Some(UNIX_EPOCH + Duration::from_hours(99)), ..Filter::default() }), 0);
        assert_eq!(
            by(Filter { categories: vec!["d".into()], pools: vec!["q".into()], ..Filter::default() }),
            1
        );
        assert_eq!((made.index.len(), made.index.generation()), (1, 2));
        assert!(made.index.words("p").named.is_empty(), "nothing is about it any more");
        assert_eq!(made.index.words("of Q").named.len(), 1);
    }

    #[test]
    fn of_an_id_that_a_write_puts_twice_the_last_stays() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0]), record("b", &[1.0]), record("a", &[2.0])]));
        assert_eq!(made.ids(&Filter::default()), ["b", "a"]);
    }

    #[test]
    fn a_forgotten_memory_is_nowhere() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0]), record("b", &[1.0])]));
        made.forget(&["a", "unknown"]);
        assert_eq!(made.ids(&Filter::default()), ["b"]);
        assert_eq!(made.index.categories().get("c"), Some(&1));
        made.forget(&["b"]);
        assert!(made.index.categories().is_empty());
        assert_eq!(made.index.words("content").search.len(), 0);
    }

    #[test]
    fn a_memory_that_cannot_be_read_any_more_is_found_no_more_either() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0]), record("b", &[1.0])]));
        let mut written = made.held.write(Change::Forget(vec!["a".into()]));
        written.removed[0].memory = None;
        made.index.apply(&written, 2);
        assert_eq!(made.ids(&Filter::default()), ["b"]);
        assert_eq!(made.ids(&Filter { pools: vec!["p".into()], ..Filter::default() }), ["b"]);
        assert_eq!(made.index.categories().get("c"), Some(&1));
    }

    #[test]
    fn dead_rows_are_removed_when_there_are_as_many_as_live_ones() {
        let mut made = Made::new();
        let name = |number: u64| (number % 50).to_string();
        let placed = |number: u64| {
            let mut record = record(&name(number), &[1.0]);
            let memory = Arc::get_mut(&mut record.memory).unwrap();
            memory.place = Some(crate::memory::Place { thread: "t".into(), position: number % 50 });
            memory.expires = Some(UNIX_EPOCH + Duration::from_secs(100 + number));
            record
        };
        for first in (0..FEW + 1000).step_by(50) {
            made.write(Change::Put((first..first + 50).map(placed).collect()));
            assert!(made.index.vectors.rows().len() as u64 <= FEW + 150);
        }
        let named = Filter { pools: vec!["p".into()], threads: vec!["t".into()], ..Filter::default() };
        let expected: Vec<String> = (0..50).map(name).collect();
        assert_eq!((made.ids(&named), made.ids(&Filter::default())), (expected.clone(), expected));
        assert!(made.ids_at(&named, UNIX_EPOCH + Duration::from_secs(100 + 2 * FEW)).is_empty());
        let rows: Vec<u32> = made.index.live.iter().collect();
        let mut around = Vec::new();
        let lending = super::threads::Lending { next: 1.0, second: 0.0 };
        made.index.neighbours.links().around(rows[7], lending, |row, _| around.push(row));
        assert_eq!(around, [rows[6], rows[8]]);
        let scores = made.index.words("content").search;
        assert_eq!(scores.scores(&made.index.live, made.index.neighbours.links(), lending).len(), 50);
    }

    #[test]
    fn what_says_something_and_what_contradicts_it_is_found_over_all_that_happens() {
        let mut made = Made::new();
        let states = |id: u64, number: u64| {
            let mut record = record(&id.to_string(), &[1.0]);
            let memory = Arc::get_mut(&mut record.memory).unwrap();
            memory.content = format!("it says {}", number % 3);
            memory.claim =
                Some(Claim { subject: "it".into(), field: "f".into(), value: (number % 3).to_string() });
            memory.expires = number.is_multiple_of(5).then(|| UNIX_EPOCH + Duration::from_secs(10));
            Record::new(record.memory, record.embedding)
        };
        // More than compaction waits for, of a few ids.
        let rounds = 2 * FEW;
        for round in (0..rounds).step_by(40) {
            made.write(Change::Put((round..round + 40).map(|number| states(number % 37, number)).collect()));
            made.forget(&[(round % 37).to_string().as_str()]);
        }
        let check = |made: &Made, seconds: u64| {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            let mut live = seqs(&made.index, &Filter::default(), now);
            live.reverse();
            let memories = made.held.memories(&live).unwrap();
            for memory in &memories {
                let is_like = |other: &&Arc<Memory>| other.content == memory.content;
                let of = |like: bool| -> Vec<u64> {
                    let both = live.iter().zip(&memories).filter(|(_, other)| is_like(other) == like);
                    both.map(|(seq, _)| *seq).take(9).collect()
                };
                assert_eq!(made.index.saying(Saying::of(memory), now, 9), of(true));
                assert_eq!(made.index.against(memory.claim.as_ref().unwrap(), now, 9), of(false));
            }
            memories.len()
        };
        assert!(check(&made, 0) > check(&made, 10));
        let mut written = made.held.write(Change::Forget(vec!["7".into(), "8".into()]));
        written.removed.iter_mut().for_each(|removed| removed.memory = None);
        made.index.apply(&written, made.index.generation() + 1);
        assert!(check(&made, 0) > 0, "what could not be read any more says nothing");
    }

    #[test]
    fn a_view_does_not_see_a_later_write() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0])]));
        let view = made.index.view();
        made.write(Change::Put(vec![record("a", &[2.0]), record("b", &[1.0])]));
        assert_eq!((view.rows.len(), view.generation), (1, 1));
        assert_eq!(view.facts.len(), 1);
    }

    #[test]
    fn an_expired_memory_is_not_found_and_the_next_expiry_is_known() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let until = |id: &str, second| {
            let mut record = record(id, &[1.0]);
            Arc::get_mut(&mut record.memory).unwrap().expires = Some(at(second));
            record
        };
        let mut made = Made::new();
        made.write(Change::Put(vec![until("a", 10), until("b", 20), record("c", &[1.0])]));
        let found = |made: &Made, second| {
            (made.ids_at(&Filter::default(), at(second)).len(), made.index.fresh(at(second)).until)
        };
        assert_eq!(found(&made, 9), (3, Some(at(10))));
        assert_eq!(found(&made, 10), (2, Some(at(20))));
        assert_eq!(found(&made, 20), (1, None));
        let expired = |made: &Made, second| made.index.expired(at(second));
        assert_eq!(
            (expired(&made, 9), expired(&made, 10), expired(&made, 99)),
            (vec![], vec![1], vec![1, 2])
        );
        made.write(Change::Put(vec![record("b", &[1.0])]));
        made.forget(&["a"]);
        assert_eq!(found(&made, 0), (2, None), "what was replaced or forgotten does not expire");
        assert!(expired(&made, 99).is_empty());
    }

    #[test]
    fn confidence_is_a_lower_bound() {
        let mut made = Made::new();
        made.write(Change::Put(vec![record("a", &[1.0])]));
        assert_eq!(made.ids(&Filter { min_confidence: 0.5, ..Filter::default() }), ["a"]);
        assert!(made.ids(&Filter { min_confidence: 0.51, ..Filter::default() }).is_empty());
    }
}
