//! Series: what the mesh's metrics were, over time.
//!
//! 1. A point is stamped on arrival with the agent clock; the client's own time only tells streams apart and how long
//!    a value took to gather.
//! 2. Everything is kept as increments, so a window is a sum and a quantile is asked of merged buckets, never of
//!    averaged quantiles.
//! 3. A new series beyond the cap is refused, counted and reported; the series that are there go on.

pub mod baseline;
pub mod distribution;
pub mod explicit;
pub mod exponential;
pub mod merge;
pub mod point;
pub mod tiers;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use baseline::Baselines;
use distribution::Distribution;
use merge::{Increment, Level, Merge as _};
use point::{Labels, Point, Sample, Source};
use tiers::{Tiers, Timed};

/// Most exporting processes remembered; the one that has been silent longest makes room.
const SOURCES: usize = 1_024;

/// Bounds of a store.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most series.
    pub series: usize,
    /// How long points are kept, on the agent clock.
    pub retention: Duration,
}

/// Why a point was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are as many series as allowed.
    #[error("more series than the monitor keeps")]
    TooManySeries,
    /// The metric came with another kind of value before.
    #[error("the metric had another kind of value before")]
    AnotherKind,
}

/// Holds every series.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    started: SystemTime,
    manual: bool,
    metrics: HashMap<String, HashMap<Identity, Series>>,
    held: usize,
    refused: u64,
    heard: HashMap<Source, SystemTime>,
}

/// One export under way: who sends it, when it came and since when it counts.
#[derive(Clone, Debug)]
pub struct Arrival {
    source: Source,
    now: SystemTime,
    previous: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    service: String,
    labels: Labels,
}

#[derive(Debug)]
struct Series {
    baselines: Baselines,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Count(Tiers<Increment>),
    Level(Tiers<Level>),
    Distribution(Tiers<Distribution>),
}

impl Store {
    /// Returns an empty store. `manual` says that the clock is moved by hand, so that a client's durations say nothing
    /// about the agent's time.
    #[must_use]
    pub fn new(limits: Limits, started: SystemTime, manual: bool) -> Self {
        Self { limits, started, manual, metrics: HashMap::new(), held: 0, refused: 0, heard: HashMap::new() }
    }

    /// Begins to take in what `source` sent at `now`.
    pub fn arrive(&mut self, source: Source, now: SystemTime) -> Arrival {
        if !self.heard.contains_key(&source)
            && self.heard.len() >= SOURCES
            && let Some(silent) =
                self.heard.iter().min_by_key(|(_, at)| **at).map(|(source, _)| source.clone())
        {
            self.heard.remove(&silent);
        }
        let previous = self.heard.insert(source.clone(), now).unwrap_or(self.started);
        Arrival { source, now, previous }
    }

    /// Takes in one point.
    ///
    /// # Errors
    /// The point opens a series beyond the cap, or its metric had another kind of value before.
    pub fn record(&mut self, arrival: &Arrival, point: Point) -> Result<(), Refusal> {
        let outcome = self.place(arrival, point);
        if outcome.is_err() {
            self.refused += 1;
        }
        outcome
    }

    /// Returns how many series are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Returns how many points were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns whether `metric` was ever seen within retention.
    #[must_use]
    pub fn knows(&self, metric: &str) -> bool {
        self.metrics.contains_key(metric)
    }

    /// Returns when a process of a service that reports `metric` last exported anything.
    #[must_use]
    pub fn last_heard(&self, metric: &str) -> Option<SystemTime> {
        let series = self.metrics.get(metric)?;
        let reports = |source: &Source| series.keys().any(|identity| identity.service == source.service);
        self.heard.iter().filter(|(source, _)| reports(source)).map(|(_, at)| *at).max()
    }

    /// Merges what `metric` measured after `since`, over the series whose attributes `keep` accepts.
    #[must_use]
    pub fn distribution(
        &self,
        metric: &str,
        since: Option<SystemTime>,
        keep: impl Fn(&Labels) -> bool,
    ) -> Option<Distribution> {
        let mut merged: Option<Distribution> = None;
        for (identity, series) in self.metrics.get(metric)? {
            let Data::Distribution(tiers) = &series.data else { continue };
            if !keep(&identity.labels) {
                continue;
            }
            for point in tiers.after(since) {
                match &mut merged {
                    Some(merged) => merged.absorb(point.value.clone()),
                    None => merged = Some(point.value.clone()),
                }
            }
        }
        merged
    }

