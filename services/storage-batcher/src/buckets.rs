//! Buckets: the samples of one window of one entity, kept until the window closes and becomes a document, or part of one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    aggregate::{
        figure::{Aggregate, whole},
        rules::{Kept, Rule, Rules, WINDOW_SECONDS},
        watermark,
    },
    codec::{Corrupt, Reader, Writer},
    document::{Fields, Key, Value},
};

/// Readings of one sample by name.
pub type Readings = BTreeMap<String, f64>;

/// Samples of one bucket by time, in microseconds since the epoch; a second sample of the same time replaces the first.
pub type Samples = BTreeMap<i64, Readings>;

/// Names one bucket. The start comes first, so that old buckets lie together on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey {
    /// First second of the bucket since the epoch; a multiple of its length.
    pub start: i64,
    /// Its seconds.
    pub length: i64,
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
    pub samples: Arc<Samples>,
    /// Samples accepted since the bucket was last written, repeated ones included.
    pub fresh: u64,
    /// Bytes of the samples accepted since then.
    pub bytes: u64,
}

/// A bucket whose time is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Closed {
    /// Which.
    pub key: BucketKey,
    /// Every sample of it.
    pub samples: Arc<Samples>,
    /// Samples accepted since it was last written.
    pub fresh: u64,
}

/// One bucket, aggregated.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was measured.
    pub entity: Arc<str>,
    /// First second since the epoch.
    pub start: i64,
    /// Its seconds.
    pub length: i64,
    /// Samples.
    pub samples: u64,
    /// Aggregates by reading.
    pub aggregates: BTreeMap<String, Aggregate>,
}

/// Holds the open buckets of every tenant.
#[derive(Clone, Debug)]
pub struct Buckets {
    rules: Arc<Rules>,
    tenants: HashMap<Arc<str>, BTreeMap<BucketKey, Open>>,
    /// The open buckets by when they are due, on the agent clock.
    due: BTreeSet<(SystemTime, BucketKey)>,
    bytes: u64,
    fresh: u64,
}

impl BucketKey {
    /// Returns the tenant and the collection.
    #[must_use]
    pub fn row(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.tenant), Arc::clone(&self.collection))
    }

    /// Returns the bucket in which a sample of `time` (microseconds since the epoch) lies by `rule`.
    #[must_use]
    pub fn holding(
        tenant: &Arc<str>,
        collection: &Arc<str>,
        entity: &Arc<str>,
        time: i64,
        rule: &Rule,
    ) -> Self {
        Self {
            start: rule.start_of(time),
            length: rule.window,
            tenant: Arc::clone(tenant),
            collection: Arc::clone(collection),
            entity: Arc::clone(entity),
        }
    }

    /// Returns the first moment after the bucket.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        let end = u64::try_from(self.start + self.length).unwrap_or(0);
        UNIX_EPOCH + Duration::from_secs(end)
    }

    /// Names the document the bucket becomes if it has one of its own.
    #[must_use]
    pub fn document(&self) -> Key {
        Key {
            tenant: Arc::clone(&self.tenant),
            collection: Arc::clone(&self.collection),
            id: document_id(&path_safe(&self.entity), self.start, self.length).into(),
        }
    }
}

impl Summary {
    /// Aggregates the samples of a bucket. A reading of which nothing is kept has no aggregate.
    #[must_use]
    pub fn of(key: &BucketKey, samples: &Samples, kept: &Kept) -> Self {
        let mut readings: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
        for (time, sample) in samples {
            for (name, reading) in sample {
                readings.entry(name).or_default().push((*time, *reading));
            }
        }
        let end = (key.start + key.length).saturating_mul(1_000_000);
        let aggregate = |(name, readings): (&str, Vec<(i64, f64)>)| {
            let figures = kept.of(name);
            (!figures.is_empty()).then(|| (name.to_owned(), Aggregate::of(&readings, end, figures)))
        };
        Self {
            entity: Arc::clone(&key.entity),
            start: key.start,
            length: key.length,
            samples: samples.len() as u64,
            aggregates: readings.into_iter().filter_map(aggregate).collect(),
        }
    }

