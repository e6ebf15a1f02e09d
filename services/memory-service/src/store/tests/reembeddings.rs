//! A second set of vectors is filled beside the first, takes its place, and nothing of the first is left.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use super::{commit, forget, ids, key, open, open_as, put, rows, shape, site_of, space, two};
use crate::{
    backend::{Forget, Merge, Which},
    error::Error,
    hygiene::settle::Join,
    index::{Index, tests::record},
    memory::Change,
    shape::{Shape, SpaceKey},
    store::{
        FILE, Merged, Refused, Site, Store,
        load::Stored,
        tables::{DROPPED, FORMAT, JOBS, META, OLD_SETS, SPACES},
    },
    upkeep::{
        forgettings::Cause,
        reembed::{Job, State},
    },
    vector::source::Vectors as _,
};

const NOW: SystemTime = UNIX_EPOCH;
const HOUR: Duration = Duration::from_hours(1);

/// What the new vectors of every test are.
fn three() -> Shape {
    shape("hashing-3", 3)
}

async fn begin(store: &Store) -> Job {
    store.begin_reembedding(&key("t"), "hashing-3", 3, NOW).await.unwrap()
}

/// Embeds everything after what the job has come to, as a worker does.
async fn embed(store: &Store, mut job: Job) -> Job {
    let page = store.after(1, job.after, 100).unwrap();
    let seqs: Vec<u64> = page.iter().map(|(seq, _)| *seq).collect();
    job.embedded(&seqs);
    job.embedded(&[]);
    let vectors = page.iter().map(|(seq, _)| (*seq, vec![0.5, 0.5, f32::from(u16::try_from(*seq).unwrap())]));
    store.bring(&key("t"), job.clone(), vectors.collect()).await.unwrap();
    job
}

/// Makes the index and changes to it; says whether that was in time.
async fn change(store: &Store, job: &Job) -> bool {
    let (index, mark) = store.remake::<Index>(&key("t"), job, None).unwrap();
    assert_eq!((index.dimensions(), mark.vectors), (3, job.set));
    store.change(&key("t"), job.clone(), mark.generation).await.unwrap().is_some()
}

/// How many vectors the present set of space 1 and its memories have.
fn vectors(store: &Store, site: Site, seqs: &[u64]) -> Vec<Vec<f32>> {
    let mut found = Vec::new();
    Stored { store, site }.read(seqs, &mut |_, vector| found.push(vector.to_vec())).unwrap();
    found
}

async fn sweep(store: &Store) {
    for set in store.old_sets().unwrap() {
        while store.remove_set(set).await.unwrap() {}
    }
    assert!(store.old_sets().unwrap().is_empty());
}

#[tokio::test]
async fn a_job_is_begun_once_and_one_with_another_aim_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let missing = store.begin_reembedding(&key("t"), "hashing-3", 3, NOW).await;
    assert!(matches!(missing, Err(Error::NoNamespace)), "{missing:?}");
    commit(&store, "t", put(&["a"])).await;
    assert!(matches!(store.reembedding(&key("t")), Err(Error::NoReembedding)));
    assert!(matches!(store.cancel_reembedding(&key("t")).await, Err(Error::NoReembedding)));
    let same = store.begin_reembedding(&key("t"), "hashing-2", 2, NOW).await.unwrap();
    assert_eq!(same.state, State::Changed, "it is of these vectors already");
    assert!(store.running().unwrap().is_empty());
    let job = begin(&store).await;
    assert_eq!((begin(&store).await, store.running().unwrap()), (job.clone(), vec![(1, job.clone())]));
    for (embedder, dimensions) in [("hashing-4", 4), ("hashing-3", 4), ("hashing-2", 2)] {
        let other = store.begin_reembedding(&key("t"), embedder, dimensions, NOW).await;
        assert!(matches!(other, Err(Error::Reembedding(by)) if by == "hashing-3"));
    }
    assert_eq!(commit(&store, "u", put(&["a"])).await.space, job.set + 1, "no space has a set's number");
}

