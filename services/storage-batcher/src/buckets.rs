//! Aggregation before storage: samples of one entity over 15 minutes become one document, written once when the bucket closes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    codec::{Corrupt, Reader, Writer},
    document::{Fields, Key, Value},
};

/// How long a bucket is.
pub const LENGTH: Duration = Duration::from_secs(LENGTH_SECONDS as u64);

/// How old a sample may be when it arrives.
pub const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

const LENGTH_SECONDS: i64 = 15 * 60;

/// Readings of one sample by name.
pub type Readings = BTreeMap<String, f64>;

/// Samples of one bucket by time, in microseconds since the epoch; a second sample of the same time replaces the first.
pub type Samples = BTreeMap<i64, Readings>;

/// Names one bucket. The start comes first, so that old buckets lie together on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey {
    /// First second of the bucket since the epoch; a multiple of 900.
    pub start: i64,
    /// The tenant.
    pub tenant: Arc<str>,
    /// The collection its document goes to.
    pub collection: Arc<str>,
    /// What was measured.
    pub entity: Arc<str>,
}

/// A bucket that takes samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// Every sample of the bucket, those already written too.
    pub samples: Samples,
    /// Samples accepted since the bucket was last written, repeated ones included.
    pub fresh: u64,
    /// Bytes of the samples accepted since then.
    pub bytes: u64,
}

/// Aggregate of one reading over one bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aggregate {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Arithmetic mean.
    pub avg: f64,
    /// Latest by time.
    pub last: f64,
    /// Sum.
    pub sum: f64,
    /// Samples that had this reading.
    pub count: u64,
}

/// One bucket, aggregated.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was measured.
    pub entity: Arc<str>,
    /// First second since the epoch.
    pub start: i64,
    /// Samples.
    pub samples: u64,
    /// Aggregates by reading.
    pub aggregates: BTreeMap<String, Aggregate>,
}

/// Holds the open buckets of every tenant.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    tenants: HashMap<Arc<str>, BTreeMap<BucketKey, Open>>,
    bytes: u64,
    fresh: u64,
}

impl BucketKey {
    /// Returns the bucket in which a sample of `time` (microseconds since the epoch) lies.
    #[must_use]
    pub fn holding(tenant: &Arc<str>, collection: &Arc<str>, entity: &Arc<str>, time: i64) -> Self {
        Self {
            start: start_of(time),
            tenant: Arc::clone(tenant),
            collection: Arc::clone(collection),
            entity: Arc::clone(entity),
        }
    }

    /// Returns the first moment after the bucket.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        let end = u64::try_from(self.start + LENGTH_SECONDS).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(end)
    }

    /// Names the document the bucket becomes.
    #[must_use]
    pub fn document(&self) -> Key {
        Key {
            tenant: Arc::clone(&self.tenant),
            collection: Arc::clone(&self.collection),
            id: document_id(&self.entity, self.start).into(),
        }
    }
}

impl Aggregate {
    fn of(first: f64) -> Self {
        Self { min: first, max: first, avg: first, last: first, sum: first, count: 1 }
    }

    /// Adds a reading later than all before.
    fn add(&mut self, reading: f64) {
        self.min = self.min.min(reading);
        self.max = self.max.max(reading);
        self.sum += reading;
        self.count += 1;
        // The mean is carried on its own: a sum near the largest double would lose it.
        self.avg += (reading - self.avg) / self.count as f64;
        self.last = reading;
    }

    fn to_value(self) -> Value {
        let numbers =
            [("min", self.min), ("max", self.max), ("avg", self.avg), ("last", self.last), ("sum", self.sum)];
        let mut fields: Fields =
            numbers.into_iter().map(|(name, number)| (name.to_owned(), Value::Double(number))).collect();
        fields.insert("count".to_owned(), Value::Integer(i64::try_from(self.count).unwrap_or(i64::MAX)));
        Value::Map(fields)
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Value::Map(fields) = value else { return None };
        let number = |name: &str| match fields.get(name) {
            Some(Value::Double(number)) => Some(*number),
            _ => None,
        };
        Some(Self {
            min: number("min")?,
            max: number("max")?,
            avg: number("avg")?,
            last: number("last")?,
            sum: number("sum")?,
            count: whole(fields.get("count")?)?,
        })
    }
}