    /// Returns the fields of the bucket's own document.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let mut fields = self.body();
        fields.insert("entity".to_owned(), Value::Text(self.entity.to_string()));
        fields.insert("start_time".to_owned(), Value::Moment(self.start.saturating_mul(1_000_000)));
        fields.insert("length_seconds".to_owned(), Value::Integer(self.length));
        fields
    }

    /// Returns what of its fields tells what was measured, and neither of whom nor when.
    #[must_use]
    pub fn body(&self) -> Fields {
        let aggregates = self.aggregates.iter().map(|(name, one)| (name.clone(), one.to_value())).collect();
        Fields::from([
            ("sample_count".to_owned(), Value::Integer(i64::try_from(self.samples).unwrap_or(i64::MAX))),
            ("aggregates".to_owned(), Value::Map(aggregates)),
        ])
    }

    /// Reads a bucket's own document back; `None` if the document is none.
    #[must_use]
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        let Value::Text(entity) = fields.get("entity")? else { return None };
        Self::from_body(entity.as_str().into(), fields, fields)
    }

    /// Reads the bucket of `entity` back from what says when it was, and what was measured.
    #[must_use]
    pub fn from_body(entity: Arc<str>, window: &Fields, body: &Fields) -> Option<Self> {
        let Value::Moment(start) = window.get("start_time")? else { return None };
        let Value::Integer(length) = window.get("length_seconds")? else { return None };
        let Value::Map(aggregates) = body.get("aggregates")? else { return None };
        let aggregates = aggregates
            .iter()
            .map(|(name, value)| Some((name.clone(), Aggregate::from_value(value)?)))
            .collect::<Option<_>>()?;
        let samples = whole(body.get("sample_count")?)?;
        Some(Self { entity, start: start.div_euclid(1_000_000), length: *length, samples, aggregates })
    }
}

impl Buckets {
    /// Holds no bucket yet.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, tenants: HashMap::new(), due: BTreeSet::new(), bytes: 0, fresh: 0 }
    }

    /// Returns whether the bucket is open.
    #[must_use]
    pub fn is_open(&self, key: &BucketKey) -> bool {
        self.tenants.get(&key.tenant).is_some_and(|open| open.contains_key(key))
    }

    /// Opens a bucket with the samples it already has on disk. An open bucket stays as it is.
    pub fn reopen(&mut self, key: &BucketKey, open: Open) {
        if !self.is_open(key) {
            self.bytes += open.bytes;
            self.fresh += open.fresh;
            *self.open(key) = open;
        }
    }

    /// Adds a sample of `bytes` on disk; one of the same time is replaced.
    pub fn add(&mut self, key: &BucketKey, time: i64, readings: Readings, bytes: u64) {
        let open = self.open(key);
        // Copied only while somebody looks at them.
        Arc::make_mut(&mut open.samples).insert(time, readings);
        open.fresh += 1;
        open.bytes += bytes;
        self.fresh += 1;
        self.bytes += bytes;
    }

    fn open(&mut self, key: &BucketKey) -> &mut Open {
        let buckets = self.tenants.entry(Arc::clone(&key.tenant)).or_default();
        if !buckets.contains_key(key) {
            let lateness = self.rules.of(&key.collection).lateness;
            self.due.insert((watermark::reaches(key.end(), lateness), key.clone()));
        }
        buckets.entry(key.clone()).or_default()
    }

    /// Takes a bucket out: it is closed.
    pub fn close(&mut self, key: &BucketKey) {
        let lateness = self.rules.of(&key.collection).lateness;
        self.due.remove(&(watermark::reaches(key.end(), lateness), key.clone()));
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

    /// Returns the buckets whose time is over at `now`, and all of `tenant` if one is given.
    #[must_use]
    pub fn due(&self, now: SystemTime, tenant: Option<&str>) -> Vec<Closed> {
        let over = self.due.iter().take_while(|(due, _)| *due <= now).map(|(_, key)| key);
        let asked = tenant.and_then(|tenant| self.tenants.get(tenant)).into_iter().flat_map(BTreeMap::keys);
        let keys: BTreeSet<&BucketKey> = over.chain(asked).collect();
        let closed = |key: &BucketKey| {
            let Open { samples, fresh, .. } = self.tenants.get(&key.tenant)?.get(key)?;
            Some(Closed { key: key.clone(), samples: Arc::clone(samples), fresh: *fresh })
        };
        keys.into_iter().filter_map(closed).collect()
    }

    /// Returns when the next open bucket is due.
    #[must_use]
    pub fn next_due(&self) -> Option<SystemTime> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Returns the start of the open bucket that began first.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        self.tenants.values().filter_map(|buckets| buckets.first_key_value()).map(|(key, _)| key.start).min()
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
        let kept = &self.rules.of(collection).kept;
        self.tenants
            .get(tenant)
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key.collection == *collection && *key.entity == *entity)
            .map(|(key, open)| Summary::of(key, &open.samples, kept))
            .collect()
    }
}

