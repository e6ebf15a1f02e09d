//! Tests of the grouped commit over a real file.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redb::{ReadableTable as _, TableDefinition};

use super::{Failed, Journal, Options};

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

#[tokio::test]
async fn an_acknowledged_write_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/for/us.redb");
    let journal = Journal::open(&path, &Options::default()).unwrap();
    journal.commit(put(1, 10)).await.unwrap();
    let clone = journal.clone();
    let (_, ()) = tokio::join!(async { drop(clone) }, journal.close());
    let again = Journal::open(&path, &Options::default()).unwrap();
    assert_eq!(get(&again, 1), Some(10));
}

#[tokio::test]
async fn a_refused_write_is_undone_and_the_others_of_its_batch_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("j.redb"), &Options::default()).unwrap();
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
async fn writes_queued_together_share_a_commit_and_see_each_other_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("j.redb"), &Options::default()).unwrap();
    let transactions = Arc::new(AtomicUsize::new(0));
    let writes = (0..500).map(|_| {
        let transactions = Arc::clone(&transactions);
        journal.commit(move |transaction| {
            let mut table = transaction.open_table(NUMBERS)?;
            let next = table.get(0)?.map_or(0, |value| value.value()) + 1;
            table.insert(0, next)?;
            transactions.fetch_add(1, Ordering::Relaxed);
            Ok::<_, redb::Error>(next)
        })
    });
    let mut results = Vec::new();
    for write in futures_join(writes.collect()).await {
        results.push(write.unwrap());
    }
    assert_eq!(results, (1..=500).collect::<Vec<u64>>());
    assert_eq!(get(&journal, 0), Some(500));
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_its_write() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("j.redb"), &Options::default()).unwrap();
    {
        let mut leaving = std::pin::pin!(journal.commit(put(7, 7)));
        // One poll queues the write; then its caller is gone.
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(leaving.as_mut().poll(context).is_pending())
        });
        polled.await;
    }
    journal.commit(put(8, 8)).await.unwrap();
    assert_eq!(get(&journal, 7), Some(7));
}

/// Polls every future on this task, so that all are queued before the first is answered.
async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            return std::task::Poll::Ready(outputs.iter_mut().filter_map(Option::take).collect());
        }
        std::task::Poll::Pending
    })
    .await
}
