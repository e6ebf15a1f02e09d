//! Base-2 exponential histograms: merged by lowering the finer scale, asked for quantiles by exponential interpolation.
//!
//! Source of the layout: OpenTelemetry metrics data model, "ExponentialHistogram". At scale `s` bucket `i` holds the
//! values in `(base^i, base^(i+1)]` with `base = 2^(2^-s)`.

use super::merge::{self, Merge};

/// Most buckets kept for each sign, as OpenTelemetry's SDKs do; a wider range lowers the scale instead.
pub const MAX_BUCKETS: usize = 160;

/// The finest scale OpenTelemetry allows.
pub const MAX_SCALE: i32 = 20;

/// The coarsest scale OpenTelemetry allows.
pub const MIN_SCALE: i32 = -10;

/// A histogram whose buckets grow by a constant factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Exponential {
    scale: i32,
    zero_threshold: f64,
    zeros: u64,
    positive: Buckets,
    negative: Buckets,
    sum: f64,
    extremes: Option<(f64, f64)>,
}

/// Counts of consecutive buckets; the first one has the index `offset`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    offset: i32,
    counts: Vec<u64>,
}

/// What a histogram is made of, as it comes over the wire.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// Resolution, [`MIN_SCALE`] to [`MAX_SCALE`].
    pub scale: i32,
    /// Values no further from zero than this are in `zeros`.
    pub zero_threshold: f64,
    /// Count of the zero bucket.
    pub zeros: u64,
    /// Index of the first positive bucket and the counts.
    pub positive: (i32, Vec<u64>),
    /// Index of the first negative bucket and the counts.
    pub negative: (i32, Vec<u64>),
    /// Sum of the values, where it was given.
    pub sum: Option<f64>,
    /// Smallest and largest value, where they were given.
    pub extremes: Option<(f64, f64)>,
}

impl Exponential {
    /// Returns an empty histogram at the finest scale; it gets coarser by itself.
    #[must_use]
    pub fn new() -> Self {
        Self {
            scale: MAX_SCALE,
            zero_threshold: 0.0,
            zeros: 0,
            positive: Buckets::default(),
            negative: Buckets::default(),
            sum: 0.0,
            extremes: None,
        }
    }

    /// Builds a histogram from its parts; `None` if they describe none: a scale or a bucket no `f64` has, a threshold
    /// that is no number.
    #[must_use]
    pub fn from_parts(parts: Parts) -> Option<Self> {
        let finite = |(low, high): (f64, f64)| low.is_finite() && high.is_finite() && low <= high;
        if !(MIN_SCALE..=MAX_SCALE).contains(&parts.scale)
            || !parts.zero_threshold.is_finite()
            || parts.zero_threshold < 0.0
            || parts.sum.is_some_and(|sum| !sum.is_finite())
            || parts.extremes.is_some_and(|extremes| !finite(extremes))
        {
            return None;
        }
        let positive = Buckets::from_wire(parts.positive, parts.scale)?;
        let negative = Buckets::from_wire(parts.negative, parts.scale)?;
        let mut histogram = Self {
            scale: parts.scale,
            zero_threshold: parts.zero_threshold,
            zeros: parts.zeros,
            positive,
            negative,
            sum: parts.sum.unwrap_or(0.0),
            extremes: parts.extremes,
        };
        histogram.fit();
        Some(histogram)
    }

