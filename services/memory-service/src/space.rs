//! A space: one namespace of one tenant, its memories, and the one place where a write reaches them.

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use tokio::sync::watch;

pub(crate) use crate::vector::metric::Metric;
use crate::{
    index::Index,
    memory::Change,
    plan::Strategy,
    store::{Mark, Removed, Site},
    upkeep::accounts::Accounts,
};

/// Whose memories, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpaceKey {
    /// The tenant.
    pub(crate) tenant: Arc<str>,
    /// The namespace, at most 128 bytes; empty: the tenant's default one.
    pub(crate) namespace: Arc<str>,
}

/// What the vectors of a space are; those of two shapes cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Who makes them, such as `hashing-256`; [`Shape::BROUGHT`] if only callers do.
    pub(crate) embedder: String,
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// How two of them are compared.
    pub(crate) metric: Metric,
}

/// A write that is on disk, as memory takes it over.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// What was written.
    pub(crate) change: Arc<Change>,
    /// The number of the first record that was put; the others follow it. No number is given twice.
    pub(crate) first: u64,
    /// What was replaced or deleted; of the write itself if it puts an id twice.
    pub(crate) removed: Vec<Removed>,
}

/// Lets many writers in, or one who needs to be alone.
pub(crate) type Gate = tokio::sync::RwLock<()>;

/// The memories of one space.
#[derive(Debug)]
pub(crate) struct Space {
    number: u32,
    shape: Shape,
    /// The set that its vectors lie in.
    vectors: u32,
    /// Who writes holds it for reading until the write is seen; who changes the space to another set holds it alone.
    gate: Arc<Gate>,
    index: RwLock<Index>,
    /// Writes that are on disk and whose predecessor has not been applied yet, by generation.
    early: Mutex<BTreeMap<u64, Written>>,
    /// The last generation that was applied; the greatest of all once the space is dropped.
    applied: watch::Sender<u64>,
    hits: AtomicU64,
    misses: AtomicU64,
    /// How often each plan was run, in the order of [`Strategy::ALL`].
    plans: [AtomicU64; Strategy::ALL.len()],
    /// How often its memories were recalled and said.
    accounts: Arc<Mutex<Accounts>>,
    /// Whether the query cache may hold an answer.
    answered: AtomicBool,
    /// The write after which the last checkpoint was taken, and the last memory in it.
    kept: AtomicU64,
    kept_last: AtomicU64,
}

impl SpaceKey {
    /// Names a space.
    pub(crate) fn new(tenant: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>) -> Self {
        Self { tenant: tenant.into(), namespace: namespace.into() }
    }
}

impl Shape {
    /// The name in place of an embedder's where callers bring every vector.
    pub(crate) const BROUGHT: &'static str = "none";
    /// Values that a vector may have.
    pub(crate) const DIMENSIONS: RangeInclusive<usize> = 16..=4096;

    /// Returns whether its vectors are made without a model, by what every service has.
    pub(crate) fn is_hashing(&self) -> bool {
        let Self { embedder, dimensions, .. } = self;
        Self::DIMENSIONS.contains(dimensions) && *embedder == format!("hashing-{dimensions}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { embedder, dimensions, metric } = self;
        write!(f, "embedder {embedder}, {dimensions} dimensions, metric {metric:?}")
    }
}

impl Space {
    /// Makes a space from what was loaded.
    pub(crate) fn new(number: u32, shape: Shape, index: Index) -> Self {
        let applied = watch::Sender::new(index.generation());
        Self {
            number,
            shape,
            vectors: number,
            gate: Arc::default(),
            index: RwLock::new(index),
            early: Mutex::default(),
            applied,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            plans: Default::default(),
            accounts: Arc::default(),
            answered: AtomicBool::new(false),
            kept: AtomicU64::new(0),
            kept_last: AtomicU64::new(0),
        }
    }

    /// Says in which set its vectors lie, if that is not the one of its own number.
    #[must_use]
    pub(crate) fn in_set(self, vectors: u32) -> Self {
        Self { vectors, ..self }
    }

    /// Makes what takes the place of this space once its vectors are made anew: of another shape, in the set `vectors`, as `index` has them.
    pub(crate) fn successor(&self, shape: Shape, vectors: u32, index: Index) -> Self {
        let count = |counter: &AtomicU64| AtomicU64::new(counter.load(Relaxed));
        Self {
            gate: Arc::clone(&self.gate),
            accounts: Arc::clone(&self.accounts),
            hits: count(&self.hits),
            misses: count(&self.misses),
            plans: self.plans.each_ref().map(count),
            ..Self::new(self.number, shape, index).in_set(vectors)
        }
    }

    /// Makes a space that is in no store, of vectors that callers bring.
    pub(crate) fn apart(index: Index) -> Self {
        let (metric, dimensions) = (index.metric(), index.dimensions());
        Self::new(0, Shape { embedder: Shape::BROUGHT.to_owned(), dimensions, metric }, index)
    }

    /// Returns its number, which no other space has.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns what its vectors are.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns where its rows lie.
    pub(crate) fn site(&self) -> Site {
        Site { space: self.number, vectors: self.vectors, dimensions: self.shape.dimensions }
    }

    /// Returns what writers hold for reading.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Returns whether it was dropped, or another has taken its place.
    pub(crate) fn is_over(&self) -> bool {
        self.generation() == u64::MAX
    }

    /// Returns the number of the last write that is seen.
    pub(crate) fn generation(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Returns the memories for a short look; a scan takes a selection and lets go.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    /// Keeps everyone from the memories, as a slow write would.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> parking_lot::RwLockWriteGuard<'_, Index> {
        self.index.write()
    }

