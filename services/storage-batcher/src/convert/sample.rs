//! Samples, and which buckets are asked for.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use contracts::storage as wire;
use rpc::{At, Check, Fault};

use super::{field_name, path_name};
use crate::{
    aggregate::{
        rules::{Rule, Rules},
        watermark::{Arrival, Watermark},
    },
    buckets::{BucketKey, Readings},
    document::micros,
    write::NewSample,
};

/// Where buckets go if the caller does not say.
const DEFAULT_COLLECTION: &str = "pool_metrics";

/// Most samples in one request.
const MAX_SAMPLES: usize = 5_000;

/// Most readings of one sample.
const MAX_READINGS: usize = 32;

/// Longest name of what is measured, and of a reading, in bytes.
const ENTITY_BYTES: usize = 256;
const READING_BYTES: usize = 64;

/// Which buckets are asked for, in seconds since the epoch.
#[derive(Debug)]
pub(crate) struct BucketQuery {
    /// The collection.
    pub(crate) collection: Arc<str>,
    /// What was measured.
    pub(crate) entity: String,
    /// First start and, excluded, last.
    pub(crate) span: (Option<i64>, Option<i64>),
}

/// Checks samples against the agent clock's `now`, and puts them into the windows of their collection's rule.
pub(crate) fn samples(
    tenant: &Arc<str>,
    request: wire::RecordMetricsRequest,
    rules: &Rules,
    now: SystemTime,
) -> Result<Vec<NewSample>, Fault> {
    let mut check = Check::default();
    let collection = collection(&mut check, request.collection);
    let at = At::from("samples");
    if !check.items(at, request.samples.len(), 1..=MAX_SAMPLES) {
        return check.end(Vec::new());
    }
    let rule = rules.of(&collection);
    let checked =
        |(index, given)| sample(&mut check, at.item(index), (tenant, &collection, rule), given, now);
    let samples = request.samples.into_iter().enumerate().map(checked).collect();
    check.end(samples)
}

/// Checks which buckets are asked for.
pub(crate) fn bucket_query(request: wire::GetBucketsRequest) -> Result<BucketQuery, Fault> {
    let mut check = Check::default();
    let collection = collection(&mut check, request.collection);
    check.text("entity", &request.entity, 1..=ENTITY_BYTES);
    let start = check.time("start_time", request.start_time.as_ref());
    let end = check.time("end_time", request.end_time.as_ref());
    let in_order = start.zip(end).is_none_or(|(start, end)| start < end);
    check.require("end_time", in_order, "must be later than start_time");
    // Buckets start on whole seconds: the first at or after a moment within one starts with the next.
    let second = |time: prost_types::Timestamp| time.seconds + i64::from(time.nanos > 0);
    let span = (start.and(request.start_time).map(second), end.and(request.end_time).map(second));
    check.end(BucketQuery { collection, entity: request.entity, span })
}

fn collection(check: &mut Check, given: String) -> Arc<str> {
    if given.is_empty() {
        return DEFAULT_COLLECTION.into();
    }
    path_name(check, "collection", &given);
    given.into()
}

fn sample(
    check: &mut Check,
    at: At<'_>,
    (tenant, collection, rule): (&Arc<str>, &Arc<str>, &Rule),
    given: wire::MetricSample,
    now: SystemTime,
) -> NewSample {
    check.text(at.field("entity"), &given.entity, 1..=ENTITY_BYTES);
    let time = check.given(at.field("time"), given.time);
    let time = check.time(at.field("time"), time.as_ref()).unwrap_or(now);
    let readings = readings(check, at.field("values"), given.values);
    let entity = Arc::from(given.entity);
    let bucket = BucketKey::holding(tenant, collection, &entity, micros(time), rule);
    let arrival = Watermark::at(now, rule.lateness).arrival(time, bucket.end());
    let must = "must be at most 15 minutes after the agent clock's now, and at most 24 hours before it";
    check.require(at.field("time"), matches!(arrival, Arrival::InTime | Arrival::Late), must);
    NewSample { bucket, time: micros(time), readings }
}

fn readings(check: &mut Check, at: At<'_>, values: HashMap<String, f64>) -> Readings {
    if check.items(at, values.len(), 1..=MAX_READINGS) {
        for (name, reading) in &values {
            field_name(check, at.key(name), name, READING_BYTES);
            check.finite(at.key(name), *reading);
        }
    }
    values.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use contracts::storage as wire;

    use super::{bucket_query, samples};
    use crate::aggregate::rules::Rules;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_342_500)
    }

    fn good(time: SystemTime) -> wire::MetricSample {
        wire::MetricSample {
            entity: "0x1".to_owned(),
            time: Some(time.into()),
            values: HashMap::from([("apr".to_owned(), 1.0)]),
        }
    }

    fn wrong_field(sample: wire::MetricSample) -> Option<String> {
        let request = wire::RecordMetricsRequest { collection: String::new(), samples: vec![sample] };
        let tenant: Arc<str> = "default".into();
        let rules = Rules::built_in(Duration::ZERO);
        samples(&tenant, request, &rules, now()).err().map(|fault| fault.violations()[0].field.clone())
    }

    #[test]
    fn a_sample_may_be_a_day_old_and_a_bucket_early() {
        assert_eq!(wrong_field(good(now() - Duration::from_secs(24 * 3600))), None);
        assert_eq!(wrong_field(good(now() + Duration::from_secs(900))), None);
        let old = good(now() - Duration::from_secs(24 * 3600 + 1));
        assert_eq!(wrong_field(old).as_deref(), Some("samples[0].time"));
        let future = good(now() + Duration::from_secs(901));
        assert_eq!(wrong_field(future).as_deref(), Some("samples[0].time"));
    }

    #[test]
    fn the_wrong_field_of_a_sample_is_named() {
        let named = |change: fn(&mut wire::MetricSample)| {
            let mut sample = good(now());
            change(&mut sample);
            wrong_field(sample).unwrap_or_default()
        };
        assert_eq!(named(|sample| sample.entity.clear()), "samples[0].entity");
        assert_eq!(named(|sample| sample.time = None), "samples[0].time");
        assert_eq!(named(|sample| sample.values.clear()), "samples[0].values");
        let nan = |sample: &mut wire::MetricSample| {
            sample.values.insert("tvl".to_owned(), f64::NAN);
        };
        assert_eq!(named(nan), r#"samples[0].values["tvl"]"#);
    }

    #[test]
    fn a_part_of_a_second_belongs_to_the_next_start() {
        let time = prost_types::Timestamp { seconds: 900, nanos: 1 };
        let request = wire::GetBucketsRequest {
            entity: "0x1".to_owned(),
            start_time: Some(time),
            ..Default::default()
        };
        let query = bucket_query(request).expect("good");
        assert_eq!((&*query.collection, query.span), ("pool_metrics", (Some(901), None)));
    }
}
