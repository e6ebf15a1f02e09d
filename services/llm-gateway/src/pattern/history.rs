//! What was seen of each subject before: one point a day, bounded.
//!
//! A point holds the first observation of a UTC day; later ones of the day change nothing, so that points are a day apart however often
//! an agent looks, and an observation sent twice leaves the same history. Time is event time. What is observed now is never part of its own
//! history: a mean that includes the spike hides it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// How much is kept of each tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most subjects; the one whose last point is the oldest to arrive makes room.
    pub subjects: usize,
    /// Most points of a subject, in days.
    pub points: usize,
    /// Most bytes of all points together, by estimate.
    pub bytes: usize,
}

/// What has a history: its kind, its name and its id. Names alone are shared, by the pools of two fee tiers for instance.
pub(super) type Subject = (Arc<str>, Arc<str>, Arc<str>);

/// One day of a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// When it was seen, in seconds since 1970.
    pub(super) at: i64,
    /// What was seen, of the values that are remembered.
    pub(super) values: Box<[(Arc<str>, f64)]>,
}

/// The days of one subject, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    points: VecDeque<Point>,
    /// Orders series by their last point's arrival.
    turn: u64,
}

/// The series of one tenant.
#[derive(Debug)]
pub(super) struct History {
    limits: Limits,
    series: HashMap<Subject, Series>,
    turns: BTreeMap<u64, Subject>,
    next: u64,
    bytes: usize,
}

impl Point {
    /// Returns its day, counted from 1970.
    #[must_use]
    pub(super) fn day(&self) -> i64 {
        self.at.div_euclid(DAY)
    }

    /// Returns a value of it.
    #[must_use]
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(own, _)| **own == *name).map(|(_, value)| *value)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.values.len() * size_of::<(Arc<str>, f64)>()
    }
}

impl Series {
    /// Returns the points of the `days` days before `day`, oldest first.
    pub(super) fn before(&self, day: i64, days: i64) -> impl DoubleEndedIterator<Item = &Point> {
        self.points.iter().filter(move |point| (day.saturating_sub(days)..day).contains(&point.day()))
    }

    /// Returns the last point.
    #[must_use]
    pub(super) fn last(&self) -> Option<&Point> {
        self.points.back()
    }

    fn bytes(&self, subject: &Subject) -> usize {
        // The name is held twice, beside what the two maps take for themselves.
        2 * (subject.0.len() + subject.1.len() + subject.2.len())
            + 4 * size_of::<Subject>()
            + size_of::<Self>()
            + self.points.iter().map(Point::bytes).sum::<usize>()
    }
}

impl History {
    /// Makes an empty history.
    #[must_use]
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, series: HashMap::new(), turns: BTreeMap::new(), next: 0, bytes: 0 }
    }

    /// Returns the days of a subject.
    #[must_use]
    pub(super) fn series(&self, subject: &Subject) -> Option<&Series> {
        self.series.get(subject)
    }

    /// Returns how many subjects it knows, and their bytes by estimate.
    #[must_use]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.series.len(), self.bytes)
    }

    /// Adds a point that begins a later day than the last one, and returns the subjects that had to make room for it. Returns
    /// `None` if it belongs to a day that is known or past.
    pub(super) fn add(&mut self, subject: &Subject, point: Point) -> Option<Vec<Subject>> {
        if self.series.get(subject).and_then(Series::last).is_some_and(|last| last.day() >= point.day()) {
            return None;
        }
        let mut series = self.take(subject).unwrap_or_default();
        series.points.push_back(point);
        self.put(subject.clone(), series);
        Some(self.make_room())
    }

    /// Puts back what was kept by an earlier process; returns those beyond the limits, which are left out, the oldest first.
    pub(super) fn restore(&mut self, mut kept: Vec<(Subject, Series)>) -> Vec<Subject> {
        kept.sort_by_key(|(_, series)| series.turn);
        for (subject, series) in kept {
            // Its turn stays what it is on disk, and who comes later comes after it.
            self.next = self.next.max(series.turn);
            self.put(subject, series);
        }
        self.make_room()
    }

    fn make_room(&mut self) -> Vec<Subject> {
        let mut gone = Vec::new();
        while self.series.len() > self.limits.subjects.max(1)
            || (self.bytes > self.limits.bytes && self.series.len() > 1)
        {
            let Some(oldest) = self.turns.first_key_value().map(|(_, subject)| subject.clone()) else {
                break;
            };
            self.take(&oldest);
            gone.push(oldest);
        }
        gone
    }

    fn take(&mut self, subject: &Subject) -> Option<Series> {
        let series = self.series.remove(subject)?;
        self.turns.remove(&series.turn);
        self.bytes = self.bytes.saturating_sub(series.bytes(subject));
        Some(series)
    }

    fn put(&mut self, subject: Subject, mut series: Series) {
        let surplus = series.points.len().saturating_sub(self.limits.points.max(1));
        series.points.drain(..surplus);
        series.turn = self.next;
        self.next += 1;
        self.bytes += series.bytes(&subject);
        self.turns.insert(series.turn, subject.clone());
        self.series.insert(subject, series);
    }
}

