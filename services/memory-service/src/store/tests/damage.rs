//! What a store does about bytes that are not what was written.

use std::fs;

use redb::{ReadableTable as _, WriteTransaction};

use super::{commit, ids, key, open, open_as, put, shape, site};
use crate::{
    error::Error,
    store::{
        FILE,
        tables::{META, RECORDS, VECTORS},
        write::Refused,
    },
};

#[tokio::test]
async fn a_memory_that_cannot_be_read_is_left_out_and_counted_until_it_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let space = commit(&store, "t", put(&["a", "b", "c"])).await.space;
    let spoil = move |write: &WriteTransaction| {
        let (mut records, mut vectors) = (write.open_table(RECORDS)?, write.open_table(VECTORS)?);
        let mut row = records.get((space, 1))?.map(|row| row.value().to_vec()).unwrap();
        *row.last_mut().unwrap() ^= 1;
        records.insert((space, 1), row.as_slice())?;
        vectors.remove((space, 3))?;
        Ok::<_, Refused>(())
    };
    store.journal.commit(spoil).await.unwrap();
    for lost in ["a", "c"] {
        assert!(
            matches!(store.get(site(space), lost), Err(Error::Store(..))),
            "{lost} is not silently absent"
        );
    }
    store.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((ids(&store, &loaded, "t"), loaded.corrupt), (vec!["b".to_owned()], 2));
    commit(&store, "t", put(&["a", "c"])).await;
    store.close().await;
    assert_eq!(open(folder.path()).await.1.corrupt, 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_set_aside_and_a_new_store_begins() {
    for spoil in [
        |file: &mut Vec<u8>| file.iter_mut().for_each(|byte| *byte = 0x55),
        |file: &mut Vec<u8>| file[9..4096].fill(0xff),
        |file: &mut Vec<u8>| file[4096..].fill(0xa5),
        |file: &mut Vec<u8>| file.truncate(8192),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (store, _) = open(folder.path()).await;
        commit(&store, "t", put(&["a"])).await;
        store.close().await;
        let mut file = fs::read(&path).unwrap();
        spoil(&mut file);
        fs::write(&path, &file).unwrap();
        let (store, loaded) = open(folder.path()).await;
        assert!(loaded.spaces.is_empty());
        assert_eq!(loaded.quarantined.len(), 1);
        assert_eq!(fs::read(&loaded.quarantined[0]).unwrap().len(), file.len(), "the file is kept whole");
        commit(&store, "t", put(&["b"])).await;
        store.close().await;
        let (store, loaded) = open(folder.path()).await;
        assert_eq!(ids(&store, &loaded, "t"), ["b"], "the new store goes on");
        assert_eq!(loaded.quarantined.len(), 1, "and somebody still has to look at the old one");
    }
}

#[tokio::test]
async fn a_store_of_a_later_version_is_neither_opened_nor_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let later = |write: &WriteTransaction| {
        write.open_table(META)?.insert("format", "9")?;
        Ok::<_, Refused>(())
    };
    store.journal.commit(later).await.unwrap();
    store.close().await;
    let refused = open_as(folder.path(), &shape("hashing-2", 2)).await;
    assert!(matches!(refused, Err(Error::Later(9))), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_that_another_has_open_is_not_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path()).await;
    let refused = open_as(folder.path(), &shape("hashing-2", 2)).await;
    assert!(matches!(refused, Err(Error::Open(_))), "{refused:?}");
    commit(&store, "t", put(&["a"])).await;
    assert!(store.create(&key("t"), &shape("hashing-2", 2)).await.is_ok());
}
