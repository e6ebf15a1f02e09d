//! What is read when the service starts.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition};

use super::{
    CALLERS, DAMAGED, DEAD, Error, KEYS, LAST_SEQUENCE, LEDGER, MADE, META, MINUTES, SEALED, Seal, Store,
    WAL, keep_last, migration, places, windows,
};
use crate::{
    aggregate::places::Row,
    buckets::{BucketKey, Open, encode_readings},
    codec::{Corrupt, Record},
    dead_letter::Letter,
    keys::Known,
    ledger::{Counts, Deltas},
};

/// Bytes of accepted writes read at once, and one more write.
const PAGE_BYTES: usize = 1024 * 1024;

/// What the file held, but for the accepted writes ([`Store::records`]).
#[derive(Debug)]
pub struct Recovered {
    /// Writes that the sink refused for good.
    pub letters: Vec<Letter>,
    /// What could not be read.
    pub damaged: Damaged,
    /// Buckets that took samples since they were last written.
    pub buckets: Vec<(BucketKey, Open)>,
    /// Which entities lie in which shared documents.
    pub places: Vec<Row>,
    /// The ledger.
    pub totals: Deltas,
    /// Writes that were on their way with a ledger document and may have arrived.
    pub seals: Vec<Seal>,
    /// Idempotency keys, oldest first.
    pub keys: Vec<Known>,
    /// The newest sequence ever given.
    pub last_sequence: u64,
    /// When the store was made, on the agent clock.
    pub made: SystemTime,
}

/// Records that could not be read; they are set aside in the table `damaged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damaged {
    /// Those found at this start.
    pub found: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those set aside at any start.
    pub in_all: u64,
}

impl Store {
    /// Makes missing tables, sets damaged records aside and reads what must be in memory, but for the accepted writes.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read or written.
    pub async fn recover(&self, now: SystemTime) -> Result<Recovered, Error> {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let damaged = self
            .journal
            .commit(move |transaction| {
                migration::migrate(transaction)?;
                places::make(transaction)?;
                windows::make(transaction)?;
                transaction.open_table(LEDGER)?;
                transaction.open_table(CALLERS)?;
                transaction.open_table(MINUTES)?;
                transaction.open_table(KEYS)?;
                transaction.open_table(SEALED)?;
                let mut meta = transaction.open_table(META)?;
                if meta.get(MADE)?.is_none() {
                    meta.insert(MADE, second)?;
                }
                drop(meta);
                // Before records are set aside: their places are not given again.
                let last = transaction.open_table(WAL)?.last()?.map_or(0, |(sequence, _)| sequence.value());
                keep_last(transaction, last)?;
                set_aside(transaction)
            })
            .await
            .map_err(Error::Journal)?;
        let store = self.clone();
        // Else the lines of the blocking thread would reach no log.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let load = move || tracing::dispatcher::with_default(&dispatch, || store.load(damaged));
        let read = tokio::task::spawn_blocking(load).await;
        read.unwrap_or(Err(Error::Journal(journal::Failed::Closed)))
    }

    /// Returns accepted writes that are not at the sink, with their place and size, oldest first: some of those with a place behind `after`
    /// and up to `through`, none only if there are none. All of them at once would take far more memory than the queue.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read.
    pub fn records(&self, after: u64, through: u64) -> Result<Vec<(u64, Record, u64)>, Error> {
        self.journal
            .read(|snapshot| {
                let (mut records, mut read) = (Vec::new(), 0);
                for found in snapshot.open_table(WAL)?.range(after.saturating_add(1)..=through)? {
                    let (sequence, bytes) = found?;
                    // What cannot be read was set aside when the store was recovered.
                    if let Ok(record) = Record::decode(bytes.value()) {
                        records.push((sequence.value(), record, bytes.value().len() as u64));
                    }
                    read += bytes.value().len();
                    if read > PAGE_BYTES {
                        break;
                    }
                }
                Ok::<_, redb::Error>(records)
            })
            .map_err(Error::Journal)
    }

