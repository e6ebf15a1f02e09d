//! Samples, and which buckets are asked for.

use std::{sync::Arc, time::SystemTime};

use contracts::storage as wire;
use rpc::Fault;

use super::{is_reserved, path_name};
use crate::{
    accept::{NewSample, micros},
    buckets::{BucketKey, LENGTH, MAX_AGE, Readings},
};

/// Where buckets go if the caller does not say.
const DEFAULT_COLLECTION: &str = "pool_metrics";

/// Most samples in one request.
const MAX_SAMPLES: usize = 5_000;

/// Most readings of one sample.
const MAX_READINGS: usize = 32;

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

/// Checks samples against the agent clock's `now`.
pub(crate) fn samples(
    tenant: &Arc<str>,
    request: wire::RecordMetricsRequest,
    now: SystemTime,
) -> Result<Vec<NewSample>, Fault> {
    let collection = collection(&request.collection)?;
    let count = request.samples.len();
    if count == 0 || count > MAX_SAMPLES {
        return Err(Fault::invalid("samples", format!("must be 1 to {MAX_SAMPLES}, not {count}")));
    }
    let checked = |(index, given)| sample(tenant, &collection, given, &format!("samples[{index}]"), now);
    request.samples.into_iter().enumerate().map(checked).collect()
}

/// Checks which buckets are asked for.
pub(crate) fn bucket_query(request: wire::GetBucketsRequest) -> Result<BucketQuery, Fault> {
    let collection = collection(&request.collection)?;
    check_entity(&request.entity, "entity")?;
    let bound = |time: Option<prost_types::Timestamp>, field: &str| {
        let Some(time) = time else { return Ok(None) };
        rpc::time::from_proto(&time, field)?;
        // Buckets start on whole seconds: the first at or after a moment within one starts with the next.
        Ok::<_, Fault>(Some(time.seconds + i64::from(time.nanos > 0)))
    };
    let span = (bound(request.start_time, "start_time")?, bound(request.end_time, "end_time")?);
    Ok(BucketQuery { collection, entity: request.entity, span })
}

fn collection(given: &str) -> Result<Arc<str>, Fault> {
    if given.is_empty() {
        return Ok(DEFAULT_COLLECTION.into());
    }
    path_name(given, "collection")?;
    Ok(given.into())
}

fn sample(
    tenant: &Arc<str>,
    collection: &Arc<str>,
    given: wire::MetricSample,
    path: &str,
    now: SystemTime,
) -> Result<NewSample, Fault> {
    check_entity(&given.entity, &format!("{path}.entity"))?;
    let field = format!("{path}.time");
    let Some(time) = given.time else { return Err(Fault::invalid(field, "must be given")) };
    let time = rpc::time::from_proto(&time, &field)?;
    if time > now + LENGTH {
        return Err(Fault::invalid(field, "must be at most 15 minutes after the agent clock's now"));
    }
    if time + MAX_AGE < now {
        return Err(Fault::invalid(field, "must be at most 24 hours before the agent clock's now"));
    }
    let readings = readings(given.values, &format!("{path}.values"))?;
    let time = micros(time);
    let entity: Arc<str> = given.entity.into();
    Ok(NewSample { bucket: BucketKey::holding(tenant, collection, &entity, time), time, readings })
}

fn readings(values: std::collections::HashMap<String, f64>, path: &str) -> Result<Readings, Fault> {
    if values.is_empty() || values.len() > MAX_READINGS {
        return Err(Fault::invalid(path, format!("must be 1 to {MAX_READINGS} readings")));
    }
    for (name, reading) in &values {
        let field = format!("{path}.{name}");
        if name.is_empty() || name.len() > 64 {
            return Err(Fault::invalid(field, "must have a name of 1 to 64 bytes"));
        }
        if is_reserved(name) {
            return Err(Fault::invalid(field, "must not have a name of the form __x__, which is reserved"));
        }
        if !reading.is_finite() {
            return Err(Fault::invalid(field, "must be a finite number"));
        }
    }
    Ok(values.into_iter().collect())
}

fn check_entity(entity: &str, field: &str) -> Result<(), Fault> {
    if entity.is_empty() || entity.len() > 256 {
        return Err(Fault::invalid(field, "must be 1 to 256 bytes"));
    }
    Ok(())
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
        samples(&tenant, request, now()).err().map(|fault| fault.violations()[0].field.clone())
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
        assert_eq!(named(nan), "samples[0].values.tvl");
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