/// Returns the id of a bucket's document: `head`, made of the entity or of the shared document, then the bucket's start in UTC, then, where
/// it is not the usual 15 minutes, its length.
///
/// The head comes first: ids that grow with time would all land on one server of Firestore's. Below one head ids sort by time.
#[must_use]
pub fn document_id(head: &str, start: i64, length: i64) -> String {
    let stamp = stamp(start);
    match length {
        WINDOW_SECONDS => format!("{head}_{stamp}"),
        _ => format!("{head}_{stamp}_{}m", length / 60),
    }
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

/// Returns the bytes of all samples of a bucket on disk: each name once.
#[must_use]
pub fn encode_samples(samples: &Samples) -> Vec<u8> {
    let names: BTreeSet<&str> = samples.values().flatten().map(|(name, _)| name.as_str()).collect();
    let names: BTreeMap<&str, u64> = names.into_iter().zip(0..).collect();
    let mut writer = Writer::new();
    writer.number(names.len() as u64);
    names.keys().for_each(|name| writer.text(name));
    writer.number(samples.len() as u64);
    let mut before = 0;
    for (time, readings) in samples {
        writer.signed(time - before);
        before = *time;
        writer.number(readings.len() as u64);
        for (name, reading) in readings {
            writer.number(names.get(name.as_str()).copied().unwrap_or_default());
            writer.double(*reading);
        }
    }
    writer.finish()
}

/// Reads all samples of a bucket back.
///
/// # Errors
/// [`Corrupt`] if the bytes are none.
pub fn decode_samples(bytes: &[u8]) -> Result<Samples, Corrupt> {
    let corrupt = Corrupt { at: bytes.len() };
    let mut reader = Reader::new(bytes)?;
    let mut names = Vec::new();
    for _ in 0..reader.number()? {
        names.push(reader.text()?.to_owned());
    }
    let mut samples = Samples::new();
    let mut time: i64 = 0;
    for _ in 0..reader.number()? {
        time = time.checked_add(reader.signed()?).ok_or(corrupt)?;
        let mut readings = Readings::new();
        for _ in 0..reader.number()? {
            let place = usize::try_from(reader.number()?).map_err(|_| corrupt)?;
            readings.insert(names.get(place).ok_or(corrupt)?.clone(), reader.double()?);
        }
        samples.insert(time, readings);
    }
    reader.finish()?;
    Ok(samples)
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

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::prelude::*;

    use super::{
        BucketKey, Buckets, Open, Readings, Samples, Summary, decode_readings, decode_samples, document_id,
        encode_readings, encode_samples, path_safe,
    };
    use crate::aggregate::{
        figure::{Aggregate, Figure, Figures},
        rules::{Rule, Rules},
    };

    /// 2026-11-22T10:15:00Z.
    const START: i64 = 1_795_342_500;

    fn key(tenant: &str, start: i64) -> BucketKey {
        let (tenant, collection, entity) = (tenant.into(), "pool_metrics".into(), "0x1".into());
        BucketKey { start, length: 900, tenant, collection, entity }
    }

    fn rule() -> Rule {
        Rule::built_in(Duration::ZERO)
    }

    fn buckets() -> Buckets {
        Buckets::new(Arc::new(Rules::built_in(Duration::ZERO)))
    }

    fn apr(reading: f64) -> Readings {
        Readings::from([("apr".to_owned(), reading)])
    }

    #[test]
    fn what_is_due_is_shared_and_takes_no_more_in() {
        let (mut buckets, key) = (buckets(), key("t", START));
        buckets.add(&key, 1, apr(1.0), 5);
        let due = buckets.due(key.end(), None);
        assert!(Arc::ptr_eq(&due[0].samples, &buckets.due(key.end(), None)[0].samples));
        buckets.add(&key, 2, apr(2.0), 5);
        assert_eq!((due[0].samples.len(), buckets.due(key.end(), None)[0].samples.len()), (1, 2));
    }

    #[test]
    fn a_sample_lies_in_the_window_of_its_rule() {
        let (tenant, collection, entity) = ("t".into(), "c".into(), "e".into());
        let mut rule = Rule { window: 3_600, ..rule() };
        let holding =
            |rule: &Rule| BucketKey::holding(&tenant, &collection, &entity, START * 1_000_000, rule);
        assert_eq!((holding(&rule).start, holding(&rule).length), (START - 900, 3_600));
        rule.window = 60;
        assert_eq!(holding(&rule).end(), UNIX_EPOCH + Duration::from_secs(START.cast_unsigned() + 60));
    }

    #[test]
    fn the_document_is_named_by_entity_first_and_safe_in_a_path() {
        assert_eq!(document_id("0x1", START, 900), "0x1_2026-11-22T10:15Z");
        assert_eq!(document_id("0x1", START, 3_600), "0x1_2026-11-22T10:15Z_60m");
        let bucket = BucketKey { entity: "WETH/USDC 5%".into(), ..key("t", 0) };
        assert_eq!(&*bucket.document().id, "WETH%2FUSDC 5%25_1970-01-01T00:00Z");
        assert_eq!(document_id("x", 951_782_400, 900), "x_2000-02-29T00:00Z");
        assert_eq!(path_safe("a\nb"), "a%0Ab");
    }

    #[test]
    fn a_summary_holds_what_was_read_and_comes_back_from_its_document() {
        let at = |second: i64| (START + second) * 1_000_000;
        let samples = Samples::from([(at(300), apr(4.0)), (at(0), apr(1.0)), (at(600), apr(1.0))]);
        let summary = Summary::of(&key("default", START), &samples, &rule().kept);
        let expected = Aggregate {
            min: Some(1.0),
            max: Some(4.0),
            avg: Some(2.0),
            last: Some(1.0),
            sum: Some(6.0),
            count: Some(3),
            time_weighted_mean: Some(2.0),
        };
        assert_eq!(summary.aggregates["apr"], expected);
        assert_eq!(summary.samples, 3);
        assert_eq!(Summary::from_fields(&summary.to_fields()), Some(summary));
    }

    #[test]
    fn a_reading_missing_in_some_samples_is_counted_where_it_is() {
        let samples = Samples::from([(1, apr(1.0)), (2, Readings::from([("tvl".to_owned(), 9.0)]))]);
        let summary = Summary::of(&key("default", START), &samples, &rule().kept);
        let count = |name: &str| summary.aggregates[name].count;
        assert_eq!((count("apr"), count("tvl")), (Some(1), Some(1)));
    }

    #[test]
    fn a_reading_that_no_rule_keeps_has_no_aggregate() {
        let mut rule = rule();
        rule.kept.others = Figures::new();
        rule.kept.named.insert("tvl".to_owned(), Figures::from([Figure::Last]));
        let samples =
            Samples::from([(1, Readings::from([("tvl".to_owned(), 9.0), ("apr".to_owned(), 1.0)]))]);
        let summary = Summary::of(&key("default", START), &samples, &rule.kept);
        assert_eq!(summary.aggregates.len(), 1);
        assert_eq!(summary.aggregates["tvl"], Aggregate { last: Some(9.0), ..Aggregate::default() });
    }

    #[test]
    fn a_sample_of_the_same_time_replaces_the_first_but_both_were_accepted() {
        let mut buckets = buckets();
        buckets.add(&key("default", START), 5, apr(1.0), 10);
        buckets.add(&key("default", START), 5, apr(2.0), 10);
        let due = buckets.due(UNIX_EPOCH + Duration::from_secs(1_795_342_500 + 900), None);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].samples.len(), due[0].fresh, buckets.bytes()), (1, 2, 20));
    }

    #[test]
    fn only_ended_buckets_are_due_unless_a_tenant_asks_for_its_own() {
        let mut buckets = buckets();
        buckets.add(&key("a", START), 5, apr(1.0), 10);
        buckets.add(&key("b", START), 5, apr(1.0), 10);
        let before = UNIX_EPOCH + Duration::from_secs(1_795_342_500);
        assert!(buckets.due(before, None).is_empty());
        let due = buckets.due(before, Some("a"));
        assert_eq!(due.iter().map(|closed| &*closed.key.tenant).collect::<Vec<_>>(), ["a"]);
        assert_eq!(buckets.next_due(), Some(before + Duration::from_secs(900)));
        buckets.close(&key("a", START));
        assert_eq!((buckets.count("a"), buckets.count("b"), buckets.bytes()), (0, 1, 10));
        buckets.close(&key("b", START));
        assert_eq!(buckets.next_due(), None);
    }

    #[test]
    fn the_window_that_ends_first_is_due_first_whenever_it_began() {
        let hour = Rule { window: 3_600, ..rule() };
        let late = Rule { lateness: Duration::from_secs(600), ..rule() };
        let rules = HashMap::from([("hour".into(), hour), ("late".into(), late)]);
        let mut buckets = Buckets::new(Arc::new(Rules::new(rules, rule())));
        let of = |collection: &str, start, length| BucketKey {
            collection: collection.into(),
            length,
            ..key("a", start)
        };
        let keys =
            [of("hour", START - 900, 3_600), of("late", START, 900), of("pool_metrics", START + 900, 900)];
        keys.iter().for_each(|key| buckets.add(key, 5, apr(1.0), 10));
        let after = |second: u64| UNIX_EPOCH + Duration::from_secs(START.cast_unsigned() + second);
        assert_eq!(buckets.next_due(), Some(after(1_500)));
        let due = |second| {
            buckets.due(after(second), None).into_iter().map(|closed| closed.key).collect::<Vec<_>>()
        };
        assert!(due(1_499).is_empty());
        assert_eq!(due(1_500), keys[1..2]);
        assert_eq!(due(1_800), keys[1..3]);
        assert_eq!(due(2_700), keys);
    }

    #[test]
    fn reopening_an_open_bucket_changes_nothing() {
        let mut buckets = buckets();
        buckets.add(&key("a", START), 5, apr(1.0), 10);
        buckets.reopen(&key("a", START), Open::default());
        let entity: Arc<str> = "0x1".into();
        assert_eq!(buckets.of_entity("a", "pool_metrics", &entity).len(), 1);
        assert_eq!(buckets.of_entity("b", "pool_metrics", &entity).len(), 0);
    }

    proptest! {
        #[test]
        fn readings_come_back_from_disk(readings in prop::collection::btree_map(".*", any::<f64>(), 0..6)) {
            prop_assert_eq!(decode_readings(&encode_readings(&readings)), Ok(readings));
        }

        #[test]
        fn samples_come_back_from_disk(
            samples in prop::collection::btree_map(
                0..i64::MAX,
                prop::collection::btree_map("[a-c]", any::<f64>(), 0..4),
                0..20,
            ),
        ) {
            let bytes = encode_samples(&samples);
            prop_assert_eq!(decode_samples(&bytes), Ok(samples));
            for end in 0..bytes.len() {
                prop_assert!(decode_samples(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn damaged_samples_are_an_error_and_never_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode_samples(&bytes);
        }
    }
}
