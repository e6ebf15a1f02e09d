//! Places for batches on their way: as many as the sink bears, and one more for high priority, so that an urgent write waits for no other.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::aimd::Aimd;
use crate::document::Priority;

/// Hands places out.
#[derive(Debug)]
pub(crate) struct Slots {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    aimd: Aimd,
    taken: usize,
}

/// A place for one batch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    round: u64,
}

impl Slots {
    /// Makes at most `most` places.
    pub(crate) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { aimd: Aimd::new(most), taken: 0 }), changed: Notify::new() }
    }

    /// Waits for a place.
    pub(crate) async fn take(self: &Arc<Self>, priority: Priority) -> Slot {
        loop {
            // Listening before looking: a place that becomes free in between is not missed.
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(slot) = self.try_take(priority) {
                return slot;
            }
            changed.await;
        }
    }

    fn try_take(self: &Arc<Self>, priority: Priority) -> Option<Slot> {
        let mut state = self.state.lock();
        let places = state.aimd.limit() + usize::from(priority == Priority::High);
        (state.taken < places).then(|| {
            state.taken += 1;
            Slot { slots: Arc::clone(self), round: state.aimd.round() }
        })
    }

    /// Returns how many places there are for normal priority, and how many are taken.
    pub(crate) fn count(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.aimd.limit(), state.taken)
    }
}

impl Slot {
    /// Takes in that the sink took the batch, or bore it no more. What it said next is of a round of its own.
    pub(crate) fn learn(&mut self, overloaded: bool) {
        let mut state = self.slots.state.lock();
        if overloaded {
            state.aimd.overloaded(self.round);
        } else {
            state.aimd.took();
        }
        self.round = state.aimd.round();
        drop(state);
        self.slots.changed.notify_waiters();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.state.lock().taken -= 1;
        self.slots.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Slots;
    use crate::document::Priority::{High, Normal};

    #[tokio::test]
    async fn an_urgent_batch_has_a_place_when_all_others_are_taken() {
        let slots = Arc::new(Slots::new(2));
        let one = slots.take(Normal).await;
        let two = slots.take(Normal).await;
        assert!(slots.try_take(Normal).is_none());
        let urgent = slots.take(High).await;
        assert!(slots.try_take(High).is_none());
        assert_eq!(slots.count(), (2, 3));
        drop(one);
        assert!(slots.try_take(Normal).is_none(), "the urgent one counts");
        assert!(slots.try_take(High).is_some());
        drop((two, urgent));
        assert_eq!(slots.count(), (2, 0));
    }

    #[tokio::test]
    async fn places_go_with_what_the_sink_bears_and_come_back() {
        let slots = Arc::new(Slots::new(4));
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(slots.take(Normal).await);
        }
        all.iter_mut().for_each(|slot| slot.learn(true));
        assert_eq!(slots.count(), (2, 4), "those of one round count once");
        all.truncate(2);
        assert!(slots.try_take(Normal).is_none());
        let mut waiting = std::pin::pin!(slots.take(Normal));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        (0..3).for_each(|_| all[0].learn(false));
        drop(waiting.await);
        assert_eq!(slots.count(), (3, 2));
    }
}
