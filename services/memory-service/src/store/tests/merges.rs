//! Memories become one, what they were goes to the trash, and both come back from it.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use super::{commit, forget, ids, key, open, put, rows, site, two};
use crate::{
    backend::Merge,
    hygiene::settle::Join,
    index::tests::record,
    memory::{Change, Record},
    store::{Merged, Store},
    upkeep::{
        accounts::Account,
        forgettings::{Cause, State},
    },
};

const HOUR: Duration = Duration::from_hours(1);

/// Puts `id` as the memory that goes on from the one under `older` and has `parts`.
async fn merge(store: &Store, id: &str, older: Option<u64>, parts: &[&str], window: Duration) -> Merged {
    let parts: Vec<Record> = parts.iter().map(|id| record(id, &[0.5, 0.5])).collect();
    let change = Arc::new(Change::Put(vec![record("other", &[1.0, 1.0]), record(id, &[0.0, 1.0])]));
    let merge = Merge { change, joins: vec![Join { at: 1, older, parts }], at: UNIX_EPOCH, window };
    store.merge(&key("t"), &two(), merge).await.unwrap()
}

#[tokio::test]
async fn what_became_one_comes_back_as_it_was_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b"])).await.space;
    let Merged::Done(done, number) = merge(&store, "a", Some(1), &["new"], HOUR).await else { panic!() };
    // Number 3 went to the part, which was never stored.
    assert_eq!((done.generation, done.first, done.touched, number), (Some(2), 4, 1, 1));
    let entry = store.forgettings(space, 0..9, 9).unwrap().remove(0);
    assert_eq!((entry.cause, entry.memories, entry.state), (Cause::Merged, 2, State::Undoable));
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["b", "other", "a"]);
    assert_eq!(store.get(site(space), "a").unwrap().unwrap().1.1, [0.0, 1.0]);
    let undone = store.undo(&key("t"), number, UNIX_EPOCH).await.unwrap();
    let back: Vec<_> = undone.records.iter().map(|back| (&*back.memory.id, &*back.embedding)).collect();
    assert_eq!((back, undone.stayed), (vec![("a", &[1.0, 0.0][..]), ("new", &[0.5, 0.5][..])], 0));
    assert_eq!(store.get(site(space), "a").unwrap().unwrap().1.1, [1.0, 0.0]);
}

#[tokio::test]
async fn a_memory_that_is_another_one_meanwhile_is_not_merged() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    assert_eq!(merge(&store, "a", Some(1), &["new"], HOUR).await, Merged::Moved(0), "there is no space");
    commit(&store, "t", put(&["a"])).await;
    commit(&store, "t", put(&["a"])).await;
    let before = rows(&store).await;
    assert_eq!(merge(&store, "a", Some(1), &["new"], HOUR).await, Merged::Moved(2));
    commit(&store, "t", forget(&["a"])).await;
    assert_eq!(merge(&store, "a", Some(2), &["new"], HOUR).await, Merged::Moved(3));
    assert_eq!((before[0], rows(&store).await[0]), (1, 0), "nothing was put");
}

#[tokio::test]
async fn what_came_together_becomes_one_in_a_space_that_was_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (store, loaded) = open(folder.path()).await;
    assert!(loaded.spaces.is_empty());
    let Merged::Done(done, number) = merge(&store, "a", None, &["a", "b"], HOUR).await else { panic!() };
    assert_eq!((done.generation, done.touched), (Some(1), 0));
    let undone = store.undo(&key("t"), number, UNIX_EPOCH).await.unwrap();
    assert_eq!((undone.records.len(), undone.stayed), (2, 0));
}

#[tokio::test]
async fn without_a_window_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a"])).await.space;
    let Merged::Done(_, number) = merge(&store, "a", Some(1), &["new"], Duration::ZERO).await else {
        panic!()
    };
    assert!(store.due(space, None, 9).unwrap().0.is_empty());
    assert!(store.undo(&key("t"), number, UNIX_EPOCH).await.is_err());
}

#[tokio::test]
async fn accounts_are_kept_and_go_with_their_space() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b"])).await.space;
    let account = Account { recalls: 7, recalled: Some(UNIX_EPOCH + HOUR), said: 2 };
    let saved = vec![(1, Some(account)), (2, Some(Account { recalled: None, ..account }))];
    store.save_accounts(space, saved).await.unwrap();
    store.save_accounts(space, vec![(2, None)]).await.unwrap();
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    let of = |seq| super::space(&loaded, "t").accounts.of(seq);
    assert_eq!((of(1), of(2)), (account, Account::default()));
    store.drop_space(&key("t")).await.unwrap();
    while store.sweep().await.unwrap() {}
    let count = |write: &redb::WriteTransaction| {
        use redb::ReadableTableMetadata as _;
        Ok::<_, crate::store::Refused>(write.open_table(crate::store::tables::ACCOUNTS)?.len()?)
    };
    assert_eq!(store.journal.commit(count).await.unwrap(), 0);
}
