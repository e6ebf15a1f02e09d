//! The durable store: one redb database behind one writer thread.
//!
//! Three tables: `memories` (tenant and id to a [record]), `generations` (tenant to the number of its last write) and
//! `meta` (the embedder and dimensions of the vectors). A write and the generation it makes are one commit, so the
//! generation numbers a tenant's writes without a gap, in the order in which they reached the disk.

mod record;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use journal::{Failed, Journal, Reason, State};
use redb::{
    ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction,
};

use telemetry::Telemetry;

use crate::{error::Error, index::Index, memory::Change};

/// Name of the database in `memory_dir`.
const FILE: &str = "memory.redb";
/// Corrupt rows that are logged one by one; the rest is only counted.
const LOGGED: u64 = 20;

// Keys are bytes and not text: redb panics on a text key that a disk fault turned into something else.
const MEMORIES: TableDefinition<'_, (&[u8], &[u8]), &[u8]> = TableDefinition::new("memories");
const GENERATIONS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("generations");
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");

type Refused = Box<redb::Error>;

/// The durable store.
#[derive(Debug)]
pub(crate) struct Store {
    journal: Journal,
    path: PathBuf,
}

/// Who made the vectors of a store; vectors of two makers cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    /// The embedder, such as `hashing-256`.
    pub(crate) embedder: String,
    /// Values of a vector.
    pub(crate) dimensions: usize,
}

/// What a store held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The readable memories of each tenant.
    pub(crate) tenants: BTreeMap<String, Index>,
    /// Rows that could not be read.
    pub(crate) corrupt: u64,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The number of the write; absent if it changed nothing.
    pub(crate) generation: Option<u64>,
    /// Memories that were there before: replaced by a put, deleted by a forget.
    pub(crate) touched: u32,
}

impl Store {
    /// Opens the store in `folder`, makes it if missing, checks that `maker` made its vectors and reads every memory. A store
    /// without memories takes on a new maker. A row that cannot be read is logged and counted, and stays where it is.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Store`], or [`Error::Maker`], which names the setting that does not fit.
    pub(crate) async fn open(
        folder: &Path,
        options: journal::Options,
        maker: &Maker,
        telemetry: &Telemetry,
    ) -> Result<(Self, Loaded), Error> {
        let path = folder.join(FILE);
        let opened = path.clone();
        let open = move || Journal::open(opened, &options);
        let journal = telemetry.spawn_blocking(open).await.map_err(Error::Task)?.map_err(Error::Open)?;
        match read_all(&journal, maker, telemetry).await {
            Ok(loaded) => Ok((Self { journal, path }, loaded)),
            Err(error) => {
                // Whoever tries again, with another setting, finds the file free.
                journal.close().await;
                Err(error)
            }
        }
    }

    /// Writes `change` and returns once it is on disk.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::NotReady`] once the store is closed; nothing was written then.
    pub(crate) async fn commit(&self, tenant: &Arc<str>, change: &Arc<Change>) -> Result<Committed, Error> {
        let (tenant, change) = (Arc::clone(tenant), Arc::clone(change));
        // Encoded before the writer thread has it: that thread is what every writer waits for.
        let rows: Vec<Vec<u8>> = match &*change {
            Change::Put(records) => records.iter().map(|memory| record::encode(&tenant, memory)).collect(),
            Change::Forget(_) => Vec::new(),
        };
        let bytes = rows.iter().map(Vec::len).sum();
        let write = move |write: &WriteTransaction| apply(write, &tenant, &change, &rows).map_err(Box::new);
        self.journal.commit_sized(bytes, write).await.map_err(failed)
    }

    /// Returns whether the store takes writes.
    pub(crate) fn state(&self) -> State {
        self.journal.state()
    }

    /// Finishes the writes that were queued and lets go of the file; later writes are refused.
    pub(crate) async fn close(&self) {
        self.journal.close().await;
    }

