//! Chance: the jitter of waits, and which of two servers is asked.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// A source of chance that a seed can fix.
pub struct Chance(Mutex<StdRng>);

impl Chance {
    /// Makes a source that is different each time.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that differs each time would surprise")]
    pub fn new() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Makes a source that is the same for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Returns a factor from `low` up to `high`.
    #[must_use]
    pub fn between(&self, low: f64, high: f64) -> f64 {
        self.0.lock().random_range(low..high)
    }

    /// Returns a number below `count`; 0 if that is 0.
    #[must_use]
    pub fn index(&self, count: usize) -> usize {
        if count < 2 { 0 } else { self.0.lock().random_range(0..count) }
    }

    /// Returns `first`, doubled `times` times up to `longest`, give or take a half: what keeps the clients of a server
    /// that comes back apart.
    #[must_use]
    pub fn backoff(&self, first: Duration, longest: Duration, times: u32) -> Duration {
        let mean = first.saturating_mul(2_u32.saturating_pow(times)).min(longest);
        mean.mul_f64(self.between(0.5, 1.5))
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Chance")
    }
}