    /// Returns how many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros.saturating_add(self.positive.total()).saturating_add(self.negative.total())
    }

    /// Returns the sum of the recorded values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the scale the histogram is at.
    #[must_use]
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// Forgets the smallest and the largest value, where a difference no longer knows them.
    #[must_use]
    pub fn without_extremes(mut self) -> Self {
        self.extremes = None;
        self
    }

    /// Records `value` `times` times. A value that is not finite is left out.
    pub fn record(&mut self, value: f64, times: u64) {
        if times == 0 || !value.is_finite() {
            return;
        }
        let mut one = Self { scale: self.scale, zero_threshold: self.zero_threshold, ..Self::new() };
        if value.abs() <= self.zero_threshold || value == 0.0 {
            one.zeros = times;
        } else {
            let bucket = Buckets { offset: index(value.abs(), self.scale), counts: vec![times] };
            *(if value > 0.0 { &mut one.positive } else { &mut one.negative }) = bucket;
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum of f64 has that precision")]
        let total = value * times as f64;
        one.sum = total;
        one.extremes = Some((value, value));
        self.absorb(one);
    }

    /// Returns the value below which the share `quantile` (0 to 1) lies; `None` of an empty histogram.
    ///
    /// Inside a bucket the values are taken to lie evenly on the logarithmic scale, as Prometheus does for native
    /// histograms; the result is off by less than one bucket's factor and never outside the recorded range.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are not reached")]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * count as f64;
        let mut below = 0.0;
        let mut value = None;
        for (index, bucket) in self.negative.filled().rev() {
            value = value.or_else(|| {
                within(rank, below, bucket).map(|share| -bound(f64::from(index) + 1.0 - share, self.scale))
            });
            below += bucket as f64;
        }
        if self.zeros > 0 {
            let low = if self.negative.counts.is_empty() { 0.0 } else { -self.zero_threshold };
            let high = if self.positive.counts.is_empty() { 0.0 } else { self.zero_threshold };
            value = value.or_else(|| within(rank, below, self.zeros).map(|share| low + (high - low) * share));
            below += self.zeros as f64;
        }
        for (index, bucket) in self.positive.filled() {
            value = value.or_else(|| {
                within(rank, below, bucket).map(|share| bound(f64::from(index) + share, self.scale))
            });
            below += bucket as f64;
        }
        value.map(|value| self.extremes.map_or(value, |(low, high)| value.clamp(low, high)))
    }

    /// Returns what was recorded after `earlier`, an older state of the same stream; `None` where it is no older state,
    /// that is after a reset.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if earlier.scale < self.scale || earlier.zero_threshold > self.zero_threshold {
            return None;
        }
        let mut earlier = earlier.clone();
        earlier.lower_to(self.scale);
        earlier.raise_zero_threshold(self.zero_threshold);
        Some(Self {
            scale: self.scale,
            zero_threshold: self.zero_threshold,
            zeros: self.zeros.checked_sub(earlier.zeros)?,
            positive: self.positive.since(&earlier.positive)?,
            negative: self.negative.since(&earlier.negative)?,
            sum: self.sum - earlier.sum,
            extremes: None,
        })
    }

    fn lower_to(&mut self, scale: i32) {
        if scale < self.scale {
            let shift = self.scale.abs_diff(scale);
            self.positive.lower(shift);
            self.negative.lower(shift);
            self.scale = scale;
        }
    }

    fn fit(&mut self) {
        let shift = shift_for(self.positive.range()).max(shift_for(self.negative.range()));
        self.lower_to(self.scale.saturating_sub(shift));
    }

    /// Widens the zero bucket to `threshold`, or to the end of the bucket it falls in.
    fn raise_zero_threshold(&mut self, threshold: f64) {
        if threshold <= self.zero_threshold {
            return;
        }
        let scale = self.scale;
        let mut reached = threshold;
        for buckets in [&mut self.positive, &mut self.negative] {
            let covered =
                buckets.filled().take_while(|(index, _)| bound(f64::from(*index), scale) < threshold);
            if let Some((last, _)) = covered.last() {
                let end = bound(f64::from(last) + 1.0, scale);
                // A bucket the threshold cuts would be torn: it moves as a whole.
                reached = reached.max(end);
                self.zeros = self.zeros.saturating_add(buckets.remove_through(last));
            }
        }
        self.zero_threshold = reached;
    }
}

impl Default for Exponential {
    fn default() -> Self {
        Self::new()
    }
}

impl Merge for Exponential {
    fn absorb(&mut self, mut other: Self) {
        let threshold = self.zero_threshold.max(other.zero_threshold);
        self.raise_zero_threshold(threshold);
        other.raise_zero_threshold(threshold);
        let mut scale = self.scale.min(other.scale);
        let range = |mine: &Buckets, theirs: &Buckets, mine_at: i32, theirs_at: i32| {
            let mine = mine.range_at(mine_at.abs_diff(scale));
            let theirs = theirs.range_at(theirs_at.abs_diff(scale));
            match (mine, theirs) {
                (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
                (one, two) => one.or(two),
            }
        };
        let positive = range(&self.positive, &other.positive, self.scale, other.scale);
        let negative = range(&self.negative, &other.negative, self.scale, other.scale);
        // The range is measured before anything is added: two far buckets at a fine scale would need gigabytes.
        scale = scale.saturating_sub(shift_for(positive).max(shift_for(negative)));
        self.lower_to(scale);
        other.lower_to(scale);
        self.positive.add(&other.positive);
        self.negative.add(&other.negative);
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.sum += other.sum;
        self.extremes = merge::extremes(self.extremes, other.extremes, self.count() == other.count());
    }
}

impl Buckets {
    fn from_wire((offset, mut counts): (i32, Vec<u64>), scale: i32) -> Option<Self> {
        let leading = counts.iter().take_while(|count| **count == 0).count();
        counts.drain(..leading);
        while counts.last() == Some(&0) {
            counts.pop();
        }
        if counts.is_empty() {
            return Some(Self::default());
        }
        let first = i64::from(offset) + i64::try_from(leading).ok()?;
        let last = first + i64::try_from(counts.len()).ok()? - 1;
        // Beyond these no finite, non-zero f64 has its bucket.
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^31")]
        let lowest = (-1076.0 * f64::from(scale).exp2()).floor() as i64;
        #[expect(clippy::cast_possible_truncation, reason = "at most 2^30")]
        let highest = (1024.0 * f64::from(scale).exp2()).ceil() as i64;
        if first < lowest || last > highest {
            return None;
        }
        Some(Self { offset: i32::try_from(first).ok()?, counts })
    }

