//! What is forgotten goes to the trash, comes back from it, and is gone in the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{ReadableTableMetadata as _, WriteTransaction};

use super::{commit, ids, key, open, open_as, put, rows, shape, site};
use crate::{
    backend::{Forget, Which},
    error::Error,
    index::tests::record,
    memory::{Change, Memory, Record},
    store::{
        Refused, Store,
        tables::{FORGETTINGS, TRASH},
    },
    upkeep::forgettings::{Cause, Forgetting, State},
};

const HOUR: Duration = Duration::from_hours(1);

fn at(hours: u32) -> SystemTime {
    UNIX_EPOCH + HOUR * hours
}

async fn go(store: &Store, which: Which, cause: Cause, window: Duration) -> (Vec<String>, Option<u64>) {
    let forget = Forget { which, cause, at: at(0), window };
    let done = store.forget(&key("t"), forget).await.unwrap();
    assert_eq!(done.committed.removed.len(), done.ids.len());
    assert_eq!(done.committed.generation.is_some(), done.number.is_some());
    (done.ids, done.number)
}

async fn forget(store: &Store, ids: &[&str]) -> u64 {
    let which = Which::Ids(ids.iter().map(|id| (*id).to_owned()).collect());
    go(store, which, Cause::Named, HOUR * 2).await.1.unwrap()
}

/// How many rows the trash and the log have.
async fn kept(store: &Store) -> (u64, u64) {
    let count = |write: &WriteTransaction| {
        Ok::<_, Refused>((write.open_table(TRASH)?.len()?, write.open_table(FORGETTINGS)?.len()?))
    };
    store.journal.commit(count).await.unwrap()
}

fn states(store: &Store, space: u32) -> Vec<(u64, State)> {
    let listed = store.forgettings(space, 0..u64::MAX, 100).unwrap();
    listed.iter().map(|entry| (entry.number, entry.state)).collect()
}

#[tokio::test]
async fn what_was_forgotten_comes_back_as_it_was_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let full = Record::new(crate::store::full(), vec![0.5, -1.5]);
    let space = commit(&store, "t", Change::Put(vec![full.clone(), record("b", &[1.0, 0.0])])).await.space;
    let number = forget(&store, &["id", "unknown"]).await;
    assert_eq!((store.get(site(space), "id").unwrap(), rows(&store).await), (None, [1, 1, 1, 0]));
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["b"], "a start finds nothing of it");
    let expected = Forgetting::new(number, Cause::Named, 1, at(0), HOUR * 2);
    assert_eq!(store.forgettings(space, 0..u64::MAX, 9).unwrap(), [expected]);
    let done = store.undo(&key("t"), number, at(1)).await.unwrap();
    assert_eq!(
        (done.records, done.stayed, done.committed.first),
        (vec![full.clone()], 0, 3),
        "under a new number"
    );
    assert_eq!(done.committed.generation, Some(3));
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["b", "id"]);
    let (_, (memory, vector)) = store.get(site(space), "id").unwrap().unwrap();
    assert_eq!((memory, vector), (full.memory, full.embedding));
    assert_eq!((kept(&store).await, states(&store, space)), ((0, 1), vec![(number, State::Undone)]));
    let again = store.undo(&key("t"), number, at(1)).await;
    assert!(matches!(again, Err(Error::Undone)), "{again:?}");
}

#[tokio::test]
async fn an_undo_that_comes_too_late_or_for_nothing_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let number = forget(&store, &["a"]).await;
    for (tenant, number, now, late) in
        [("t", number, at(2), true), ("t", 9, at(1), false), ("u", 1, at(1), false)]
    {
        let refused = store.undo(&key(tenant), number, now).await;
        assert!(if late {
            matches!(refused, Err(Error::Over))
        } else {
            matches!(refused, Err(Error::NoForgetting))
        });
    }
    assert_eq!((kept(&store).await, rows(&store).await), ((1, 1), [0; 4]));
    assert_eq!(commit(&store, "t", put(&["b"])).await.generation, Some(3));
}

#[tokio::test]
async fn an_id_that_was_written_again_stays_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b"])).await.space;
    let number = forget(&store, &["a", "b"]).await;
    commit(&store, "t", Change::Put(vec![record("a", &[0.0, 1.0])])).await;
    let done = store.undo(&key("t"), number, at(1)).await.unwrap();
    let back: Vec<&str> = done.records.iter().map(|record| &*record.memory.id).collect();
    assert_eq!((back, done.stayed, done.committed.removed.len()), (vec!["b"], 1, 0));
    assert_eq!(store.get(site(space), "a").unwrap().unwrap().1.1, [0.0, 1.0]);
    let number = forget(&store, &["a"]).await;
    commit(&store, "t", put(&["a"])).await;
    let done = store.undo(&key("t"), number, at(1)).await.unwrap();
    assert_eq!((done.stayed, done.committed.generation), (1, None), "nothing was written");
    assert_eq!(commit(&store, "t", put(&["c"])).await.generation, Some(7));
}

#[tokio::test]
async fn what_goes_by_its_number_goes_only_if_it_is_still_that() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b", "c"])).await.space;
    commit(&store, "t", put(&["b"])).await;
    let other = go(&store, Which::Seqs(space + 1, vec![1]), Cause::Prune, HOUR).await;
    assert_eq!(other, (Vec::new(), None), "another space of that name had this number");
    let done = go(&store, Which::Seqs(space, vec![1, 2, 99]), Cause::Prune, HOUR).await;
    assert_eq!(done, (vec!["a".to_owned()], Some(1)));
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["c", "b"]);
}

