//! Ends what takes long: at a deadline, or when the caller has left.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

/// Tells a running recall to end.
#[derive(Debug)]
pub(crate) struct Stop {
    deadline: Instant,
    cancelled: AtomicBool,
}

/// It was stopped before it had seen every candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scan was stopped before it had seen every candidate")]
pub(crate) struct Stopped;

impl Stop {
    /// Makes a stop that takes effect at `deadline`, or earlier if it is [cancelled](Self::cancel).
    pub(crate) fn at(deadline: Instant) -> Self {
        Self { deadline, cancelled: AtomicBool::new(false) }
    }

    /// Ends it now.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Refuses to go on once stopped.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.cancelled.load(Relaxed) || Instant::now() >= self.deadline { Err(Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Stop, Stopped};

    #[test]
    fn it_is_over_at_its_deadline_or_when_it_is_cancelled() {
        assert_eq!(Stop::at(Instant::now()).check(), Err(Stopped));
        let stop = Stop::at(Instant::now() + Duration::from_secs(600));
        assert_eq!(stop.check(), Ok(()));
        stop.cancel();
        assert_eq!(stop.check(), Err(Stopped));
    }
}
