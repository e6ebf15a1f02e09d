//! The tables of buckets and their samples.
//!
//! A sample has a row of its own until its bucket is written; then all samples of the bucket are one row. Most of a day's samples lie so:
//! a twentieth of the rows, and a third of the bytes.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{Error, Store};
use crate::buckets::{BucketKey, Samples, decode_readings, decode_samples};

pub(super) const SAMPLES: TableDefinition<'_, SampleRow<'_>, &[u8]> = TableDefinition::new("window_samples");
pub(super) const OPEN: TableDefinition<'_, BucketRow<'_>, u64> = TableDefinition::new("open_windows");
const CLOSED: TableDefinition<'_, BucketRow<'_>, &[u8]> = TableDefinition::new("closed_windows");

/// Start, length, tenant, collection, entity, time.
type SampleRow<'a> = (i64, i64, &'a str, &'a str, &'a str, i64);
/// Start, length, tenant, collection, entity.
type BucketRow<'a> = (i64, i64, &'a str, &'a str, &'a str);

impl Store {
    /// Returns the samples of a bucket that are still kept.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub fn samples(&self, key: &BucketKey) -> Result<Samples, Error> {
        self.journal.read(|snapshot| samples(snapshot, key)).map_err(Error::Journal)
    }
}

/// Makes the tables if they are missing.
pub(super) fn make(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(SAMPLES)?;
    transaction.open_table(OPEN)?;
    transaction.open_table(CLOSED)?;
    Ok(())
}

/// Adds encoded samples.
pub(super) fn add(
    transaction: &WriteTransaction,
    added: &[(BucketKey, i64, Vec<u8>)],
) -> Result<(), redb::Error> {
    if added.is_empty() {
        return Ok(());
    }
    let mut samples = transaction.open_table(SAMPLES)?;
    let mut open = transaction.open_table(OPEN)?;
    let mut fresh: BTreeMap<&BucketKey, u64> = BTreeMap::new();
    for (key, time, bytes) in added {
        samples.insert(sample_row(key, *time), bytes.as_slice())?;
        *fresh.entry(key).or_default() += 1;
    }
    for (key, fresh) in fresh {
        let before = open.get(bucket_row(key))?.map_or(0, |count| count.value());
        open.insert(bucket_row(key), before + fresh)?;
    }
    Ok(())
}

/// Closes buckets, each with all its samples, encoded.
pub(super) fn close(
    transaction: &WriteTransaction,
    closing: &[(BucketKey, Vec<u8>)],
) -> Result<(), redb::Error> {
    if closing.is_empty() {
        return Ok(());
    }
    let mut samples = transaction.open_table(SAMPLES)?;
    let mut open = transaction.open_table(OPEN)?;
    let mut closed = transaction.open_table(CLOSED)?;
    for (key, bytes) in closing {
        samples.retain_in(sample_row(key, i64::MIN)..=sample_row(key, i64::MAX), |_, _| false)?;
        open.remove(bucket_row(key))?;
        closed.insert(bucket_row(key), bytes.as_slice())?;
    }
    Ok(())
}

/// Forgets the samples of buckets that started before `start`.
pub(super) fn prune(transaction: &WriteTransaction, start: i64) -> Result<(), redb::Error> {
    let mut samples = transaction.open_table(SAMPLES)?;
    samples.retain_in(..(start, i64::MIN, "", "", "", i64::MIN), |_, _| false)?;
    let mut closed = transaction.open_table(CLOSED)?;
    closed.retain_in(..(start, i64::MIN, "", "", ""), |_, _| false)?;
    Ok(())
}

/// Returns the open buckets, and how many samples of each were accepted since it was last written.
pub(super) fn open(snapshot: &ReadTransaction) -> Result<Vec<(BucketKey, u64)>, redb::Error> {
    let mut buckets = Vec::new();
    for found in snapshot.open_table(OPEN)?.range::<BucketRow<'_>>(..)? {
        let (row, fresh) = found?;
        let (start, length, tenant, collection, entity) = row.value();
        let (tenant, collection, entity) = (tenant.into(), collection.into(), entity.into());
        buckets.push((BucketKey { start, length, tenant, collection, entity }, fresh.value()));
    }
    Ok(buckets)
}

fn samples(snapshot: &ReadTransaction, key: &BucketKey) -> Result<Samples, redb::Error> {
    let mut samples = Samples::new();
    if let Some(bytes) = snapshot.open_table(CLOSED)?.get(bucket_row(key))? {
        match decode_samples(bytes.value()) {
            Ok(written) => samples = written,
            Err(error) => {
                tracing::error!(error = %error, start = key.start, "stored samples are not readable");
            }
        }
    }
    let table = snapshot.open_table(SAMPLES)?;
    for found in table.range(sample_row(key, i64::MIN)..=sample_row(key, i64::MAX))? {
        let (row, bytes) = found?;
        match decode_readings(bytes.value()) {
            Ok(readings) => drop(samples.insert(row.value().5, readings)),
            Err(error) => {
                tracing::error!(error = %error, start = key.start, "stored sample is not readable");
            }
        }
    }
    Ok(samples)
}

fn sample_row(key: &BucketKey, time: i64) -> SampleRow<'_> {
    (key.start, key.length, &*key.tenant, &*key.collection, &*key.entity, time)
}

fn bucket_row(key: &BucketKey) -> BucketRow<'_> {
    (key.start, key.length, &*key.tenant, &*key.collection, &*key.entity)
}
