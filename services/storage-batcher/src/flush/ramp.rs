//! Catching up gently: what gathered while the sink was away, or the service, is sent at a rate that starts low and grows by steps.
//!
//! Firestore's rule is 500/50/5: 500 operations a second, 50 % more every 5 minutes
//! (<https://cloud.google.com/firestore/docs/best-practices#ramping_up_traffic>).

use std::time::{Duration, Instant};

use crate::budget::bucket::Bucket;

/// How fast what gathered is sent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Documents a second at first.
    pub start: f64,
    /// By how much of itself the rate grows with each step: 0.5 for 50 %.
    pub growth: f64,
    /// How long a step lasts.
    pub step: Duration,
    /// Shortest time without the sink after which this is needed.
    pub outage: Duration,
}

/// The rate at which documents leave, if there is one.
#[derive(Debug)]
pub(crate) struct Ramp {
    /// None for a sink that needs no such thing.
    limits: Option<Limits>,
    /// Since when the sink has been away.
    away: Option<Instant>,
    catching_up: Option<CatchingUp>,
}

#[derive(Debug)]
struct CatchingUp {
    began: Instant,
    /// Documents that gathered and are not sent.
    left: usize,
    /// Holds nothing: what was sent comes back before more is.
    pace: Bucket,
}

impl Limits {
    /// Returns the documents a second, so long after the beginning.
    fn rate(&self, since: Duration) -> f64 {
        let steps = since.as_secs_f64() / self.step.as_secs_f64();
        self.start * (1.0 + self.growth).powf(steps.floor())
    }
}

impl Ramp {
    /// Makes one; `gathered` documents waited for the service to start.
    pub(crate) fn new(limits: Option<Limits>, gathered: usize, now: Instant) -> Self {
        let mut ramp = Self { limits, away: None, catching_up: None };
        ramp.begin(gathered, now);
        ramp
    }

    /// Returns how long `documents` must wait before they leave.
    pub(crate) fn admit(&mut self, documents: usize, now: Instant) -> Duration {
        let (Some(limits), Some(catching_up)) = (&self.limits, &mut self.catching_up) else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(catching_up.began);
        catching_up.pace.set_rate(limits.rate(since), since);
        let wait = catching_up.pace.wait(0.0, since);
        catching_up.pace.take(documents as f64, since);
        wait
    }

    /// Takes in that the sink took `documents` and that `waiting` are left.
    pub(crate) fn took(&mut self, documents: usize, waiting: usize, now: Instant) {
        if let Some(since) = self.away.take()
            && let Some(limits) = self.limits
            && now.saturating_duration_since(since) >= limits.outage
        {
            self.begin(waiting, now);
        }
        if let Some(catching_up) = &mut self.catching_up {
            catching_up.left = catching_up.left.saturating_sub(documents);
            if catching_up.left == 0 {
                self.catching_up = None;
            }
        }
    }

    /// Takes in that the sink is away.
    pub(crate) fn away(&mut self, now: Instant) {
        self.away.get_or_insert(now);
    }

    /// Returns the documents a second now; `None` if there is no limit.
    pub(crate) fn rate(&self, now: Instant) -> Option<f64> {
        let since = now.saturating_duration_since(self.catching_up.as_ref()?.began);
        self.limits.map(|limits| limits.rate(since))
    }

    fn begin(&mut self, left: usize, now: Instant) {
        if let Some(limits) = self.limits
            && left > 0
        {
            let pace = Bucket::new(0.0, limits.start, Duration::ZERO);
            self.catching_up = Some(CatchingUp { began: now, left, pace });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Limits, Ramp};

    const LIMITS: Limits =
        Limits { start: 500.0, growth: 0.5, step: Duration::from_secs(300), outage: Duration::from_secs(60) };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn five_hundred_a_second_and_half_as_many_again_every_five_minutes() {
        let start = Instant::now();
        let ramp = Ramp::new(Some(LIMITS), 1, start);
        for (after, rate) in [(0, 500.0), (299, 500.0), (300, 750.0), (600, 1_125.0), (900, 1_687.5)] {
            assert_eq!(ramp.rate(start + Duration::from_secs(after)), Some(rate));
        }
    }

    #[test]
    fn only_what_gathered_is_slowed_down_and_only_after_an_outage_that_was_long() {
        let start = Instant::now();
        let mut ramp = Ramp::new(Some(LIMITS), 0, start);
        assert_eq!((ramp.admit(10_000, start), ramp.rate(start)), (Duration::ZERO, None));
        ramp.away(start);
        ramp.took(1, 10_000, start + seconds(59.0));
        assert_eq!(ramp.rate(start), None, "too short");
        ramp.away(start);
        ramp.away(start + seconds(59.0));
        let back = start + seconds(60.0);
        ramp.took(500, 1_500, back);
        assert_eq!(ramp.rate(back), Some(500.0));
        assert_eq!([500, 500, 500].map(|count| ramp.admit(count, back)), [0.0, 1.0, 2.0].map(seconds));
        ramp.took(999, 500, back);
        assert!(ramp.rate(back).is_some());
        ramp.took(1, 500, back);
        assert_eq!((ramp.rate(back), ramp.admit(500, back)), (None, Duration::ZERO), "caught up");
    }

    #[test]
    fn a_sink_that_needs_none_has_none() {
        let start = Instant::now();
        let mut ramp = Ramp::new(None, 10, start);
        ramp.away(start);
        ramp.took(1, 10, start + seconds(1e6));
        assert_eq!((ramp.rate(start), ramp.admit(10_000, start)), (None, Duration::ZERO));
    }

    proptest! {
        /// Whenever batches come: in no second do more documents leave than the rate of its end, and one batch.
        #[test]
        fn no_second_carries_more_than_its_rate_and_one_batch(
            batches in prop::collection::vec((1_usize..=500, 0_u64..3_000), 1..200),
        ) {
            let start = Instant::now();
            let mut ramp = Ramp::new(Some(LIMITS), usize::MAX, start);
            let mut now = start;
            let mut left = Vec::new();
            for (documents, pause) in batches {
                now += Duration::from_millis(pause);
                left.push((now + ramp.admit(documents, now), documents));
            }
            for (from, _) in &left {
                let end = *from + Duration::from_secs(1);
                let within = left.iter().filter(|(at, _)| at >= from && *at < end);
                let sum: usize = within.map(|(_, documents)| documents).sum();
                prop_assert!(sum as f64 <= LIMITS.rate(end - start) + 500.0, "{sum}");
            }
        }
    }
}
