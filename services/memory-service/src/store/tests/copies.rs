//! Snapshots, and stores that begin with one.

use std::fs;

use clock::Clock;
use telemetry::Telemetry;

use super::{commit, forget, ids, key, open, put, two};
use crate::{
    config::Config,
    error::Error,
    index::Index,
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
        let options = config.store(&two(), None);
        Store::open::<Index>(&options, &Clock::system(), &Telemetry::silent("memory-service")).await
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
    let opened = Store::open::<Index>(
        &config.store(&two(), None),
        &Clock::system(),
        &Telemetry::silent("memory-service"),
    )
    .await;
    assert!(matches!(opened, Err(Error::Snapshot(_))), "{opened:?}");
    assert!(!folder.path().join(FILE).exists());
}
