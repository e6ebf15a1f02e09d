//! When to ask again, and after how long.

use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::provider::Failure;

/// The first wait, before jitter; it doubles with every attempt.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait, before what the upstream asks for.
const LONGEST: Duration = Duration::from_secs(8);

/// A jittered exponential backoff.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    max_retries: u32,
}

impl Backoff {
    pub(super) fn new(max_retries: u32) -> Self {
        Self { max_retries }
    }

    /// Returns how long to wait before attempt `attempts` + 2, or `None` to give up. `random` is 0 to 1.
    ///
    /// Between half and all of the step: equal jitter spreads callers without ever asking at once.
    pub(super) fn wait(self, attempts: u32, failure: &Failure, random: f64) -> Option<Duration> {
        let asked = match failure {
            Failure::Unreachable => None,
            Failure::Throttled { retry_after } => *retry_after,
            _ => return None,
        };
        if attempts >= self.max_retries {
            return None;
        }
        let step = FIRST.saturating_mul(1_u32 << attempts.min(10)).min(LONGEST);
        let jittered = step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        Some(asked.map_or(jittered, |asked| asked.max(jittered)))
    }
}

/// Reads when the upstream wants to be asked again: `retry-after-ms`, or `Retry-After` in seconds. A date is not read: the upstream's
/// clock may differ from ours, and the backoff waits as it would without.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::HeaderMap;

    use super::{Backoff, retry_after};
    use crate::provider::Failure;

    #[test]
    fn waits_double_and_are_jittered_and_end() {
        let backoff = Backoff::new(2);
        let wait = |attempts, random| backoff.wait(attempts, &Failure::Unreachable, random);
        assert_eq!(wait(0, 0.0), Some(Duration::from_millis(125)));
        assert_eq!(wait(0, 1.0), Some(Duration::from_millis(250)));
        assert_eq!(wait(1, 1.0), Some(Duration::from_millis(500)));
        assert_eq!(wait(2, 1.0), None);
    }

    #[test]
    fn the_upstreams_wish_is_a_lower_bound() {
        let throttled = Failure::Throttled { retry_after: Some(Duration::from_secs(20)) };
        assert_eq!(Backoff::new(2).wait(0, &throttled, 0.5), Some(Duration::from_secs(20)));
    }

    #[test]
    fn what_will_fail_again_is_not_repeated() {
        for failure in [Failure::Credentials, Failure::Malformed, Failure::Deadline] {
            assert_eq!(Backoff::new(2).wait(0, &failure, 0.5), None);
        }
    }

    #[test]
    fn a_wish_is_read_in_seconds_or_milliseconds_and_nonsense_is_none() {
        let wish = |name: &'static str, value: &str| {
            retry_after(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(wish("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(wish("retry-after-ms", "1500"), Some(Duration::from_millis(1_500)));
        assert_eq!(wish("retry-after", "-1"), None);
        assert_eq!(wish("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
