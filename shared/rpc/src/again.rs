//! A future that wakes itself is polled again at once.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Times that a future is polled before others have their turn.
const TIMES: usize = 8;

/// Nobody polls it: whoever wakes it wakes its task.
const WAITS: u8 = 0;
/// It is polled, and was not woken since.
const POLLED: u8 = 1;
/// It will be polled again.
const WOKEN: u8 = 2;

/// Wakes the future of one task.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

/// Runs `future`, whose parts wake each other, as one task.
///
/// A connection and the call that is made on it are such parts: one tells the other that a body was taken. A task that wakes itself
/// goes through the scheduler's queue, which wakes another thread to share it. Here it is polled again instead.
pub(crate) async fn again<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    poll_fn(|task| {
        bell.task.register(task.waker());
        for _ in 0..TIMES {
            bell.state.swap(POLLED, Ordering::AcqRel);
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || bell.state.swap(WAITS, Ordering::AcqRel) == POLLED {
                return polled;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Written in any case, so that the poll which reads it sees what came before it.
        if self.state.swap(WOKEN, Ordering::AcqRel) == WAITS {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{Future, poll_fn},
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
    };

    use super::{TIMES, again};

    /// A task's waker that counts.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls a future that wakes itself in its first `wakes` polls and then is over; returns what came, how often the future was
    /// polled, and how often its task was woken.
    fn polled(wakes: usize) -> (Poll<()>, usize, usize) {
        let (polls, count) = (Cell::new(0), Arc::new(Count::default()));
        let future = poll_fn(|task| {
            polls.set(polls.get() + 1);
            if polls.get() > wakes {
                return Poll::Ready(());
            }
            task.waker().wake_by_ref();
            Poll::Pending
        });
        let waker = Waker::from(Arc::clone(&count));
        let came = pin!(again(future)).poll(&mut Context::from_waker(&waker));
        (came, polls.get(), count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on_without_its_task_being_woken() {
        assert_eq!(polled(3), (Poll::Ready(()), 4, 0));
    }

    #[test]
    fn one_that_never_stops_lets_others_have_their_turn() {
        assert_eq!(polled(usize::MAX), (Poll::Pending, TIMES, 1));
    }

    #[test]
    fn whoever_wakes_a_future_that_waits_wakes_its_task() {
        let count = Arc::new(Count::default());
        let kept = Cell::new(None);
        let future = poll_fn(|task| {
            kept.set(Some(task.waker().clone()));
            Poll::<()>::Pending
        });
        let mut future = pin!(again(future));
        let task = Waker::from(Arc::clone(&count));
        assert!(future.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        kept.take().unwrap().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
