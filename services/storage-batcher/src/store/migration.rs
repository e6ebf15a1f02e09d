//! Files of earlier forms.
//!
//! Once every bucket had 15 minutes, and no row said so. The tables `samples` and `open_buckets` of that time are copied, with the length,
//! and taken away, in the commit with which the store is made ready: a kill leaves the one form or the other.

use redb::{ReadableTable as _, TableDefinition, TableHandle as _, WriteTransaction};

use super::windows::{OPEN, SAMPLES};
use crate::aggregate::rules::WINDOW_SECONDS;

type SampleRow<'a> = (i64, &'a str, &'a str, &'a str, i64);
type BucketRow<'a> = (i64, &'a str, &'a str, &'a str);

const OLD_SAMPLES: TableDefinition<'_, SampleRow<'_>, &[u8]> = TableDefinition::new("samples");
const OLD_BUCKETS: TableDefinition<'_, BucketRow<'_>, u64> = TableDefinition::new("open_buckets");

/// Brings a file to the present form.
pub(super) fn migrate(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    let tables: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has(OLD_SAMPLES.name()) {
        let old = transaction.open_table(OLD_SAMPLES)?;
        let mut samples = transaction.open_table(SAMPLES)?;
        for found in old.range::<SampleRow<'_>>(..)? {
            let (row, readings) = found?;
            let (start, tenant, collection, entity, time) = row.value();
            samples.insert((start, WINDOW_SECONDS, tenant, collection, entity, time), readings.value())?;
        }
        transaction.delete_table(old)?;
    }
    if has(OLD_BUCKETS.name()) {
        let old = transaction.open_table(OLD_BUCKETS)?;
        let mut open = transaction.open_table(OPEN)?;
        for found in old.range::<BucketRow<'_>>(..)? {
            let (row, fresh) = found?;
            let (start, tenant, collection, entity) = row.value();
            open.insert((start, WINDOW_SECONDS, tenant, collection, entity), fresh.value())?;
        }
        transaction.delete_table(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Instant, UNIX_EPOCH},
    };

    use journal::{Journal, Options};

    use super::{OLD_BUCKETS, OLD_SAMPLES};
    use crate::{
        buckets::{BucketKey, Readings, Samples, encode_readings, encode_samples},
        store::{Group, Store},
    };

    #[tokio::test]
    async fn buckets_from_before_they_had_a_length_go_on_as_15_minutes() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path().join("storage.redb"), &Options::default()).unwrap();
        let make = |transaction: &redb::WriteTransaction| {
            let readings = encode_readings(&Readings::from([("apr".to_owned(), 1.0)]));
            let mut samples = transaction.open_table(OLD_SAMPLES)?;
            samples.insert((900, "t", "c", "a", 900_000_001), readings.as_slice())?;
            samples.insert((900, "t", "c", "a", 900_000_002), readings.as_slice())?;
            samples.insert((0, "t", "c", "b", 3), readings.as_slice())?;
            transaction.open_table(OLD_BUCKETS)?.insert((900, "t", "c", "a"), 2)?;
            Ok::<_, redb::Error>(())
        };
        journal.commit(make).await.unwrap();
        let store = Store::new(journal, Instant::now());
        let key = |start, entity: &str| BucketKey {
            start,
            length: 900,
            tenant: "t".into(),
            collection: "c".into(),
            entity: entity.into(),
        };
        let recovered = store.recover(UNIX_EPOCH).await.unwrap();
        let open: Vec<_> =
            recovered.buckets.iter().map(|(key, open)| (key, open.samples.len(), open.fresh)).collect();
        assert_eq!(open, [(&key(900, "a"), 2, 2)]);
        assert_eq!(store.samples(&key(0, "b")).unwrap().len(), 1);
        // Once: what is taken away later does not come back.
        store
            .append(Arc::new(Group {
                closed: vec![(key(900, "a"), encode_samples(&Samples::new()))],
                ..Group::default()
            }))
            .await
            .unwrap();
        assert!(store.recover(UNIX_EPOCH).await.unwrap().buckets.is_empty());
    }
}
