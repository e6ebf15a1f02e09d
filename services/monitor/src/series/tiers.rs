//! Points of one series: the last hour as they came, older ones merged into slots of five minutes, none past retention.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use super::merge::Merge;

/// How long points stay as they came, on the agent clock.
pub const FINE_AGE: Duration = Duration::from_secs(3600);

/// Most points kept as they came; more are merged early.
pub const FINE_POINTS: usize = 512;

/// Width of a merged slot.
pub const SLOT: Duration = Duration::from_secs(300);

/// A value and the time it speaks for: after `from`, up to and including `to`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed<T> {
    /// When the span it speaks for begins.
    pub from: SystemTime,
    /// When it arrived.
    pub to: SystemTime,
    /// The value.
    pub value: T,
}

/// The points of a series, oldest first.
#[derive(Clone, Debug)]
pub struct Tiers<T> {
    coarse: VecDeque<Timed<T>>,
    fine: VecDeque<Timed<T>>,
}

impl<T> Default for Tiers<T> {
    fn default() -> Self {
        Self { coarse: VecDeque::new(), fine: VecDeque::new() }
    }
}

impl<T> Timed<T> {
    /// Returns which share (0 to 1) of the span lies after `since`.
    #[must_use]
    pub fn share_after(&self, since: Option<SystemTime>) -> f64 {
        let Some(since) = since else { return 1.0 };
        let Ok(inside) = self.to.duration_since(since.max(self.from)) else { return 0.0 };
        match self.to.duration_since(self.from) {
            Ok(whole) if !whole.is_zero() => inside.as_secs_f64() / whole.as_secs_f64(),
            _ => f64::from(u8::from(self.to > since)),
        }
    }
}

impl<T: Merge> Tiers<T> {
    /// Adds a point that arrived just now, and drops what is older than `retention`.
    pub fn push(&mut self, point: Timed<T>, retention: Duration) {
        let now = point.to;
        self.fine.push_back(point);
        while self.fine.len() > FINE_POINTS
            || self.fine.front().is_some_and(|first| age(now, first.to) > FINE_AGE)
        {
            let Some(old) = self.fine.pop_front() else { break };
            self.fold(old);
        }
        while self.coarse.front().is_some_and(|first| age(now, first.to) > retention) {
            self.coarse.pop_front();
        }
    }

    /// Returns the points that arrived after `since`, oldest first; `None`: all of them.
    pub fn after(&self, since: Option<SystemTime>) -> impl DoubleEndedIterator<Item = &Timed<T>> {
        self.coarse.iter().chain(&self.fine).filter(move |point| since.is_none_or(|since| point.to > since))
    }

    /// Returns the newest point.
    #[must_use]
    pub fn last(&self) -> Option<&Timed<T>> {
        self.fine.back().or(self.coarse.back())
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.coarse.len() + self.fine.len()
    }

    fn fold(&mut self, old: Timed<T>) {
        match self.coarse.back_mut() {
            Some(last) if slot(last.to) == slot(old.to) => {
                last.from = last.from.min(old.from);
                last.to = last.to.max(old.to);
                last.value.absorb(old.value);
            }
            _ => self.coarse.push_back(old),
        }
    }
}

fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

fn slot(moment: SystemTime) -> u64 {
    age(moment, SystemTime::UNIX_EPOCH).as_secs() / SLOT.as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{super::merge::Increment, FINE_POINTS, Tiers, Timed};

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn point(seconds: u64) -> Timed<Increment> {
        Timed { from: at(seconds.saturating_sub(30)), to: at(seconds), value: Increment(1.0) }
    }

    #[test]
    fn old_points_merge_and_nothing_is_lost() {
        let mut tiers = Tiers::default();
        (1..=720).for_each(|step| tiers.push(point(step * 30), DAY));
        let total: f64 = tiers.after(None).map(|point| point.value.0).sum();
        assert!((total - 720.0).abs() < 1e-9);
        assert!(tiers.len() < 720 / 2, "{}", tiers.len());
    }

    #[test]
    fn points_past_retention_are_dropped() {
        let mut tiers = Tiers::default();
        (1..=10_000).for_each(|step| tiers.push(point(step * 30), Duration::from_secs(7_200)));
        let oldest = tiers.after(None).next().unwrap().to;
        assert!(at(300_000).duration_since(oldest).unwrap() <= Duration::from_secs(7_200));
    }

    #[test]
    fn a_fast_exporter_cannot_fill_the_fine_ring() {
        let mut tiers = Tiers::default();
        (0..5_000).for_each(|_| tiers.push(point(1_000), DAY));
        assert_eq!(tiers.len(), FINE_POINTS + 1);
    }

    #[test]
    fn a_span_counts_by_the_share_inside_the_window() {
        let point = Timed { from: at(0), to: at(100), value: Increment(10.0) };
        assert!((point.share_after(Some(at(75))) - 0.25).abs() < 1e-12);
        assert!((point.share_after(None) - 1.0).abs() < 1e-12);
        assert_eq!(point.share_after(Some(at(100))), 0.0);
        let instant = Timed { from: at(100), to: at(100), value: Increment(1.0) };
        assert_eq!((instant.share_after(Some(at(99))), instant.share_after(Some(at(100)))), (1.0, 0.0));
    }
}
