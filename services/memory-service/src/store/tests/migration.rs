//! Files of the first layout, written as the code of then wrote them.

use std::path::Path;

use journal::Journal;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::{commit, ids, open, put, rows, site, space};
use crate::{
    memory::Memory,
    store::{FILE, bytes::checksum, legacy, open::prepare, record::tests::full, write::Refused},
};

const MEMORIES: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("memories");
const GENERATIONS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("generations");
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

/// The row of `memory` as version 1 or 2 wrote it. Frozen.
fn row(version: u8, tenant: &str, memory: &Memory, vector: &[f32]) -> Vec<u8> {
    let mut body = Vec::new();
    let text = |body: &mut Vec<u8>, text: &str| {
        body.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        body.extend(text.as_bytes());
    };
    let texts = |body: &mut Vec<u8>, all: &[String]| {
        body.extend(u32::try_from(all.len()).unwrap().to_le_bytes());
        all.iter().for_each(|one| text(body, one));
    };
    // The time is a second and a half before 1970.
    body.extend((-2_i64).to_le_bytes());
    body.extend(500_000_000_u32.to_le_bytes());
    body.extend(memory.confidence.to_le_bytes());
    text(&mut body, &memory.category);
    text(&mut body, &memory.content);
    texts(&mut body, &memory.pools);
    body.extend(u32::try_from(memory.metadata.len()).unwrap().to_le_bytes());
    for (name, value) in &memory.metadata {
        text(&mut body, name);
        text(&mut body, value);
    }
    if version == 2 {
        text(&mut body, &memory.agent);
        texts(&mut body, &memory.tags);
        body.push(1);
        text(&mut body, "log");
        body.extend(u64::MAX.to_le_bytes());
        body.extend(memory.importance.to_le_bytes());
        body.push(1);
        body.extend(1_i64.to_le_bytes());
        body.extend(500_000_000_u32.to_le_bytes());
        body.push(1);
        body.push(1);
        ["gas", "hour", "4"].into_iter().for_each(|part| text(&mut body, part));
        texts(&mut body, &memory.sources);
    }
    vector.iter().for_each(|value| body.extend(value.to_le_bytes()));
    let sum = checksum(&[tenant.as_bytes(), memory.id.as_bytes(), &body]);
    [&[version][..], &sum.to_le_bytes(), &body].concat()
}

/// What version 1 knew of a memory.
fn first() -> Memory {
    let Memory { category, content, pools, time, confidence, metadata, .. } = full();
    Memory { id: "old".into(), category, content, pools, time, confidence, metadata, ..Memory::bare() }
}

/// Writes a file of the first layout with `count` more memories of tenant `many`.
async fn old(folder: &Path, count: u32) {
    let journal = Journal::open(folder.join(FILE), &journal::Options::default()).unwrap();
    let fill = move |write: &WriteTransaction| {
        let mut meta = write.open_table(META)?;
        meta.insert("embedder", "hashing-2")?;
        meta.insert("dimensions", "2")?;
        let mut generations = write.open_table(GENERATIONS)?;
        for (tenant, generation) in [("t", 7), ("many", 9), ("empty", 4)] {
            generations.insert(tenant.as_bytes(), generation)?;
        }
        let mut memories = write.open_table(MEMORIES)?;
        let put =
            |table: &mut redb::Table<'_, (&[u8], &[u8]), &[u8]>, tenant: &str, id: &str, row: Vec<u8>| {
                table.insert((tenant.as_bytes(), id.as_bytes()), row.as_slice()).map(drop)
            };
        put(&mut memories, "t", "id", row(2, "t", &full(), &[0.5, -1.5]))?;
        put(&mut memories, "t", "old", row(1, "t", &first(), &[1.0, 0.0]))?;
        put(&mut memories, "t", "spoilt", b"rubbish".to_vec())?;
        for number in 0..count {
            let memory = Memory { id: number.to_string().into(), ..first() };
            put(&mut memories, "many", &memory.id, row(1, "many", &memory, &[1.0, 1.0]))?;
        }
        Ok::<_, redb::Error>(())
    };
    journal.commit(fill).await.unwrap();
    journal.close().await;
}

#[tokio::test]
async fn a_file_of_the_first_layout_is_brought_to_the_present_one() {
    let folder = tempfile::tempdir().unwrap();
    old(folder.path(), 5_000).await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!(ids(&store, &loaded, "t"), ["id", "old"]);
    assert_eq!(ids(&store, &loaded, "many").len(), 5_000);
    assert_eq!(
        (space(&loaded, "t").memories.generation(), space(&loaded, "empty").memories.generation()),
        (7, 4)
    );
    let number = space(&loaded, "t").number;
    let (_, (memory, vector)) = store.get(site(number), "id").unwrap().unwrap();
    assert_eq!((&*memory, &vector[..]), (&full(), &[0.5, -1.5][..]));
    let (_, (memory, vector)) = store.get(site(number), "old").unwrap().unwrap();
    assert_eq!((&*memory, &vector[..]), (&first(), &[1.0, 0.0][..]));
    assert_eq!(commit(&store, "t", put(&["new"])).await.generation, Some(8));
    assert_eq!(rows(&store).await, [5_003, 5_003, 5_003, 0]);
    let kept = |write: &WriteTransaction| {
        let damaged = write.open_table(super::super::tables::DAMAGED)?;
        let row = damaged.get((&b"t"[..], &b"spoilt"[..]))?.map(|row| row.value().to_vec());
        Ok::<_, Refused>((row, legacy::is_here(write)?))
    };
    let (damaged, is_old) = store.journal.commit(kept).await.unwrap();
    assert_eq!((damaged.as_deref(), is_old), (Some(&b"rubbish"[..]), false));
}

#[tokio::test]
async fn a_migration_that_was_broken_off_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    old(folder.path(), 5_000).await;
    let journal = Journal::open(folder.path().join(FILE), &journal::Options::default()).unwrap();
    assert_eq!(journal.commit(prepare).await.unwrap(), Ok(true));
    assert!(journal.commit(legacy::migrate).await.unwrap() > 0, "only a part is moved");
    journal.close().await;
    let (store, loaded) = open(folder.path()).await;
    assert_eq!((ids(&store, &loaded, "t").len(), ids(&store, &loaded, "many").len()), (2, 5_000));
    assert_eq!(space(&loaded, "many").memories.generation(), 9);
}
