//! The store by itself: writes, restarts, damage, and the way from the first layout.

mod checkpoints;
mod copies;
mod damage;
mod merges;
mod migration;
mod reembeddings;
mod trash;

use std::{path::Path, sync::Arc, time::Duration};

use clock::Clock;
use redb::{ReadableTableMetadata as _, WriteTransaction};
use telemetry::Telemetry;

use super::{
    Committed, Options, Store,
    load::{Site, Stored},
    open::{Loaded, LoadedSpace},
    tables::{DROPPED, IDS, RECORDS, REMOVED, VECTORS},
};
use crate::{
    config::Config,
    error::Error,
    index::{
        Index,
        tests::{record, seqs as memories},
    },
    memory::Change,
    recall::contents::Contents as _,
    shape::{Metric, Shape, SpaceKey},
    vector::source::Vectors as _,
};

fn shape(embedder: &str, dimensions: usize) -> Shape {
    Shape { embedder: embedder.to_owned(), dimensions, metric: Metric::Cosine }
}

fn two() -> Shape {
    shape("hashing-2", 2)
}

fn key(tenant: &str) -> SpaceKey {
    SpaceKey::new(tenant, "")
}

/// Where the rows of a space lie whose vectors have two values and were never made anew.
fn site(space: u32) -> Site {
    Site { space, vectors: space, dimensions: 2 }
}

fn site_of(space: &LoadedSpace<Index>) -> Site {
    Site { space: space.number, vectors: space.vectors, dimensions: space.shape.dimensions }
}

async fn open_as(folder: &Path, shape: &Shape) -> Result<(Store, Loaded<Index>), Error> {
    let config = Config { memory_dir: folder.to_owned(), memory_namespaces: 3, ..Config::defaults() };
    let options = Options { cached_for: Duration::from_secs(60), ..config.store(shape, None) };
    Store::open(&options, &Clock::system(), &Telemetry::silent("memory-service")).await
}

async fn open(folder: &Path) -> (Store, Loaded<Index>) {
    open_as(folder, &two()).await.unwrap()
}

async fn commit(store: &Store, tenant: &str, change: Change) -> Committed {
    store.commit(&key(tenant), &two(), &Arc::new(change)).await.unwrap()
}

fn seqs(done: &Committed) -> Vec<u64> {
    done.removed.iter().map(|removed| removed.seq).collect()
}

fn put(ids: &[&str]) -> Change {
    Change::Put(ids.iter().map(|id| record(id, &[1.0, 0.0])).collect())
}

fn forget(ids: &[&str]) -> Change {
    Change::Forget(ids.iter().map(|id| (*id).to_owned()).collect())
}

fn space<'l>(loaded: &'l Loaded<Index>, tenant: &str) -> &'l LoadedSpace<Index> {
    loaded.spaces.iter().find(|space| space.key == key(tenant)).unwrap()
}

fn ids(store: &Store, loaded: &Loaded<Index>, tenant: &str) -> Vec<String> {
    let space = space(loaded, tenant);
    let found = memories(&space.memories, &crate::query::Filter::default(), std::time::UNIX_EPOCH);
    let stored = Stored { store, site: site_of(space) };
    stored.memories(&found).unwrap().iter().map(|memory| memory.id.to_string()).collect()
}

/// How many rows the tables of memories, vectors, ids and removals have.
async fn rows(store: &Store) -> [u64; 4] {
    let count = |write: &WriteTransaction| {
        Ok::<_, super::Refused>([
            write.open_table(RECORDS)?.len()?,
            write.open_table(VECTORS)?.len()?,
            write.open_table(IDS)?.len()?,
            write.open_table(REMOVED)?.len()?,
        ])
    };
    store.journal.commit(count).await.unwrap()
}

#[tokio::test]
async fn what_was_committed_is_loaded_and_numbered() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let first = commit(&store, "t", put(&["a", "b"])).await;
    assert_eq!((first.generation, first.first, first.touched), (Some(1), 1, 0));
    let again = commit(&store, "t", Change::Put(vec![record("a", &[0.5, 0.5])])).await;
    assert_eq!((again.generation, again.first, &seqs(&again)[..]), (Some(2), 3, &[1][..]));
    let forgotten = commit(&store, "t", forget(&["b", "unknown"])).await;
    assert_eq!((forgotten.generation, &seqs(&forgotten)[..]), (Some(3), &[2][..]));
    assert_eq!(commit(&store, "t", forget(&["unknown"])).await.generation, None);
    let other = commit(&store, "u", put(&["z"])).await;
    assert_eq!((other.generation, other.first), (Some(1), 1), "each space counts its own writes");
    assert_eq!(commit(&store, "v", forget(&["z"])).await.generation, None);
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(
        (ids(&store, &loaded, "t"), space(&loaded, "t").memories.generation()),
        (vec!["a".to_owned()], 3)
    );
    let (_, (_, vector)) = store.get(site(first.space), "a").unwrap().unwrap();
    assert_eq!(vector, [0.5, 0.5]);
    assert_eq!(store.get(site(first.space), "b").unwrap(), None);
    assert!(store.bytes() > 0);
}

#[tokio::test]
async fn an_id_twice_in_one_write_leaves_the_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let twice = Change::Put(vec![record("a", &[1.0, 0.0]), record("a", &[0.0, 1.0])]);
    let done = commit(&store, "t", twice).await;
    assert_eq!((done.touched, &seqs(&done)[..]), (1, &[1][..]));
    assert_eq!(store.get(site(done.space), "a").unwrap().unwrap().1.1, [0.0, 1.0]);
    assert_eq!(rows(&store).await, [1, 1, 1, 0]);
}

