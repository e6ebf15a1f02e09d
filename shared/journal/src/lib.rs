//! Gives many async callers one durable, grouped commit.
//!
//! One writer thread owns a redb database's write side. Callers hand it closures over a bounded queue; it runs every closure that
//! waits in one transaction, commits with an fsync, and only then answers. One caller pays one fsync, a hundred callers share one.
//!
//! Design facts:
//!
//! 1. **Acknowledged is on disk, refused is not.** There is no third answer: a commit that failed in its last fsync is undone by
//!    putting the header before it back, since redb never overwrites what a synced header names; one that failed *after* its
//!    fsync is acknowledged.
//! 2. **A refusal undoes only itself.** The transaction is dropped and the others run again without it, so a closure may run
//!    more than once and must have no effect but on the transaction. At most 64 run again for a refusal: what lies before it is
//!    committed otherwise. (redb's savepoints are of no use here: none can be taken once a table is open.)
//! 3. **A panic is a refusal.** Its caller is told, the others and the thread go on.
//! 4. **A caller that leaves** while it waits for room takes its write along; once queued, the write goes on without it.
//! 5. **The queue is bounded** in writes and in bytes, the batch that is being committed included. Whoever finds no room for
//!    [`Options::patience`] is told [`Failed::Full`].
//! 6. **A disk that takes no writes** (full, over quota, read-only, broken) is a [`State`], not an end. redb refuses everything
//!    after one error of its file, reads included, so it does not hear of it: what it writes after the first fault stays in
//!    memory over the file. Snapshots that are open are read to their end; new ones wait until the database is closed and
//!    opened again over the same file, read-only, its repair in memory too. Writes are refused at once, with a [`Reason`].
//!    Every second [`Options::spare_bytes`] are written beside the file; once that works the file is opened for writing again.
//!    The price: readers wait for a repair (about 1.2 s a GB without `quick_repair`) when it begins and when it ends.
//! 7. **A rewrite leaves nothing of what was removed** ([`Journal::rewrite`]). redb does not zero pages that it frees, so what is committed is
//!    copied into a new file while writers go on; what they commit meanwhile is kept and run again over the copy. A closure therefore
//!    decides by the transaction and by what it was made with, and by nothing else. The new file takes the place of the old one by a
//!    rename, between two commits: a process that is killed finds one of them whole. Readers wait for none of it.
//! 8. **The file is held open for writing only while writes are taken**: a full disk can be made read-only, enlarged, or checked
//!    under a running service. An advisory lock on it keeps other processes out all the time.

mod batch;
mod copy;
mod disk;
mod failure;
mod overlay;
mod rewrite;
mod settings;
mod slot;
mod writer;

