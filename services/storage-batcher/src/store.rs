//! The durable side: the tables of the journal's file and the transactions over them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `wal` | sequence | accepted write |
//! | `window_samples` | bucket start and length, tenant, collection, entity, time | readings accepted since the bucket was last written |
//! | `open_windows` | bucket start and length, tenant, collection, entity | how many that were |
//! | `closed_windows` | bucket start and length, tenant, collection, entity | all samples it was written from, kept for a day so that a late one finds them |
//! | `eras` | tenant, collection, start of the first window | how buckets are laid out from then on |
//! | `places` | tenant, collection, era, entity | the shared document |
//! | `ledger` | tenant, collection | counts |
//! | `callers` | tenant, caller | the same counts, since there is this table |
//! | `minutes` | minute, tenant | documents sent |
//! | `keys` | sequence | an idempotency key and its write's fingerprint, kept for its window |
//! | `sealed` | first sequence of a write on its way | its last sequence, and the ledger document it is sent with |
//! | `dead_letters` | first sequence of a refused write | what it was and why it was refused |
//! | `damaged` | sequence | a record that could not be read, set aside |
//! | `meta` | name | number |
//!
//! The embedded sink adds its table `docs`. Files from before buckets had other lengths than 15 minutes are brought to this form at the start.

mod growing;
mod migration;
mod places;
mod recovery;
mod windows;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use journal::{Failed, Journal, Reason, State};
use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

pub use self::{
    growing::Growing,
    recovery::{Damaged, Recovered},
};
use crate::{
    aggregate::places::Row,
    buckets::BucketKey,
    codec::Record,
    dead_letter::Letter,
    document::micros,
    keys::Known,
    ledger::{self, Counts, Deltas, minute, oldest_minute},
    queue::Entry,
    sink::{Cause, Sink, Verdict},
};

const WAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("wal");
const LEDGER: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("ledger");
const CALLERS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("callers");
const MINUTES: TableDefinition<'_, (u64, &str), u64> = TableDefinition::new("minutes");
const KEYS: TableDefinition<'_, u64, KeyRow<'_>> = TableDefinition::new("keys");
const SEALED: TableDefinition<'_, u64, (u64, &str)> = TableDefinition::new("sealed");
const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead_letters");
const DAMAGED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("damaged");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The newest sequence that was ever given and is no longer in `wal`.
const LAST_SEQUENCE: &str = "last_sequence";
/// When the store was made, in seconds since the epoch on the agent clock.
const MADE: &str = "made";

/// Tenant, key, when it was accepted, fingerprint.
type KeyRow<'a> = (&'a str, &'a str, i64, u64);

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal failed.
    #[error("cannot use the journal")]
    Journal(#[source] Failed<redb::Error>),
}

/// Writes and reads the tables.
#[derive(Clone, Debug)]
pub struct Store {
    journal: Journal,
    /// When the journal was begun to be opened.
    pub(crate) opening: Instant,
}

/// Encoded writes by sequence, one behind the other: another thread frees them, and one piece is freed faster than many.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// The sequence of each, and where it ends.
    ends: Vec<(u64, usize)>,
}

/// Everything that is accepted, or closed, in one commit.
#[derive(Debug, Default)]
pub struct Group {
    /// The writes.
    pub records: Records,
    /// Encoded samples with their bucket and time.
    pub samples: Vec<(BucketKey, i64, Vec<u8>)>,
    /// Places of entities in shared documents that are not on disk yet.
    pub places: Vec<Row>,
    /// Buckets that are written by one of the records, and all their samples, encoded.
    pub closed: Vec<(BucketKey, Vec<u8>)>,
    /// Samples of buckets that started before this second are no longer needed.
    pub prune_before: Option<i64>,
    /// Idempotency keys that become known.
    pub keys: Vec<Known>,
    /// Places whose idempotency keys are known no longer.
    pub forgotten: Vec<u64>,
    /// Dead letters that are none any more.
    pub letters: Vec<u64>,
}

/// Writes whose fate at the sink is known, to be settled in one commit.
#[derive(Clone, Debug)]
pub struct Landing {
    /// Each write with the sink's verdict and how often it was sent.
    pub entries: Vec<(Arc<Entry>, Verdict, u64)>,
    /// Ledger documents that were written with them, and for which caller.
    pub ledgers: Vec<(ledger::Row, Arc<str>)>,
    /// The present moment on the agent clock.
    pub now: SystemTime,
}

