//! Which rows carry a name, and which rows fall into a stretch of time.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use roaring::{MultiOps as _, RoaringBitmap};

/// Width of a time bucket.
pub(crate) const BUCKET: Duration = Duration::from_hours(6);

/// The rows of every name: one bitmap a category, or one a pool.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, RoaringBitmap>);

/// The rows of every six hours.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeMap<i64, RoaringBitmap>);

impl Names {
    /// Notes that `row` carries `name`.
    pub(crate) fn insert(&mut self, name: &str, row: u32) {
        if let Some(rows) = self.0.get_mut(name) {
            rows.insert(row);
        } else {
            self.0.insert(name.to_owned(), RoaringBitmap::from_iter([row]));
        }
    }

    /// Notes that `row` no longer carries `name`; a name without rows is dropped.
    pub(crate) fn remove(&mut self, name: &str, row: u32) {
        if let Some(rows) = self.0.get_mut(name) {
            rows.remove(row);
            if rows.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// Returns the rows that carry at least one of `names`.
    pub(crate) fn any_of(&self, names: &[String]) -> RoaringBitmap {
        names.iter().filter_map(|name| self.0.get(name)).union()
    }

    /// Returns every name with the number of its rows.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(name, rows)| (name.clone(), rows.len())).collect()
    }
}

impl Buckets {
    /// Notes that `row` happened at `time`.
    pub(crate) fn insert(&mut self, time: SystemTime, row: u32) {
        self.0.entry(bucket(time)).or_default().insert(row);
    }

    /// Notes that `row` no longer happened at `time`; a bucket without rows is dropped.
    pub(crate) fn remove(&mut self, time: SystemTime, row: u32) {
        let number = bucket(time);
        if let Some(rows) = self.0.get_mut(&number) {
            rows.remove(row);
            if rows.is_empty() {
                self.0.remove(&number);
            }
        }
    }

    /// Returns the rows from `start` on and before `end`; only the two buckets at the edges are looked at row by row.
    pub(crate) fn between(
        &self,
        start: Option<SystemTime>,
        end: Option<SystemTime>,
        time_of: impl Fn(u32) -> SystemTime,
    ) -> RoaringBitmap {
        let (first, last) = (start.map_or(i64::MIN, bucket), end.map_or(i64::MAX, bucket));
        if first > last {
            return RoaringBitmap::new();
        }
        let inside = |row: u32| {
            let time = time_of(row);
            start.is_none_or(|start| time >= start) && end.is_none_or(|end| time < end)
        };
        let edges: RoaringBitmap = [Some(first), (last != first).then_some(last)]
            .into_iter()
            .flatten()
            .filter_map(|number| self.0.get(&number))
            .flat_map(|rows| rows.iter().filter(|row| inside(*row)))
            .collect();
        let whole = self.0.range(first..=last).filter(|(number, _)| **number != first && **number != last);
        edges | whole.map(|(_, rows)| rows).union()
    }
}

/// Returns the number of the bucket that `time` falls into, counted from 1970; negative before.
fn bucket(time: SystemTime) -> i64 {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::from(after.as_secs()),
        Err(error) => {
            let before = error.duration();
            -i128::from(before.as_secs()) - i128::from(before.subsec_nanos() > 0)
        }
    };
    i64::try_from(seconds.div_euclid(i128::from(BUCKET.as_secs()))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use roaring::RoaringBitmap;

    use super::{BUCKET, Buckets, Names, bucket};

    const EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn names_are_joined_and_forgotten() {
        let mut names = Names::default();
        names.insert("a", 1);
        names.insert("b", 2);
        names.insert("b", 3);
        let all = names.any_of(&["a".into(), "b".into(), "unknown".into()]);
        assert_eq!(all, RoaringBitmap::from_iter([1, 2, 3]));
        names.remove("a", 1);
        assert!(names.any_of(&["a".into()]).is_empty());
        assert_eq!(names.counts().into_iter().collect::<Vec<_>>(), [("b".to_owned(), 2)]);
    }

    #[test]
    fn a_bucket_begins_at_its_first_second_also_before_1970() {
        assert_eq!(bucket(EPOCH), 0);
        assert_eq!(bucket(EPOCH + BUCKET - Duration::from_nanos(1)), 0);
        assert_eq!(bucket(EPOCH + BUCKET), 1);
        assert_eq!(bucket(EPOCH - Duration::from_nanos(1)), -1);
        assert_eq!(bucket(EPOCH - BUCKET), -1);
        assert_eq!(bucket(EPOCH - BUCKET - Duration::from_secs(1)), -2);
    }

    #[test]
    fn a_range_holds_its_start_and_not_its_end() {
        let times: Vec<_> = (0..48).map(|hour| EPOCH + Duration::from_hours(hour)).collect();
        let mut buckets = Buckets::default();
        for (row, time) in (0..).zip(&times) {
            buckets.insert(*time, row);
        }
        let between = |start: Option<u64>, end: Option<u64>| {
            let at = |hour: u64| EPOCH + Duration::from_hours(hour);
            buckets.between(start.map(at), end.map(at), |row| times[row as usize])
        };
        assert_eq!(between(Some(3), Some(31)), RoaringBitmap::from_iter(3..31));
        assert_eq!(between(Some(3), Some(4)), RoaringBitmap::from_iter([3]));
        assert_eq!(between(Some(6), None), RoaringBitmap::from_iter(6..48));
        assert_eq!(between(None, Some(12)), RoaringBitmap::from_iter(0..12));
        assert_eq!(between(None, None).len(), 48);
        assert!(between(Some(9), Some(9)).is_empty());
        assert!(between(Some(40), Some(2)).is_empty());
    }
}
