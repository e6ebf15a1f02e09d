//! When a call is made again, and how long to wait before.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{budget::Budget, chance::Chance};

/// Mean wait before the first repetition; each later one doubles it.
const FIRST: Duration = Duration::from_millis(50);
/// Longest mean wait.
const LONGEST: Duration = Duration::from_secs(2);
/// Repetitions of a call that no server has seen, and the mean wait before the first where the same server must come back.
const UNSEEN: u32 = 5;
const UNSEEN_FIRST: Duration = Duration::from_millis(10);
/// Longest wait for such a one: a server that restarts is waited for, one that is gone is not.
const PATIENCE: Duration = Duration::from_millis(250);
/// The header in which a server says when to come back, in milliseconds; a negative number means never (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The server answered, or may have seen the call before the connection broke.
    Seen(Code, Pushback),
    /// No server has seen it: it may be made again whatever its contract says. `Some` after which time that is worth it.
    Unseen(Option<Duration>),
}

/// What a server said of repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushback {
    /// Nothing.
    None,
    /// Not before this time has passed.
    After(Duration),
    /// Not at all.
    Never,
}

/// Decides over the repetitions of one call.
#[derive(Debug)]
pub(super) struct Retry {
    left: u32,
    unseen_left: u32,
    made: u32,
    unseen_made: u32,
}

impl Retry {
    /// Allows `retries` repetitions of the rpc at `path` once a server has seen it, or none if its contract does not allow
    /// any.
    pub(super) fn of(path: &str, retries: u32) -> Self {
        let left = if contracts::is_retryable(path) { retries } else { 0 };
        Self { left, unseen_left: UNSEEN, made: 0, unseen_made: 0 }
    }

    /// Returns how many repetitions were made that a server may have seen.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// Returns how long to wait before the call is repeated; `None` if it is not. `remaining` is what is left of its
    /// deadline.
    pub(super) fn next(
        &mut self,
        failed: Failed,
        remaining: Duration,
        budget: &Budget,
        chance: &Chance,
    ) -> Option<Duration> {
        let wait = match failed {
            Failed::Unseen(worth_it) if self.unseen_left > 0 => {
                let own = chance.backoff(UNSEEN_FIRST, LONGEST, self.unseen_made);
                // At once where another address may take it, with a pause where the same one must come back.
                worth_it.map(|after| own.max(after)).unwrap_or_default()
            }
            Failed::Seen(Code::Unavailable, pushback) if self.left > 0 => match pushback {
                Pushback::None => chance.backoff(FIRST, LONGEST, self.made),
                Pushback::After(asked) => asked,
                Pushback::Never => return None,
            },
            Failed::Unseen(_) | Failed::Seen(..) => return None,
        };
        if wait >= remaining {
            return None;
        }
        match failed {
            Failed::Unseen(_) if wait > PATIENCE => return None,
            Failed::Unseen(_) => {
                self.unseen_left -= 1;
                self.unseen_made += 1;
            }
            // Asked last, so that only a repetition that is made takes from the budget.
            Failed::Seen(..) if !budget.allows() => return None,
            Failed::Seen(..) => {
                self.left -= 1;
                self.made += 1;
            }
        }
        Some(wait)
    }
}

/// Returns what a server said of repetitions in the headers of a refusal: `grpc-retry-pushback-ms`, or else
/// `google.rpc.RetryInfo`.
pub(super) fn pushback(headers: &HeaderMap) -> Pushback {
    if let Some(value) = headers.get(PUSHBACK) {
        // What is no number means never, too (gRFC A6).
        let millis = value.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis)));
    }
    let status = Status::from_header_map(headers);
    let delay = status.and_then(|status| status.get_error_details().retry_info()?.retry_delay);
    delay.map_or(Pushback::None, Pushback::After)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const READ: &str = "/athena.memory.v1.MemoryService/Recall";
    const WRITE: &str = "/athena.memory.v1.MemoryService/Remember";
    const LONG: Duration = Duration::from_secs(60);
    const GONE: Failed = Failed::Seen(Code::Unavailable, Pushback::None);

    fn next(retry: &mut Retry, failed: Failed) -> Option<Duration> {
        retry.next(failed, LONG, &Budget::new(20, 10), &Chance::seeded(1))
    }

    #[test]
    fn only_what_the_contract_allows_is_repeated_once_it_was_seen() {
        assert!(next(&mut Retry::of(READ, 2), GONE).is_some());
        assert_eq!(next(&mut Retry::of(WRITE, 2), GONE), None);
        let late = Failed::Seen(Code::DeadlineExceeded, Pushback::None);
        assert_eq!(next(&mut Retry::of(READ, 2), late), None);
    }

    #[test]
    fn what_nobody_saw_is_repeated_whatever_it_is() {
        let mut retry = Retry::of(WRITE, 0);
        assert_eq!(next(&mut retry, Failed::Unseen(None)), Some(Duration::ZERO));
        let wait = next(&mut retry, Failed::Unseen(Some(Duration::from_millis(200)))).unwrap();
        assert!((200..=250).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(next(&mut retry, Failed::Unseen(Some(Duration::from_secs(1)))), None, "it is gone");
        let more = (0..10).take_while(|_| next(&mut retry, Failed::Unseen(None)).is_some()).count();
        assert_eq!(2 + more, UNSEEN as usize, "some are enough");
        assert_eq!(retry.made(), 0);
    }

    #[test]
    fn waits_double_within_their_jitter_and_end() {
        let mut retry = Retry::of(READ, 3);
        for (low, high) in [(25, 75), (50, 150), (100, 300)] {
            let wait = next(&mut retry, GONE).unwrap();
            assert!((low..=high).contains(&wait.as_millis()), "{wait:?}");
        }
        assert_eq!(next(&mut retry, GONE), None);
        assert_eq!(retry.made(), 3);
    }

    #[test]
    fn a_repetition_that_would_come_too_late_is_not_made() {
        let (budget, chance) = (Budget::new(20, 10), Chance::seeded(1));
        let mut retry = Retry::of(READ, 3);
        assert_eq!(retry.next(GONE, Duration::from_millis(20), &budget, &chance), None);
        let asked = |time| Failed::Seen(Code::Unavailable, Pushback::After(time));
        assert_eq!(retry.next(asked(LONG), LONG, &budget, &chance), None);
        let five = Duration::from_secs(5);
        assert_eq!(retry.next(asked(five), LONG, &budget, &chance), Some(five));
    }

    #[test]
    fn the_budget_bounds_all_calls_together() {
        let (budget, chance) = (Budget::new(20, 10), Chance::seeded(1));
        // 10 a second over 10 s are there from the beginning; a fifth of 500 calls comes on top.
        (0..500).for_each(|_| budget.called());
        let made =
            (0..500).filter(|_| Retry::of(READ, 1).next(GONE, LONG, &budget, &chance).is_some()).count();
        assert_eq!(made, 100 + 100);
    }

    #[test]
    fn a_server_says_when_to_come_back() {
        let said = |value: &'static str| {
            pushback(&HeaderMap::from_iter([(PUSHBACK.parse().unwrap(), HeaderValue::from_static(value))]))
        };
        assert_eq!(said("150"), Pushback::After(Duration::from_millis(150)));
        assert_eq!((said("-1"), said("soon")), (Pushback::Never, Pushback::Never));
        assert_eq!(pushback(&HeaderMap::new()), Pushback::None);
        assert_eq!(next(&mut Retry::of(READ, 2), Failed::Seen(Code::Unavailable, Pushback::Never)), None);
    }
}
