//! How a set of values is spread.

/// Consistency of the median absolute deviation with a standard deviation under normality.
const MAD_TO_DEVIATION: f64 = 1.4826;
/// The same for the mean absolute deviation, the fallback where more than half of the values are equal
/// (Iglewicz & Hoaglin, "How to Detect and Handle Outliers", 1993).
const MEAN_TO_DEVIATION: f64 = 1.2533;
/// From this ratio of the quartiles on, values without a negative one are measured on a log scale: money and rates are spread by factors,
/// and on a plain scale a third of all pools would count as outliers.
const SKEWED: f64 = 3.0;

/// The spread of some values: never empty, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    sorted: Vec<f64>,
    median: f64,
    scale: f64,
    /// The unit of the log scale, where there is one.
    unit: Option<f64>,
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
        Some(Self { sorted: values, median, scale, unit: None })
    }

    /// Measures `values`, on a log scale if they are not negative and spread by factors; `None` without any.
    ///
    /// The scale is asinh(value ÷ unit), the unit a tenth of the lower quartile: logarithmic for all but the smallest values, linear
    /// down to zero.
    #[must_use]
    pub fn by_factors(values: Vec<f64>) -> Option<Self> {
        let plain = Self::of(values)?;
        let (low, high) = (plain.quantile(0.25), plain.quantile(0.75));
        if plain.quantile(0.0) < 0.0 || plain.median <= 0.0 || high <= SKEWED * low {
            return Some(plain);
        }
        let unit = if low > 0.0 { low } else { plain.median } / 10.0;
        let bent = Self::of(plain.sorted.iter().map(|value| (value / unit).asinh()).collect())?;
        Some(Self { scale: bent.scale, unit: Some(unit), ..plain })
    }

    /// Returns whether deviations are measured on a log scale.
    #[must_use]
    pub fn is_by_factors(&self) -> bool {
        self.unit.is_some()
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
        let away = match self.unit {
            None => value - self.median,
            Some(unit) => (value / unit).asinh() - (self.median / unit).asinh(),
        };
        if self.scale > 0.0 { away / self.scale } else { 0.0 }
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
    fn values_spread_by_factors_have_few_outliers() {
        let money: Vec<f64> = (0..100_i32).map(|step| 1e3 * 1.1_f64.powi(step)).collect();
        let outliers = |spread: Spread| money.iter().filter(|value| spread.z(**value).abs() > 3.5).count();
        let bent = Spread::by_factors(money.clone()).unwrap();
        assert!(bent.is_by_factors());
        assert!(bent.z(1e12) > 3.5 && bent.z(money[99]) < 3.5);
        assert_eq!(outliers(bent), 0);
        assert!(outliers(spread(&money)) > 10);
        assert!(!Spread::by_factors(vec![10.0, 11.0, 12.0, 13.0]).unwrap().is_by_factors());
        assert!(!Spread::by_factors(vec![-1.0, 1.0, 10.0, 100.0]).unwrap().is_by_factors());
        assert!(Spread::by_factors(vec![0.0, 0.0, 5.0, 50.0, 500.0]).unwrap().z(0.0) < 0.0);
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
