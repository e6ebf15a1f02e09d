//! Figures of a value's history, by their names in a condition: `apr_mean_30d`.

use super::history::{Point, Series};

/// Longest time a figure looks back, in days.
pub(super) const LONGEST: u32 = 366;

/// A figure of one value over the days before the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    /// The value it is about.
    pub(super) value: String,
    /// What is made of it.
    statistic: Statistic,
    /// How many days it looks back.
    pub(super) days: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistic {
    Mean,
    Min,
    Max,
    /// The population's standard deviation.
    Sd,
    /// The last one known.
    Last,
    /// On how many days it is known.
    Days,
}

impl Figure {
    /// Reads a name such as `apr_mean_30d`; `None` if it has another form and is a value's own name.
    #[must_use]
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (rest, days) = name.strip_suffix('d')?.rsplit_once('_')?;
        let days = days.parse().ok().filter(|days| (1..=LONGEST).contains(days))?;
        let (value, statistic) = rest.rsplit_once('_').filter(|(value, _)| !value.is_empty())?;
        let statistic = match statistic {
            "mean" => Statistic::Mean,
            "min" => Statistic::Min,
            "max" => Statistic::Max,
            "sd" => Statistic::Sd,
            "last" => Statistic::Last,
            "days" => Statistic::Days,
            _ => return None,
        };
        Some(Self { value: value.to_owned(), statistic, days })
    }

    /// Returns the figure over the days before `day`; `None` where it needs a day and none is known.
    #[must_use]
    pub(super) fn of(&self, series: Option<&Series>, day: i64) -> Option<f64> {
        let known = |point: &Point| point.value(&self.value);
        let values: Vec<f64> = series
            .map(|series| series.before(day, self.days.into()).filter_map(known).collect())
            .unwrap_or_default();
        match self.statistic {
            Statistic::Days => Some(values.len() as f64),
            _ if values.is_empty() => None,
            Statistic::Mean => Some(mean(&values)),
            Statistic::Min => values.iter().copied().reduce(f64::min),
            Statistic::Max => values.iter().copied().reduce(f64::max),
            Statistic::Last => values.last().copied(),
            Statistic::Sd => {
                let centre = mean(&values);
                let squares: Vec<f64> = values.iter().map(|value| (value - centre).powi(2)).collect();
                Some(mean(&squares).sqrt())
            }
        }
    }
}

/// Returns the mean of at least one value.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::{
        super::history::{DAY, History, Limits, Point, Subject},
        Figure,
    };

    #[test]
    fn only_the_documented_names_are_figures() {
        for name in ["apr_mean_30d", "gas_price_max_7d", "x_last_1d", "apr_days_366d"] {
            assert!(Figure::parse(name).is_some(), "{name}");
        }
        for name in [
            "apr",
            "apr_30d",
            "mean_30d",
            "_mean_30d",
            "apr_mean_0d",
            "apr_mean_367d",
            "apr_mean_30",
            "volume_24h",
        ] {
            assert_eq!(Figure::parse(name), None, "{name}");
        }
    }

    #[test]
    fn figures_look_back_as_far_as_they_say_and_not_at_today() {
        let mut history = History::new(Limits { subjects: 1, points: 99, bytes: 1 << 20 });
        let subject: Subject = ("pool".into(), "a".into(), "1".into());
        for (day, apr) in [(1, 100.0), (2, 2.0), (4, 4.0), (5, 9.0), (6, 500.0)] {
            history.add(&subject, Point { at: day * DAY, values: [("apr".into(), apr)].into() });
        }
        let of = |name: &str| Figure::parse(name).unwrap().of(history.series(&subject), 6);
        assert_eq!(of("apr_mean_4d"), Some(5.0));
        assert_eq!(
            (of("apr_min_4d"), of("apr_max_4d"), of("apr_last_30d")),
            (Some(2.0), Some(9.0), Some(9.0))
        );
        assert_eq!(
            (of("apr_days_4d"), of("apr_days_30d"), of("tvl_days_30d")),
            (Some(3.0), Some(4.0), Some(0.0))
        );
        assert!((of("apr_sd_4d").unwrap() - (26.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(of("tvl_mean_30d"), None);
        assert_eq!(Figure::parse("apr_mean_4d").unwrap().of(None, 6), None);
    }
}
