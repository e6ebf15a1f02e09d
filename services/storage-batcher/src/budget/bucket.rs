//! A token bucket, seen from what is missing in it: what was taken comes back at a steady rate.
//!
//! Whoever takes only what there is room for takes, in any stretch of time `t`, at most `capacity + rate · t`. A taker that does not ask
//! leaves a debt beyond the capacity, and whoever asks then waits until it is paid.

use std::time::Duration;

/// What a comparison of sums of doubles may be off by, in documents.
const SLACK: f64 = 1e-6;

/// A bucket of documents. Time is told as the duration since any fixed moment.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    capacity: f64,
    /// Documents a second that come back.
    rate: f64,
    /// Documents that were taken and were not back at `at`.
    debt: f64,
    at: Duration,
}

impl Bucket {
    /// Makes a full bucket at `now`.
    pub(crate) fn new(capacity: f64, rate: f64, now: Duration) -> Self {
        Self { capacity, rate, debt: 0.0, at: now }
    }

    /// Returns the documents that a full bucket holds.
    pub(crate) fn capacity(&self) -> f64 {
        self.capacity
    }

    /// Returns the documents that come back within `span`.
    pub(crate) fn comes_back(&self, span: Duration) -> f64 {
        self.rate * span.as_secs_f64()
    }

    /// Changes the rate from `now` on.
    pub(crate) fn set_rate(&mut self, rate: f64, now: Duration) {
        self.advance(now);
        self.rate = rate;
    }

    /// Takes `documents` out, whether there is room for them or not.
    pub(crate) fn take(&mut self, documents: f64, now: Duration) {
        self.advance(now);
        self.debt += documents;
    }

    /// Returns the documents there is room for; less than none while more was taken than there was.
    pub(crate) fn room(&self, now: Duration) -> f64 {
        self.capacity - self.debt_at(now)
    }

    /// Returns how long it takes until there is room for `documents` if nothing else is taken. If they are more than the capacity, until the
    /// last of them has room where each is taken as soon as there is some.
    pub(crate) fn wait(&self, documents: f64, now: Duration) -> Duration {
        let lacking = documents - self.room(now);
        if lacking <= SLACK {
            return Duration::ZERO;
        }
        // Rounded up: who comes back then must find the room.
        let micros = (lacking / self.rate * 1e6).ceil();
        if micros < u64::MAX as f64 { Duration::from_micros(micros as u64) } else { Duration::MAX }
    }

    fn debt_at(&self, now: Duration) -> f64 {
        // A clock that was set back brings nothing back.
        (self.debt - self.rate * now.saturating_sub(self.at).as_secs_f64()).max(0.0)
    }

    fn advance(&mut self, now: Duration) {
        self.debt = self.debt_at(now);
        self.at = now;
    }
}

/// Returns the whole documents in `documents`, none if that is negative.
pub(crate) fn whole(documents: f64) -> u64 {
    // Saturates.
    (documents + SLACK).floor() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Bucket, whole};

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_taken_comes_back_up_to_the_capacity() {
        let mut bucket = Bucket::new(10.0, 2.0, seconds(100));
        bucket.take(10.0, seconds(100));
        assert_eq!(whole(bucket.room(seconds(100))), 0);
        assert_eq!(bucket.wait(6.0, seconds(100)), seconds(3));
        assert_eq!([102, 105, 1_000].map(|now| whole(bucket.room(seconds(now)))), [4, 10, 10]);
        // As pieces: ten of them at 105 s, the other two a second later.
        assert_eq!(bucket.wait(12.0, seconds(100)), seconds(6));
    }

    #[test]
    fn who_takes_more_than_there_is_leaves_a_debt_that_is_paid_first() {
        let mut bucket = Bucket::new(10.0, 2.0, Duration::ZERO);
        bucket.take(30.0, Duration::ZERO);
        assert!(bucket.room(Duration::ZERO) < 0.0);
        assert_eq!(whole(bucket.room(seconds(10))), 0);
        assert_eq!(
            (bucket.wait(0.0, Duration::ZERO), bucket.wait(1.0, seconds(9))),
            (seconds(10), Duration::from_millis(1_500))
        );
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back() {
        let mut bucket = Bucket::new(10.0, 1.0, seconds(100));
        bucket.take(10.0, seconds(100));
        bucket.take(1.0, seconds(50));
        assert_eq!((whole(bucket.room(seconds(50))), whole(bucket.room(seconds(53)))), (0, 2));
    }

    proptest! {
        /// Who waits as long as he is told finds the room, and never sooner.
        #[test]
        fn the_wait_is_as_long_as_it_must_be(
            capacity in 1.0..1_000.0_f64,
            rate in 0.001..1_000.0_f64,
            taken in 0.0..5_000.0_f64,
            asked in 0.0..1_000.0_f64,
        ) {
            let start = Duration::from_secs(1_795_342_500);
            let mut bucket = Bucket::new(capacity, rate, start);
            bucket.take(taken, start);
            let asked = asked.min(capacity);
            let wait = bucket.wait(asked, start);
            prop_assert!(bucket.room(start + wait) >= asked - 1e-4);
            let sooner = wait.saturating_sub(Duration::from_micros(2));
            prop_assert!(wait.is_zero() || bucket.room(start + sooner) < asked + 1e-4);
        }
    }
}