impl Summary {
    /// Aggregates the samples of a bucket.
    #[must_use]
    pub fn of(key: &BucketKey, samples: &Samples) -> Self {
        let mut aggregates = BTreeMap::new();
        for (name, reading) in samples.values().flatten() {
            aggregates
                .entry(name.clone())
                .and_modify(|aggregate: &mut Aggregate| aggregate.add(*reading))
                .or_insert_with(|| Aggregate::of(*reading));
        }
        Self { entity: Arc::clone(&key.entity), start: key.start, samples: samples.len() as u64, aggregates }
    }

    /// Returns the fields of the bucket's document.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let aggregates = self.aggregates.iter().map(|(name, one)| (name.clone(), one.to_value())).collect();
        Fields::from([
            ("entity".to_owned(), Value::Text(self.entity.to_string())),
            ("start_time".to_owned(), Value::Moment(self.start.saturating_mul(1_000_000))),
            ("length_seconds".to_owned(), Value::Integer(LENGTH_SECONDS)),
            ("sample_count".to_owned(), Value::Integer(i64::try_from(self.samples).unwrap_or(i64::MAX))),
            ("aggregates".to_owned(), Value::Map(aggregates)),
        ])
    }

    /// Reads a bucket's document back; `None` if the document is none.
    #[must_use]
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        let Value::Text(entity) = fields.get("entity")? else { return None };
        let Value::Moment(start) = fields.get("start_time")? else { return None };
        let Value::Map(aggregates) = fields.get("aggregates")? else { return None };
        let aggregates = aggregates
            .iter()
            .map(|(name, value)| Some((name.clone(), Aggregate::from_value(value)?)))
            .collect::<Option<_>>()?;
        Some(Self {
            entity: entity.as_str().into(),
            start: start.div_euclid(1_000_000),
            samples: whole(fields.get("sample_count")?)?,
            aggregates,
        })
    }
}

impl Buckets {
    /// Returns whether the bucket is open.
    #[must_use]
    pub fn is_open(&self, key: &BucketKey) -> bool {
        self.tenants.get(&key.tenant).is_some_and(|open| open.contains_key(key))
    }

    /// Opens a bucket with the samples it already has on disk. An open bucket stays as it is.
    pub fn reopen(&mut self, key: &BucketKey, open: Open) {
        let buckets = self.tenants.entry(Arc::clone(&key.tenant)).or_default();
        if !buckets.contains_key(key) {
            self.bytes += open.bytes;
            self.fresh += open.fresh;
            buckets.insert(key.clone(), open);
        }
    }

    /// Adds a sample of `bytes` on disk; one of the same time is replaced.
    pub fn add(&mut self, key: &BucketKey, time: i64, readings: Readings, bytes: u64) {
        let open = self.tenants.entry(Arc::clone(&key.tenant)).or_default().entry(key.clone()).or_default();
        open.samples.insert(time, readings);
        open.fresh += 1;
        self.fresh += 1;
        open.bytes += bytes;
        self.bytes += bytes;
    }

    /// Takes a bucket out: it is closed.
    pub fn close(&mut self, key: &BucketKey) {
        if let Some(buckets) = self.tenants.get_mut(&key.tenant) {
            if let Some(open) = buckets.remove(key) {
                self.bytes = self.bytes.saturating_sub(open.bytes);
                self.fresh = self.fresh.saturating_sub(open.fresh);
            }
            if buckets.is_empty() {
                self.tenants.remove(&key.tenant);
            }
        }
    }

    /// Returns the buckets that ended at `moment` or before, and all of `tenant` if one is given.
    #[must_use]
    pub fn due(&self, moment: SystemTime, tenant: Option<&str>) -> Vec<(BucketKey, Open)> {
        self.tenants
            .values()
            .flatten()
            .filter(|(key, _)| key.end() <= moment || tenant.is_some_and(|tenant| *key.tenant == *tenant))
            .map(|(key, open)| (key.clone(), open.clone()))
            .collect()
    }