    /// Counts what `metric` measured after `since`, by the value of the attribute `by` (empty where it is missing).
    #[must_use]
    pub fn measured_by(&self, metric: &str, since: Option<SystemTime>, by: &str) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (identity, series) in self.metrics.get(metric).into_iter().flatten() {
            let Data::Distribution(tiers) = &series.data else { continue };
            let count: u64 = tiers.after(since).map(|point| point.value.count()).sum();
            if count > 0 {
                *counts.entry(identity.labels.get(by).unwrap_or_default().to_owned()).or_default() += count;
            }
        }
        counts
    }

    /// Sums what the counter `metric` rose by after `since`, by the value of the attribute `by`. An increment whose
    /// time lies partly before `since` counts by the share after it.
    #[must_use]
    pub fn counted_by(&self, metric: &str, since: Option<SystemTime>, by: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (identity, series) in self.metrics.get(metric).into_iter().flatten() {
            let Data::Count(tiers) = &series.data else { continue };
            let sum: f64 = tiers.after(since).map(|point| point.value.0 * point.share_after(since)).sum();
            *sums.entry(identity.labels.get(by).unwrap_or_default().to_owned()).or_default() += sum;
        }
        sums
    }

    /// Returns the last arrivals of `metric`, newest first and each moment once, at most `most`.
    #[must_use]
    pub fn arrivals(&self, metric: &str, since: Option<SystemTime>, most: usize) -> Vec<SystemTime> {
        let mut moments = Vec::new();
        for series in self.metrics.get(metric).into_iter().flatten().map(|(_, series)| series) {
            moments.extend(series.arrivals(since).take(most));
        }
        moments.sort_unstable_by(|one, two| two.cmp(one));
        moments.dedup();
        moments.truncate(most);
        moments
    }

    /// Lists the attributes of the series of the counter `metric` that rose after `since`, and when they last did.
    #[must_use]
    pub fn risen(&self, metric: &str, since: Option<SystemTime>) -> Vec<(Labels, SystemTime)> {
        let mut risen = Vec::new();
        for (identity, series) in self.metrics.get(metric).into_iter().flatten() {
            if let Data::Count(tiers) = &series.data
                && let Some(last) = tiers.after(since).rfind(|point| point.value.0 > 0.0)
            {
                risen.push((identity.labels.clone(), last.to));
            }
        }
        risen.sort();
        risen
    }

    fn place(&mut self, arrival: &Arrival, point: Point) -> Result<(), Refusal> {
        let identity = Identity { service: arrival.source.service.clone(), labels: point.labels.clone() };
        let known = self.metrics.get(&point.metric).is_some_and(|series| series.contains_key(&identity));
        if !known {
            if self.held >= self.limits.series {
                self.forget_silent(arrival.now);
            }
            if self.held >= self.limits.series {
                return Err(Refusal::TooManySeries);
            }
            let series = Series { baselines: Baselines::default(), data: Data::of(&point.sample) };
            self.metrics.entry(point.metric.clone()).or_default().insert(identity.clone(), series);
            self.held += 1;
        }
        let from = self.beginning(arrival, &point);
        let run = arrival.now.duration_since(self.started).unwrap_or_default();
        let retention = self.limits.retention;
        let series = self.metrics.get_mut(&point.metric).and_then(|series| series.get_mut(&identity));
        series.map_or(Ok(()), |series| series.record(arrival, &point, from, run, retention))
    }

    /// Returns since when an increment counts: since this process last exported, but for no longer than the client took
    /// to gather it. Clients stay silent while nothing happens, so the first bound alone would thin out a burst after a
    /// pause; on a clock moved by hand the second one does not apply.
    fn beginning(&self, arrival: &Arrival, point: &Point) -> SystemTime {
        let gathered = Duration::from_nanos(point.time.saturating_sub(point.start));
        let delta = matches!(
            &point.sample,
            Sample::Count(_, point::Temporality::Delta) | Sample::Distribution(_, point::Temporality::Delta)
        );
        if self.manual || !delta || point.start == 0 {
            return arrival.previous;
        }
        arrival.now.checked_sub(gathered).map_or(arrival.previous, |from| from.max(arrival.previous))
    }

    fn forget_silent(&mut self, now: SystemTime) {
        let retention = self.limits.retention;
        let recent = |at: SystemTime| now.duration_since(at).unwrap_or_default() <= retention;
        for series in self.metrics.values_mut() {
            series.retain(|_, series| series.arrivals(None).next().is_some_and(recent));
        }
        self.metrics.retain(|_, series| !series.is_empty());
        self.held = self.metrics.values().map(HashMap::len).sum();
    }
}

impl Series {
    fn record(
        &mut self,
        arrival: &Arrival,
        point: &Point,
        from: SystemTime,
        run: Duration,
        retention: Duration,
    ) -> Result<(), Refusal> {
        if !self.data.takes(&point.sample) {
            return Err(Refusal::AnotherKind);
        }
        let Some(sample) = self.baselines.increment(&arrival.source.instance, point, arrival.now, run) else {
            return Ok(());
        };
        let to = arrival.now;
        match (&mut self.data, sample) {
            (Data::Count(tiers), Sample::Count(value, _)) => {
                tiers.push(Timed { from, to, value: Increment(value) }, retention);
            }
            (Data::Level(tiers), Sample::Level(value)) => {
                tiers.push(Timed { from, to, value: Level(value) }, retention);
            }
            (Data::Distribution(tiers), Sample::Distribution(value, _)) => {
                tiers.push(Timed { from, to, value }, retention);
            }
            _ => return Err(Refusal::AnotherKind),
        }
        Ok(())
    }