    /// Returns the bytes of the store's file.
    pub(crate) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

impl Maker {
    fn check(&self, stored: &Self) -> Result<(), Error> {
        let (setting, stored, configured) = if stored.dimensions != self.dimensions {
            ("memory_dimensions", stored.dimensions.to_string(), self.dimensions.to_string())
        } else if stored.embedder != self.embedder {
            ("memory_embedder", stored.embedder.clone(), self.embedder.clone())
        } else {
            return Ok(());
        };
        Err(Error::Maker { setting, stored, configured })
    }
}

async fn read_all(journal: &Journal, maker: &Maker, telemetry: &Telemetry) -> Result<Loaded, Error> {
    let ours = maker.clone();
    let stored = journal.commit(move |write| stamp(write, &ours).map_err(Box::new)).await.map_err(failed)?;
    maker.check(&stored)?;
    let (reading, dimensions) = (journal.clone(), maker.dimensions);
    let read = move || reading.read(|read| load(read, dimensions).map_err(Box::new));
    telemetry.spawn_blocking(read).await.map_err(Error::Task)?.map_err(failed)
}

/// Returns who made the stored vectors; notes `ours` where there are none yet.
fn stamp(write: &WriteTransaction, ours: &Maker) -> Result<Maker, redb::Error> {
    write.open_table(GENERATIONS)?;
    let empty = write.open_table(MEMORIES)?.is_empty()?;
    let mut meta = write.open_table(META)?;
    let embedder = meta.get("embedder")?.map(|value| value.value().to_owned());
    let dimensions = meta.get("dimensions")?.and_then(|value| value.value().parse().ok());
    if let (false, Some(embedder), Some(dimensions)) = (empty, embedder, dimensions) {
        return Ok(Maker { embedder, dimensions });
    }
    meta.insert("embedder", ours.embedder.as_str())?;
    meta.insert("dimensions", ours.dimensions.to_string().as_str())?;
    Ok(ours.clone())
}

fn load(read: &ReadTransaction, dimensions: usize) -> Result<Loaded, redb::Error> {
    let mut loaded = Loaded::default();
    for entry in read.open_table(GENERATIONS)?.iter()? {
        let (tenant, generation) = entry?;
        if let Ok(tenant) = str::from_utf8(tenant.value()) {
            loaded.tenants.insert(tenant.to_owned(), Index::new(dimensions, generation.value()));
        }
    }
    for entry in read.open_table(MEMORIES)?.iter()? {
        let (key, row) = entry?;
        let (tenant, id) = key.value();
        let (Ok(tenant), Ok(id)) = (str::from_utf8(tenant), str::from_utf8(id)) else {
            loaded.note_corrupt(&record::Corrupt::Text, &String::from_utf8_lossy(id));
            continue;
        };
        match record::decode(tenant, id, row.value(), dimensions) {
            Err(error) => loaded.note_corrupt(&error, id),
            Ok(record) => match loaded.tenants.get_mut(tenant) {
                Some(index) => index.put(&record),
                // A write makes both, so only a damaged row of generations leads here.
                None => {
                    loaded.tenants.entry(tenant.to_owned()).or_insert(Index::new(dimensions, 0)).put(&record)
                }
            },
        }
    }
    Ok(loaded)
}

impl Loaded {
    fn note_corrupt(&mut self, error: &record::Corrupt, id: &str) {
        self.corrupt += 1;
        if self.corrupt <= LOGGED {
            tracing::warn!(%error, memory = id, "a stored memory cannot be read and is left out");
        }
    }
}

/// Writes `change` and the generation it makes; `rows` are its records, encoded.
fn apply(
    write: &WriteTransaction,
    tenant: &str,
    change: &Change,
    rows: &[Vec<u8>],
) -> Result<Committed, redb::Error> {
    let mut memories = write.open_table(MEMORIES)?;
    let mut touched = 0;
    let key = tenant.as_bytes();
    match change {
        Change::Put(records) => {
            for (record, row) in records.iter().zip(rows) {
                let before = memories.insert((key, record.memory.id.as_bytes()), row.as_slice())?;
                touched += u32::from(before.is_some());
            }
        }
        Change::Forget(ids) => {
            for id in ids {
                touched += u32::from(memories.remove((key, id.as_bytes()))?.is_some());
            }
            if touched == 0 {
                return Ok(Committed { generation: None, touched });
            }
        }
    }
    let mut generations = write.open_table(GENERATIONS)?;
    let generation = generations.get(key)?.map_or(0, |last| last.value()) + 1;
    generations.insert(key, generation)?;
    Ok(Committed { generation: Some(generation), touched })
}

fn failed(error: Failed<Refused>) -> Error {
    match (error.reason(), error) {
        (Some(Reason::Closed), _) => Error::NotReady,
        (reason, Failed::Refused(error)) => Error::Store(reason.unwrap_or(Reason::Store), error),
        (reason, error) => Error::Store(reason.unwrap_or(Reason::Store), Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use redb::ReadableTable as _;
    use telemetry::Telemetry;

    use super::{Committed, Loaded, MEMORIES, Maker, State, Store};
    use crate::{
        config::Config,
        error::Error,
        index::tests::{candidates, record},
        memory::Change,
        query::Filter,
    };

    fn maker(embedder: &str, dimensions: usize) -> Maker {
        Maker { embedder: embedder.to_owned(), dimensions }
    }

    async fn open(folder: &Path) -> (Store, Loaded) {
        open_as(folder, &maker("hashing-2", 2)).await.unwrap()
    }

    async fn open_as(folder: &Path, maker: &Maker) -> Result<(Store, Loaded), Error> {
        Store::open(folder, Config::defaults().journal(), maker, &Telemetry::silent("memory-service")).await
    }

    async fn commit(store: &Store, tenant: &str, change: Change) -> Committed {
        store.commit(&tenant.into(), &Arc::new(change)).await.unwrap()
    }

    fn ids(loaded: &Loaded, tenant: &str) -> Vec<String> {
        let index = &loaded.tenants[tenant];
        let rows = candidates(index, &Filter::default(), std::time::UNIX_EPOCH);
        rows.iter().filter_map(|row| index.rows().memory(row)).map(|memory| memory.id.to_string()).collect()
    }

    #[tokio::test]
    async fn what_was_committed_is_loaded_and_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path()).await;
        let put = Change::Put(vec![record("a", &[1.0, 0.0]), record("b", &[0.0, 1.0])]);
        assert_eq!(commit(&store, "t", put).await, Committed { generation: Some(1), touched: 0 });
        let again = Change::Put(vec![record("a", &[0.5, 0.5])]);
        assert_eq!(commit(&store, "t", again).await, Committed { generation: Some(2), touched: 1 });
        let forget = Change::Forget(vec!["b".into(), "unknown".into()]);
        assert_eq!(commit(&store, "t", forget).await, Committed { generation: Some(3), touched: 1 });
        let nothing = Change::Forget(vec!["unknown".into()]);
        assert_eq!(commit(&store, "t", nothing).await, Committed { generation: None, touched: 0 });
        assert_eq!(
            commit(&store, "u", Change::Put(vec![record("z", &[1.0, 1.0])])).await.generation,
            Some(1),
            "each tenant counts its own writes"
        );
        store.close().await;
        let (store, loaded) = open(folder.path()).await;
        assert_eq!((ids(&loaded, "t"), loaded.tenants["t"].generation()), (vec!["a".to_owned()], 3));
        assert_eq!(loaded.tenants["t"].get("a").unwrap().1, [0.5, 0.5]);
        assert!(store.bytes() > 0);
    }

    #[tokio::test]
    async fn a_corrupt_row_is_left_out_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path()).await;
        commit(&store, "t", Change::Put(vec![record("a", &[1.0, 0.0]), record("b", &[1.0, 0.0])])).await;
        let spoil = |write: &redb::WriteTransaction| {
            let mut table = write.open_table(MEMORIES)?;
            let key = (b"t".as_slice(), b"a".as_slice());
            let mut row = table.get(key)?.map(|row| row.value().to_vec()).unwrap();
            *row.last_mut().unwrap() ^= 1;
            table.insert(key, row.as_slice())?;
            table.insert((b"t".as_slice(), b"\xff".as_slice()), b"rubbish".as_slice())?;
            Ok::<_, redb::Error>(())
        };
        store.journal.commit(spoil).await.unwrap();
        store.close().await;
        let (_, loaded) = open(folder.path()).await;
        assert_eq!((ids(&loaded, "t"), loaded.corrupt), (vec!["b".to_owned()], 2));
    }

    #[tokio::test]
    async fn a_closed_store_takes_no_more_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path()).await;
        assert!(store.state().is_ready());
        store.close().await;
        assert!(matches!(store.state(), State::Closed));
        let refused = store.commit(&"t".into(), &Arc::new(Change::Put(vec![record("a", &[1.0, 0.0])]))).await;
        assert!(matches!(refused, Err(Error::NotReady)));
        assert!(open(folder.path()).await.1.tenants.is_empty());
    }

    #[tokio::test]
    async fn vectors_of_another_maker_are_refused_by_the_name_of_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let close = async |opened: Result<(Store, Loaded), Error>| opened.unwrap().0.close().await;
        // As long as nothing is stored, the maker may change.
        close(open_as(folder.path(), &maker("hashing-3", 3)).await).await;
        let (store, _) = open(folder.path()).await;
        commit(&store, "t", Change::Put(vec![record("a", &[1.0, 0.0])])).await;
        store.close().await;
        for (ours, expected) in
            [(maker("hashing-3", 3), "memory_dimensions"), (maker("minilm", 2), "memory_embedder")]
        {
            match open_as(folder.path(), &ours).await {
                Err(error @ Error::Maker { setting, .. }) => {
                    assert_eq!(setting, expected);
                    assert!(error.to_string().contains(expected), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
