//! The figures of one reading over one window.

use std::collections::BTreeSet;

use crate::document::{Fields, Value};

/// What may be kept of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Figure {
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Arithmetic mean of the samples.
    Avg,
    /// Latest by time.
    Last,
    /// Sum.
    Sum,
    /// Samples that had this reading.
    Count,
    /// Mean over time.
    TimeWeightedMean,
}

/// What is kept of a reading.
pub type Figures = BTreeSet<Figure>;

/// The figures of one reading over one window; `None` where its rule does not keep one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Aggregate {
    /// Smallest.
    pub min: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// Arithmetic mean of the samples.
    pub avg: Option<f64>,
    /// Latest by time.
    pub last: Option<f64>,
    /// Sum.
    pub sum: Option<f64>,
    /// Samples that had this reading.
    pub count: Option<u64>,
    /// Mean over time: each reading counts for as long as it is the latest. From samples `v1..vn` at `t1 < .. < tn` of a window that ends
    /// at `e`, with `t(n+1) = e`, it is the sum of `vi · (t(i+1) - ti)` over `e - t1`.
    ///
    /// So what was before the first sample does not count (a bucket is made of its own samples alone, and a late sample of one bucket
    /// changes no other), and the last one counts to the end of the window, also while the bucket is open: what it would be if nothing
    /// more came. The step function is that of "last observation carried forward": `time_weight('LOCF', ..)` of the TimescaleDB toolkit,
    /// whose `interpolated_average` also carries the last one to the end.
    pub time_weighted_mean: Option<f64>,
}

/// A mean that takes values with weights, by West's update (Communications of the ACM 22(9), 1979): no sum that could overflow.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    weight: f64,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Min, Self::Max, Self::Avg, Self::Last, Self::Sum, Self::Count, Self::TimeWeightedMean];

    /// Returns the name by which a rule asks for it and under which it stands in a document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Last => "last",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::TimeWeightedMean => "time_weighted_mean",
        }
    }

    /// Returns the bit that stands for it on disk.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// Returns the figure of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.name() == name)
    }
}

impl Mean {
    fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        let step = (value - self.value) * weight;
        // Between two numbers of different signs near the largest double there is no step.
        if step.is_finite() {
            self.value += step / self.weight;
        } else {
            let share = weight / self.weight;
            self.value = self.value * (1.0 - share) + value * share;
        }
    }
}

impl Aggregate {
    /// Computes `figures` from readings by time, oldest first, in microseconds since the epoch, of a window that ends at `end`. All are
    /// `None` if there is no reading.
    #[must_use]
    pub fn of(readings: &[(i64, f64)], end: i64, figures: &Figures) -> Self {
        let Some((_, first)) = readings.first() else { return Self::default() };
        let (mut min, mut max, mut last, mut sum) = (*first, *first, *first, 0.0);
        let (mut mean, mut over_time) = (Mean::default(), Mean::default());
        let ends = readings.iter().skip(1).map(|(time, _)| *time).chain([end]);
        for ((time, reading), until) in readings.iter().zip(ends) {
            min = reading.min(min);
            max = reading.max(max);
            last = *reading;
            sum += reading;
            mean.add(*reading, 1.0);
            over_time.add(*reading, (until - time) as f64);
        }
        let kept = |figure, value| figures.contains(&figure).then_some(value);
        Self {
            min: kept(Figure::Min, min),
            max: kept(Figure::Max, max),
            avg: kept(Figure::Avg, mean.value),
            last: kept(Figure::Last, last),
            sum: kept(Figure::Sum, sum),
            count: figures.contains(&Figure::Count).then_some(readings.len() as u64),
            time_weighted_mean: kept(Figure::TimeWeightedMean, over_time.value),
        }
    }

    /// Returns the map that stands for it in a document.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let named = |figure: Figure| self.value(figure).map(|value| (figure.name().to_owned(), value));
        Value::Map(Figure::ALL.into_iter().filter_map(named).collect())
    }

    /// Reads it back; `None` if the value is none.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let Value::Map(fields) = value else { return None };
        Some(Self {
            min: number(fields, Figure::Min)?,
            max: number(fields, Figure::Max)?,
            avg: number(fields, Figure::Avg)?,
            last: number(fields, Figure::Last)?,
            sum: number(fields, Figure::Sum)?,
            count: match fields.get(Figure::Count.name()) {
                None => None,
                Some(value) => Some(whole(value)?),
            },
            time_weighted_mean: number(fields, Figure::TimeWeightedMean)?,
        })
    }

    fn value(&self, figure: Figure) -> Option<Value> {
        let number = match figure {
            Figure::Count => {
                return self.count.map(|count| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX)));
            }
            Figure::Min => self.min,
            Figure::Max => self.max,
            Figure::Avg => self.avg,
            Figure::Last => self.last,
            Figure::Sum => self.sum,
            Figure::TimeWeightedMean => self.time_weighted_mean,
        };
        number.map(Value::Double)
    }
}

