//! Tests of the grouped commit over a real file.

mod faults;
mod mixes;
mod rewrites;

use std::{
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    time::Duration,
};

use redb::{ReadableTable as _, TableDefinition};

use super::{Error, Failed, Journal, Options, Reason};

const NUMBERS: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");

fn put(key: u64, value: u64) -> impl FnMut(&redb::WriteTransaction) -> Result<(), redb::Error> + Send {
    move |transaction| {
        transaction.open_table(NUMBERS)?.insert(key, value)?;
        Ok(())
    }
}

fn get(journal: &Journal, key: u64) -> Option<u64> {
    journal
        .read(|snapshot| {
            let table = snapshot.open_table(NUMBERS).map_err(redb::Error::from)?;
            Ok::<_, redb::Error>(table.get(key).map_err(redb::Error::from)?.map(|value| value.value()))
        })
        .unwrap()
}

fn open(folder: &tempfile::TempDir) -> Journal {
    open_with(folder, &Options::default())
}

fn open_with(folder: &tempfile::TempDir, options: &Options) -> Journal {
    Journal::open(folder.path().join("j.redb"), options).unwrap()
}

/// Holds up the writer thread until the sender is dropped; returns once it does.
async fn hold(journal: &Journal) -> mpsc::Sender<()> {
    let (begun, began) = tokio::sync::oneshot::channel();
    let (go, wait) = mpsc::channel();
    let mut begun = Some(begun);
    let write = move |_: &redb::WriteTransaction| {
        begun.take().unwrap().send(()).unwrap();
        let _ = wait.recv();
        Ok::<_, ()>(())
    };
    let held = journal.clone();
    #[expect(clippy::disallowed_methods, reason = "a test without telemetry")]
    tokio::spawn(async move { held.commit(write).await });
    began.await.unwrap();
    go
}

/// Polls a future once, as a caller would that leaves right after.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(move |context| match future.take() {
        Some(future) => Poll::Ready(future.poll(context)),
        None => Poll::Pending,
    })
    .await
}

/// Polls every future on this task, so that all are queued before the first is answered.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            return Poll::Ready(outputs.iter_mut().filter_map(Option::take).collect());
        }
        Poll::Pending
    })
    .await
}

#[tokio::test]
async fn an_acknowledged_write_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/us.redb");
    let journal = Journal::open(&path, &Options::default()).unwrap();
    journal.commit(put(1, 10)).await.unwrap();
    journal.close().await;
    let again = Journal::open(&path, &Options::default()).unwrap();
    assert_eq!(get(&again, 1), Some(10));
}

#[tokio::test]
async fn a_file_that_is_open_is_not_opened_twice() {
    let folder = tempfile::tempdir().unwrap();
    let _journal = open(&folder);
    let twice = Journal::open(folder.path().join("j.redb"), &Options::default());
    let Err(Error::Open(error)) = twice else { panic!("{twice:?}") };
    assert!(matches!(*error, redb::DatabaseError::DatabaseAlreadyOpen), "{error}");
}

#[tokio::test]
async fn a_refused_write_is_undone_and_the_others_of_its_batch_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    let refused = journal.commit(|transaction| {
        transaction.open_table(NUMBERS).unwrap().insert(2, 2).unwrap();
        Err::<(), _>("no")
    });
    let (first, refused, last) = tokio::join!(journal.commit(put(1, 1)), refused, journal.commit(put(3, 3)));
    first.unwrap();
    last.unwrap();
    assert!(matches!(refused, Err(Failed::Refused("no"))));
    assert_eq!((get(&journal, 1), get(&journal, 2), get(&journal, 3)), (Some(1), None, Some(3)));
}

#[tokio::test]
async fn a_write_that_panics_is_undone_and_the_journal_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    let go = hold(&journal).await;
    let panics = journal.commit(|transaction| -> Result<(), ()> {
        let mut table = transaction.open_table(NUMBERS).unwrap();
        table.insert(2, 2).unwrap();
        panic!("a bug of the caller's");
    });
    let (first, panicked, last, ()) =
        tokio::join!(journal.commit(put(1, 1)), panics, journal.commit(put(3, 3)), async { drop(go) });
    first.unwrap();
    last.unwrap();
    assert!(matches!(panicked, Err(Failed::Panicked)), "{panicked:?}");
    assert_eq!((get(&journal, 1), get(&journal, 2), get(&journal, 3)), (Some(1), None, Some(3)));
    assert!(journal.state().is_ready());
}

#[tokio::test]
async fn a_panic_within_the_database_harms_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_with(&folder, &Options { retry: Duration::from_millis(1), ..Options::default() });
    journal.commit(put(1, 1)).await.unwrap();
    let panics = |transaction: &redb::WriteTransaction| -> Result<(), ()> {
        let mut table = transaction.open_table(NUMBERS).unwrap();
        table.insert(2, 2).unwrap();
        table.retain(|_, _| panic!("a bug of the caller's")).unwrap();
        Ok(())
    };
    let panicked = journal.commit(panics).await;
    assert!(matches!(panicked, Err(Failed::Panicked | Failed::Store(_))), "{panicked:?}");
    journal.watch().wait_for(super::State::is_ready).await.unwrap();
    journal.commit(put(3, 3)).await.unwrap();
    assert_eq!((get(&journal, 1), get(&journal, 2), get(&journal, 3)), (Some(1), None, Some(3)));
    journal.close().await;
    assert_eq!(get(&open(&folder), 3), Some(3));
}

