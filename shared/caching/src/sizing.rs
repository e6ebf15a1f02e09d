//! When to change a cache's size: a state machine that reads curves and answers with a size.
//!
//! It aims at the smallest size within [`SLACK`] of the best hit ratio allowed. The hysteresis is on predicted hits, not on sizes, since
//! a cliff may lie anywhere:
//!
//! 1. *Grow* as soon as the recent curve says that staying costs more than [`STAKE`].
//! 2. *Shrink* once recent and long curve agree that less is enough, and a patience has passed in which nothing had to grow.
//! 3. *Regret*: where growth follows so soon that shrinking was wrong, the patience doubles; so a load that swings between two
//!    sizes ends at the larger one.

use std::time::SystemTime;

use crate::curve::Curve;

/// Hit ratio given away for a smaller cache.
pub const SLACK: f64 = 0.008;
/// Hit ratio that staying must cost before a cache grows.
pub const STAKE: f64 = 0.013;
/// A shrink must free this share of the entries.
const WORTH: f64 = 0.15;
/// Length of the recent window in reads for each entry of capacity, and the shortest.
const RECENT: (f64, f64) = (2.0, 2_000.0);
/// Length of the long window in reads for each entry of capacity, and the shortest.
const LONG: (f64, f64) = (10.0, 10_000.0);
/// Reads for each entry of capacity for which a cache is watched before it first shrinks, and the fewest.
const PATIENCE: (f64, f64) = (4.0, 4_000.0);
/// Most times the patience is doubled.
const MOST_REGRETS: u32 = 6;

/// Between which sizes a cache is watched, and whether it may change its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Fewest entries, at least 1.
    pub least: u64,
    /// Most entries.
    pub most: u64,
    /// Whether the cache resizes itself; otherwise it only shows what that would bring.
    pub auto: bool,
}

/// Why a cache has another size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// Somebody asked for it.
    Asked,
    /// More reads will be answered: hit ratio predicted at the old size and at the new.
    Gain(f64, f64),
    /// Nearly as many reads will be answered with less: hit ratio predicted at the old size and at the new.
    Spare(f64, f64),
}

impl Why {
    /// Returns the reason as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Gain(..) => "gain",
            Self::Spare(..) => "spare",
        }
    }
}

/// A change of size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Entries afterwards.
    pub to: u64,
    /// The reason.
    pub why: Why,
}

/// A change of size that was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize {
    /// When, on the agent clock.
    pub at: SystemTime,
    /// Entries before.
    pub from: u64,
    /// Entries afterwards, and the reason.
    pub change: Change,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Hit ratio by size over the last reads.
    pub recent: &'a Curve,
    /// The same over many more.
    pub long: &'a Curve,
    /// Reads since the last decision.
    pub reads: f64,
    /// Entries allowed now.
    pub capacity: u64,
    /// Most entries there are bytes for.
    pub most: u64,
}

/// Decides about the size of one cache.
#[derive(Clone, Debug)]
pub struct Sizer {
    sizing: Sizing,
    /// Reads since the last change of size.
    calm: f64,
    /// Whether the last change made the cache smaller.
    shrank: bool,
    /// How often shrinking was wrong.
    regrets: u32,
}

impl Sizer {
    /// Makes the decider of a cache that was never resized.
    #[must_use]
    pub fn new(sizing: &Sizing) -> Self {
        Self { sizing: sizing.clone(), calm: 0.0, shrank: false, regrets: 0 }
    }

    /// Returns over how many reads the recent and the long curve should look back, for a cache of `capacity` entries.
    #[must_use]
    pub fn windows(&self, capacity: u64) -> (f64, f64) {
        (reads(RECENT, capacity), reads(LONG, capacity) * self.doubled())
    }

    /// Decides what size the cache should have; `None` keeps the one it has.
    pub fn decide(&mut self, seen: &Seen<'_>) -> Option<Change> {
        self.calm += seen.reads;
        if !self.sizing.auto {
            return None;
        }
        let most = seen.most.clamp(self.sizing.least, self.sizing.most);
        let change = grow(seen, most).or_else(|| self.shrink(seen, most))?;
        self.note(change.to < seen.capacity, seen.capacity);
        Some(change)
    }

    /// Notes that the size was changed by somebody else.
    pub fn resized(&mut self) {
        (self.calm, self.shrank) = (0.0, false);
    }

    fn shrink(&self, seen: &Seen<'_>, most: u64) -> Option<Change> {
        if self.calm < self.patience(seen.capacity) {
            return None;
        }
        let to = enough(seen.recent, most, SLACK).max(enough(seen.long, most, SLACK));
        let spare = seen.capacity.saturating_sub(to) as f64 >= WORTH * seen.capacity as f64;
        spare.then(|| Change { to, why: Why::Spare(seen.long.at(seen.capacity), seen.long.at(to)) })
    }

    fn note(&mut self, shrank: bool, capacity: u64) {
        if !shrank && self.shrank && self.calm < 4.0 * self.patience(capacity) {
            self.regrets = (self.regrets + 1).min(MOST_REGRETS);
        }
        (self.calm, self.shrank) = (0.0, shrank);
    }

    fn patience(&self, capacity: u64) -> f64 {
        reads(PATIENCE, capacity) * self.doubled()
    }

    fn doubled(&self) -> f64 {
        f64::from(1 << self.regrets)
    }
}

fn grow(seen: &Seen<'_>, most: u64) -> Option<Change> {
    let (here, best) = (seen.recent.at(seen.capacity), seen.recent.best(most));
    let to = enough(seen.recent, most, SLACK / 2.0);
    (best - here > STAKE && to > seen.capacity)
        .then(|| Change { to, why: Why::Gain(here, seen.recent.at(to)) })
}

/// Returns the smallest size within `slack` of the best.
fn enough(curve: &Curve, most: u64, slack: f64) -> u64 {
    curve.smallest(curve.best(most) - slack, most)
}

fn reads((per_entry, fewest): (f64, f64), capacity: u64) -> f64 {
    (per_entry * capacity as f64).max(fewest)
}
