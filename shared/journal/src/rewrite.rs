//! A rewrite: what is committed is copied into a new file, which takes the place of the old one; nothing of what was removed is in it.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::mpsc::sync_channel,
    time::Instant,
};

use redb::{Database, DatabaseError, ReadTransaction, WriteTransaction};

use crate::{
    Journal,
    copy::{Caught, Copy, Halt, Kept, Rewritten, Step, begin, beside, tidy},
    disk::Disk,
    failure::{Failed, Outage},
    writer::{Order, Writer, opened},
};

/// So many writes are run again while writers wait; more are run before, while they go on.
const FEW: usize = 64;
/// How often they are, at most, before writers wait for what is left.
const ROUNDS: u32 = 32;
/// Page cache of the new file while it is written.
const CACHE_BYTES: usize = 32 << 20;

impl Journal {
    /// Puts a new file in the place of the present one: `copy` fills it with what is to be there of what is committed, and whatever is
    /// committed meanwhile is run again over it, up to about `most` bytes. Blocks the thread; writers wait only for the last few writes to be
    /// run again and for the new file to be opened, readers for nothing.
    ///
    /// # Errors
    ///
    /// [`Failed::Refused`] carries the closure's own error; [`Failed::Full`] means that more was written meanwhile, or that another rewrite
    /// is on its way, [`Failed::Store`] that a disk failed, [`Failed::Panicked`] that a write did not do the same again. The file stays as
    /// it was then.
    pub fn rewrite<E>(
        &self,
        most: usize,
        copy: impl FnOnce(&ReadTransaction, &WriteTransaction) -> Result<(), E>,
    ) -> Result<Rewritten, Failed<E>> {
        let _turn = self.turn.try_lock().ok_or(Failed::Full)?;
        let done = self.try_rewrite(most, copy);
        if done.is_err() {
            drop(self.orders.send(Order::Rewrite(Step::Drop)));
            tidy(&self.path);
        }
        done
    }

    fn try_rewrite<E>(
        &self,
        most: usize,
        copy: impl FnOnce(&ReadTransaction, &WriteTransaction) -> Result<(), E>,
    ) -> Result<Rewritten, Failed<E>> {
        let mut copied = self.copy(most, copy)?;
        for round in 0.. {
            let (answer, answered) = sync_channel(1);
            let step = Step::CatchUp(copied, round >= ROUNDS, answer);
            self.orders.send(Order::Rewrite(step)).map_err(|_| Failed::Closed)?;
            match answered.recv().map_err(|_| Failed::Closed)?.map_err(Halt::failed)? {
                Caught::Done(done) => return Ok(done),
                Caught::Behind(mut behind, writes) => {
                    behind.run(writes).map_err(Halt::failed)?;
                    copied = behind;
                }
            }
        }
        Err(Failed::Closed)
    }

    /// Copies what is committed at the moment from which on writes are kept.
    fn copy<E>(
        &self,
        most: usize,
        copy: impl FnOnce(&ReadTransaction, &WriteTransaction) -> Result<(), E>,
    ) -> Result<Copy, Failed<E>> {
        let (answer, answered) = sync_channel(1);
        let step = Step::Begin(most, answer);
        self.orders.send(Order::Rewrite(step)).map_err(|_| Failed::Closed)?;
        let writer = answered.recv().map_err(|_| Failed::Closed)?.map_err(Failed::Store)?;
        let snapshot = self.slot.surely();
        // The writer goes on from here.
        drop(writer);
        let snapshot = snapshot?.ok_or(Failed::Full)?;
        let path = beside(&self.path);
        tidy(&self.path);
        let failed = |error: redb::Error| Failed::Store(Outage::of(error));
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let database = database.map_err(|error| failed(error.into()))?;
        let mut transaction = begin(&database).map_err(Halt::failed)?;
        copy(&snapshot, &transaction).map_err(Failed::Refused)?;
        transaction.set_quick_repair(true);
        transaction.commit().map_err(|error| failed(error.into()))?;
        Ok(Copy { database, again: 0 })
    }
}

impl Writer {
    /// Does a part of a rewrite.
    pub(crate) fn rewrite(&mut self, step: Step) {
        match step {
            Step::Begin(most, answer) => {
                let outage = self.state.borrow().outage();
                if let Some(outage) = outage {
                    drop(answer.send(Err(outage)));
                    return;
                }
                self.kept = Some(Kept::new(most));
                let (hold, held) = sync_channel::<()>(0);
                if answer.send(Ok(held)).is_ok() {
                    // Ends, with an error, once the other end is gone.
                    let _ = hold.send(());
                }
            }
            Step::CatchUp(copy, is_last, answer) => drop(answer.send(self.catch_up(copy, is_last))),
            Step::Drop => self.kept = None,
        }
    }

    fn catch_up(&mut self, mut copy: Copy, is_last: bool) -> Result<Caught, Halt> {
        let start = Instant::now();
        let kept = self.kept.as_mut().ok_or(Halt::Overrun)?;
        if kept.is_overrun() {
            return Err(Halt::Overrun);
        }
        let writes = kept.take();
        if writes.len() > FEW && !is_last {
            return Ok(Caught::Behind(copy, writes));
        }
        self.kept = None;
        if !writes.is_empty() {
            copy.run(writes)?;
        }
        let again = copy.again;
        // Closed, so that it is opened by the one who will write it.
        drop(copy);
        let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        let path = beside(&self.path);
        let bytes = (size(&self.path), size(&path));
        self.exchange(&path).map_err(|error| Halt::of(redb::Error::from(error)))?;
        Ok(Caught::Done(Rewritten { bytes, again, held: start.elapsed() }))
    }

    /// Puts the file at `path` in the place of the present one.
    fn exchange(&mut self, path: &Path) -> Result<(), DatabaseError> {
        let file = (self.medium)(path).map_err(io_error)?;
        let lock = File::open(path).map_err(io_error)?;
        if let Err(error) = lock.try_lock() {
            tracing::warn!(%error, "the journal's new file cannot be locked: nothing keeps another process out");
        }
        let open = opened(&self.options, Disk::new(file).map_err(io_error)?)?;
        fs::rename(path, &self.path).map_err(io_error)?;
        let synced = self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        self.witness = std::sync::Arc::clone(&open.witness);
        self.lock = lock;
        self.slot.exchange(open);
        synced.map_err(io_error)
    }
}

fn io_error(error: io::Error) -> DatabaseError {
    DatabaseError::Storage(redb::StorageError::Io(error))
}
