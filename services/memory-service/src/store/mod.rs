//! The durable store: one redb database behind one writer thread.
//!
//! A memory has a number in its space, which only grows: one that is written again gets a new one, so that what is known under a
//! number never changes. Rows of memories and of vectors lie under space and number, and are read by it; an id leads to its number.
//! A write and the generation it makes are one commit, so the generation numbers a space's writes without a gap, in the order in
//! which they reached the disk.

mod accounts;
mod bytes;
mod checkpoint;
mod erase;
mod forgettings;
mod job;
mod legacy;
mod load;
mod merges;
mod open;
mod quarantine;
mod record;
mod reembeddings;
mod snapshot;
mod tables;
#[cfg(test)]
mod tests;
mod trash;
mod view;
mod write;

use std::{path::PathBuf, sync::Arc, time::Duration};

use caching::Cache;
use journal::{Failed, Journal, Reason, State};
use redb::WriteTransaction;

use crate::{
    backend::Found,
    error::Error,
    memory::{Change, Memory},
    shape::{Shape, SpaceKey},
};
pub(crate) use bytes::{join, split};
pub(crate) use checkpoint::{FromParts, Image, Mark, Parts};
use load::Rows;
pub(crate) use load::{Site, Stored};
pub(crate) use merges::Merged;
pub(crate) use open::FromRows;
#[cfg(test)]
pub(crate) use record::tests::full;
pub(crate) use reembeddings::Changed;
pub(crate) use snapshot::{Snapshot, tidy as tidy_snapshots};
pub(crate) use write::Committed;
use write::Refused;

/// Name of the database in `memory_dir`.
const FILE: &str = "memory.redb";

/// How a store is opened.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The folder; made if missing.
    pub(crate) folder: PathBuf,
    /// The snapshot that a store begins with where there is none yet.
    pub(crate) restore: Option<PathBuf>,
    /// How its file is written.
    pub(crate) journal: journal::Options,
    /// What the vectors of a tenant's default namespace are.
    pub(crate) shape: Shape,
    /// What else they may be: another embedder that runs, beside every `hashing-`.
    pub(crate) other: Option<Shape>,
    /// Most namespaces of a tenant.
    pub(crate) namespaces: u32,
    /// Most decoded memories kept.
    pub(crate) cached: u64,
    /// How long.
    pub(crate) cached_for: Duration,
}

/// The durable store.
#[derive(Debug)]
pub(crate) struct Store {
    journal: Journal,
    path: PathBuf,
    namespaces: u32,
    /// Decoded memories by space and number: what a number leads to never changes.
    cache: Cache<(u32, u64), Arc<Memory>>,
}

impl Store {
    /// Writes `change`, whose vectors are of `shape`, to the space of `key`, which is made of it if it is missing, and returns once it is on
    /// disk.
    ///
    /// # Errors
    /// [`Error::Reembedded`] where the space is of another shape, [`Error::Dimensions`] where a vector has another length,
    /// [`Error::Namespaces`], [`Error::Store`], or [`Error::NotReady`] once the store is closed; nothing was written then.
    pub(crate) async fn commit(
        &self,
        key: &SpaceKey,
        shape: &Shape,
        change: &Arc<Change>,
    ) -> Result<Committed, Error> {
        let (key, shape, change, most) = (key.clone(), shape.clone(), Arc::clone(change), self.namespaces);
        // Encoded before the writer thread has it: that thread is what every writer waits for.
        let mut rows = match &*change {
            Change::Put(records) => write::encoded(records),
            Change::Forget(_) => Vec::new(),
        };
        let bytes = write::size(&rows);
        let write =
            move |write: &WriteTransaction| write::apply(write, &key, &shape, most, &change, &mut rows);
        let done = self.journal.commit_sized(bytes, write).await.map_err(failed)?;
        self.uncache(&done);
        Ok(done)
    }

    /// Makes the space of `key`, or finds it of the same shape; returns its number, and whether it was made.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is there of another shape; those of [`Store::commit`].
    pub(crate) async fn create(&self, key: &SpaceKey, shape: &Shape) -> Result<(u32, bool), Error> {
        let (key, shape, most) = (key.clone(), shape.clone(), self.namespaces);
        let write = move |write: &WriteTransaction| write::create(write, &key, &shape, most);
        let (space, made) = self.journal.commit(write).await.map_err(failed)?;
        Ok((space.number, made))
    }