/// A write that is sent with a ledger document, which tells whether it has arrived: whatever happens, it is sent as it is, with this
/// ledger document and together with all others of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The place of its first record in the journal.
    pub first: u64,
    /// The place of its last.
    pub last: u64,
    /// The id of the ledger document.
    pub ledger: Arc<str>,
}

impl Error {
    /// Returns why the journal could not do it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let Self::Journal(failed) = self;
        failed.reason().unwrap_or(Reason::Store)
    }
}

impl Store {
    /// Takes the tables of `journal`, which was begun to be opened at `opening`.
    #[must_use]
    pub fn new(journal: Journal, opening: Instant) -> Self {
        Self { journal, opening }
    }

    /// Returns whether writes are taken.
    #[must_use]
    pub fn state(&self) -> State {
        self.journal.state()
    }

    /// Waits while the disk takes no writes.
    pub async fn writable(&self) {
        // Ends with an error if the journal is gone, and then nobody has to wait for it.
        drop(self.journal.watch().wait_for(|state| !matches!(state, State::Refusing(_))).await);
    }

    /// Waits for what is being read and written and lets go of the file.
    pub async fn close(&self) {
        self.journal.close().await;
    }

    /// Writes `group` durably; all or nothing.
    ///
    /// # Errors
    /// [`Error`] if it could not be written; then nothing of it was.
    pub async fn append(&self, group: Arc<Group>) -> Result<(), Error> {
        let bytes = group.bytes();
        let write = move |transaction: &WriteTransaction| group.write(transaction);
        self.journal.commit_sized(bytes, write).await.map_err(Error::Journal)
    }

    /// Writes `seals` down before their writes are sent, in place of earlier ones of the same writes.
    ///
    /// # Errors
    /// [`Error`] if they could not be written; then none of them was.
    pub async fn seal(&self, seals: Vec<Seal>) -> Result<(), Error> {
        let bytes = seals.iter().map(|seal| 16 + seal.ledger.len()).sum();
        let write = move |transaction: &WriteTransaction| {
            let mut sealed = transaction.open_table(SEALED)?;
            for seal in &seals {
                sealed.insert(seal.first, (seal.last, &*seal.ledger))?;
            }
            Ok::<_, redb::Error>(())
        };
        self.journal.commit_sized(bytes, write).await.map_err(Error::Journal)
    }

    /// Applies accepted writes to an embedded sink, drops all of them from the journal and counts them; all or nothing.
    ///
    /// Returns the final verdicts, in order, and what was added to the ledger.
    ///
    /// # Errors
    /// [`Error`] if it could not be written; then the writes still wait.
    pub async fn settle(
        &self,
        landing: Landing,
        sink: Arc<dyn Sink>,
    ) -> Result<(Vec<Verdict>, Deltas), Error> {
        let bytes: u64 = landing.entries.iter().map(|(entry, ..)| entry.journal_bytes).sum();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let settle = move |transaction: &WriteTransaction| landing.write(transaction, &*sink);
        self.journal.commit_sized(bytes, settle).await.map_err(Error::Journal)
    }
}

impl Records {
    /// Appends a record; returns its bytes.
    pub fn push(&mut self, sequence: u64, record: &Record) -> usize {
        let start = self.bytes.len();
        record.encode(&mut self.bytes);
        self.ends.push((sequence, self.bytes.len()));
        self.bytes.len() - start
    }

    /// Keeps the first `count` of them.
    pub fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().map_or(0, |(_, end)| *end));
    }

    fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(sequence, end)| {
            let record = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            (*sequence, record)
        })
    }
}

impl<'a> FromIterator<(u64, &'a Record)> for Records {
    fn from_iter<I: IntoIterator<Item = (u64, &'a Record)>>(records: I) -> Self {
        let mut all = Self::default();
        for (sequence, record) in records {
            all.push(sequence, record);
        }
        all
    }
}

impl Group {
    /// Returns about how many bytes it holds.
    fn bytes(&self) -> usize {
        let samples: usize = self.samples.iter().map(|(.., bytes)| bytes.len()).sum();
        self.records.bytes.len() + samples
    }

    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        if !self.records.ends.is_empty() {
            let mut wal = transaction.open_table(WAL)?;
            for (sequence, bytes) in self.records.iter() {
                wal.insert(sequence, bytes)?;
            }
        }
        if !self.keys.is_empty() || !self.forgotten.is_empty() {
            let mut keys = transaction.open_table(KEYS)?;
            for known in &self.keys {
                let row = (&*known.tenant, &*known.key, known.accepted, known.fingerprint);
                keys.insert(known.sequence, row)?;
            }
            for sequence in &self.forgotten {
                keys.remove(sequence)?;
            }
        }
        windows::add(transaction, &self.samples)?;
        places::write(transaction, &self.places)?;
        windows::close(transaction, &self.closed)?;
        if !self.letters.is_empty() {
            let mut dead = transaction.open_table(DEAD)?;
            for sequence in &self.letters {
                dead.remove(sequence)?;
            }
        }
        if let Some(start) = self.prune_before {
            windows::prune(transaction, start)?;
        }
        Ok(())
    }
}

