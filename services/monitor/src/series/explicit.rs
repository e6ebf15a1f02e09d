//! Histograms with bounds of their own, as foreign clients send them; asked for quantiles by linear interpolation.

use std::sync::Arc;

use super::{exponential::Exponential, merge};

/// Into how many slices a bucket is cut when it becomes part of an exponential histogram.
const SLICES: u64 = 64;

/// A histogram over explicit bounds: bucket `i` holds `(bounds[i-1], bounds[i]]`, the last one everything above.
#[derive(Clone, Debug, PartialEq)]
pub struct Explicit {
    bounds: Arc<[f64]>,
    counts: Vec<u64>,
    sum: f64,
    extremes: Option<(f64, f64)>,
}

impl Explicit {
    /// Builds a histogram; `None` if the bounds do not rise or there is not one count more than bounds. No count at all
    /// stands for an empty histogram.
    #[must_use]
    pub fn new(
        bounds: &[f64],
        mut counts: Vec<u64>,
        sum: Option<f64>,
        extremes: Option<(f64, f64)>,
    ) -> Option<Self> {
        if counts.is_empty() {
            counts = vec![0; bounds.len() + 1];
        }
        let rising =
            bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| bound.is_finite());
        let known = extremes.is_none_or(|(low, high)| low.is_finite() && high.is_finite() && low <= high);
        let summed = sum.is_none_or(f64::is_finite);
        (rising && known && summed && counts.len() == bounds.len() + 1).then(|| Self {
            bounds: bounds.into(),
            counts,
            sum: sum.unwrap_or(0.0),
            extremes,
        })
    }

    /// Returns how many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// Returns the value below which the share `quantile` (0 to 1) lies, evenly spread inside its bucket; `None` of an
    /// empty histogram. Above the last bound it is that bound, unless the largest value is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are not reached")]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile.clamp(0.0, 1.0) * self.count() as f64;
        let mut below = 0.0;
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if rank <= below + count {
                let (low, high) = self.ends(place);
                return Some(low + (high - low) * ((rank - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }

    /// Returns the sum of both if their bounds are the same.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Option<Self> {
        (self.bounds == other.bounds).then(|| Self {
            bounds: Arc::clone(&self.bounds),
            counts: self
                .counts
                .iter()
                .zip(&other.counts)
                .map(|(one, two)| one.saturating_add(*two))
                .collect(),
            sum: self.sum + other.sum,
            extremes: merge::extremes(self.extremes, other.extremes, self.count() == 0),
        })
    }

    /// Returns what was recorded after `earlier`; `None` after a reset.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if self.bounds != earlier.bounds {
            return None;
        }
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.checked_sub(*then));
        Some(Self {
            bounds: Arc::clone(&self.bounds),
            counts: counts.collect::<Option<Vec<_>>>()?,
            sum: self.sum - earlier.sum,
            extremes: None,
        })
    }

    /// Returns an exponential histogram of the same values, each bucket spread evenly over its width.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "slices are few")]
    pub fn to_exponential(&self) -> Exponential {
        let mut histogram = Exponential::new();
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (low, high) = self.ends(place);
            let slices = SLICES.min(*count);
            for slice in 0..slices {
                let share = (count / slices) + u64::from(slice < count % slices);
                histogram.record(low + (high - low) * (slice as f64 + 0.5) / slices as f64, share);
            }
        }
        histogram.without_extremes()
    }

    /// Returns both ends of a bucket, narrowed by the smallest and largest value where they are known.
    fn ends(&self, place: usize) -> (f64, f64) {
        let mean = || {
            #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are not reached")]
            let count = self.count().max(1) as f64;
            self.sum / count
        };
        let high = self.bounds.get(place).copied();
        let low = place.checked_sub(1).and_then(|before| self.bounds.get(before)).copied();
        let (low, high) = match (low, high) {
            (Some(low), Some(high)) => (low, high),
            (None, Some(high)) if high > 0.0 => (0.0, high),
            (None, Some(high)) => (self.extremes.map_or(high, |(least, _)| least.min(high)), high),
            (Some(low), None) => (low, self.extremes.map_or(low, |(_, most)| most.max(low))),
            (None, None) => self.extremes.unwrap_or_else(|| (mean(), mean())),
        };
        match self.extremes {
            // A range that does not touch the bucket would turn it round.
            Some((least, most)) if least <= high && most >= low => (low.max(least), high.min(most)),
            _ => (low, high),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Explicit;

    #[test]
    fn quantiles_are_interpolated_linearly() {
        let histogram = Explicit::new(&[1.0, 2.0], vec![0, 10, 0], None, None).unwrap();
        assert_eq!(histogram.quantile(0.5), Some(1.5));
        assert_eq!(Explicit::new(&[1.0], vec![0, 4], None, None).unwrap().quantile(0.9), Some(1.0));
        assert_eq!(Explicit::new(&[1.0], vec![], None, None).unwrap().quantile(0.9), None);
    }

    #[test]
    fn known_extremes_narrow_the_open_bucket() {
        let histogram = Explicit::new(&[1.0], vec![0, 4], Some(12.0), Some((2.0, 4.0))).unwrap();
        assert_eq!(histogram.quantile(1.0), Some(4.0));
        assert_eq!(histogram.quantile(0.0), Some(2.0));
    }

    #[test]
    fn bounds_that_do_not_rise_are_refused() {
        assert!(Explicit::new(&[2.0, 1.0], vec![0, 0, 0], None, None).is_none());
        assert!(Explicit::new(&[1.0], vec![0], None, None).is_none());
    }

    #[test]
    fn a_smaller_count_is_a_reset() {
        let before = Explicit::new(&[1.0], vec![3, 1], None, None).unwrap();
        let after = Explicit::new(&[1.0], vec![1, 2], None, None).unwrap();
        assert!(after.since(&before).is_none());
    }

    proptest! {
        #[test]
        fn an_exponential_copy_keeps_count_and_quantile(counts in prop::collection::vec(0u64..5_000, 6)) {
            prop_assume!(counts.iter().any(|count| *count > 0));
            let histogram = Explicit::new(&[0.1, 0.5, 1.0, 2.0, 5.0], counts, None, None).unwrap();
            let copy = histogram.to_exponential();
            prop_assert_eq!(copy.count(), histogram.count());
            let (linear, exponential) = (histogram.quantile(0.95).unwrap(), copy.quantile(0.95).unwrap());
            let width = 3.1 / 64.0 + linear * 0.1;
            prop_assert!((linear - exponential).abs() <= width + 0.6 * linear, "{} against {}", linear, exponential);
        }
    }
}