    fn total(&self) -> u64 {
        self.counts.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    fn range(&self) -> Option<(i64, i64)> {
        self.range_at(0)
    }

    fn range_at(&self, shift: u32) -> Option<(i64, i64)> {
        let last = i64::try_from(self.counts.len()).ok()? - 1;
        let first = i64::from(self.offset);
        (last >= 0).then_some((first >> shift, (first + last) >> shift))
    }

    fn filled(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(place, count)| {
            (self.offset.saturating_add(i32::try_from(place).unwrap_or(i32::MAX)), *count)
        })
    }

    fn lower(&mut self, shift: u32) {
        if shift == 0 || self.counts.is_empty() {
            return;
        }
        let mut lowered = Self { offset: self.offset >> shift.min(31), counts: Vec::new() };
        for (index, count) in self.filled() {
            lowered.add_one(index >> shift.min(31), count);
        }
        *self = lowered;
    }

    fn add(&mut self, other: &Self) {
        for (index, count) in other.filled() {
            self.add_one(index, count);
        }
    }

    fn add_one(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let missing = self.offset.abs_diff(index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let place = index.abs_diff(self.offset) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        if let Some(slot) = self.counts.get_mut(place) {
            *slot = slot.saturating_add(count);
        }
    }

    fn since(&self, earlier: &Self) -> Option<Self> {
        let mut difference = self.clone();
        for (index, count) in earlier.filled() {
            let place = usize::try_from(i64::from(index) - i64::from(self.offset)).ok()?;
            let slot = difference.counts.get_mut(place)?;
            *slot = slot.checked_sub(count)?;
        }
        Some(difference)
    }

    fn remove_through(&mut self, last: i32) -> u64 {
        let gone = (i64::from(last) - i64::from(self.offset) + 1).clamp(0, self.counts.len() as i64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the length")]
        let removed = self.counts.drain(..gone as usize).fold(0u64, u64::saturating_add);
        self.offset = if self.counts.is_empty() { 0 } else { last + 1 };
        removed
    }
}

/// Returns how far the scale must fall for `range` to fit into [`MAX_BUCKETS`].
fn shift_for(range: Option<(i64, i64)>) -> i32 {
    let Some((mut low, mut high)) = range else { return 0 };
    let mut shift = 0;
    while high - low >= MAX_BUCKETS as i64 {
        low >>= 1;
        high >>= 1;
        shift += 1;
    }
    shift
}

/// Returns the index of the bucket that holds `value` (above zero).
fn index(value: f64, scale: i32) -> i32 {
    let position = value.log2() * f64::from(scale).exp2();
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^31 at the finest scale")]
    let ceiling = position.ceil() as i32;
    ceiling.saturating_sub(1)
}

/// Returns the value at `position` on the bucket scale; a whole position is the lower end of that bucket.
fn bound(position: f64, scale: i32) -> f64 {
    (position * f64::from(-scale).exp2()).exp2().clamp(f64::MIN_POSITIVE, f64::MAX)
}

/// Returns how far into a bucket `rank` reaches, 0 to 1; `None` if it lies behind it.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are not reached")]
fn within(rank: f64, below: f64, bucket: u64) -> Option<f64> {
    let bucket = bucket as f64;
    (rank <= below + bucket).then(|| ((rank - below) / bucket).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Exponential, MAX_BUCKETS, Merge, Parts};

    fn of(values: &[f64]) -> Exponential {
        let mut histogram = Exponential::new();
        values.iter().for_each(|value| histogram.record(*value, 1));
        histogram
    }

    fn exact(values: &[f64], quantile: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted[rank - 1]
    }

    fn factor(histogram: &Exponential) -> f64 {
        f64::from(-histogram.scale()).exp2().exp2() * 1.000_001
    }

    #[test]
    fn quantiles_of_known_values_are_within_one_bucket() {
        let values: Vec<f64> = (1..=1000).map(|value| f64::from(value) / 1000.0).collect();
        let histogram = of(&values);
        for quantile in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let (found, exact) = (histogram.quantile(quantile).unwrap(), exact(&values, quantile));
            assert!((found / exact - 1.0).abs() < 0.045, "{quantile}: {found} against {exact}");
        }
        assert_eq!(histogram.count(), 1000);
        assert!((histogram.sum() - 500.5).abs() < 1e-9);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Exponential::new().quantile(0.95), None);
    }