    /// Returns when the oldest open bucket ends.
    #[must_use]
    pub fn next_end(&self) -> Option<SystemTime> {
        self.tenants.values().filter_map(|buckets| buckets.first_key_value()).map(|(key, _)| key.end()).min()
    }

    /// Returns the number of open buckets of `tenant`.
    #[must_use]
    pub fn count(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |buckets| buckets.len() as u64)
    }

    /// Returns how many samples are not yet written to the sink, of all tenants.
    #[must_use]
    pub fn fresh(&self) -> u64 {
        self.fresh
    }

    /// Returns the bytes of samples not yet written to the sink.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the open buckets of one entity, oldest first.
    #[must_use]
    pub fn of_entity(&self, tenant: &str, collection: &str, entity: &str) -> Vec<Summary> {
        self.tenants
            .get(tenant)
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key.collection == *collection && *key.entity == *entity)
            .map(|(key, open)| Summary::of(key, &open.samples))
            .collect()
    }
}

/// Returns the first second of the bucket in which `time` (microseconds since the epoch) lies.
#[must_use]
pub fn start_of(time: i64) -> i64 {
    let second = time.div_euclid(1_000_000);
    second - second.rem_euclid(LENGTH_SECONDS)
}

/// Returns the id of a bucket's document: the entity, made safe for a path, then the bucket's start in UTC.
///
/// The entity comes first: ids that grow with time would all land on one server of Firestore's. Within an entity ids sort by time.
#[must_use]
pub fn document_id(entity: &str, start: i64) -> String {
    let mut id = path_safe(entity);
    id.push('_');
    id.push_str(&stamp(start));
    id
}

