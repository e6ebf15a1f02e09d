//! What everybody may know of a space, whoever keeps its memories: its number, its shape, its last write, and how it was asked.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::{plan::Strategy, shape::Shape, upkeep::accounts::Accounts};

/// The memories of all spaces of a backend.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total(Arc<AtomicU64>);

/// A space, as it is now.
#[derive(Debug)]
pub(crate) struct Known {
    number: u32,
    shape: Shape,
    /// The number of the last write that is seen; the greatest of all once the space is dropped.
    generation: watch::Sender<u64>,
    memories: AtomicU64,
    total: Total,
    hits: AtomicU64,
    misses: AtomicU64,
    /// How often each plan was run, in the order of [`Strategy::ALL`].
    plans: [AtomicU64; Strategy::ALL.len()],
    /// How often its memories were recalled and said.
    accounts: Arc<Mutex<Accounts>>,
    /// Whether the query cache may hold an answer.
    answered: AtomicBool,
}

impl Total {
    /// Returns how many there are.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Known {
    /// Takes note of a space without memories whose last write was `generation`; those it will have count in `total`.
    pub(crate) fn new(number: u32, shape: Shape, generation: u64, total: Total) -> Self {
        Self {
            number,
            shape,
            generation: watch::Sender::new(generation),
            memories: AtomicU64::new(0),
            total,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            plans: Default::default(),
            accounts: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// Takes note of what takes the place of this space once its vectors are made anew: of another shape, as it is after the write
    /// `generation`; how it was asked counts on.
    pub(crate) fn successor(&self, shape: Shape, generation: u64) -> Self {
        let count = |counter: &AtomicU64| AtomicU64::new(counter.load(Relaxed));
        Self {
            accounts: Arc::clone(&self.accounts),
            hits: count(&self.hits),
            misses: count(&self.misses),
            plans: self.plans.each_ref().map(count),
            ..Self::new(self.number, shape, generation, self.total.clone())
        }
    }

    /// Returns whether it was dropped, or another has taken its place.
    pub(crate) fn is_over(&self) -> bool {
        self.generation() == u64::MAX
    }

    /// Returns its number, which no other space has.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns what its vectors are.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the number of the last write that is seen.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Returns how many memories it has, those that have expired and are still there among them.
    pub(crate) fn memories(&self) -> u64 {
        self.memories.load(Relaxed)
    }

    /// Takes note of how many memories there are. One at a time may tell.
    pub(crate) fn holds(&self, memories: u64) {
        let before = self.memories.swap(memories, Relaxed);
        // Wraps around and back where there are fewer now.
        self.total.0.fetch_add(memories.wrapping_sub(before), Relaxed);
    }

    /// Takes note of a write that is seen from now on.
    pub(crate) fn reached(&self, generation: u64) {
        self.generation.send_replace(generation);
    }

    /// Takes note that the space was dropped or replaced: nobody finds it any more, and nobody waits for a write to it.
    pub(crate) fn ended(&self) {
        self.holds(0);
        self.reached(u64::MAX);
    }

    /// Returns once the write `generation` is seen.
    pub(crate) async fn wait_for(&self, generation: u64) {
        // The sender is ours, so the wait ends only when the generation is reached.
        drop(self.generation.subscribe().wait_for(|seen| *seen >= generation).await);
    }

    /// Returns how often its memories were recalled and said, for a short look or change.
    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock()
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
    use super::{Known, Total};
    use crate::shape::{Metric, Shape};

    #[test]
    fn the_total_is_of_all_spaces_that_are_not_dropped() {
        let total = Total::default();
        let shape = Shape { embedder: Shape::BROUGHT.to_owned(), dimensions: 1, metric: Metric::Cosine };
        let space = |number| Known::new(number, shape.clone(), 0, total.clone());
        let (one, other) = (space(1), space(2));
        one.holds(5);
        other.holds(7);
        one.holds(3);
        assert_eq!((total.get(), one.memories()), (10, 3));
        one.ended();
        assert_eq!((total.get(), one.generation()), (7, u64::MAX));
    }
}