#[cfg(test)]
mod tests {
    use super::{DAY, History, Limits, Point, Subject};

    const ROOMY: Limits = Limits { subjects: 10, points: 5, bytes: 1 << 20 };

    fn subject(name: &str) -> Subject {
        ("pool".into(), name.into(), "1".into())
    }

    fn point(day: i64, apr: f64) -> Point {
        Point { at: day * DAY + 3_600, values: [("apr".into(), apr)].into() }
    }

    fn days(history: &History, name: &str) -> Vec<i64> {
        history
            .series(&subject(name))
            .map_or(Vec::new(), |series| series.before(1_000, 1_000).map(Point::day).collect())
    }

    #[test]
    fn a_day_is_its_first_point_and_never_its_own_history() {
        let mut history = History::new(ROOMY);
        assert!(history.add(&subject("a"), point(1, 1.0)).is_some());
        assert!(history.add(&subject("a"), Point { at: DAY + 80_000, ..point(1, 9.0) }).is_none());
        assert!(history.add(&subject("a"), point(3, 3.0)).is_some());
        assert!(history.add(&subject("a"), point(2, 2.0)).is_none(), "the past is closed");
        let series = history.series(&subject("a")).unwrap();
        let seen =
            |day, days| series.before(day, days).filter_map(|point| point.value("apr")).collect::<Vec<_>>();
        assert_eq!(seen(3, 30), [1.0]);
        assert_eq!(seen(4, 30), [1.0, 3.0]);
        assert_eq!(seen(4, 1), [3.0]);
    }

    #[test]
    fn the_oldest_makes_room_in_every_direction() {
        let mut history = History::new(Limits { subjects: 2, ..ROOMY });
        for day in 0..8 {
            history.add(&subject("a"), point(day, 1.0));
        }
        assert_eq!(days(&history, "a"), [3, 4, 5, 6, 7]);
        history.add(&subject("b"), point(1, 1.0));
        history.add(&subject("a"), point(9, 1.0));
        assert_eq!(history.add(&subject("c"), point(1, 1.0)).unwrap(), [subject("b")]);
        let full = history.size().1;
        let mut tight = History::new(Limits { bytes: full, ..ROOMY });
        for name in 0..50 {
            tight.add(&subject(&name.to_string()), point(1, 1.0));
            assert!(tight.size().1 <= full);
        }
        assert!(tight.size().0 < 50 && days(&tight, "49") == [1]);
    }

    #[test]
    fn what_was_kept_comes_back_within_the_limits() {
        let mut history = History::new(ROOMY);
        for (name, day) in [("a", 1), ("b", 1), ("c", 1), ("a", 2)] {
            history.add(&subject(name), point(day, 1.0));
        }
        let kept: Vec<_> = ["a", "b", "c"]
            .map(subject)
            .map(|name| (name.clone(), history.series(&name).unwrap().clone()))
            .into();
        let mut again = History::new(Limits { subjects: 2, ..ROOMY });
        assert_eq!(again.restore(kept), [subject("b")]);
        assert_eq!((days(&again, "a"), days(&again, "b"), days(&again, "c")), (vec![1, 2], vec![], vec![1]));
        // What did not change stands on disk as it was, and still comes before what did.
        let c = again.series(&subject("c")).unwrap().clone();
        again.add(&subject("d"), point(1, 1.0));
        let d = again.series(&subject("d")).unwrap().clone();
        let mut last = History::new(Limits { subjects: 1, ..ROOMY });
        assert_eq!(last.restore(vec![(subject("d"), d), (subject("c"), c)]), [subject("c")]);
    }
}
