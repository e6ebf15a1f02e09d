//! A space in memory: what is known of it, its index, and the one place where a write reaches them.

mod compaction;

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use self::compaction::{Compaction, Event};
use crate::{
    index::Index,
    known::{Known, Total},
    shape::Shape,
    store::{Mark, Site},
    upkeep::reembed::Job,
    written::Written,
};

/// Lets many writers in, or one who needs to be alone.
pub(crate) type Gate = tokio::sync::RwLock<()>;

/// The memories of one space.
#[derive(Debug)]
pub(crate) struct Space {
    known: Arc<Known>,
    /// The set that its vectors lie in.
    vectors: u32,
    /// Who writes holds it for reading until the write is seen; who changes the space to another set holds it alone.
    gate: Arc<Gate>,
    index: RwLock<Index>,
    /// Writes that are on disk and whose predecessor has not been applied yet, by generation.
    early: Mutex<BTreeMap<u64, Written>>,
    compaction: Compaction,
    /// The write after which the last checkpoint was taken, and the last memory in it.
    kept: AtomicU64,
    kept_last: AtomicU64,
}

impl Deref for Space {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl Space {
    /// Makes a space from what was loaded; its memories count in `total`, and its vectors lie in the set of its number.
    pub(crate) fn new(number: u32, shape: Shape, index: Index, total: Total) -> Self {
        Self::of(Known::new(number, shape, index.generation(), total), number, index)
    }

    fn of(known: Known, vectors: u32, index: Index) -> Self {
        known.holds(index.len());
        Self {
            known: Arc::new(known),
            vectors,
            gate: Arc::default(),
            index: RwLock::new(index),
            early: Mutex::default(),
            compaction: Compaction::default(),
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
        let known = self.known.successor(shape, index.generation());
        Self { gate: self.gate(), ..Self::of(known, vectors, index) }
    }

    /// Makes a space that is in no store, of vectors that callers bring.
    pub(crate) fn apart(index: Index) -> Self {
        let (metric, dimensions) = (index.metric(), index.dimensions());
        let shape = Shape { embedder: Shape::BROUGHT.to_owned(), dimensions, metric };
        Self::new(0, shape, index, Total::default())
    }

    /// Returns what everybody may know of it.
    pub(crate) fn known(&self) -> &Arc<Known> {
        &self.known
    }

    /// Returns where its rows lie.
    pub(crate) fn site(&self) -> Site {
        Site { space: self.number(), vectors: self.vectors, dimensions: self.shape().dimensions }
    }

    /// Returns what writers hold for reading.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Returns how many memories `job` has still to come to.
    pub(crate) fn left_of(&self, job: &Job) -> u64 {
        self.index().after(job.after)
    }

    /// Returns the memories for a short look; a scan takes a selection and lets go.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    /// Keeps everyone from the memories, as a slow write would.
    #[cfg(any(test, feature = "bench"))]
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
                self.accounts().follow(&written);
                self.change(Event::Written(next, written));
                self.known.reached(next);
                next += 1;
            }
        }
        self.known.wait_for(generation).await;
    }

    /// Leaves out a memory that cannot be read any more.
    pub(crate) fn leave_out(&self, seq: u64) {
        self.change(Event::Lost(seq));
    }

    fn change(&self, event: Event) {
        let mut index = self.index.write();
        event.reach(&mut index);
        self.compaction.missed(event);
        // What was dropped counts no more.
        if !self.is_over() {
            self.known.holds(index.len());
        }
    }

    /// Returns whether there is a checkpoint of it.
    pub(crate) fn has_checkpoint(&self) -> bool {
        self.kept.load(Relaxed) != 0
    }

    /// Returns whether it is time to remove the dead rows, and nobody does.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.index().is_sparse() && !self.compaction.is_under_way()
    }

    /// Removes the rows that are dead once it is this one's turn, if `is_wanted` then; writes and recalls go on meanwhile. Blocks the thread.
    pub(crate) fn compact(&self, is_wanted: impl FnOnce(&Index) -> bool) {
        self.compaction.run(&self.index, is_wanted);
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
        // Under these locks, so that no write that is being applied sets the generation back.
        let (_early, _index) = (self.early.lock(), self.index.write());
        self.known.ended();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Poll, time::UNIX_EPOCH};

    use super::Space;
    use crate::{
        index::{
            Index,
            tests::{record, seqs},
        },
        memory::Change,
        query::Filter,
        shape::Metric,
        written::{Removed, Written},
    };

    fn space() -> Space {
        Space::apart(Index::new(Metric::Cosine, 1, 4))
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
        assert_eq!((space.generation(), space.memories()), (4, 0), "nothing is seen before its predecessor");
        assert_eq!(futures::poll!(std::pin::pin!(space.apply(5, put("a")))), Poll::Ready(()));
        last.await;
        middle.await;
        assert_eq!((space.generation(), space.memories()), (7, 1));
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
        assert_eq!(space.memories(), 0);
    }
}