#[tokio::test]
async fn what_was_read_once_is_not_served_after_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a"])).await.space;
    let content =
        |store: &Store| store.get(site(space), "a").unwrap().map(|(_, (memory, _))| memory.content.clone());
    assert_eq!(content(&store).as_deref(), Some("content"));
    let mut newer = record("a", &[1.0, 0.0]);
    Arc::get_mut(&mut newer.memory).unwrap().content = "newer".into();
    commit(&store, "t", Change::Put(vec![newer])).await;
    assert_eq!(content(&store).as_deref(), Some("newer"));
    commit(&store, "t", forget(&["a"])).await;
    assert_eq!(content(&store), None);
}

#[tokio::test]
async fn a_closed_store_takes_no_more_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    assert!(store.state().is_ready());
    store.close().await;
    assert!(matches!(store.state(), journal::State::Closed));
    let refused = store.commit(&key("t"), &two(), &Arc::new(put(&["a"]))).await;
    assert!(matches!(refused, Err(Error::NotReady)));
    assert!(open(folder.path()).await.1.spaces.is_empty());
}

#[tokio::test]
async fn a_default_namespace_of_another_maker_is_refused_by_the_name_of_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_as(folder.path(), &shape("hashing-3", 3)).await.unwrap();
    let three = Arc::new(Change::Put(vec![record("a", &[1.0, 0.0, 0.0])]));
    store.commit(&key("t"), &shape("hashing-3", 3), &three).await.unwrap();
    commit(&store, "t", forget(&["a"])).await;
    store.close().await;
    // A namespace without memories takes on another maker.
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    store.close().await;
    for (ours, expected) in
        [(shape("hashing-3", 3), "memory_dimensions"), (shape("minilm", 2), "memory_embedder")]
    {
        match open_as(folder.path(), &ours).await {
            Err(error @ Error::Maker { setting, .. }) => {
                assert_eq!(setting, expected);
                assert!(error.to_string().contains(expected), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["a"], "nothing was changed or set aside");
}

#[tokio::test]
async fn vectors_of_another_length_are_refused_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let mixed = Change::Put(vec![record("b", &[1.0, 0.0]), record("c", &[1.0])]);
    let refused = store.commit(&key("t"), &two(), &Arc::new(mixed)).await;
    assert!(matches!(refused, Err(Error::Dimensions(2))), "{refused:?}");
    assert_eq!(rows(&store).await, [1, 1, 1, 0]);
}

#[tokio::test]
async fn a_space_is_made_once_of_one_shape_and_no_tenant_has_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let name = |name: &str| SpaceKey::new("t", name);
    assert_eq!(store.create(&name("one"), &two()).await.unwrap(), (1, true));
    assert_eq!(store.create(&name("one"), &two()).await.unwrap(), (1, false));
    let other = store.create(&name("one"), &shape("hashing-3", 3)).await;
    assert!(matches!(other, Err(Error::Exists(_))), "{other:?}");
    store.create(&name("two"), &two()).await.unwrap();
    store.create(&name("three"), &two()).await.unwrap();
    assert!(matches!(store.create(&name("four"), &two()).await, Err(Error::Namespaces)));
    let implicit = store.commit(&key("t"), &two(), &Arc::new(put(&["a"]))).await;
    assert!(matches!(implicit, Err(Error::Namespaces)), "{implicit:?}");
    assert_eq!(commit(&store, "u", put(&["a"])).await.space, 4, "another tenant has its own");
}

#[tokio::test]
async fn a_dropped_space_is_swept_away_and_its_number_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let many: Vec<String> = (0..900).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    commit(&store, "t", put(&many)).await;
    commit(&store, "t", put(&["0", "1"])).await;
    commit(&store, "u", put(&["kept"])).await;
    assert_eq!(store.drop_space(&key("t")).await.unwrap(), Some(1));
    assert_eq!(store.drop_space(&key("t")).await.unwrap(), None);
    assert_eq!(commit(&store, "t", put(&["new"])).await.space, 3);
    assert!(store.sweep().await.unwrap(), "it takes several commits");
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(
        (ids(&store, &loaded, "t"), ids(&store, &loaded, "u")),
        (vec!["new".to_owned()], vec!["kept".to_owned()])
    );
    while store.sweep().await.unwrap() {}
    assert_eq!(rows(&store).await, [2, 2, 2, 0]);
    let dropped = |write: &WriteTransaction| Ok::<_, super::Refused>(write.open_table(DROPPED)?.len()?);
    assert_eq!(store.journal.commit(dropped).await.unwrap(), 0);
}

#[tokio::test]
async fn vectors_are_read_by_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let two = Change::Put(vec![record("a", &[1.0, 0.0]), record("b", &[0.0, 2.0])]);
    let space = commit(&store, "t", two).await.space;
    let stored = Stored { store: &store, site: site(space) };
    let mut read = Vec::new();
    stored.read(&[2, 1], &mut |place, vector| read.push((place, vector.to_vec()))).unwrap();
    assert_eq!(read, [(0, vec![0.0, 2.0]), (1, vec![1.0, 0.0])]);
    assert!(stored.read(&[3], &mut |_, _| ()).is_err(), "one that is not there is not silently left out");
}
