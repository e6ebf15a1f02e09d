//! A token bucket in event time.

use std::time::Duration;

/// How long an empty bucket takes to be full.
const FILLING: Duration = Duration::from_secs(60);

/// Holds a minute's worth; it may be in debt, by what a call used beyond its estimate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    size: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    pub(super) fn full(size: f64, now: Duration) -> Self {
        Self { size, level: size, at: now }
    }

    /// Fills it up to now. A clock that goes back fills nothing.
    pub(super) fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        self.level = (self.level + self.size * passed.as_secs_f64() / FILLING.as_secs_f64()).min(self.size);
        self.at = now;
    }

    /// Returns how long it takes until `amount` can be taken; `None` if it can now. More than the bucket holds can be taken when it is
    /// full: else it never could.
    pub(super) fn lacks(&self, amount: f64) -> Option<Duration> {
        let missing = amount.min(self.size) - self.level;
        // What rounding leaves is not missing.
        (missing > 1e-9 * self.size).then(|| FILLING.mul_f64(missing / self.size))
    }

    /// Takes an amount; a negative one is given back.
    pub(super) fn take(&mut self, amount: f64) {
        self.level = (self.level - amount).min(self.size);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_fills_in_a_minute_and_says_how_long_that_takes() {
        let mut bucket = Bucket::full(60.0, Duration::ZERO);
        bucket.take(60.0);
        assert_eq!(bucket.lacks(30.0), Some(Duration::from_secs(30)));
        bucket.fill(Duration::from_secs(30));
        assert_eq!(bucket.lacks(30.0), None);
        bucket.fill(Duration::from_secs(10));
        assert_eq!(bucket.lacks(30.0), None, "a clock that goes back changes nothing");
    }

    #[test]
    fn more_than_it_holds_passes_when_it_is_full_and_is_paid_for_afterwards() {
        let mut bucket = Bucket::full(60.0, Duration::ZERO);
        assert_eq!(bucket.lacks(90.0), None);
        bucket.take(90.0);
        assert_eq!(bucket.lacks(1.0), Some(Duration::from_secs(31)));
    }

    proptest! {
        #[test]
        fn no_minute_gives_more_than_two_full_buckets(
            takes in proptest::collection::vec((0_u64..20_000, 1_u32..30), 1..200),
        ) {
            let (mut bucket, mut now) = (Bucket::full(60.0, Duration::ZERO), Duration::ZERO);
            let mut taken: Vec<(Duration, f64)> = Vec::new();
            for (wait, amount) in takes {
                now += Duration::from_millis(wait);
                bucket.fill(now);
                let amount = f64::from(amount);
                if bucket.lacks(amount).is_none() {
                    bucket.take(amount);
                    taken.push((now, amount));
                }
            }
            for (begin, _) in &taken {
                let within = taken.iter().filter(|(at, _)| at >= begin && *at < *begin + FILLING);
                prop_assert!(within.map(|(_, amount)| amount).sum::<f64>() <= 120.0 + 1e-6);
            }
        }
    }
}
