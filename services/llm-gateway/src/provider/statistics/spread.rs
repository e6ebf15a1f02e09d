//! How a set of values is spread.

/// Consistency of the median absolute deviation with a standard deviation under normality.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// The same for the mean absolute deviation, the fallback where more than half of the values are equal
/// (Iglewicz & Hoaglin, "How to Detect and Handle Outliers", 1993).
const MEAN_TO_DEVIATION: f64 = 1.2533;

/// The spread of some values: never empty, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    sorted: Vec<f64>,
    median: f64,
    scale: f64,
}

impl Spread {
    /// Measures `values`; `None` without any.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        if values.is_empty() {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let median = quantile(&values, 0.5);
        let mut away: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        away.sort_by(f64::total_cmp);
        let robust = MAD_TO_DEVIATION * quantile(&away, 0.5);
        let scale = if robust > 0.0 { robust } else { MEAN_TO_DEVIATION * mean(&away) };
        Some(Self { sorted: values, median, scale })
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Returns the median.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.median
    }

    /// Returns the robust standard deviation; 0 if all values are equal.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Returns the quantile at `share` (0 to 1), by linear interpolation (Hyndman & Fan's type 7).
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        quantile(&self.sorted, share)
    }

    /// Returns the arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        mean(&self.sorted)
    }

    /// Returns how many robust standard deviations `value` is above the median; 0 if all values are equal.
    #[must_use]
    pub fn z(&self, value: f64) -> f64 {
        if self.scale > 0.0 { (value - self.median) / self.scale } else { 0.0 }
    }

    /// Returns the share of values below `value`, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn share_below(&self, value: f64) -> f64 {
        self.sorted.partition_point(|other| *other < value) as f64 / self.sorted.len() as f64
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between 0 and the number of values"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = share.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (rank.floor() as usize, rank.fract());
    let low = sorted.get(below).copied().unwrap_or_default();
    let high = sorted.get((below + 1).min(last)).copied().unwrap_or(low);
    low + (high - low) * part
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Spread;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.to_vec()).unwrap()
    }

    #[test]
    fn one_outlier_does_not_hide_itself() {
        let values = spread(&[1.0, 2.0, 3.0, 4.0, 100.0]);
        assert!((values.median() - 3.0).abs() < 1e-12);
        assert!((values.scale() - 1.4826).abs() < 1e-12);
        assert!(values.z(100.0) > 60.0);
        assert!((values.share_below(100.0) - 0.8).abs() < 1e-12);
        assert!((values.quantile(0.25) - 2.0).abs() < 1e-12);
        assert!((values.mean() - 22.0).abs() < 1e-12);
    }

    #[test]
    fn mostly_equal_values_still_have_a_scale() {
        let values = spread(&[0.0, 0.0, 0.0, 0.0, 10.0]);
        assert!((values.scale() - 1.2533 * 2.0).abs() < 1e-12);
    }

    #[test]
    fn equal_values_have_no_outlier() {
        assert!(spread(&[5.0; 4]).z(7.0).abs() < f64::EPSILON);
        assert!(Spread::of(vec![]).is_none());
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_stay_inside(values in prop::collection::vec(-1e9_f64..1e9, 1..50), share in 0.0_f64..1.0) {
            let measured = spread(&values);
            let (low, high) = (measured.quantile(0.0), measured.quantile(1.0));
            let at = measured.quantile(share);
            prop_assert!(low <= at && at <= high && measured.quantile(share / 2.0) <= at);
        }
    }
}
