//! Snapshots, and stores that begin with one; pages of an export.

use std::{fs, sync::Arc};

use clock::Clock;
use telemetry::Telemetry;

use super::{commit, forget, ids, key, open, put, space, two};
use crate::{
    config::Config,
    error::Error,
    index::tests::record,
    memory::Change,
    store::{FILE, Store},
};

#[tokio::test]
async fn a_snapshot_holds_what_was_committed_and_a_new_store_begins_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshots").join("one");
    let (store, _) = open(&folder.path().join("first")).await;
    commit(&store, "t", put(&["a", "b"])).await;
    commit(&store, "dropped", put(&["x"])).await;
    store.drop_space(&key("dropped")).await.unwrap();
    let taken = store.snapshot(&snapshot).unwrap();
    assert_eq!((taken.memories, taken.bytes), (2, fs::metadata(&snapshot).unwrap().len()));
    assert!(matches!(store.snapshot(&snapshot), Err(Error::SnapshotExists)));
    commit(&store, "t", forget(&["a"])).await;
    store.close().await;
    let config = Config {
        memory_dir: folder.path().join("second"),
        memory_restore: Some(snapshot),
        ..Config::defaults()
    };
    let open = async || {
        Store::open(&config.store(&two(), None), &Clock::system(), &Telemetry::silent("memory-service")).await
    };
    let (store, loaded) = open().await.unwrap();
    assert_eq!((ids(&store, &loaded, "t"), loaded.spaces.len()), (vec!["a".to_owned(), "b".to_owned()], 1));
    assert_eq!(commit(&store, "t", put(&["c"])).await.generation, Some(2));
    store.close().await;
    let (store, loaded) = open().await.unwrap();
    assert_eq!(ids(&store, &loaded, "t").len(), 3, "a store that is there is not overwritten");
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        memory_dir: folder.path().to_owned(),
        memory_restore: Some(folder.path().join("missing")),
        ..Config::defaults()
    };
    let opened =
        Store::open(&config.store(&two(), None), &Clock::system(), &Telemetry::silent("memory-service"))
            .await;
    assert!(matches!(opened, Err(Error::Snapshot(_))), "{opened:?}");
    assert!(!folder.path().join(FILE).exists());
}

#[tokio::test]
async fn pages_hold_every_memory_that_is_there_from_first_to_last() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let names: Vec<String> = (0..50).map(|number| format!("{number:02}")).collect();
    commit(&store, "t", put(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    let space = space(&loaded, "t");
    let (mut found, mut after) = (Vec::new(), Some(0));
    while let Some(from) = after {
        let page = store.page(space, from, 2_000).unwrap();
        assert!(page.records.len() < 10, "a page is bounded");
        found.extend(page.records.into_iter().map(|record| record.memory.id.to_string()));
        if from == 0 {
            let replaced = record("40", &[1.0, 0.0]);
            store.commit(&key("t"), &two(), &Arc::new(Change::Put(vec![replaced]))).await.unwrap();
            commit(&store, "t", forget(&["49"])).await;
        }
        after = page.after;
    }
    let expected: Vec<_> = names[..40].iter().chain(&names[41..49]).chain([&names[40]]).cloned().collect();
    assert_eq!(found, expected, "in the order in which they were written");
}
