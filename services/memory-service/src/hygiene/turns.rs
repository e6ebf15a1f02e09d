//! Lets one request at a time look for a memory and store it: two that say the same at once would both find nothing.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::saying::Saying;
use crate::shape::SpaceKey;

/// What requests are about to say, and where: also in spaces that are not there yet.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<HashSet<(SpaceKey, Saying)>>,
    given: Notify,
}

/// The right to say these, until it is dropped: after the write is seen.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    sayings: Vec<(SpaceKey, Saying)>,
}

impl Turns {
    /// Waits until no other request is about to say one of `sayings` in the space of `key`. Requests that say something else do not wait, and
    /// share their fsync as before.
    pub(crate) async fn take(self: &Arc<Self>, key: &SpaceKey, mut sayings: Vec<Saying>) -> Turn {
        sayings.sort_unstable();
        sayings.dedup();
        let sayings: Vec<_> = sayings.into_iter().map(|saying| (key.clone(), saying)).collect();
        loop {
            // Before the look: what is given back in between is heard of.
            let given = self.given.notified();
            if self.try_take(&sayings) {
                return Turn { turns: Arc::clone(self), sayings };
            }
            given.await;
        }
    }

    /// Takes all or none: two requests never wait for each other.
    fn try_take(&self, sayings: &[(SpaceKey, Saying)]) -> bool {
        let mut taken = self.taken.lock();
        let free = sayings.iter().all(|saying| !taken.contains(saying));
        if free {
            taken.extend(sayings.iter().cloned());
        }
        free
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock();
        for saying in &self.sayings {
            taken.remove(saying);
        }
        drop(taken);
        self.turns.given.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::{Saying, SpaceKey, Turns};

    const A: Saying = Saying { words: 1, scope: 1 };
    const B: Saying = Saying { words: 1, scope: 2 };

    fn key() -> SpaceKey {
        SpaceKey::new("t", "")
    }

    #[tokio::test]
    async fn who_says_the_same_waits_and_who_does_not_goes_on() {
        let (key, elsewhere) = (key(), SpaceKey::new("t", "n"));
        let turns = Arc::new(Turns::default());
        let first = turns.take(&key, vec![A, A]).await;
        assert!(turns.take(&elsewhere, vec![A]).now_or_never().is_some(), "another space");
        let mut both = std::pin::pin!(turns.take(&key, vec![A, B]));
        assert!(futures::poll!(both.as_mut()).is_pending());
        let other = turns.take(&key, vec![B]).now_or_never().unwrap();
        drop(first);
        assert!(futures::poll!(both.as_mut()).is_pending(), "the other one of what it says is taken");
        drop(other);
        drop(both.await);
        assert!(turns.taken.lock().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_takes_nothing_along() {
        let key = key();
        let turns = Arc::new(Turns::default());
        let first = turns.take(&key, vec![A]).await;
        assert!(turns.take(&key, vec![A, B]).now_or_never().is_none());
        drop(first);
        drop(turns.take(&key, vec![A, B]).now_or_never().unwrap());
    }
}
