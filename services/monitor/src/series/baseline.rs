//! Turns cumulative values into increments.

use std::time::{Duration, SystemTime};

use super::{
    distribution::Distribution,
    point::{Point, Sample, Temporality},
};

/// Most streams remembered for one series; the one that has been silent longest makes room.
const STREAMS: usize = 16;

/// The last cumulative value of each process that reports a series.
#[derive(Debug, Default)]
pub struct Baselines(Vec<Baseline>);

#[derive(Debug)]
struct Baseline {
    instance: String,
    start: u64,
    seen: SystemTime,
    value: Sample,
}

impl Baselines {
    /// Returns the increment `point` brings: itself if it is one, the difference to the stream's last value if it is
    /// cumulative, all of it after a reset. The first value of a stream that is older than `run`, the time this monitor
    /// has been running, only marks where to count from.
    pub fn increment(
        &mut self,
        instance: &str,
        point: &Point,
        now: SystemTime,
        run: Duration,
    ) -> Option<Sample> {
        if !is_cumulative(&point.sample) {
            return Some(point.sample.clone());
        }
        let known = self.0.iter().position(|baseline| baseline.instance == instance);
        let earlier = known.map(|place| self.0.swap_remove(place));
        let increment = match &earlier {
            Some(earlier) if earlier.start == point.start => {
                Some(difference(&point.sample, &earlier.value).unwrap_or_else(|| point.sample.clone()))
            }
            Some(_) => Some(point.sample.clone()),
            None => {
                let age = Duration::from_nanos(point.time.saturating_sub(point.start));
                (point.start > 0 && age <= run).then(|| point.sample.clone())
            }
        };
        if self.0.len() >= STREAMS
            && let Some((place, _)) = self.0.iter().enumerate().min_by_key(|(_, baseline)| baseline.seen)
        {
            self.0.swap_remove(place);
        }
        let (instance, value) = (instance.to_owned(), point.sample.clone());
        self.0.push(Baseline { instance, start: point.start, seen: now, value });
        increment
    }
}

fn is_cumulative(sample: &Sample) -> bool {
    matches!(
        sample,
        Sample::Count(_, Temporality::Cumulative) | Sample::Distribution(_, Temporality::Cumulative)
    )
}

/// Returns what came after `earlier`; `None` after a reset.
fn difference(now: &Sample, earlier: &Sample) -> Option<Sample> {
    match (now, earlier) {
        (Sample::Count(now, kind), Sample::Count(earlier, _)) if now >= earlier => {
            Some(Sample::Count(now - earlier, *kind))
        }
        (Sample::Distribution(now, kind), Sample::Distribution(earlier, _)) => {
            Distribution::since(now, earlier).map(|difference| Sample::Distribution(difference, *kind))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Baselines, Point, Sample, Temporality};

    const RUN: Duration = Duration::from_secs(100);

    fn total(value: f64, start: u64, time: u64) -> Point {
        Point {
            metric: "m".to_owned(),
            labels: super::super::point::Labels::default(),
            start: start * 1_000_000_000,
            time: time * 1_000_000_000,
            sample: Sample::Count(value, Temporality::Cumulative),
        }
    }

    fn step(baselines: &mut Baselines, instance: &str, point: &Point) -> Option<f64> {
        match baselines.increment(instance, point, UNIX_EPOCH, RUN) {
            Some(Sample::Count(value, _)) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn a_stream_older_than_the_run_counts_from_its_first_value() {
        let mut baselines = Baselines::default();
        assert_eq!(step(&mut baselines, "a", &total(900.0, 1, 1_000)), None);
        assert_eq!(step(&mut baselines, "a", &total(905.0, 1, 1_010)), Some(5.0));
    }

    #[test]
    fn a_stream_that_began_within_the_run_counts_whole() {
        let mut baselines = Baselines::default();
        assert_eq!(step(&mut baselines, "a", &total(7.0, 950, 1_000)), Some(7.0));
    }

    #[test]
    fn a_reset_counts_what_came_since() {
        let mut baselines = Baselines::default();
        step(&mut baselines, "a", &total(900.0, 1, 1_000));
        assert_eq!(step(&mut baselines, "a", &total(3.0, 1_005, 1_010)), Some(3.0), "another start");
        assert_eq!(step(&mut baselines, "a", &total(2.0, 1_005, 1_020)), Some(2.0), "a fall");
    }

    #[test]
    fn processes_of_one_service_are_told_apart() {
        let mut baselines = Baselines::default();
        step(&mut baselines, "a", &total(100.0, 1, 1_000));
        step(&mut baselines, "b", &total(10.0, 1, 1_000));
        assert_eq!(step(&mut baselines, "a", &total(101.0, 1, 1_010)), Some(1.0));
        assert_eq!(step(&mut baselines, "b", &total(12.0, 1, 1_010)), Some(2.0));
    }
}