/// Returns a figure of a document's map, `Some(None)` if it was not kept, and `None` if it is no number.
#[expect(
    clippy::option_option,
    reason = "that a figure was not kept is no fault, that it is no number is one"
)]
fn number(fields: &Fields, figure: Figure) -> Option<Option<f64>> {
    match fields.get(figure.name()) {
        None => Some(None),
        Some(Value::Double(number)) => Some(Some(*number)),
        Some(_) => None,
    }
}

/// Returns a number that is not negative.
#[must_use]
pub fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Aggregate, Figure, Figures};
    use crate::document::Value;

    fn all() -> Figures {
        Figures::from(Figure::ALL)
    }

    #[test]
    fn a_reading_counts_over_time_for_as_long_as_it_is_the_latest() {
        // 10 for a quarter of what is left after the first sample, 2 for three quarters.
        let aggregate = Aggregate::of(&[(100, 10.0), (300, 2.0)], 900, &all());
        assert_eq!(aggregate.time_weighted_mean, Some(4.0));
        assert_eq!(aggregate.avg, Some(6.0));
    }

    #[test]
    fn what_was_before_the_first_sample_does_not_count_and_the_last_counts_to_the_end() {
        let one = Aggregate::of(&[(899, 7.0)], 900, &all());
        assert_eq!(one.time_weighted_mean, Some(7.0));
        let two = Aggregate::of(&[(0, 1.0), (1, 3.0)], 1_000, &all());
        assert!((two.time_weighted_mean.unwrap() - 2.998).abs() < 1e-12);
    }

    #[test]
    fn only_what_is_asked_for_is_kept_and_stands_in_the_document() {
        let figures = Figures::from([Figure::Min, Figure::Count]);
        let aggregate = Aggregate::of(&[(1, 5.0), (2, 3.0)], 900, &figures);
        assert_eq!(aggregate, Aggregate { min: Some(3.0), count: Some(2), ..Aggregate::default() });
        let Value::Map(fields) = aggregate.to_value() else { panic!("no map") };
        assert_eq!(fields.into_keys().collect::<Vec<_>>(), ["count", "min"]);
        assert_eq!(Aggregate::of(&[], 900, &all()), Aggregate::default());
    }

    #[test]
    fn a_value_that_is_no_aggregate_is_none() {
        let map = |name: &str, value| Value::Map([(name.to_owned(), value)].into());
        assert_eq!(Aggregate::from_value(&Value::Null), None);
        assert_eq!(Aggregate::from_value(&map("min", Value::Integer(1))), None);
        assert_eq!(Aggregate::from_value(&map("count", Value::Integer(-1))), None);
    }

    #[test]
    fn readings_near_the_largest_double_have_a_mean() {
        let aggregate = Aggregate::of(&[(0, f64::MAX), (450, f64::MIN)], 900, &all());
        assert_eq!(aggregate.avg, Some(0.0));
        assert_eq!(aggregate.time_weighted_mean, Some(0.0));
    }

    /// Readings at distinct times before `END`.
    const END: i64 = 1_000;

    fn readings() -> impl Strategy<Value = Vec<(i64, f64)>> {
        prop::collection::btree_map(0..END, -1e6..1e6, 1..40).prop_map(|found| found.into_iter().collect())
    }

    proptest! {
        /// The mean over time is that of the step function, looked at once in every microsecond.
        #[test]
        fn the_figures_are_those_of_a_naive_computation(readings in readings()) {
            let aggregate = Aggregate::of(&readings, END, &all());
            let values: Vec<f64> = readings.iter().map(|(_, value)| *value).collect();
            let sum: f64 = values.iter().sum();
            let close = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() <= 1e-9 * 1e6;
            prop_assert_eq!(aggregate.min, values.iter().copied().reduce(f64::min));
            prop_assert_eq!(aggregate.max, values.iter().copied().reduce(f64::max));
            prop_assert_eq!(aggregate.last, values.last().copied());
            prop_assert_eq!(aggregate.count, Some(values.len() as u64));
            prop_assert!(close(aggregate.sum, sum));
            prop_assert!(close(aggregate.avg, sum / values.len() as f64));
            let steps: Vec<f64> = (readings[0].0..END)
                .map(|moment| readings.iter().rev().find(|(time, _)| *time <= moment).unwrap().1)
                .collect();
            let mean = steps.iter().sum::<f64>() / steps.len() as f64;
            prop_assert!(close(aggregate.time_weighted_mean, mean));
        }

        #[test]
        fn what_is_kept_comes_back_from_a_document(readings in readings(), kept in prop::collection::btree_set(0..7_usize, 0..8)) {
            let figures = kept.into_iter().map(|place| Figure::ALL[place]).collect();
            let aggregate = Aggregate::of(&readings, END, &figures);
            prop_assert_eq!(Aggregate::from_value(&aggregate.to_value()), Some(aggregate));
        }
    }
}
