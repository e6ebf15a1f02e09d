//! A disk that fails at any one of its operations, once or until it is mended.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use redb::{ReadableDatabase as _, StorageBackend, TableDefinition};

use super::{Journal, NUMBERS, Options, all, get, numbers, put};
use crate::{Failed, Reason, State, disk::Disk, slot::Slot, writer};

/// What a file is first filled with, and then cut by.
const FILLER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("filler");

/// When the disk fails, counted in its writes, changes of length and syncs.
#[derive(Debug)]
struct Faults {
    /// Operations until the first fault.
    left: AtomicI64,
    /// Whether it goes on until mended.
    lasting: bool,
    met: AtomicBool,
    /// Whether the first fault met a file that was to be cut: redb does that after the last sync of a commit.
    cut: AtomicBool,
    kind: io::ErrorKind,
}

#[derive(Debug)]
struct Faulty {
    file: Box<dyn StorageBackend>,
    faults: Arc<Faults>,
}

impl Faults {
    fn after(left: i64, lasting: bool, kind: io::ErrorKind) -> Arc<Self> {
        let (met, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { left: AtomicI64::new(left), lasting, met, cut, kind })
    }

    fn never() -> Arc<Self> {
        Self::after(i64::MAX, false, io::ErrorKind::Other)
    }

    fn set(&self, left: i64) {
        self.left.store(left, SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        let left = self.left.fetch_sub(1, SeqCst);
        if left == 0 || (self.lasting && left < 0) {
            self.met.store(true, SeqCst);
            return Err(self.kind.into());
        }
        Ok(())
    }
}

/// What the first fault met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// A file that was to be cut.
    Cut,
    /// A write, a sync, or a file that was to grow.
    Other,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let cuts = len < self.file.len()?;
        let earlier = self.faults.met.load(SeqCst);
        let done = self.faults.check();
        if done.is_err() && cuts && !earlier {
            self.faults.cut.store(true, SeqCst);
        }
        done?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        // What was written before is in the file all the same, as in a page cache.
        self.faults.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.faults.check() {
            // A write that fails may have begun.
            self.file.write(offset, &data[..data.len() / 2])?;
            return Err(error);
        }
        self.file.write(offset, data)
    }
}

fn open(path: &Path, quick_repair: bool, faults: &Arc<Faults>) -> Journal {
    let faults = Arc::clone(faults);
    let file = writer::file();
    let medium = move |path: &Path| {
        let faults = Arc::clone(&faults);
        Ok(Box::new(Faulty { file: file(path)?, faults }) as Box<dyn StorageBackend>)
    };
    let retry = Duration::from_millis(1);
    // A small cache, so that pages are written before the commit too.
    let options =
        Options { quick_repair, retry, cache_bytes: 256 << 10, spare_bytes: 1, ..Options::default() };
    Journal::open_on(path, &options, Arc::new(medium)).unwrap()
}

/// Writes key `n` and 40 others, so that a commit has several pages and one that is half there would show.
fn put_many(n: u64) -> impl FnMut(&redb::WriteTransaction) -> Result<(), redb::Error> + Send {
    move |transaction| {
        let mut table = transaction.open_table(NUMBERS)?;
        for part in 0..40 {
            table.insert(part * 1000 + n, n)?;
        }
        Ok(())
    }
}

/// Makes the file larger than what stays in it.
fn fill(transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(FILLER)?;
    for key in 0..8 {
        table.insert(key, [7; 30_000].as_slice())?;
    }
    Ok(())
}

/// Does as [`put_many`] and drops what the file was filled with. The pages are free for the next commit, which cuts the file.
fn put_and_empty(n: u64) -> impl FnMut(&redb::WriteTransaction) -> Result<(), redb::Error> + Send {
    let mut put = put_many(n);
    move |transaction| {
        transaction.delete_table(FILLER)?;
        put(transaction)
    }
}

fn expected(acknowledged: &[u64]) -> Vec<(u64, u64)> {
    let mut rows: Vec<_> =
        acknowledged.iter().flat_map(|n| (0..40).map(move |part| (part * 1000 + n, *n))).collect();
    rows.sort_unstable();
    rows
}