    /// Returns which of the writes with these first places are in the journal no more.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be read.
    pub fn landed(&self, firsts: &[u64]) -> Result<HashSet<u64>, Error> {
        self.journal
            .read(|snapshot| {
                let wal = snapshot.open_table(WAL)?;
                let mut landed = HashSet::new();
                for first in firsts {
                    if wal.get(first)?.is_none() {
                        landed.insert(*first);
                    }
                }
                Ok::<_, redb::Error>(landed)
            })
            .map_err(Error::Journal)
    }

    fn load(&self, damaged: Damaged) -> Result<Recovered, Error> {
        let mut recovered = self
            .journal
            .read(|snapshot| {
                let mut letters = Vec::new();
                for found in snapshot.open_table(DEAD)?.range::<u64>(..)? {
                    letters.extend(Letter::decode(found?.1.value()));
                }
                let open = |(key, fresh)| (key, Open { fresh, ..Open::default() });
                let buckets = windows::open(snapshot)?.into_iter().map(open).collect();
                let mut seals = Vec::new();
                for found in snapshot.open_table(SEALED)?.range::<u64>(..)? {
                    let (first, row) = found?;
                    let (last, ledger) = row.value();
                    seals.push(Seal { first: first.value(), last, ledger: ledger.into() });
                }
                let meta = snapshot.open_table(META)?;
                let made = meta.get(MADE)?.map_or(0, |second| second.value());
                Ok::<_, redb::Error>(Recovered {
                    letters,
                    damaged,
                    buckets,
                    places: places::read(snapshot)?,
                    seals,
                    keys: keys(snapshot)?,
                    totals: totals(snapshot)?,
                    last_sequence: meta.get(LAST_SEQUENCE)?.map_or(0, |last| last.value()),
                    made: UNIX_EPOCH + Duration::from_secs(made),
                })
            })
            .map_err(Error::Journal)?;
        for (key, open) in &mut recovered.buckets {
            open.samples = Arc::new(self.samples(key)?);
            open.bytes = open.samples.values().map(|readings| encode_readings(readings).len() as u64).sum();
        }
        Ok(recovered)
    }
}

/// Moves records that cannot be read out of the journal, so that they neither stop the start nor are lost.
fn set_aside(transaction: &redb::WriteTransaction) -> Result<Damaged, redb::Error> {
    let mut unreadable = take_unreadable(transaction, WAL, Record::decode)?;
    reseal(transaction, &unreadable)?;
    unreadable.extend(take_unreadable(transaction, DEAD, Letter::decode)?);
    let mut damaged = transaction.open_table(DAMAGED)?;
    for (sequence, bytes) in &unreadable {
        damaged.insert(sequence, bytes.as_slice())?;
    }
    Ok(Damaged {
        found: unreadable.len() as u64,
        bytes: unreadable.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        in_all: damaged.len()?,
    })
}

/// Lets a seal whose first record is among `damaged` begin with the next one of its write that is left, so that the ledger document still
/// decides on that. The last record tells which those are: all of its document between the first and the last.
fn reseal(transaction: &redb::WriteTransaction, damaged: &[(u64, Vec<u8>)]) -> Result<(), redb::Error> {
    let (wal, mut sealed) = (transaction.open_table(WAL)?, transaction.open_table(SEALED)?);
    let key_of = |bytes: &[u8]| Record::decode(bytes).ok().map(|record| record.key);
    for (first, _) in damaged {
        let seal = sealed.remove(first)?.map(|row| (row.value().0, row.value().1.to_owned()));
        let Some((last, ledger)) = seal else { continue };
        let Some(key) = wal.get(last)?.and_then(|bytes| key_of(bytes.value())) else { continue };
        for found in wal.range(*first..=last)? {
            let (sequence, bytes) = found?;
            if key_of(bytes.value()).as_ref() == Some(&key) {
                sealed.insert(sequence.value(), (last, ledger.as_str()))?;
                break;
            }
        }
    }
    Ok(())
}