    #[test]
    fn one_value_is_its_own_quantile() {
        assert_eq!(of(&[0.25]).quantile(0.95), Some(0.25));
        assert_eq!(of(&[0.0, 0.0]).quantile(0.95), Some(0.0));
        assert_eq!(of(&[-3.0]).quantile(0.5), Some(-3.0));
    }

    #[test]
    fn interpolation_inside_a_bucket_is_exponential() {
        let parts = Parts { scale: 0, positive: (0, vec![4]), ..Parts::default() };
        let histogram = Exponential::from_parts(parts).unwrap();
        let middle = histogram.quantile(0.5).unwrap();
        assert!((middle - 2f64.sqrt()).abs() < 1e-12, "{middle}");
    }

    #[test]
    fn far_apart_values_lower_the_scale_instead_of_growing() {
        let histogram = of(&[1e-300, 1.0, 1e300]);
        assert!(histogram.positive.counts.len() <= MAX_BUCKETS);
        assert_eq!(histogram.count(), 3);
    }

    #[test]
    fn parts_no_float_can_have_are_refused() {
        let far = Parts { scale: 0, positive: (5_000, vec![1]), ..Parts::default() };
        assert!(Exponential::from_parts(far).is_none());
        assert!(Exponential::from_parts(Parts { scale: 21, ..Parts::default() }).is_none());
        assert!(Exponential::from_parts(Parts { zero_threshold: f64::NAN, ..Parts::default() }).is_none());
    }

    #[test]
    fn a_wider_zero_bucket_swallows_whole_buckets() {
        let mut histogram = of(&[0.001, 0.01, 10.0]);
        let wide =
            Exponential::from_parts(Parts { scale: 3, zero_threshold: 0.5, zeros: 2, ..Parts::default() });
        histogram.absorb(wide.unwrap());
        assert_eq!((histogram.zeros, histogram.positive.total(), histogram.count()), (4, 1, 5));
    }

    #[test]
    fn the_difference_of_two_states_is_what_came_between() {
        let mut now = of(&[0.1, 0.2]);
        let earlier = now.clone();
        now.absorb(of(&[0.4, 40.0]));
        let between = now.since(&earlier).unwrap();
        assert_eq!(between.count(), 2);
        let half = between.quantile(0.5).unwrap();
        assert!((half / 0.4 - 1.0).abs() < 0.1, "{half}");
        assert!(earlier.since(&now).is_none(), "a smaller state is a reset");
    }

    proptest! {
        #[test]
        fn a_merge_equals_recording_everything_in_one(
            one in prop::collection::vec(1e-6f64..1e4, 1..80),
            two in prop::collection::vec(1e-3f64..1e6, 1..80),
            quantile in 0.0f64..=1.0,
        ) {
            let mut merged = of(&one);
            merged.absorb(of(&two));
            let all: Vec<f64> = one.iter().chain(&two).copied().collect();
            prop_assert_eq!(merged.count(), all.len() as u64);
            let (found, exact) = (merged.quantile(quantile).unwrap(), exact(&all, quantile));
            let factor = factor(&merged);
            prop_assert!(found / exact <= factor && exact / found <= factor, "{} against {}", found, exact);
        }

        #[test]
        fn quantiles_never_fall(values in prop::collection::vec(-1e3f64..1e3, 1..60)) {
            let histogram = of(&values);
            let mut last = f64::NEG_INFINITY;
            for step in 0..=20 {
                let value = histogram.quantile(f64::from(step) / 20.0).unwrap();
                prop_assert!(value >= last);
                last = value;
            }
        }

        #[test]
        fn the_order_of_merging_does_not_matter(
            one in prop::collection::vec(1e-4f64..1e4, 1..40),
            two in prop::collection::vec(1e-4f64..1e4, 1..40),
        ) {
            let (mut left, mut right) = (of(&one), of(&two));
            left.absorb(of(&two));
            right.absorb(of(&one));
            prop_assert_eq!((left.scale(), &left.positive), (right.scale(), &right.positive));
        }
    }
}