#[tokio::test]
async fn the_space_changes_to_its_new_vectors_and_nothing_of_the_old_ones_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b", "c"])).await;
    let job = begin(&store).await;
    commit(&store, "t", forget(&["b"])).await;
    let job = embed(&store, job).await;
    assert_eq!(rows(&store).await, [2, 4, 2, 1], "what goes meanwhile is noted");
    commit(&store, "t", Change::Put(vec![record("a", &[0.0, 1.0])])).await;
    assert_eq!(rows(&store).await, [2, 3, 2, 2], "a memory takes both vectors along");
    assert!(!change(&store, &job).await, "a memory has no new vector");
    let job = store.reembedding(&key("t")).unwrap();
    assert_eq!(job.state, State::Embedding(1));
    let job = embed(&store, job).await;
    assert!(change(&store, &job).await);
    let job = store.reembedding(&key("t")).unwrap();
    assert_eq!((job.state.clone(), job.done), (State::Changed, 3));
    let site = Site { space: 1, vectors: job.set, dimensions: 3 };
    assert_eq!(vectors(&store, site, &[3, 4]), [[0.5, 0.5, 3.0], [0.5, 0.5, 4.0]]);
    assert_eq!(store.get(site, "a").unwrap().unwrap().1.1, [0.5, 0.5, 4.0]);
    let old = Site { vectors: 1, dimensions: 2, ..site };
    assert_eq!(vectors(&store, old, &[4]), [[0.0, 1.0]], "who still reads the old ones finds them");
    sweep(&store).await;
    assert_eq!(rows(&store).await, [2, 2, 2, 0]);
    assert!(store.bring(&key("t"), job, Vec::new()).await.is_err(), "it is over");
    store.close().await;
    let (store, loaded) = open_as(folder.path(), &three()).await.unwrap();
    assert_eq!(ids(&store, &loaded, "t"), ["c", "a"]);
    assert_eq!((space(&loaded, "t").memories.generation(), site_of(space(&loaded, "t"))), (4, site));
    assert_eq!(loaded.corrupt, 0);
}

#[tokio::test]
async fn a_write_whose_vectors_are_of_another_maker_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let job = embed(&store, begin(&store).await).await;
    assert!(change(&store, &job).await);
    let before = rows(&store).await;
    // Of one length: only the name tells them apart.
    let late = Arc::new(Change::Put(vec![record("b", &[1.0, 0.0, 0.0])]));
    for made in [two(), shape("other", 3)] {
        let refused = store.commit(&key("t"), &made, &late).await;
        assert!(matches!(refused, Err(Error::Reembedded)), "{refused:?}");
    }
    assert_eq!(rows(&store).await, before);
    let short = Arc::new(put(&["b"]));
    assert!(matches!(store.commit(&key("t"), &three(), &short).await, Err(Error::Dimensions(3))));
    store.commit(&key("t"), &three(), &late).await.unwrap();
    let made = store.commit(&key("u"), &three(), &late).await.unwrap();
    assert_eq!(made.shape, Some(three()), "a new space is of what is put");
}

#[tokio::test]
async fn a_change_after_a_write_that_the_index_does_not_know_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    let (index, mark) = store.remake::<Index>(&key("t"), &job, None).unwrap();
    assert_eq!(index.len(), 2);
    commit(&store, "t", forget(&["a"])).await;
    assert_eq!(store.change(&key("t"), job.clone(), mark.generation).await.unwrap(), None);
    let (index, mark) = store.remake(&key("t"), &job, Some((index, mark))).unwrap();
    assert_eq!((index.len(), mark.generation), (1, 2), "what was removed is left out");
    let job = embed(&store, store.reembedding(&key("t")).unwrap()).await;
    assert!(store.change(&key("t"), job, mark.generation).await.unwrap().is_some());
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_space_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    commit(&store, "t", forget(&["b"])).await;
    assert_eq!(store.cancel_reembedding(&key("t")).await.unwrap().state, State::Cancelled);
    assert_eq!(store.cancel_reembedding(&key("t")).await.unwrap().state, State::Cancelled, "again");
    for refused in [
        store.bring(&key("t"), job.clone(), vec![(1, vec![0.0; 3])]).await.err(),
        store.change(&key("t"), job.clone(), 2).await.err(),
        store.remake::<Index>(&key("t"), &job, None).err(),
    ] {
        assert!(matches!(refused, Some(Error::NoReembedding)), "{refused:?}");
    }
    sweep(&store).await;
    assert_eq!(rows(&store).await, [1, 1, 1, 0]);
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((ids(&store, &loaded, "t"), loaded.corrupt), (vec!["a".to_owned()], 0));
    assert!(begin(&store).await.set > job.set, "a set's number is not given again");
}