/// Takes the rows that `decode` cannot read out of `table`.
fn take_unreadable<T>(
    transaction: &redb::WriteTransaction,
    table: TableDefinition<'_, u64, &'static [u8]>,
    decode: impl Fn(&[u8]) -> Result<T, Corrupt>,
) -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
    let mut table = transaction.open_table(table)?;
    let mut unreadable = Vec::new();
    for found in table.range::<u64>(..)? {
        let (sequence, bytes) = found?;
        if decode(bytes.value()).is_err() {
            unreadable.push((sequence.value(), bytes.value().to_vec()));
        }
    }
    for (sequence, _) in &unreadable {
        table.remove(sequence)?;
    }
    Ok(unreadable)
}

fn keys(snapshot: &redb::ReadTransaction) -> Result<Vec<Known>, redb::Error> {
    let mut keys = Vec::new();
    for found in snapshot.open_table(KEYS)?.range::<u64>(..)? {
        let (sequence, row) = found?;
        let (tenant, key, accepted, fingerprint) = row.value();
        let (tenant, key) = (tenant.into(), key.into());
        keys.push(Known { tenant, key, sequence: sequence.value(), fingerprint, accepted });
    }
    Ok(keys)
}

fn totals(snapshot: &redb::ReadTransaction) -> Result<Deltas, redb::Error> {
    let mut totals = Deltas::default();
    for (table, rows) in [(LEDGER, &mut totals.rows), (CALLERS, &mut totals.callers)] {
        for found in snapshot.open_table(table)?.range::<(&str, &str)>(..)? {
            let (row, bytes) = found?;
            let (tenant, name) = row.value();
            let counts = Counts::decode(bytes.value()).unwrap_or_default();
            rows.insert((Arc::from(tenant), Arc::from(name)), counts);
        }
    }
    for found in snapshot.open_table(MINUTES)?.range::<(u64, &str)>(..)? {
        let (row, sent) = found?;
        let (minute, tenant) = row.value();
        totals.sent.insert((minute, Arc::from(tenant)), sent.value());
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Instant, UNIX_EPOCH},
    };

    use journal::{Journal, Options};

    use super::{Store, WAL};
    use crate::{
        change::Change,
        codec::Record,
        document::{Fields, Key, Priority},
        store::{Group, Seal},
    };

    fn record(id: &str) -> Record {
        let (key, change) = (Key::new("t", "c", id), Change::merge(Fields::new()));
        let (priority, caller) = (Priority::Normal, "".into());
        Record { key, change, priority, accepted: 5, samples: 0, buckets: 0, caller }
    }

    fn seal(first: u64, last: u64) -> Seal {
        Seal { first, last, ledger: "one".into() }
    }

    /// Returns the seals of `a`, of three records, and of `b` that are left when some records are damaged.
    async fn seals(damaged: &'static [u64]) -> Vec<Seal> {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path().join("storage.redb"), &Options::default()).unwrap();
        let store = Store::new(journal.clone(), Instant::now());
        store.recover(UNIX_EPOCH).await.unwrap();
        let records = ["a", "b", "a", "b", "a", "a"].map(record);
        let records = (1..).zip(&records).collect();
        store.append(Arc::new(Group { records, ..Group::default() })).await.unwrap();
        store.seal(vec![seal(1, 5), seal(2, 2)]).await.unwrap();
        let spoil = move |transaction: &redb::WriteTransaction| {
            let mut wal = transaction.open_table(WAL)?;
            for sequence in damaged {
                wal.insert(sequence, [255, 1].as_slice())?;
            }
            Ok::<_, redb::Error>(())
        };
        journal.commit(spoil).await.unwrap();
        store.recover(UNIX_EPOCH).await.unwrap();
        store.recover(UNIX_EPOCH).await.unwrap().seals
    }

    #[tokio::test]
    async fn what_is_left_of_a_sealed_write_is_sent_with_its_ledger_document() {
        assert_eq!(seals(&[3]).await, [seal(1, 5), seal(2, 2)]);
        assert_eq!(seals(&[5, 6]).await, [seal(1, 5), seal(2, 2)]);
        assert_eq!(seals(&[1]).await, [seal(2, 2), seal(3, 5)]);
        assert_eq!(seals(&[1, 2, 3]).await, [seal(5, 5)]);
        assert_eq!(seals(&[1, 3, 5]).await, [seal(2, 2)], "nothing is left of it");
    }
}
