//! When to change a cache's size: a state machine that reads curves and answers with a size.
//!
//! It aims at the smallest size within [`SLACK`] of the best hit ratio allowed. The hysteresis is on predicted hits, not on sizes, since
//! a cliff may lie anywhere:
//!
//! 1. *Grow* as soon as the recent curve says that staying costs more than [`STAKE`].
//! 2. *Shrink* once recent and long curve have agreed for a patience that less is enough.
//! 3. *Regret*: where growth follows so soon that shrinking was wrong, the patience doubles, and halves where it follows late; so
//!    a load that swings between two sizes ends at the larger one.

use std::time::SystemTime;

use crate::curve::Curve;

/// Hit ratio given away for a smaller cache.
pub const SLACK: f64 = 0.008;
/// Hit ratio that staying must cost before a cache grows.
pub const STAKE: f64 = 0.013;
/// Standard errors by which the cost of staying must be above its stake.
const SURE: f64 = 2.0;
/// A growth takes this many times the entries at least: the caches simulated above are still filling, and promise too little.
const STRIDE: f64 = 1.5;
/// A shrink must free this share of the entries.
const WORTH: f64 = 0.15;
/// Length of the recent window in reads for each entry of capacity, and the shortest.
const RECENT: (f64, f64) = (2.0, 2_000.0);
/// Length of the long window in reads for each entry of capacity, and the shortest.
const LONG: (f64, f64) = (10.0, 10_000.0);
/// The patience at first: reads for each entry of capacity, and the fewest.
const PATIENCE: (f64, f64) = (4.0, 4_000.0);
/// Shrinking was wrong if growth follows within so many patiences.
const REGRET: f64 = 16.0;
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
    /// Reads since the size was last changed or needed.
    spare: f64,
    /// Whether the last change made the cache smaller.
    shrank: bool,
    /// How often shrinking was wrong.
    regrets: u32,
}

impl Sizer {
    /// Makes the decider of a cache that was never resized.
    #[must_use]
    pub fn new(sizing: &Sizing) -> Self {
        Self { sizing: sizing.clone(), calm: 0.0, spare: 0.0, shrank: false, regrets: 0 }
    }

    /// Returns over how many reads the recent and the long curve should look back, for a cache of `capacity` entries.
    #[must_use]
    pub fn windows(&self, capacity: u64) -> (f64, f64) {
        (reads(RECENT, capacity), reads(LONG, capacity) * self.doubled())
    }

    /// Decides what size the cache should have; `None` keeps the one it has.
    pub fn decide(&mut self, seen: &Seen<'_>) -> Option<Change> {
        self.calm += seen.reads;
        self.spare += seen.reads;
        if !self.sizing.auto {
            return None;
        }
        let most = seen.most.clamp(self.sizing.least, self.sizing.most);
        let change = grow(seen, most).or_else(|| self.shrink(seen, most))?;
        self.note(change.to < seen.capacity, seen.capacity);
        Some(change)
    }

    /// Notes that somebody asked for another size: it is kept for as long as one that was decided on.
    pub fn asked(&mut self) {
        (self.calm, self.spare, self.shrank) = (0.0, 0.0, false);
    }

    fn shrink(&mut self, seen: &Seen<'_>, most: u64) -> Option<Change> {
        let to = enough(seen.recent, most, SLACK).max(enough(seen.long, most, SLACK));
        if (seen.capacity.saturating_sub(to) as f64) < WORTH * seen.capacity as f64 {
            self.spare = 0.0;
        }
        let why = Why::Spare(seen.long.at(seen.capacity), seen.long.at(to));
        (self.spare >= self.patience(seen.capacity)).then_some(Change { to, why })
    }

