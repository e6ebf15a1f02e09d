//! A journal on a small disk that is filled, made read-only and given room again. Mounts a tmpfs, and so runs as root.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use journal::{Failed, Journal, Options, Reason, State};
use redb::{ReadableTable as _, TableDefinition};
use testkit::SmallDisk;

const ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("rows");
/// Rows of a write, and bytes of a row.
const PARTS: u64 = 4;
const BYTES: usize = 8_000;

fn open(path: &Path, quick_repair: bool) -> Journal {
    let retry = Duration::from_millis(20);
    let options =
        Options { retry, quick_repair, cache_bytes: 1 << 20, spare_bytes: 256 << 10, ..Options::default() };
    Journal::open(path, &options).unwrap()
}

/// Writes the rows of `n`, all or none.
fn put(n: u64) -> impl FnMut(&redb::WriteTransaction) -> Result<(), redb::Error> + Send {
    move |transaction| {
        let mut table = transaction.open_table(ROWS)?;
        for part in 0..PARTS {
            table.insert((n, part), vec![n.to_le_bytes()[0]; BYTES].as_slice())?;
        }
        Ok(())
    }
}

/// Returns the writes that are there; fails if one is there in part or is not what was written.
fn whole(journal: &Journal) -> Vec<u64> {
    let rows = journal.read(|snapshot| {
        let mut rows = Vec::new();
        for row in snapshot.open_table(ROWS)?.iter()? {
            let (key, value) = row?;
            let (n, part) = key.value();
            assert_eq!(value.value(), vec![n.to_le_bytes()[0]; BYTES]);
            rows.push((n, part));
        }
        Ok::<_, redb::Error>(rows)
    });
    let rows = rows.unwrap();
    let writes: Vec<u64> = rows.iter().filter(|(_, part)| *part == 0).map(|(n, _)| *n).collect();
    let expected: Vec<_> = writes.iter().flat_map(|n| (0..PARTS).map(move |part| (*n, part))).collect();
    assert_eq!(rows, expected, "a write is there in part");
    writes
}

/// Writes from `first` on, eight at once, until one is refused; returns what was acknowledged and why the others were refused.
async fn write_until_refused(journal: &Journal, first: u64) -> (Vec<u64>, Reason) {
    let mut acknowledged = Vec::new();
    for round in 0..1_000 {
        let writes = (0..8).map(|n| first + round * 8 + n).collect();
        let mut reason = None;
        for (n, done) in commit_all(journal, writes).await {
            match done {
                Ok(()) => acknowledged.push(n),
                Err(error) => reason = error.reason(),
            }
        }
        if let Some(reason) = reason {
            return (acknowledged, reason);
        }
    }
    panic!("the disk is not as small as it should be");
}

async fn commit_all(journal: &Journal, writes: Vec<u64>) -> Vec<(u64, Result<(), Failed<redb::Error>>)> {
    let mut tasks = tokio::task::JoinSet::new();
    for n in writes {
        let journal = journal.clone();
        tasks.spawn(async move { (n, journal.commit(put(n)).await) });
    }
    let mut done = tasks.join_all().await;
    done.sort_by_key(|(n, _)| *n);
    done
}

/// Waits until the journal finds out by itself.
async fn becomes(journal: &Journal, wanted: Option<Reason>) {
    let mut state = journal.watch();
    let seen = state.wait_for(|state| state.reason() == wanted);
    drop(tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap().unwrap());
}

/// Fills a disk twice, by the journal and by others, with a reader at work all the time.
async fn story(quick_repair: bool) {
    let disk = SmallDisk::mount("8m");
    let path = disk.path().join("j.redb");
    let journal = open(&path, quick_repair);
    journal.commit(put(0)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (reading, stopped) = (journal.clone(), Arc::clone(&stop));
    let reader = std::thread::spawn(move || {
        let (mut reads, mut seen) = (0, 0);
        while !stopped.load(SeqCst) {
            let count = whole(&reading).len();
            assert!(count >= seen, "a write that was read is gone");
            (reads, seen) = (reads + 1, count);
        }
        reads
    });
    let mut expected = vec![0];
    for turn in 1..=2 {
        if turn == 2 {
            disk.fill();
        }
        let (acknowledged, reason) = write_until_refused(&journal, turn * 100_000).await;
        expected.extend(acknowledged);
        assert_eq!(reason, Reason::DiskFull);
        assert!(matches!(journal.state(), State::Refusing(_)));
        assert_eq!(whole(&journal), expected);
        let asked = Instant::now();
        assert!(journal.commit(put(9)).await.is_err(), "there is no more room than before");
        assert!(asked.elapsed() < Duration::from_secs(5), "refused, not queued");
        if turn == 1 {
            disk.remount("size=24m");
        } else {
            disk.make_room();
        }
        becomes(&journal, None).await;
        let n = turn * 100_000 + 50_000;
        journal.commit(put(n)).await.unwrap();
        expected.push(n);
        assert_eq!(whole(&journal), expected);
    }
    stop.store(true, SeqCst);
    assert!(reader.join().unwrap() > 10);
    journal.close().await;
    let again = open(&path, quick_repair);
    assert_eq!(whole(&again), expected);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_writes_are_refused_and_reads_go_on_and_all_goes_on_with_room() {
    story(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_same_holds_under_quick_repair() {
    story(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_made_read_only_is_named_and_read_and_written_again_once_it_can_be() {
    let disk = SmallDisk::mount("6m");
    let path = disk.path().join("j.redb");
    let journal = open(&path, false);
    let (mut expected, reason) = write_until_refused(&journal, 0).await;
    assert_eq!(reason, Reason::DiskFull);
    // The kernel refuses this while a file is open for writing: a journal that refuses has none.
    disk.remount("ro,size=24m");
    becomes(&journal, Some(Reason::DiskReadOnly)).await;
    let refused = journal.commit(put(1_000_000)).await;
    assert_eq!(refused.unwrap_err().reason(), Some(Reason::DiskReadOnly));
    assert_eq!(whole(&journal), expected);
    disk.remount("rw");
    becomes(&journal, None).await;
    journal.commit(put(1_000_001)).await.unwrap();
    expected.push(1_000_001);
    journal.close().await;
    assert_eq!(whole(&open(&path, false)), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_closed_on_a_full_disk_is_whole_when_opened_with_room() {
    let disk = SmallDisk::mount("6m");
    let path = disk.path().join("j.redb");
    let journal = open(&path, false);
    let (expected, _) = write_until_refused(&journal, 0).await;
    journal.close().await;
    disk.remount("size=12m");
    assert_eq!(whole(&open(&path, false)), expected);
}