    /// Returns when its points arrived, newest first.
    fn arrivals(&self, since: Option<SystemTime>) -> Box<dyn Iterator<Item = SystemTime> + '_> {
        match &self.data {
            Data::Count(tiers) => Box::new(tiers.after(since).rev().map(|point| point.to)),
            Data::Level(tiers) => Box::new(tiers.after(since).rev().map(|point| point.to)),
            Data::Distribution(tiers) => Box::new(tiers.after(since).rev().map(|point| point.to)),
        }
    }
}

impl Data {
    fn of(sample: &Sample) -> Self {
        match sample {
            Sample::Count(..) => Self::Count(Tiers::default()),
            Sample::Level(_) => Self::Level(Tiers::default()),
            Sample::Distribution(..) => Self::Distribution(Tiers::default()),
        }
    }

    fn takes(&self, sample: &Sample) -> bool {
        matches!(
            (self, sample),
            (Self::Count(_), Sample::Count(..))
                | (Self::Level(_), Sample::Level(_))
                | (Self::Distribution(_), Sample::Distribution(..))
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{
        Labels, Limits, Point, Refusal, Sample, Source, Store,
        point::Temporality::{Cumulative, Delta},
    };

    const LIMITS: Limits = Limits { series: 3, retention: Duration::from_secs(3_600) };

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn point(metric: &str, label: &str, sample: Sample) -> Point {
        let labels = Labels::new(vec![("key".to_owned(), label.to_owned())]);
        Point { metric: metric.to_owned(), labels, start: 0, time: 0, sample }
    }

    fn count(label: &str, value: f64) -> Point {
        point("counter", label, Sample::Count(value, Delta))
    }

    fn send(store: &mut Store, seconds: u64, point: Point) -> Result<(), Refusal> {
        let source = Source { service: "service".to_owned(), instance: "one".to_owned() };
        let arrival = store.arrive(source, at(seconds));
        store.record(&arrival, point)
    }

    #[test]
    fn series_beyond_the_cap_are_refused_and_counted() {
        let mut store = Store::new(LIMITS, at(0), true);
        for label in ["a", "b", "c"] {
            send(&mut store, 1, count(label, 1.0)).unwrap();
        }
        assert_eq!(send(&mut store, 2, count("d", 1.0)), Err(Refusal::TooManySeries));
        send(&mut store, 3, count("a", 1.0)).unwrap();
        assert_eq!((store.held(), store.refused()), (3, 1));
    }

    #[test]
    fn silent_series_make_room_after_retention() {
        let mut store = Store::new(LIMITS, at(0), true);
        for label in ["a", "b", "c"] {
            send(&mut store, 1, count(label, 1.0)).unwrap();
        }
        send(&mut store, 3_602, count("d", 1.0)).unwrap();
        assert_eq!(store.held(), 1);
    }

    #[test]
    fn a_metric_keeps_its_kind() {
        let mut store = Store::new(LIMITS, at(0), true);
        send(&mut store, 1, count("a", 1.0)).unwrap();
        assert_eq!(send(&mut store, 1, point("counter", "a", Sample::Level(1.0))), Err(Refusal::AnotherKind));
    }

    #[test]
    fn a_count_is_spread_over_the_time_since_the_last_export() {
        let mut store = Store::new(LIMITS, at(0), true);
        send(&mut store, 100, count("a", 50.0)).unwrap();
        assert!((store.counted_by("counter", Some(at(80)), "key")["a"] - 10.0).abs() < 1e-9);
        send(&mut store, 110, count("a", 6.0)).unwrap();
        assert!((store.counted_by("counter", Some(at(105)), "key")["a"] - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_burst_after_a_pause_is_not_thinned_out_on_the_systems_clock() {
        let mut store = Store::new(LIMITS, at(0), false);
        let burst = Point { start: 970_000_000_000, time: 1_000_000_000_000, ..count("a", 30.0) };
        send(&mut store, 1_000, burst).unwrap();
        assert!((store.counted_by("counter", Some(at(970)), "key")["a"] - 30.0).abs() < 1e-9);
    }

    #[test]
    fn cumulative_counters_are_kept_as_increments() {
        let mut store = Store::new(LIMITS, at(0), true);
        for (seconds, value) in [(10, 100.0), (20, 130.0), (30, 5.0)] {
            send(&mut store, seconds, point("counter", "a", Sample::Count(value, Cumulative))).unwrap();
        }
        assert!((store.counted_by("counter", None, "key")["a"] - 35.0).abs() < 1e-9);
    }

    #[test]
    fn a_service_that_reports_a_metric_is_heard_by_any_export() {
        let mut store = Store::new(LIMITS, at(0), true);
        send(&mut store, 10, count("a", 1.0)).unwrap();
        send(&mut store, 50, point("other", "a", Sample::Level(1.0))).unwrap();
        assert_eq!(store.last_heard("counter"), Some(at(50)));
        assert_eq!(store.last_heard("missing"), None);
    }
}