#[tokio::test]
async fn what_was_forgotten_before_the_change_cannot_come_back_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    let forget = |id: &str| Forget {
        which: Which::Ids(vec![id.to_owned()]),
        cause: Cause::Named,
        at: NOW,
        window: HOUR,
    };
    let first = store.forget(&key("t"), forget("a")).await.unwrap().number.unwrap();
    assert_eq!(store.undo(&key("t"), first, NOW).await.unwrap().records[0].embedding, [1.0, 0.0]);
    let second = store.forget(&key("t"), forget("b")).await.unwrap().number.unwrap();
    let job = embed(&store, job).await;
    assert!(change(&store, &job).await);
    assert!(matches!(store.undo(&key("t"), second, NOW).await, Err(Error::Over)));
    let third = store.forget(&key("t"), forget("a")).await.unwrap().number.unwrap();
    let back = store.undo(&key("t"), third, NOW).await.unwrap();
    assert_eq!((back.stayed, back.records[0].embedding.len()), (0, 3));
}

#[tokio::test]
async fn what_becomes_one_after_the_change_comes_back_with_its_new_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let job = embed(&store, begin(&store).await).await;
    assert!(change(&store, &job).await);
    let merge = || {
        let parts = vec![record("b", &[0.0, 0.0, 1.0])];
        let change = Arc::new(Change::Put(vec![record("a", &[0.0, 1.0, 0.0])]));
        Merge { change, joins: vec![Join { at: 0, older: Some(1), parts }], at: NOW, window: HOUR }
    };
    let refused = store.merge(&key("t"), &two(), merge()).await;
    assert!(matches!(refused, Err(Error::Reembedded)), "{refused:?}");
    let Merged::Done(_, number) = store.merge(&key("t"), &three(), merge()).await.unwrap() else {
        panic!("nobody changed it")
    };
    let back = store.undo(&key("t"), number, NOW).await.unwrap();
    let vectors: Vec<&[f32]> = back.records.iter().map(|record| &*record.embedding).collect();
    assert_eq!((vectors, back.stayed), (vec![&[0.5, 0.5, 1.0][..], &[0.0, 0.0, 1.0]], 0));
}

#[tokio::test]
async fn a_dropped_space_takes_its_sets_and_its_job_along() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    assert!(change(&store, &job).await);
    let job = store.begin_reembedding(&key("t"), "hashing-4", 4, NOW).await.unwrap();
    store.bring(&key("t"), job.clone(), vec![(1, vec![0.0; 4])]).await.unwrap();
    assert_eq!(rows(&store).await, [2, 5, 2, 0]);
    store.drop_space(&key("t")).await.unwrap();
    assert!(matches!(store.bring(&key("t"), job, Vec::new()).await, Err(Error::NoReembedding)));
    while store.sweep().await.unwrap() {}
    sweep(&store).await;
    assert_eq!(rows(&store).await, [0; 4]);
    let left = |write: &WriteTransaction| {
        Ok::<_, Refused>((
            write.open_table(JOBS)?.len()?,
            write.open_table(OLD_SETS)?.len()?,
            write.open_table(DROPPED)?.len()?,
        ))
    };
    assert_eq!(store.journal.commit(left).await.unwrap(), (0, 0, 0));
}

#[tokio::test]
async fn a_snapshot_in_the_middle_goes_on_where_the_job_was() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    commit(&store, "t", put(&["c"])).await;
    let snapshot = folder.path().join("snapshot");
    store.snapshot(&snapshot).unwrap();
    store.close().await;
    std::fs::copy(&snapshot, folder.path().join(FILE)).unwrap();
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((ids(&store, &loaded, "t").len(), rows(&store).await), (3, [3, 5, 3, 0]));
    assert_eq!(store.running().unwrap(), [(1, job.clone())]);
    let job = embed(&store, job).await;
    assert!(change(&store, &job).await);
    // What nobody reads any more goes from the copy as it goes from the store.
    let later = folder.path().join("later");
    store.snapshot(&later).unwrap();
    store.close().await;
    std::fs::copy(&later, folder.path().join(FILE)).unwrap();
    let (store, _) = open_as(folder.path(), &three()).await.unwrap();
    assert_eq!(rows(&store).await[1], 6);
    sweep(&store).await;
    assert_eq!(rows(&store).await, [3, 3, 3, 0]);
}