#[tokio::test]
async fn what_had_expired_comes_back_to_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let memory = Memory { id: "a".into(), expires: Some(at(1)), ..Memory::bare() };
    let record = Record::new(memory, vec![1.0, 0.0]);
    let space = commit(&store, "t", Change::Put(vec![record])).await.space;
    let (_, number) = go(&store, Which::Seqs(space, vec![1]), Cause::Expired, HOUR * 9).await;
    let done = store.undo(&key("t"), number.unwrap(), at(2)).await.unwrap();
    assert_eq!(done.records[0].memory.expires, None);
    assert_eq!(store.get(site(space), "a").unwrap().unwrap().1.0.expires, None);
}

#[tokio::test]
async fn without_a_window_it_is_gone_at_once_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a"])).await.space;
    let (_, number) = go(&store, Which::Ids(vec!["a".to_owned()]), Cause::Named, Duration::ZERO).await;
    assert_eq!((kept(&store).await, states(&store, space)), ((0, 1), vec![(1, State::Purged)]));
    assert!(matches!(store.undo(&key("t"), number.unwrap(), at(0)).await, Err(Error::Over)));
}

#[tokio::test]
async fn what_is_due_is_removed_some_in_each_commit_and_goes_on_where_it_was_broken_off() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b", "c", "d", "e", "f"])).await.space;
    forget(&store, &["a", "b", "c"]).await;
    forget(&store, &["d"]).await;
    let which = Which::Ids(vec!["e".to_owned()]);
    go(&store, which, Cause::Named, HOUR * 5).await;
    assert!(store.due(space, Some(at(1)), 9).unwrap().0.is_empty());
    let due = store.due(space, Some(at(2)), 9).unwrap();
    assert_eq!(due, (vec![1, 2], vec![]));
    let done = store.purge(space, due.0, 2).await.unwrap();
    assert_eq!((done.removed, done.ended), (2, 0));
    assert!(matches!(store.undo(&key("t"), 1, at(1)).await, Err(Error::Over)), "a part of it is gone");
    store.close().await;
    let (store, _) = open(folder.path()).await;
    assert_eq!(store.due(space, Some(at(1)), 9).unwrap().0, [1], "whatever the clock says by now");
    let done = store.purge(space, vec![1, 2], 3).await.unwrap();
    assert_eq!((done.removed, done.ended, kept(&store).await), (2, 2, (1, 3)));
    let due = store.due(space, Some(at(3)), 1).unwrap();
    assert_eq!(due, (vec![], vec![1]), "one that is over stays listed");
    store.unlist(space, due.1).await.unwrap();
    assert_eq!(states(&store, space), [(3, State::Undoable), (2, State::Purged)]);
    assert_eq!(store.due(space, None, 9).unwrap().0, [3], "at no time can it be undone");
    assert_eq!(forget(&store, &["f"]).await, 4, "no number is given twice");
}

#[tokio::test]
async fn pages_of_the_list_follow_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b", "c"])).await.space;
    for id in ["a", "b", "c"] {
        forget(&store, &[id]).await;
    }
    let page = |before| {
        store.forgettings(space, 0..before, 2).unwrap().iter().map(|one| one.number).collect::<Vec<_>>()
    };
    assert_eq!((page(u64::MAX), page(2), page(1)), (vec![3, 2], vec![1], vec![]));
    assert!(store.forgettings(space + 1, 0..u64::MAX, 9).unwrap().is_empty());
}

#[tokio::test]
async fn a_row_of_the_trash_that_cannot_be_read_stays_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b"])).await.space;
    let number = forget(&store, &["a", "b"]).await;
    let spoil = move |write: &WriteTransaction| {
        let mut trash = write.open_table(TRASH)?;
        trash.insert((space, number, 1), (&b"rubbish"[..], &b"too"[..], None))?;
        Ok::<_, Refused>(())
    };
    store.journal.commit(spoil).await.unwrap();
    let done = store.undo(&key("t"), number, at(1)).await.unwrap();
    assert_eq!((done.records.len(), done.stayed), (1, 1));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_none_and_what_it_kept_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a"])).await.space;
    let number = forget(&store, &["a"]).await;
    let spoil = move |write: &WriteTransaction| {
        write.open_table(FORGETTINGS)?.insert((space, number), &b"rubbish"[..])?;
        Ok::<_, Refused>(())
    };
    store.journal.commit(spoil).await.unwrap();
    assert!(matches!(store.undo(&key("t"), number, at(1)).await, Err(Error::NoForgetting)));
    assert_eq!(store.due(space, Some(at(0)), 9).unwrap().0, [number]);
    assert_eq!(store.purge(space, vec![number], 9).await.unwrap().removed, 1);
}

#[tokio::test]
async fn a_dropped_space_takes_its_trash_along_and_a_snapshot_that_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    forget(&store, &["a"]).await;
    store.drop_space(&key("t")).await.unwrap();
    commit(&store, "t", put(&["c"])).await;
    let number = forget(&store, &["c"]).await;
    let snapshot = folder.path().join("snapshot");
    store.snapshot(&snapshot).unwrap();
    while store.sweep().await.unwrap() {}
    assert_eq!(kept(&store).await, (1, 1), "the present space of that name keeps its own");
    store.close().await;
    std::fs::copy(&snapshot, folder.path().join(super::super::FILE)).unwrap();
    let (store, _) = open(folder.path()).await;
    assert_eq!(kept(&store).await, (1, 1));
    assert_eq!(store.undo(&key("t"), number, at(1)).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_namespace_that_takes_on_another_maker_brings_back_no_vectors_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let number = forget(&store, &["a"]).await;
    store.close().await;
    let (store, _) = open_as(folder.path(), &shape("other-2", 2)).await.unwrap();
    assert!(matches!(store.undo(&key("t"), number, at(1)).await, Err(Error::Over)));
}
