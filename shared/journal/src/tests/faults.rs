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

use redb::StorageBackend;

use super::{Journal, Options, all, get, numbers, put};
use crate::{Failed, Reason, State, writer};

/// When the disk fails, counted in its writes, changes of length and syncs.
#[derive(Debug)]
struct Faults {
    /// Operations until the first fault.
    left: AtomicI64,
    /// Whether it goes on until mended.
    lasting: bool,
    met: AtomicBool,
    kind: io::ErrorKind,
}

#[derive(Debug)]
struct Faulty {
    file: Box<dyn StorageBackend>,
    faults: Arc<Faults>,
}

impl Faults {
    fn after(left: i64, lasting: bool, kind: io::ErrorKind) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(left), lasting, met: AtomicBool::new(false), kind })
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

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check()?;
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
        let mut table = transaction.open_table(super::NUMBERS)?;
        for part in 0..40 {
            table.insert(part * 1000 + n, n)?;
        }
        Ok(())
    }
}

fn expected(acknowledged: &[u64]) -> Vec<(u64, u64)> {
    let mut rows: Vec<_> =
        acknowledged.iter().flat_map(|n| (0..40).map(move |part| (part * 1000 + n, *n))).collect();
    rows.sort_unstable();
    rows
}

/// Commits `number` writes of which some meet a fault at operation `at`, checks what can be read after each, and returns whether
/// the fault was met.
async fn story(at: i64, lasting: bool, quick_repair: bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("j.redb");
    let faults = Faults::after(i64::MAX, lasting, io::ErrorKind::StorageFull);
    let journal = open(&path, quick_repair, &faults);
    let mut acknowledged = Vec::new();
    for n in 0..3 {
        journal.commit(put_many(n)).await.unwrap();
        acknowledged.push(n);
    }
    faults.set(at);
    for n in 3..9 {
        match journal.commit(put_many(n)).await {
            Ok(()) => acknowledged.push(n),
            Err(Failed::Store(outage)) => {
                assert_eq!(outage.reason, Reason::DiskFull);
                assert!(faults.met.load(SeqCst));
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(all(&journal), expected(&acknowledged), "after {n}, fault at {at}");
    }
    let met = faults.met.load(SeqCst);
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
    let mut at = 0;
    while story(at, lasting, quick_repair).await {
        at += 1;
    }
    assert!(at > 20, "only {at} operations in six commits");
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
            let table = snapshot.open_table(super::NUMBERS)?;
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
