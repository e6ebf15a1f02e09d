//! Lets one request at a time look for a memory and store it: two that say the same at once would both find nothing.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::form::Print;

/// The prints that requests are about to write to a space.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<HashSet<Print>>,
    given: Notify,
}

/// The right to write what has these prints, until it is dropped: after the write is seen.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    prints: Vec<Print>,
}

impl Turns {
    /// Waits until no other request is about to write one of `prints`. Requests about other memories do not wait, and share their fsync as before.
    pub(crate) async fn take(self: &Arc<Self>, mut prints: Vec<Print>) -> Turn {
        prints.sort_unstable();
        prints.dedup();
        loop {
            // Before the look: what is given back in between is heard of.
            let given = self.given.notified();
            if self.try_take(&prints) {
                return Turn { turns: Arc::clone(self), prints };
            }
            given.await;
        }
    }

    /// Takes all or none: two requests never wait for each other.
    fn try_take(&self, prints: &[Print]) -> bool {
        let mut taken = self.taken.lock();
        let free = prints.iter().all(|print| !taken.contains(print));
        if free {
            taken.extend(prints);
        }
        free
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock();
        for print in &self.prints {
            taken.remove(print);
        }
        drop(taken);
        self.turns.given.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::Turns;

    const A: [u8; 16] = [1; 16];
    const B: [u8; 16] = [2; 16];

    #[tokio::test]
    async fn who_says_the_same_waits_and_who_does_not_goes_on() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(vec![A, A]).await;
        let mut both = std::pin::pin!(turns.take(vec![A, B]));
        assert!(futures::poll!(both.as_mut()).is_pending());
        let other = turns.take(vec![B]).now_or_never().unwrap();
        drop(first);
        assert!(futures::poll!(both.as_mut()).is_pending(), "the other one of its prints is taken");
        drop(other);
        drop(both.await);
        assert!(turns.taken.lock().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_takes_nothing_along() {
        let turns = Arc::new(Turns::default());
        let first = turns.take(vec![A]).await;
        assert!(turns.take(vec![A, B]).now_or_never().is_none());
        drop(first);
        drop(turns.take(vec![A, B]).now_or_never().unwrap());
    }
}