    fn note(&mut self, shrank: bool, capacity: u64) {
        if !shrank && self.shrank {
            let soon = self.calm < REGRET * self.patience(capacity);
            self.regrets =
                if soon { (self.regrets + 1).min(MOST_REGRETS) } else { self.regrets.saturating_sub(1) };
        }
        (self.calm, self.spare, self.shrank) = (0.0, 0.0, shrank);
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
    let gain = best - here;
    // So many hits more are known to within their square root.
    let noise = (gain.max(0.0) / seen.recent.reads.max(1.0)).sqrt();
    let wanted = enough(seen.recent, most, SLACK);
    if gain <= STAKE + SURE * noise || wanted <= seen.capacity {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `most`")]
    let step = (seen.capacity as f64 * STRIDE).min(most as f64) as u64;
    let to = wanted.max(step);
    Some(Change { to, why: Why::Gain(here, seen.recent.at(to)) })
}

/// Returns the smallest size within `slack` of the best.
fn enough(curve: &Curve, most: u64, slack: f64) -> u64 {
    curve.smallest(curve.best(most) - slack, most)
}

fn reads((per_entry, fewest): (f64, f64), capacity: u64) -> f64 {
    (per_entry * capacity as f64).max(fewest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{SLACK, STAKE, Seen, Sizer, Sizing, Why};
    use crate::curve::{Curve, Point};

    const SIZES: [u64; 6] = [100, 200, 400, 800, 1_600, 3_200];

    fn curve(ratios: [f64; 6]) -> Curve {
        let points = SIZES.iter().zip(ratios).map(|(&size, hit_ratio)| Point { size, hit_ratio });
        Curve { reads: 10_000.0, points: points.collect() }
    }

    fn sizer() -> Sizer {
        Sizer::new(&Sizing { least: 100, most: 3_200, auto: true })
    }

    fn seen(curve: &Curve, capacity: u64) -> Seen<'_> {
        Seen { recent: curve, long: curve, reads: 500.0, capacity, most: u64::MAX }
    }

    /// Lets `sizer` look at the same curve again and again; returns the sizes it took.
    fn settle(sizer: &mut Sizer, curve: &Curve, mut capacity: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        for _ in 0..2_000 {
            if let Some(change) = sizer.decide(&seen(curve, capacity)) {
                capacity = change.to;
                sizes.push(capacity);
            }
        }
        sizes
    }

    #[test]
    fn it_grows_at_once_over_a_cliff_and_stays_there() {
        let cliff = curve([0.0, 0.0, 0.0, 0.0, 0.9, 0.9]);
        let mut sizer = sizer();
        let change = sizer.decide(&seen(&cliff, 1_000)).unwrap();
        assert!(matches!(change.why, Why::Gain(before, after) if before < 0.3 && after > 0.8), "{change:?}");
        assert_eq!(change.to, 1_593);
        assert_eq!(settle(&mut sizer, &cliff, change.to), Vec::<u64>::new());
    }

    #[test]
    fn what_costs_less_than_the_stake_is_not_grown_for() {
        let slope = curve([0.5, 0.5, 0.5, 0.5, 0.5, 0.5 + STAKE]);
        assert_eq!(settle(&mut sizer(), &slope, 100), Vec::<u64>::new());
        let few = Curve { reads: 100.0, ..curve([0.0, 0.0, 0.0, 0.0, 0.0, 0.03]) };
        assert_eq!(sizer().decide(&seen(&few, 100)), None, "three hits of a hundred reads may be chance");
    }

    #[test]
    fn what_is_useless_is_given_back_after_a_while() {
        let flat = curve([0.4; 6]);
        let mut sizer = sizer();
        assert_eq!(sizer.decide(&seen(&flat, 1_000)), None);
        assert_eq!(settle(&mut sizer, &flat, 1_000), [100]);
    }

    #[test]
    fn it_grows_no_further_than_there_are_bytes() {
        let steep = curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
        let change = sizer().decide(&Seen { most: 500, ..seen(&steep, 100) }).unwrap();
        assert!(change.to > 400 && change.to <= 500, "{change:?}");
    }

    #[test]
    fn one_that_may_not_never_changes() {
        let mut sizer = Sizer::new(&Sizing { least: 100, most: 3_200, auto: false });
        assert_eq!(settle(&mut sizer, &curve([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 100), Vec::<u64>::new());
    }

    #[test]
    fn a_load_that_swings_makes_it_wait_longer_each_time() {
        let (little, much) = (curve([0.9; 6]), curve([0.1, 0.1, 0.1, 0.9, 0.9, 0.9]));
        let (mut sizer, mut capacity) = (sizer(), 1_000);
        let changes = (0..64_000).filter(|step| {
            let curve = if step / 40 % 2 == 0 { &little } else { &much };
            let change = sizer.decide(&seen(curve, capacity));
            capacity = change.map_or(capacity, |change| change.to);
            change.is_some()
        });
        let swings = 64_000 / 40;
        assert!(changes.count() < swings / 50);
    }

    proptest! {
        #[test]
        fn under_a_load_that_does_not_change_it_settles(
            gains in proptest::array::uniform6(0.0..0.16_f64),
            start in 100_u64..3_200,
        ) {
            let mut ratio = 0.0;
            let rising = curve(gains.map(|gain| { ratio += gain; ratio }));
            let sizes = settle(&mut sizer(), &rising, start);
            let end = sizes.last().copied().unwrap_or(start);
            prop_assert!(sizes.len() <= 3, "{sizes:?}");
            prop_assert!(rising.best(3_200) - rising.at(end) <= STAKE + 0.01, "{sizes:?}");
            let least = rising.smallest(rising.best(3_200) - SLACK, 3_200);
            prop_assert!(end as f64 <= 1.2 * least as f64, "{end} where {least} is enough");
        }
    }
}
