//! Which rows carry a name, and which rows fall into a stretch of time.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime},
};

use roaring::RoaringBitmap;

use super::text::bytes::{put, put_part, take, take_part};

/// Width of a time bucket.
pub(crate) const BUCKET: Duration = Duration::from_hours(6);

/// The rows of every name: one bitmap a category, or one a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(HashMap<String, RoaringBitmap>);

/// The rows of every six hours.
#[derive(Clone, Debug, Default)]
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

    /// Returns every name with its rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RoaringBitmap)> {
        self.0.iter().map(|(name, rows)| (name.as_str(), rows))
    }

    /// Leaves only the rows in `live`.
    pub(crate) fn retain(&mut self, live: &RoaringBitmap) {
        self.0.retain(|_, rows| {
            *rows &= live;
            !rows.is_empty()
        });
    }

    /// Returns the names as bytes for [`Names::from_bytes`].
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, self.0.len() as u64);
        for (name, rows) in &self.0 {
            put_part(&mut bytes, name.as_bytes());
            put_part(&mut bytes, &rows_to_bytes(rows));
        }
        bytes
    }

    /// Makes names from bytes; nothing if they are not what [`Names::to_bytes`] returned.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (bytes, mut names) = (&mut bytes, HashMap::new());
        for _ in 0..take(bytes)? {
            let name = str::from_utf8(take_part(bytes)?).ok()?.to_owned();
            names.insert(name, rows_from_bytes(take_part(bytes)?)?);
        }
        bytes.is_empty().then_some(Self(names))
    }

    /// Gives every row the number that `place` tells; those without one go.
    pub(crate) fn renumber(&mut self, place: impl Fn(u32) -> Option<u32>) {
        self.0.values_mut().for_each(|rows| renumber(rows, &place));
    }

    /// Returns the rows that carry `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&RoaringBitmap> {
        self.0.get(name)
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

    /// Returns how many buckets hold rows.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the buckets that hold rows from `start` on and before `end`, the newest first, and of each whether it reaches
    /// beyond, so that its rows have to be looked at one by one.
    pub(crate) fn between(
        &self,
        start: Option<SystemTime>,
        end: Option<SystemTime>,
    ) -> impl Iterator<Item = (&RoaringBitmap, bool)> {
        let (first, last) = (start.map_or(i64::MIN, bucket), end.map_or(i64::MAX, bucket));
        let range = (first <= last).then(|| self.0.range(first..=last)).into_iter().flatten();
        range.rev().map(move |(number, rows)| {
            (rows, (*number == first && start.is_some()) || (*number == last && end.is_some()))
        })
    }
}

/// Returns `rows` as bytes, in the format that all implementations of Roaring share.
pub(crate) fn rows_to_bytes(rows: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.serialized_size());
    // Writing into memory does not fail.
    let _ = rows.serialize_into(&mut bytes);
    bytes
}

/// Makes rows from bytes; nothing if they are not what [`rows_to_bytes`] returned.
pub(crate) fn rows_from_bytes(mut bytes: &[u8]) -> Option<RoaringBitmap> {
    let rows = RoaringBitmap::deserialize_from(&mut bytes).ok()?;
    bytes.is_empty().then_some(rows)
}

/// Gives `rows` the numbers that `place` tells, which rise with theirs.
pub(crate) fn renumber(rows: &mut RoaringBitmap, place: impl Fn(u32) -> Option<u32>) {
    *rows = rows.iter().filter_map(place).collect();
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
        assert_eq!(names.get("b"), Some(&RoaringBitmap::from_iter([2, 3])));
        names.remove("a", 1);
        assert_eq!(names.get("a"), None);
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
    fn buckets_come_newest_first_and_say_which_reach_beyond() {
        let mut buckets = Buckets::default();
        for (row, hour) in (0..48).zip(0..) {
            buckets.insert(EPOCH + Duration::from_hours(hour), row);
        }
        let between = |start: Option<u64>, end: Option<u64>| -> Vec<(u32, bool)> {
            let at = |hour: u64| EPOCH + Duration::from_hours(hour);
            let found = buckets.between(start.map(at), end.map(at));
            found.map(|(rows, beyond)| (rows.min().unwrap(), beyond)).collect()
        };
        assert_eq!(between(Some(3), Some(15)), [(12, true), (6, false), (0, true)]);
        assert_eq!(between(Some(3), Some(4)), [(0, true)]);
        assert_eq!(between(Some(36), None), [(42, false), (36, true)]);
        assert_eq!(between(None, Some(7)), [(6, true), (0, false)]);
        assert_eq!(between(None, None).len(), 8);
        assert!(between(Some(40), Some(2)).is_empty());
    }
}