/// Returns `text` with `/`, `%` and control characters as `%XX`, so that it can stand in a document's path.
#[must_use]
pub fn path_safe(text: &str) -> String {
    use std::fmt::Write as _;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '/' | '%') || character.is_ascii_control() {
            // Writing to a string cannot fail.
            let _ = write!(safe, "%{:02X}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Returns the bytes of one sample's readings on disk.
#[must_use]
pub fn encode_readings(readings: &Readings) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.number(readings.len() as u64);
    for (name, reading) in readings {
        writer.text(name);
        writer.double(*reading);
    }
    writer.finish()
}

/// Reads one sample's readings back.
///
/// # Errors
/// [`Corrupt`] if the bytes are none.
pub fn decode_readings(bytes: &[u8]) -> Result<Readings, Corrupt> {
    let mut reader = Reader::new(bytes)?;
    let mut readings = Readings::new();
    for _ in 0..reader.number()? {
        let name = reader.text()?.to_owned();
        readings.insert(name, reader.double()?);
    }
    reader.finish()?;
    Ok(readings)
}

/// Returns `seconds` since the epoch as `YYYY-MM-DDThh:mmZ`.
///
/// The date by Howard Hinnant's `civil_from_days` (chrono-Compatible Low-Level Date Algorithms, 2013).
fn stamp(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}Z", second / 3600, second % 3600 / 60)
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::prelude::*;

    use super::{
        Aggregate, BucketKey, Buckets, Open, Readings, Samples, Summary, decode_readings, document_id,
        encode_readings, path_safe, start_of,
    };

    /// 2026-11-22T10:15:00Z.
    const START: i64 = 1_795_342_500;

    fn key(tenant: &str, start: i64) -> BucketKey {
        BucketKey { start, tenant: tenant.into(), collection: "pool_metrics".into(), entity: "0x1".into() }
    }

    fn apr(reading: f64) -> Readings {
        Readings::from([("apr".to_owned(), reading)])
    }

    #[test]
    fn a_bucket_starts_on_the_quarter_hour() {
        assert_eq!(start_of((START + 899) * 1_000_000 + 999_999), START);
        assert_eq!(start_of((START + 900) * 1_000_000), START + 900);
        assert_eq!(start_of(-1), -900);
    }

    #[test]
    fn the_document_is_named_by_entity_first_and_safe_in_a_path() {
        assert_eq!(document_id("0x1", START), "0x1_2026-11-22T10:15Z");
        assert_eq!(document_id("WETH/USDC 5%", 0), "WETH%2FUSDC 5%25_1970-01-01T00:00Z");
        assert_eq!(document_id("x", 951_782_400), "x_2000-02-29T00:00Z");
        assert_eq!(path_safe("a\nb"), "a%0Ab");
    }

    #[test]
    fn a_summary_holds_what_was_read() {
        let samples = Samples::from([(2, apr(4.0)), (1, apr(1.0)), (3, apr(1.0))]);
        let summary = Summary::of(&key("default", START), &samples);
        let expected = Aggregate { min: 1.0, max: 4.0, avg: 2.0, last: 1.0, sum: 6.0, count: 3 };
        assert_eq!(summary.aggregates["apr"], expected);
        assert_eq!(summary.samples, 3);
        assert_eq!(Summary::from_fields(&summary.to_fields()), Some(summary));
    }

    #[test]
    fn a_reading_missing_in_some_samples_is_counted_where_it_is() {
        let samples = Samples::from([(1, apr(1.0)), (2, Readings::from([("tvl".to_owned(), 9.0)]))]);
        let summary = Summary::of(&key("default", START), &samples);
        assert_eq!((summary.aggregates["apr"].count, summary.aggregates["tvl"].count), (1, 1));
    }

    #[test]
    fn a_sample_of_the_same_time_replaces_the_first_but_both_were_accepted() {
        let mut buckets = Buckets::default();
        buckets.add(&key("default", START), 5, apr(1.0), 10);
        buckets.add(&key("default", START), 5, apr(2.0), 10);
        let due = buckets.due(UNIX_EPOCH + Duration::from_secs(1_795_342_500 + 900), None);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].1.samples.len(), due[0].1.fresh, buckets.bytes()), (1, 2, 20));
    }

    #[test]
    fn only_ended_buckets_are_due_unless_a_tenant_asks_for_its_own() {
        let mut buckets = Buckets::default();
        buckets.add(&key("a", START), 5, apr(1.0), 10);
        buckets.add(&key("b", START), 5, apr(1.0), 10);
        let before = UNIX_EPOCH + Duration::from_secs(1_795_342_500);
        assert!(buckets.due(before, None).is_empty());
        let due = buckets.due(before, Some("a"));
        assert_eq!(due.iter().map(|(key, _)| &*key.tenant).collect::<Vec<_>>(), ["a"]);
        assert_eq!(buckets.next_end(), Some(before + Duration::from_secs(900)));
        buckets.close(&key("a", START));
        assert_eq!((buckets.count("a"), buckets.count("b"), buckets.bytes()), (0, 1, 10));
    }

    #[test]
    fn reopening_an_open_bucket_changes_nothing() {
        let mut buckets = Buckets::default();
        buckets.add(&key("a", START), 5, apr(1.0), 10);
        buckets.reopen(&key("a", START), Open::default());
        let entity: Arc<str> = "0x1".into();
        assert_eq!(buckets.of_entity("a", "pool_metrics", &entity).len(), 1);
        assert_eq!(buckets.of_entity("b", "pool_metrics", &entity).len(), 0);
    }

    proptest! {
        #[test]
        fn an_aggregate_is_what_the_readings_say(readings in prop::collection::vec(-1e6..1e6_f64, 1..50)) {
            let samples: Samples = (0..).zip(readings.iter().map(|reading| apr(*reading))).collect();
            let aggregate = Summary::of(&key("default", START), &samples).aggregates["apr"];
            let sum: f64 = readings.iter().sum();
            prop_assert_eq!(aggregate.count, readings.len() as u64);
            prop_assert!((aggregate.sum - sum).abs() < 1e-3);
            prop_assert!((aggregate.avg - sum / readings.len() as f64).abs() < 1e-6);
            prop_assert_eq!(aggregate.last, readings[readings.len() - 1]);
            prop_assert_eq!(aggregate.min, readings.iter().copied().fold(f64::INFINITY, f64::min));
            prop_assert_eq!(aggregate.max, readings.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        }

        #[test]
        fn readings_come_back_from_disk(readings in prop::collection::btree_map(".*", any::<f64>(), 0..6)) {
            prop_assert_eq!(decode_readings(&encode_readings(&readings)), Ok(readings));
        }
    }
}