#[tokio::test]
async fn writes_queued_together_share_a_commit_and_see_each_other_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    let runs = Arc::new(AtomicUsize::new(0));
    let writes = (0..500).map(|_| {
        let runs = Arc::clone(&runs);
        journal.commit(move |transaction| {
            let mut table = transaction.open_table(NUMBERS)?;
            let next = table.get(0)?.map_or(0, |value| value.value()) + 1;
            table.insert(0, next)?;
            runs.fetch_add(1, Ordering::Relaxed);
            Ok::<_, redb::Error>(next)
        })
    });
    let results: Vec<_> = join_all(writes.collect()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, (1..=500).collect::<Vec<u64>>());
    assert_eq!((get(&journal, 0), runs.load(Ordering::Relaxed)), (Some(500), 500));
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_its_queued_write() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    {
        let leaving = pin!(journal.commit(put(7, 7)));
        assert!(poll_once(leaving).await.is_pending());
    }
    journal.commit(put(8, 8)).await.unwrap();
    assert_eq!(get(&journal, 7), Some(7));
}

#[tokio::test]
async fn a_caller_that_leaves_while_it_waits_for_room_takes_its_write_along() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_with(&folder, &Options { queue: 2, ..Options::default() });
    let go = hold(&journal).await;
    let mut queued = pin!(journal.commit(put(1, 1)));
    assert!(poll_once(queued.as_mut()).await.is_pending());
    {
        let leaving = pin!(journal.commit(put(2, 2)));
        assert!(poll_once(leaving).await.is_pending());
    }
    drop(go);
    queued.await.unwrap();
    journal.commit(put(3, 3)).await.unwrap();
    assert_eq!((get(&journal, 1), get(&journal, 2), get(&journal, 3)), (Some(1), None, Some(3)));
}

#[tokio::test]
async fn who_finds_no_room_in_time_is_told_so_and_later_ones_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { queue: 4, queue_bytes: 400, patience: Duration::ZERO, ..Options::default() };
    let journal = open_with(&folder, &options);
    // One permit is the holder's; 250 bytes take two of the three that are left, and 150 need one more than that.
    let go = hold(&journal).await;
    let mut large = pin!(journal.commit_sized(250, put(1, 1)));
    assert!(poll_once(large.as_mut()).await.is_pending());
    let refused = journal.commit_sized(250, put(2, 2)).await;
    assert!(matches!(refused, Err(Failed::Full)), "{refused:?}");
    assert_eq!(refused.unwrap_err().reason(), Some(Reason::QueueFull));
    let mut small = pin!(journal.commit(put(3, 3)));
    assert!(poll_once(small.as_mut()).await.is_pending());
    drop(go);
    large.await.unwrap();
    small.await.unwrap();
    // More than the whole queue takes all of it and no more.
    journal.commit_sized(1 << 30, put(4, 4)).await.unwrap();
    assert_eq!((get(&journal, 1), get(&journal, 2), get(&journal, 4)), (Some(1), None, Some(4)));
}

#[tokio::test]
async fn closing_commits_what_is_queued_and_tells_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_with(&folder, &Options { queue: 3, ..Options::default() });
    let go = hold(&journal).await;
    let (other, closing) = (journal.clone(), journal.clone());
    let mut queued = pin!(join_all(vec![other.commit(put(1, 1)), other.commit(put(2, 2))]));
    assert!(poll_once(queued.as_mut()).await.is_pending());
    let mut waits = pin!(other.commit(put(3, 3)));
    assert!(poll_once(waits.as_mut()).await.is_pending());
    let mut close = pin!(closing.close());
    assert!(poll_once(close.as_mut()).await.is_pending());
    assert!(matches!(waits.await, Err(Failed::Closed)), "nobody waits for room that is never made");
    drop(go);
    close.await;
    assert!(queued.await.iter().all(Result::is_ok));
    assert!(matches!(journal.commit(put(4, 4)).await, Err(Failed::Closed)));
    assert!(matches!(journal.read(|_| Ok::<_, ()>(())), Err(Failed::Closed)));
    assert_eq!(journal.state().reason(), Some(Reason::Closed));
    journal.close().await;
    let again = open(&folder);
    assert_eq!((get(&again, 1), get(&again, 2), get(&again, 3)), (Some(1), Some(2), None));
}

#[tokio::test]
async fn the_last_clone_ends_the_thread_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(&folder);
    let mut state = journal.watch();
    {
        let leaving = pin!(journal.commit(put(1, 1)));
        assert!(poll_once(leaving).await.is_pending());
    }
    drop(journal);
    state.wait_for(|state| matches!(state, super::State::Closed)).await.unwrap();
    assert_eq!(get(&open(&folder), 1), Some(1));
}

/// Reads every number of a file that no journal has open.
fn numbers(path: &Path) -> Vec<(u64, u64)> {
    let journal = Journal::open(path, &Options::default()).unwrap();
    all(&journal)
}

fn all(journal: &Journal) -> Vec<(u64, u64)> {
    journal
        .read(|snapshot| {
            let table = match snapshot.open_table(NUMBERS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let rows = table.iter()?.map(|row| row.map(|(key, value)| (key.value(), value.value())));
            rows.collect::<Result<_, _>>().map_err(redb::Error::from)
        })
        .unwrap()
}