impl Landing {
    fn write(
        &self,
        transaction: &WriteTransaction,
        sink: &dyn Sink,
    ) -> Result<(Vec<Verdict>, Deltas), redb::Error> {
        let (now, minute) = (micros(self.now), minute(self.now));
        let accepted = self.entries.iter().filter(|(_, verdict, _)| *verdict == Verdict::Accepted);
        let accepted: Vec<&Entry> = accepted.map(|(entry, ..)| &**entry).collect();
        let mut applied = sink.apply(transaction, &accepted, now)?.into_iter();
        let mut verdicts = Vec::with_capacity(self.entries.len());
        let mut deltas = Deltas::default();
        for (entry, verdict, sendings) in &self.entries {
            let verdict = match verdict {
                // One that a sink says nothing of stays in the journal.
                Verdict::Accepted => applied.next().unwrap_or(Verdict::Retry(Cause::Fault, String::new())),
                other => other.clone(),
            };
            let row = entry.key.row();
            match &verdict {
                Verdict::Accepted => deltas.land(row, &entry.shares, *sendings, minute),
                Verdict::Refused(reason) => {
                    deltas.refuse(&row, &entry.shares);
                    let (letter, bytes) = Letter::of(entry, reason, now);
                    transaction.open_table(DEAD)?.insert(letter.sequence(), bytes.as_slice())?;
                }
                Verdict::Unchanged => deltas.leave(&row, &entry.shares),
                Verdict::Retry(..) => {}
            }
            verdicts.push(verdict);
        }
        for (row, caller) in &self.ledgers {
            deltas.ledger(row.clone(), caller, minute);
        }
        let mut wal = transaction.open_table(WAL)?;
        let mut sealed = transaction.open_table(SEALED)?;
        let is_sealed = !sealed.is_empty()?;
        let mut last = 0;
        for ((entry, ..), verdict) in self.entries.iter().zip(&verdicts) {
            if !matches!(verdict, Verdict::Retry(..)) {
                for sequence in &entry.records {
                    wal.remove(sequence)?;
                    last = last.max(*sequence);
                }
                if is_sealed {
                    sealed.remove(entry.first())?;
                }
            }
        }
        drop((wal, sealed));
        keep_last(transaction, last)?;
        write_deltas(transaction, &deltas)?;
        Ok((verdicts, deltas))
    }
}

/// Keeps in mind that `sequence` was given.
fn keep_last(transaction: &WriteTransaction, sequence: u64) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    if meta.get(LAST_SEQUENCE)?.is_none_or(|last| last.value() < sequence) {
        meta.insert(LAST_SEQUENCE, sequence)?;
    }
    Ok(())
}