use std::{
    fmt,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use config::ByteSize;
use parking_lot::Mutex;
use redb::{ReadTransaction, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

use crate::{
    batch::Write,
    slot::Slot,
    writer::{Medium, Order},
};
pub use crate::{
    copy::Rewritten,
    failure::{Failed, Outage, Reason, State},
    settings::Settings,
};

/// How a journal is opened; [`Settings::options`] makes it from what was given. The defaults are those of [`Settings`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of redb's page cache. Default 16 MiB.
    pub cache_bytes: usize,
    /// Whether a database that was killed opens at once instead of being walked. Costs about 0.5 ms a commit: for large
    /// databases. Default false.
    pub quick_repair: bool,
    /// Most writes that are queued or being committed; more wait for room. Default 4,096.
    pub queue: u32,
    /// Most bytes of them, as far as their callers say how large they are. Default 64 MiB.
    pub queue_bytes: usize,
    /// Most writes in one commit. Default 1,024.
    pub batch: usize,
    /// How long a caller waits for room before it is refused, wall time. Default 5 s.
    pub patience: Duration,
    /// How often a disk that takes no writes is tried, wall time. Default 1 s.
    pub retry: Duration,
    /// Bytes that must find room on a full disk before writes go on. Default 1 MiB.
    pub spare_bytes: usize,
}

/// A handle to a database behind one writer thread. Clones share it; the thread ends with the last clone, or with
/// [`Journal::close`].
#[derive(Clone)]
pub struct Journal {
    path: Arc<Path>,
    slot: Arc<Slot>,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    /// One permit for each write that may be queued, and for each of its `unit` bytes after the first.
    room: Arc<Semaphore>,
    queue: u32,
    unit: usize,
    patience: Duration,
    /// One rewrite at a time.
    turn: Arc<Mutex<()>>,
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

impl Default for Options {
    fn default() -> Self {
        Settings::defaults().options(ByteSize::new(16 << 20))
    }
}

impl Journal {
    /// Opens the database at `path`, making it and its folder if missing, and starts its writer thread.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be made, the file is locked by another process or is not a database, or no thread can be started.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        Self::open_on(path.as_ref(), options, writer::file())
    }

    fn open_on(path: &Path, options: &Options, medium: Medium) -> Result<Self, Error> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::Folder)?;
        }
        let slot = Arc::new(Slot::new());
        let (orders, ordered) = mpsc::channel();
        let (sender, state) = watch::channel(State::Ready);
        writer::start(path, options, medium, Arc::clone(&slot), ordered, sender)?;
        let queue = options.queue.max(1);
        Ok(Self {
            path: path.into(),
            slot,
            orders,
            state,
            room: Arc::new(Semaphore::new(queue as usize)),
            queue,
            unit: (options.queue_bytes / queue as usize).max(1),
            patience: options.patience,
            turn: Arc::default(),
        })
    }

    /// Runs `write` in the next grouped commit and returns its result after the fsync. Waits while the queue is full.
    ///
    /// `write` may run more than once (see the crate's documentation); results come in the order in which writes were
    /// queued, and a later write sees an earlier one.
    ///
    /// # Errors
    ///
    /// [`Failed::Refused`] carries the closure's own error, [`Failed::Panicked`] says that it panicked; [`Failed::Store`] means
    /// that the disk takes no writes, [`Failed::Full`] that there was no room for it, [`Failed::Closed`] that the journal is
    /// closed. Nothing of it was written then.
    pub async fn commit<T, E>(
        &self,
        write: impl FnMut(&WriteTransaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.commit_sized(0, write).await
    }

    /// Does as [`Journal::commit`] for a write that holds about `bytes`, and takes as much of the queue.
    ///
    /// # Errors
    ///
    /// As [`Journal::commit`].
    pub async fn commit_sized<T, E>(
        &self,
        bytes: usize,
        write: impl FnMut(&WriteTransaction) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let room = self.room(bytes).await?;
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Write::new(write, bytes, answer, room));
        self.orders.send(Order::Write(job)).map_err(|_| Failed::Closed)?;
        answered.await.unwrap_or(Err(Failed::Closed))
    }

    async fn room<E>(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failed<E>> {
        if let Some(outage) = self.state.borrow().outage() {
            return Err(Failed::Store(outage));
        }
        let permits = u32::try_from(bytes / self.unit).unwrap_or(u32::MAX).clamp(1, self.queue);
        match Arc::clone(&self.room).try_acquire_many_owned(permits) {
            Ok(room) => return Ok(room),
            Err(TryAcquireError::Closed) => return Err(Failed::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        let wait = Arc::clone(&self.room).acquire_many_owned(permits);
        match tokio::time::timeout(self.patience, wait).await {
            Ok(room) => room.map_err(|_| Failed::Closed),
            Err(_) => Err(Failed::Full),
        }
    }

    /// Runs `read` over a consistent snapshot of what is committed. Blocks the thread while `read` runs, and for the time it
    /// takes to open the database again when the disk stops or begins to take writes. `read` must not read the journal again
    /// by another snapshot: the two may wait for each other.
    ///
    /// # Errors
    ///
    /// [`Failed::Refused`] carries the closure's own error; [`Failed::Store`] means that no snapshot could be had,
    /// [`Failed::Closed`] that the journal is closed.
    pub fn read<T, E>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, E>) -> Result<T, Failed<E>> {
        let done = self.slot.snapshot().and_then(|snapshot| read(&snapshot).map_err(Failed::Refused));
        if done.is_err() {
            // It may be the disk that failed, and then nothing but a writer finds out.
            drop(self.orders.send(Order::Mend));
        }
        done
    }

    /// Returns whether writes are taken, as far as is known: a fault is found by writing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns a receiver that sees every change of [`Journal::state`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Refuses new writes, commits those that are queued, waits for readers and lets go of the file. Other clones are told
    /// [`Failed::Closed`] from then on.
    pub async fn close(&self) {
        self.room.close();
        // A thread that is gone has done so already.
        drop(self.orders.send(Order::Close));
        let mut state = self.state.clone();
        drop(state.wait_for(|state| matches!(state, State::Closed)).await);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow().reason();
        f.debug_struct("Journal").field("refuses", &state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
