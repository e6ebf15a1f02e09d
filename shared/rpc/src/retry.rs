//! When a call is made again, and how long to wait before.

use std::time::Duration;

use http::HeaderMap;
use rand::Rng as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Mean wait before the first repetition; each later one doubles it.
const FIRST: Duration = Duration::from_millis(50);
/// Longest mean wait.
const LONGEST: Duration = Duration::from_secs(2);

/// Decides over the repetitions of one call.
#[derive(Debug)]
pub(crate) struct Retry {
    left: u32,
    made: u32,
}

impl Retry {
    /// Allows `retries` repetitions of the rpc at `path`, or none if its contract does not allow any.
    pub(crate) fn of(path: &str, retries: u32) -> Self {
        Self { left: if contracts::is_retryable(path) { retries } else { 0 }, made: 0 }
    }

    /// Returns whether any repetition is allowed, so that the request must be kept.
    pub(crate) fn is_possible(&self) -> bool {
        self.left > 0
    }

    /// Returns how many repetitions were made.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// Returns how long to wait before the call is repeated; `None` if it is not. `remaining` is what is left of its
    /// deadline, `asked` the wait a server asked for.
    pub(crate) fn next(
        &mut self,
        code: Code,
        remaining: Duration,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        if code != Code::Unavailable || self.left == 0 {
            return None;
        }
        // A jitter of a half either way keeps the clients of a server that comes back apart.
        let mean = FIRST.saturating_mul(2_u32.saturating_pow(self.made)).min(LONGEST);
        let wait = mean.mul_f64(rand::rng().random_range(0.5..1.5)).max(asked.unwrap_or_default());
        if wait >= remaining {
            return None;
        }
        self.left -= 1;
        self.made += 1;
        Some(wait)
    }
}

/// Returns the wait a server asked for in the headers of a refusal (`google.rpc.RetryInfo`).
pub(crate) fn asked(headers: &HeaderMap) -> Option<Duration> {
    Status::from_header_map(headers)?.get_error_details().retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "/athena.memory.v1.MemoryService/Recall";
    const WRITE: &str = "/athena.memory.v1.MemoryService/Remember";
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn only_what_the_contract_allows_is_repeated() {
        assert!(Retry::of(READ, 2).next(Code::Unavailable, LONG, None).is_some());
        assert!(Retry::of(WRITE, 2).next(Code::Unavailable, LONG, None).is_none());
        assert!(Retry::of(READ, 2).next(Code::DeadlineExceeded, LONG, None).is_none());
    }

    #[test]
    fn waits_double_within_their_jitter_and_end() {
        let mut retry = Retry::of(READ, 3);
        for (low, high) in [(25, 75), (50, 150), (100, 300)] {
            let wait = retry.next(Code::Unavailable, LONG, None).unwrap();
            assert!((low..=high).contains(&wait.as_millis()), "{wait:?}");
        }
        assert_eq!(retry.next(Code::Unavailable, LONG, None), None);
        assert_eq!(retry.made(), 3);
    }

    #[test]
    fn a_repetition_that_would_come_too_late_is_not_made() {
        let mut retry = Retry::of(READ, 3);
        assert_eq!(retry.next(Code::Unavailable, Duration::from_millis(20), None), None);
        assert_eq!(retry.next(Code::Unavailable, LONG, Some(LONG)), None);
        let asked = Duration::from_secs(5);
        assert_eq!(retry.next(Code::Unavailable, LONG, Some(asked)), Some(asked));
    }
}