fn write_deltas(transaction: &WriteTransaction, deltas: &Deltas) -> Result<(), redb::Error> {
    for (table, rows) in [(LEDGER, &deltas.rows), (CALLERS, &deltas.callers)] {
        if rows.is_empty() {
            continue;
        }
        let mut table = transaction.open_table(table)?;
        for ((tenant, name), added) in rows {
            let row = (&**tenant, &**name);
            let mut counts = match table.get(row)? {
                // A damaged row starts again: the ledger must never stop writes.
                Some(bytes) => Counts::decode(bytes.value()).unwrap_or_default(),
                None => Counts::default(),
            };
            counts.add(added);
            table.insert(row, counts.encode().as_slice())?;
        }
    }
    let mut minutes = transaction.open_table(MINUTES)?;
    for ((minute, tenant), sent) in &deltas.sent {
        let before = minutes.get((*minute, &**tenant))?.map_or(0, |count| count.value());
        minutes.insert((*minute, &**tenant), before + sent)?;
        minutes.retain_in(..(oldest_minute(*minute), ""), |_, _| false)?;
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

    use super::{DEAD, Damaged, Group, Records, Store, WAL};
    use crate::{
        buckets::{BucketKey, Readings, encode_readings},
        change::Change,
        codec::Record,
        document::{Fields, Key, Priority},
        queue::Accepted,
    };

    pub(super) fn store(folder: &tempfile::TempDir) -> (Journal, Store) {
        let journal = Journal::open(folder.path().join("storage.redb"), &Options::default()).unwrap();
        (journal.clone(), Store::new(journal, Instant::now()))
    }

    pub(super) fn record() -> Record {
        Record {
            key: Key::new("t", "c", "a"),
            change: Change::set(Fields::new()),
            priority: Priority::Normal,
            accepted: 5,
            samples: 0,
            buckets: 0,
            caller: "".into(),
        }
    }

    fn bucket(start: i64, entity: &str) -> BucketKey {
        let (tenant, collection) = ("t".into(), "c".into());
        BucketKey { start, length: 900, tenant, collection, entity: entity.into() }
    }

    fn sample(key: &BucketKey, time: i64) -> (BucketKey, i64, Vec<u8>) {
        (key.clone(), time, encode_readings(&Readings::from([("apr".to_owned(), 1.0)])))
    }

    #[tokio::test]
    async fn samples_that_are_no_longer_needed_go_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (_, store) = store(&folder);
        store.recover(UNIX_EPOCH).await.unwrap();
        let (old, kept, other) = (bucket(0, "a"), bucket(900, "a"), bucket(900, "b"));
        let samples = vec![sample(&old, 1), sample(&kept, 2), sample(&kept, 3), sample(&other, 2)];
        store.append(Arc::new(Group { samples, ..Group::default() })).await.unwrap();
        assert_eq!(store.samples(&old).unwrap().len(), 1);
        store.append(Arc::new(Group { prune_before: Some(900), ..Group::default() })).await.unwrap();
        assert!(store.samples(&old).unwrap().is_empty());
        assert_eq!(store.samples(&kept).unwrap().into_keys().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(store.samples(&other).unwrap().len(), 1);
    }

    #[test]
    fn records_that_are_taken_back_leave_nothing_behind() {
        let record = |id| Record { key: Key::new("t", "c", id), ..record() };
        let (one, other) = (record("a"), record("another"));
        let mut records: Records = [(1, &one), (2, &other), (3, &one)].into_iter().collect();
        let read = |records: &Records| {
            let read = |(sequence, bytes)| (sequence, Record::decode(bytes).unwrap().key.id.to_string());
            records.iter().map(read).collect::<Vec<_>>()
        };
        let text = str::to_owned;
        assert_eq!(read(&records), [(1, text("a")), (2, text("another")), (3, text("a"))]);
        records.truncate(1);
        assert_eq!(records.push(2, &other), records.bytes.len() - records.ends[0].1);
        assert_eq!(read(&records), [(1, text("a")), (2, text("another"))]);
        records.truncate(0);
        assert!(read(&records).is_empty() && records.bytes.is_empty());
    }

    #[tokio::test]
    async fn a_damaged_record_is_set_aside_once_and_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, store) = store(&folder);
        let record = record();
        let records = [(1, &record), (3, &record)].into_iter().collect();
        store.append(Arc::new(Group { records, ..Group::default() })).await.unwrap();
        let mut rotten = Vec::new();
        record.encode(&mut rotten);
        let torn = rotten[..12].to_vec();
        rotten[9] ^= 4;
        let bytes = (2 + rotten.len() + 2 * torn.len()) as u64;
        let spoil = move |transaction: &redb::WriteTransaction| {
            let mut wal = transaction.open_table(WAL)?;
            wal.insert(2, [255, 1].as_slice())?;
            wal.insert(4, rotten.as_slice())?;
            wal.insert(5, torn.as_slice())?;
            transaction.open_table(DEAD)?.insert(6, torn.as_slice())?;
            Ok::<_, redb::Error>(())
        };
        journal.commit(spoil).await.unwrap();
        let recovered = store.recover(UNIX_EPOCH).await.unwrap();
        let records = store.records(0, u64::MAX).unwrap();
        let sequences: Vec<_> = records.iter().map(|(sequence, ..)| *sequence).collect();
        let damaged = Damaged { found: 4, bytes, in_all: 4 };
        assert_eq!((sequences, recovered.damaged, recovered.last_sequence), (vec![1, 3], damaged, 5));
        assert!(recovered.letters.is_empty() && store.records(3, u64::MAX).unwrap().is_empty());
        assert_eq!(records[0].1, record);
        assert_eq!(Accepted::of(1, record, 9).weight.writes, 1);
        let again = store.recover(UNIX_EPOCH).await.unwrap().damaged;
        assert_eq!(again, Damaged { found: 0, bytes: 0, in_all: 4 }, "they are kept");
    }
}