#[tokio::test]
async fn a_checkpoint_of_the_old_vectors_is_not_taken_for_one_of_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let (store, loaded) = open(folder.path()).await;
    drop(loaded);
    commit(&store, "t", put(&["a", "b"])).await;
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    let old = space(&loaded, "t");
    store.log_removals(1).await.unwrap();
    let picture = &old.memories;
    let write = || store.checkpoints().write(picture.mark(site_of(old)), picture).unwrap();
    store.name_checkpoint(write()).await.unwrap();
    let files = || std::fs::read_dir(folder.path().join("checkpoints")).unwrap().count();
    assert_eq!(files(), 1);
    let late = write();
    let job = store.begin_reembedding(&key("t"), "other", 2, NOW).await.unwrap();
    let mut done = job.clone();
    done.embedded(&[1, 2]);
    done.embedded(&[]);
    let vectors = vec![(1, vec![0.0, 1.0]), (2, vec![0.0, 1.0])];
    store.bring(&key("t"), done.clone(), vectors).await.unwrap();
    store.change(&key("t"), done, 1).await.unwrap().unwrap();
    assert_eq!(files(), 1, "the one that was named is gone");
    // It was begun before the change and is done after it.
    store.name_checkpoint(late).await.unwrap();
    store.close().await;
    let (_, loaded) = open_as(folder.path(), &shape("other", 2)).await.unwrap();
    assert!(space(&loaded, "t").mark.is_none(), "it was made of every row");
    assert_eq!(space(&loaded, "t").memories.len(), 2);
}

#[tokio::test]
async fn removals_that_a_job_needs_outlive_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a", "b"])).await;
    let job = embed(&store, begin(&store).await).await;
    let base = store.remake::<Index>(&key("t"), &job, None).unwrap();
    commit(&store, "t", forget(&["a"])).await;
    store.log_removals(1).await.unwrap();
    let picture = Index::new(two().metric, 2, 2);
    let site = Site { space: 1, vectors: 1, dimensions: 2 };
    store.name_checkpoint(store.checkpoints().write(picture.mark(site), &picture).unwrap()).await.unwrap();
    let (index, _) = store.remake(&key("t"), &job, Some(base)).unwrap();
    assert_eq!(index.len(), 1);
}

#[tokio::test]
async fn an_empty_default_namespace_that_takes_on_the_settings_ends_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    begin(&store).await;
    commit(&store, "t", forget(&["a"])).await;
    store.close().await;
    let (store, _) = open_as(folder.path(), &shape("other", 2)).await.unwrap();
    assert_eq!(store.reembedding(&key("t")).unwrap().state, State::Cancelled);
    assert_eq!(store.old_sets().unwrap().len(), 1);
    assert_eq!(
        store.begin_reembedding(&key("t"), "hashing-3", 3, NOW).await.unwrap().state,
        State::Embedding(0)
    );
}

#[tokio::test]
async fn a_default_namespace_may_be_of_every_embedder_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open_as(folder.path(), &shape("hashing-16", 16)).await.unwrap();
    let sixteen = Arc::new(Change::Put(vec![record("a", &[1.0; 16])]));
    store.commit(&key("t"), &shape("hashing-16", 16), &sixteen).await.unwrap();
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(space(&loaded, "t").shape.dimensions, 16, "hashing needs no setting");
    store.create(&SpaceKey::new("u", ""), &shape("minilm", 2)).await.unwrap();
    let put = Arc::new(put(&["a"]));
    store.commit(&key("u"), &shape("minilm", 2), &put).await.unwrap();
    store.close().await;
    assert!(matches!(
        open_as(folder.path(), &two()).await,
        Err(Error::Maker { setting: "memory_embedder", .. })
    ));
    let config =
        crate::config::Config { memory_dir: folder.path().to_owned(), ..crate::config::Config::defaults() };
    let options = config.store(&two(), Some(shape("minilm", 2)));
    let silent = telemetry::Telemetry::silent("memory-service");
    let (_, loaded) = Store::open::<Index>(&options, &clock::Clock::system(), &silent).await.unwrap();
    assert_eq!(space(&loaded, "u").shape.embedder, "minilm");
}

#[tokio::test]
async fn a_store_of_layout_2_is_read_as_it_is_and_says_3_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    commit(&store, "t", put(&["a"])).await;
    let back = |write: &WriteTransaction| {
        write.open_table(META)?.insert("format", "2")?;
        let mut spaces = write.open_table(SPACES)?;
        let row = spaces.get((&b"t"[..], &b""[..]))?.map(|row| row.value().to_vec()).unwrap();
        // Without the set and whether another is coming.
        let body = &row[8..row.len() - 5];
        let sum = crate::store::bytes::checksum(&[body]).to_le_bytes();
        spaces.insert((&b"t"[..], &b""[..]), [&sum[..], body].concat().as_slice())?;
        Ok::<_, Refused>(())
    };
    store.journal.commit(back).await.unwrap();
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["a"]);
    let format = |write: &WriteTransaction| {
        Ok::<_, Refused>(write.open_table(META)?.get("format")?.map(|format| format.value().to_owned()))
    };
    assert_eq!(store.journal.commit(format).await.unwrap(), Some(FORMAT.to_string()));
    let job = embed(&store, begin(&store).await).await;
    assert!(change(&store, &job).await);
}