    /// Applies the write that made `generation` on disk, and returns once it is seen.
    ///
    /// Tasks hear of their commits in any order; the generation says in which the commits were made. A write that comes
    /// early is kept until the one before it is here, so that memory goes through the same states as the disk.
    pub(crate) async fn apply(&self, generation: u64, written: Written) {
        {
            let mut early = self.early.lock();
            // A space that took another's place may have been made of it.
            if generation > self.generation() {
                early.insert(generation, written);
            }
            let mut next = self.generation().saturating_add(1);
            while let Some(written) = early.remove(&next) {
                self.index.write().apply(&written, next);
                self.accounts.lock().follow(&written);
                self.applied.send_replace(next);
                next += 1;
            }
        }
        self.reached(generation).await;
    }

    /// Waits until the write that made `generation` is seen, or the space is dropped.
    pub(crate) async fn reached(&self, generation: u64) {
        // The sender is ours, so the wait ends only when the generation is reached.
        drop(self.applied.subscribe().wait_for(|applied| *applied >= generation).await);
    }

    /// Returns how often its memories were recalled and said, for a short look or change.
    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock()
    }

    /// Leaves out a memory that cannot be read any more.
    pub(crate) fn leave_out(&self, seq: u64) {
        self.index.write().leave_out([seq]);
    }

    /// Returns whether a checkpoint of what is seen now is still to be written.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.kept.load(Relaxed) != self.generation()
    }

    /// Returns how many memories were written since the last checkpoint, where the last one got the number `seq`.
    pub(crate) fn written_since_checkpoint(&self, seq: u64) -> u64 {
        seq.saturating_sub(self.kept_last.load(Relaxed))
    }

    /// Notes what the last checkpoint holds.
    pub(crate) fn note_checkpoint(&self, mark: Mark) {
        self.kept.store(mark.generation, Relaxed);
        self.kept_last.store(mark.last, Relaxed);
    }

    /// Lets go of everyone who waits for a write: the space was dropped or replaced, and nobody finds it any more.
    pub(crate) fn drop_all(&self) {
        // Under this lock, so that no write that is being applied sets the generation back.
        let _early = self.early.lock();
        self.applied.send_replace(u64::MAX);
    }

    /// Notes that the query cache holds an answer.
    pub(crate) fn note_answer(&self) {
        self.answered.store(true, SeqCst);
    }

    /// Returns whether the query cache may hold an answer of before, and starts anew: most writes follow another write, and
    /// need not search the cache.
    pub(crate) fn take_answered(&self) -> bool {
        self.answered.swap(false, SeqCst)
    }

    /// Counts a recall that the query cache answered, or one that had to be run.
    pub(crate) fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a recall that took `strategy`.
    pub(crate) fn count_plan(&self, strategy: Strategy) {
        if let Some(place) = Strategy::ALL.iter().position(|one| *one == strategy) {
            self.plans[place].fetch_add(1, Relaxed);
        }
    }

    /// Returns how often each plan was taken.
    pub(crate) fn plans(&self) -> impl Iterator<Item = (Strategy, u64)> {
        Strategy::ALL.into_iter().zip(self.plans.iter().map(|count| count.load(Relaxed)))
    }

    /// Returns the recalls that the query cache answered, and those that had to be run.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.hits.load(Relaxed), self.misses.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Poll, time::UNIX_EPOCH};

    use super::{Metric, Removed, Shape, Space, Written};
    use crate::{
        index::{
            Index,
            tests::{record, seqs},
        },
        memory::Change,
        query::Filter,
    };

    fn space() -> Space {
        let shape = Shape { embedder: "hashing-1".into(), dimensions: 1, metric: Metric::Cosine };
        Space::new(1, shape, Index::new(Metric::Cosine, 1, 4))
    }

    fn written(change: Change) -> Written {
        Written { change: Arc::new(change), first: 1, removed: Vec::new() }
    }

    fn put(id: &str) -> Written {
        written(Change::Put(vec![record(id, &[1.0])]))
    }

    fn put_next(id: &str, first: u64, removed: u64) -> Written {
        let removed = vec![Removed { seq: removed, memory: Some(record(id, &[1.0]).memory) }];
        Written { first, removed, ..put(id) }
    }

    #[tokio::test]
    async fn writes_are_applied_in_the_order_of_their_commits() {
        let space = space();
        let mut last = std::pin::pin!(space.apply(7, put_next("a", 3, 2)));
        let mut middle = std::pin::pin!(space.apply(6, put_next("a", 2, 1)));
        assert!(futures::poll!(last.as_mut()).is_pending());
        assert!(futures::poll!(middle.as_mut()).is_pending());
        assert_eq!(
            (space.generation(), space.index().len()),
            (4, 0),
            "nothing is seen before its predecessor"
        );
        assert_eq!(futures::poll!(std::pin::pin!(space.apply(5, put("a")))), Poll::Ready(()));
        last.await;
        middle.await;
        assert_eq!(space.generation(), 7);
        let left = seqs(&space.index(), &Filter::default(), UNIX_EPOCH);
        assert_eq!(left, [3], "the last commit wins");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_write_to_a_space_that_was_dropped() {
        let space = space();
        let mut later = std::pin::pin!(space.apply(6, put("a")));
        assert!(futures::poll!(later.as_mut()).is_pending());
        space.drop_all();
        later.await;
        space.apply(7, put("a")).await;
        assert_eq!(space.index().len(), 0);
    }
}
