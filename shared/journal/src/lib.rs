//! Gives many async callers one durable, grouped commit.
//!
//! One writer thread owns a redb database's write side. Callers hand it closures over a bounded queue; it runs every closure that
//! waits in one transaction, commits with an fsync, and only then answers. One caller pays one fsync, a hundred callers share one.
//!
//! A closure that fails undoes only its own writes: the transaction is dropped and the others run again without it, so a closure may
//! run more than once and must have no effect but on the transaction. A caller that leaves does not stop its write.

mod writer;

use std::{fmt, path::Path, sync::Arc};

use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use crate::writer::Job;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of redb's page cache. Default 16 MiB.
    pub cache_bytes: usize,
    /// Whether a database that was killed opens at once instead of being walked. Costs about 0.5 ms a commit: for large
    /// databases. Default false.
    pub quick_repair: bool,
    /// Writes that may wait for the writer thread before callers wait for room. Default 4,096.
    pub queue: usize,
    /// Most writes in one commit. Default 1,024.
    pub batch: usize,
}

/// A handle to a database behind one writer thread. Clones share it; the thread ends with the last clone.
#[derive(Clone)]
pub struct Journal {
    database: Arc<Database>,
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// Ends when the writer thread has let go of the database.
    ended: watch::Receiver<()>,
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made.
    #[error("cannot make the folder of the journal")]
    Folder(#[source] std::io::Error),
    /// The file cannot be opened or is not a database.
    #[error("cannot open the journal")]
    Open(#[source] Box<redb::DatabaseError>),
    /// The writer thread cannot be started.
    #[error("cannot start the journal's writer thread")]
    Thread(#[source] std::io::Error),
}

/// Why a write or a read did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E> {
    /// The closure refused; its writes were undone.
    #[error("the write was refused")]
    Refused(E),
    /// The database failed; nothing of the batch was written.
    #[error("the journal failed")]
    Store(#[source] Arc<redb::Error>),
    /// The writer thread is gone.
    #[error("the journal is closed")]
    Closed,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 16 << 20, quick_repair: false, queue: 4096, batch: 1024 }
    }
}

impl Journal {
    /// Opens the database at `path`, making it and its folder if missing, and starts its writer thread.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be made, the file is locked by another process or is not a database, or no thread can be started.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        let path = path.as_ref();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::Folder)?;
        }
        let database = Database::builder()
            .set_cache_size(options.cache_bytes)
            .create(path)
            .map_err(|error| Error::Open(Box::new(error)))?;
        let database = Arc::new(database);
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let (end, ended) = watch::channel(());
        writer::start(Arc::clone(&database), queue, options, end).map_err(Error::Thread)?;
        Ok(Self { database, jobs, ended })
    }

    /// Runs `write` in the next grouped commit and returns its result after the fsync. Waits while the queue is full.
    ///
    /// `write` may run more than once (see the crate's documentation); results come in the order in which writes were
    /// queued, and a later write sees an earlier one.
    ///
    /// # Errors
    ///
    /// [`Failed::Refused`] carries the closure's own error; [`Failed::Store`] means that the commit failed and nothing was
    /// written; [`Failed::Closed`] that the writer thread is gone.
    pub async fn commit<T, E>(
        &self,
        write: impl FnMut(&WriteTransaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = writer::Write::new(write, answer);
        self.jobs.send(Box::new(job)).await.map_err(|_| Failed::Closed)?;
        answered.await.unwrap_or(Err(Failed::Closed))
    }

    /// Lets go of this handle and waits until every other clone is gone too, what was queued is committed and the file can be
    /// opened again.
    pub async fn close(self) {
        let Self { database, jobs, mut ended } = self;
        drop(database);
        drop(jobs);
        // Nothing is ever sent: an error says that the writer thread is gone, and the database with it.
        while ended.changed().await.is_ok() {}
    }

    /// Runs `read` over a consistent snapshot of what is committed. Blocks the thread while `read` runs.
    ///
    /// # Errors
    ///
    /// [`Failed::Refused`] carries the closure's own error; [`Failed::Store`] means that no snapshot could be had.
    pub fn read<T, E>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, E>) -> Result<T, Failed<E>> {
        let snapshot =
            self.database.begin_read().map_err(|error| Failed::Store(Arc::new(redb::Error::from(error))))?;
        read(&snapshot).map_err(Failed::Refused)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("room", &self.jobs.capacity()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