    /// Makes the space of `key` unreachable, and returns its number if it was there; its rows are removed by [`Store::sweep`].
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(crate) async fn drop_space(&self, key: &SpaceKey) -> Result<Option<u32>, Error> {
        let key = key.clone();
        self.journal.commit(move |write| write::drop_space(write, &key)).await.map_err(failed)
    }

    /// Removes some of the rows of dropped spaces; returns whether there are more.
    ///
    /// # Errors
    /// Those of [`Store::commit`].
    pub(crate) async fn sweep(&self) -> Result<bool, Error> {
        self.journal.commit(write::sweep).await.map_err(failed)
    }

    /// Returns the memory of `id` with its number and its vector. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    pub(crate) fn get(&self, site: Site, id: &str) -> Result<Option<(u64, Found)>, Error> {
        let read = |read: &redb::ReadTransaction| {
            let rows = Rows::open(read)?;
            let Some(seq) = rows.seq(site.space, id)? else { return Ok(None) };
            let Some(memory) = self.cached(&rows, (site.space, seq))? else {
                return Err(bytes::Corrupt::Length.into());
            };
            let mut vector = vec![0.0; site.dimensions];
            if *memory.id != *id || !rows.vector((site.vectors, seq), &mut vector)? {
                return Err(bytes::Corrupt::Checksum.into());
            }
            Ok(Some((seq, (memory, vector))))
        };
        self.journal.read(read).map_err(failed)
    }

    /// Returns the number of the memory of `id`. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    pub(crate) fn seq(&self, space: u32, id: &str) -> Result<Option<u64>, Error> {
        self.journal.read(|read| Rows::open(read)?.seq(space, id)).map_err(failed)
    }

    /// Returns whether the store takes writes.
    pub(crate) fn state(&self) -> State {
        self.journal.state()
    }

    /// Finishes the writes that were queued and lets go of the file; later writes are refused.
    pub(crate) async fn close(&self) {
        self.journal.close().await;
    }

    /// Returns the files that were set aside because they could not be read, and that are still there.
    pub(crate) fn quarantined(&self) -> Vec<PathBuf> {
        quarantine::held(&self.path)
    }

    /// Returns the bytes of the store's file.
    pub(crate) fn bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Lets go of what a write removed.
    fn uncache(&self, done: &Committed) {
        for removed in &done.removed {
            self.cache.remove(&(done.space, removed.seq));
        }
    }

    /// Returns the memory under `key`, decoded once.
    fn cached(&self, rows: &Rows, key: record::Key) -> Result<Option<Arc<Memory>>, Refused> {
        if let Some(hit) = self.cache.get(&key) {
            return Ok(Some(hit.value));
        }
        let memory = rows.memory(key)?.map(Arc::new);
        if let Some(memory) = &memory {
            self.cache.insert(key, Arc::clone(memory));
        }
        Ok(memory)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Dimensions(dimensions) => Self::Dimensions(dimensions),
            Refused::Shape => Self::Reembedded,
            Refused::NoNamespace => Self::NoNamespace,
            Refused::NoReembedding => Self::NoReembedding,
            Refused::Reembedding(by) => Self::Reembedding(by),
            Refused::Exists(shape) => Self::Exists(shape.to_string()),
            Refused::Full => Self::Namespaces,
            Refused::Forgetting(why) => why.into(),
            error => Self::Store(Reason::Store, Box::new(error)),
        }
    }
}

fn failed(error: Failed<Refused>) -> Error {
    failed_by(error)
}

fn failed_by<E>(error: Failed<E>) -> Error
where
    E: Into<Error> + std::error::Error + Send + Sync + 'static,
{
    match (error.reason(), error) {
        (Some(Reason::Closed), _) => Error::NotReady,
        (_, Failed::Refused(error)) => error.into(),
        (reason, error) => Error::Store(reason.unwrap_or(Reason::Store), Box::new(error)),
    }
}
