//! One tenant's memories, and the one place where a write reaches them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::watch;

use crate::{index::Index, memory::Change, plan::Strategy};

/// The memories of one tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    index: RwLock<Index>,
    /// Writes that are on disk and whose predecessor has not been applied yet, by generation.
    early: Mutex<BTreeMap<u64, Arc<Change>>>,
    /// The last generation that was applied.
    applied: watch::Sender<u64>,
    hits: AtomicU64,
    misses: AtomicU64,
    /// How often each plan was run, in the order of [`Strategy::ALL`].
    plans: [AtomicU64; Strategy::ALL.len()],
    /// Whether the query cache may hold an answer.
    answered: AtomicBool,
}

impl Tenant {
    /// Makes a tenant from what was loaded.
    pub(crate) fn new(index: Index) -> Self {
        let applied = watch::Sender::new(index.generation());
        Self {
            index: RwLock::new(index),
            early: Mutex::default(),
            applied,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            plans: Default::default(),
            answered: AtomicBool::new(false),
        }
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
    pub(crate) async fn apply(&self, generation: u64, change: Arc<Change>) {
        {
            let mut early = self.early.lock();
            early.insert(generation, change);
            let mut next = self.generation() + 1;
            while let Some(change) = early.remove(&next) {
                self.index.write().apply(&change, next);
                self.applied.send_replace(next);
                next += 1;
            }
        }
        // The sender is ours, so the wait ends only when the generation is reached.
        drop(self.applied.subscribe().wait_for(|applied| *applied >= generation).await);
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
    use std::{sync::Arc, task::Poll};

    use super::Tenant;
    use crate::{
        index::{Index, tests::record},
        memory::Change,
    };

    fn put(id: &str, value: f32) -> Arc<Change> {
        Arc::new(Change::Put(vec![record(id, &[value])]))
    }

    #[tokio::test]
    async fn writes_are_applied_in_the_order_of_their_commits() {
        let tenant = Tenant::new(Index::new(1, 4));
        let mut last = std::pin::pin!(tenant.apply(7, put("a", 7.0)));
        let mut middle = std::pin::pin!(tenant.apply(6, Arc::new(Change::Forget(vec!["a".into()]))));
        assert!(futures::poll!(last.as_mut()).is_pending());
        assert!(futures::poll!(middle.as_mut()).is_pending());
        assert_eq!(
            (tenant.generation(), tenant.index().len()),
            (4, 0),
            "nothing is seen before its predecessor"
        );
        assert_eq!(futures::poll!(std::pin::pin!(tenant.apply(5, put("a", 5.0)))), Poll::Ready(()));
        last.await;
        middle.await;
        assert_eq!(tenant.generation(), 7);
        assert_eq!(tenant.index().get("a").unwrap().1, [7.0], "the last commit wins");
    }
}