/// Commits writes of which some meet a fault at operation `at`, checks what can be read after each, and returns what the fault
/// met, if it met something: a file to be cut, or another operation.
async fn story(at: i64, lasting: bool, quick_repair: bool) -> Option<Met> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j.redb");
    let faults = Faults::after(i64::MAX, lasting, io::ErrorKind::StorageFull);
    let journal = open(&path, quick_repair, &faults);
    let mut acknowledged = Vec::new();
    for n in 0..3 {
        journal.commit(put_many(n)).await.unwrap();
        acknowledged.push(n);
    }
    journal.commit(fill).await.unwrap();
    faults.set(at);
    for n in 3..9 {
        let earlier = faults.met.load(SeqCst);
        let done = match n {
            3 => journal.commit(put_and_empty(n)).await,
            _ => journal.commit(put_many(n)).await,
        };
        match done {
            Ok(()) => acknowledged.push(n),
            Err(Failed::Store(outage)) => {
                assert_eq!(outage.reason, Reason::DiskFull);
                assert!(faults.met.load(SeqCst));
                assert!(earlier || !faults.cut.load(SeqCst), "{n} was on the disk, fault at {at}");
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(all(&journal), expected(&acknowledged), "after {n}, fault at {at}");
    }
    let met = faults.met.load(SeqCst).then(|| if faults.cut.load(SeqCst) { Met::Cut } else { Met::Other });
    faults.set(i64::MAX);
    journal.watch().wait_for(State::is_ready).await.unwrap();
    assert_eq!(all(&journal), expected(&acknowledged), "mended, fault at {at}");
    journal.commit(put_many(99)).await.unwrap();
    acknowledged.push(99);
    journal.close().await;
    assert_eq!(numbers(&path), expected(&acknowledged), "opened again, fault at {at}");
    met
}

async fn every_fault(lasting: bool, quick_repair: bool) {
    let mut met = Vec::new();
    for at in 0.. {
        let Some(one) = story(at, lasting, quick_repair).await else { break };
        met.push(one);
    }
    assert!(met.len() > 20, "only {} operations in six commits", met.len());
    assert!(met.contains(&Met::Cut), "no commit cut the file");
}

#[tokio::test]
async fn one_fault_anywhere_loses_nothing_acknowledged_and_keeps_nothing_refused() {
    every_fault(false, false).await;
}

#[tokio::test]
async fn one_fault_anywhere_under_quick_repair() {
    every_fault(false, true).await;
}

#[tokio::test]
async fn a_lasting_fault_anywhere_loses_nothing_acknowledged_and_keeps_nothing_refused() {
    every_fault(true, false).await;
}

#[tokio::test]
async fn a_lasting_fault_anywhere_under_quick_repair() {
    every_fault(true, true).await;
}

#[tokio::test]
async fn a_disk_made_read_only_under_an_open_file_is_named_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::after(i64::MAX, true, io::ErrorKind::ReadOnlyFilesystem);
    let journal = open(&folder.path().join("j.redb"), false, &faults);
    journal.commit(put(1, 1)).await.unwrap();
    faults.set(0);
    let refused = journal.commit(put(2, 2)).await;
    assert_eq!(refused.unwrap_err().reason(), Some(Reason::DiskReadOnly));
    assert_eq!((get(&journal, 1), get(&journal, 2)), (Some(1), None));
    faults.set(i64::MAX);
    journal.watch().wait_for(State::is_ready).await.unwrap();
    journal.commit(put(2, 2)).await.unwrap();
    assert_eq!(get(&journal, 2), Some(2));
}

#[tokio::test]
async fn snapshots_that_are_open_are_read_to_their_end_across_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::after(i64::MAX, true, io::ErrorKind::StorageFull);
    let journal = open(&folder.path().join("j.redb"), false, &faults);
    for n in 0..50 {
        journal.commit(put_many(n)).await.unwrap();
    }
    let before = expected(&(0..50).collect::<Vec<_>>());
    let (opened, wait_opened) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let reading = journal.clone();
    let reader = std::thread::spawn(move || {
        reading.read(|snapshot| {
            opened.send(()).unwrap();
            let _ = wait.recv();
            let table = snapshot.open_table(NUMBERS)?;
            let rows = redb::ReadableTable::iter(&table)?.map(|row| row.map(|(k, v)| (k.value(), v.value())));
            rows.collect::<Result<Vec<_>, _>>().map_err(redb::Error::from)
        })
    });
    wait_opened.recv().unwrap();
    faults.set(2);
    let mut write = std::pin::pin!(journal.commit(put_many(50)));
    assert!(super::poll_once(write.as_mut()).await.is_pending());
    while !faults.met.load(SeqCst) {
        tokio::task::yield_now().await;
    }
    drop(go);
    assert!(write.await.is_err());
    assert_eq!(reader.join().unwrap().unwrap(), before);
    assert_eq!(all(&journal), before);
}

#[tokio::test]
async fn a_fault_while_the_file_is_opened_is_an_error_of_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j.redb");
    for at in 0.. {
        let faults = Faults::after(at, true, io::ErrorKind::StorageFull);
        let (medium, faulty) = (writer::file(), Arc::clone(&faults));
        let medium = move |path: &Path| {
            let faults = Arc::clone(&faulty);
            Ok(Box::new(Faulty { file: medium(path)?, faults }) as Box<dyn StorageBackend>)
        };
        match Journal::open_on(&path, &Options::default(), Arc::new(medium)) {
            Err(_) => assert!(faults.met.load(SeqCst)),
            Ok(journal) => {
                assert!(at > 3 && !faults.met.load(SeqCst));
                journal.close().await;
                break;
            }
        }
    }
    let faults = Faults::never();
    open(&path, false, &faults).commit(put(1, 1)).await.unwrap();
}

#[test]
fn no_snapshot_is_lent_that_shows_what_is_not_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::after(i64::MAX, true, io::ErrorKind::StorageFull);
    let file = writer::file()(&folder.path().join("j.redb")).unwrap();
    let disk = Disk::new(Box::new(Faulty { file, faults: Arc::clone(&faults) })).unwrap();
    let open = writer::opened(&Options::default(), disk).unwrap();
    let slot = Slot::new();
    slot.put(open.clone());
    let commit = |value| {
        let transaction = open.database.begin_write().unwrap();
        put(1, value)(&transaction).unwrap();
        transaction.commit().unwrap();
    };
    let shown = |snapshot: &redb::ReadTransaction| {
        snapshot.open_table(NUMBERS).unwrap().get(1).unwrap().map(|value| value.value())
    };
    commit(1);
    assert_eq!(slot.surely::<()>().unwrap().as_deref().and_then(shown), Some(1));
    faults.set(0);
    // The database does not hear of the fault, and shows to its own readers what the caller will be told is refused.
    commit(2);
    assert_eq!(shown(&open.database.begin_read().unwrap()), Some(2));
    assert!(slot.surely::<()>().unwrap().is_none());
}
