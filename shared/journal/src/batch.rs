//! Writes that wait, and one try to commit a batch of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{Database, Durability, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    disk::Witness,
    failure::{Failed, Outage},
};

/// A queued write with its caller's type forgotten.
pub(crate) trait Job: Send {
    /// Runs the write and keeps its result; returns whether the transaction may be committed with it.
    fn run(&mut self, transaction: &WriteTransaction) -> bool;
    /// Answers the caller with the kept result; returns the write itself if it is to be kept, to be run over another database.
    fn finish(self: Box<Self>, is_kept: bool) -> Option<Again>;
    /// Answers the caller that the journal takes no writes.
    fn fail(self: Box<Self>, outage: Outage);
}

/// A write that was committed and can be run again over a copy of what it was run over; it says whether it was not refused.
pub(crate) struct Again {
    pub(crate) write: Box<dyn FnMut(&WriteTransaction) -> bool + Send>,
    /// About how many bytes it holds.
    pub(crate) bytes: usize,
}

/// A write, the caller who waits for it, and its room in the queue.
pub(crate) struct Write<F, T, E> {
    write: F,
    bytes: usize,
    result: Option<Result<T, Failed<E>>>,
    answer: oneshot::Sender<Result<T, Failed<E>>>,
    _room: OwnedSemaphorePermit,
}

impl<F, T, E> Write<F, T, E> {
    pub(crate) fn new(
        write: F,
        bytes: usize,
        answer: oneshot::Sender<Result<T, Failed<E>>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { write, bytes, result: None, answer, _room: room }
    }
}

impl<F, T, E> Job for Write<F, T, E>
where
    F: FnMut(&WriteTransaction) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn run(&mut self, transaction: &WriteTransaction) -> bool {
        // What the closure may have left half done is only the transaction's, which is undone, or its own, and it never runs again.
        let done = catch_unwind(AssertUnwindSafe(|| (self.write)(transaction)));
        let result = done.map_or(Err(Failed::Panicked), |done| done.map_err(Failed::Refused));
        self.result.insert(result).is_ok()
    }

    fn finish(self: Box<Self>, is_kept: bool) -> Option<Again> {
        let Self { mut write, bytes, result, answer, .. } = *self;
        // A caller that left does not need the answer.
        drop(answer.send(result.unwrap_or(Err(Failed::Closed))));
        is_kept.then(|| Again { write: Box::new(move |transaction| write(transaction).is_ok()), bytes })
    }

    fn fail(self: Box<Self>, outage: Outage) {
        drop(self.answer.send(Err(Failed::Store(outage))));
    }
}

/// What came of one try.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// All of it is on the disk.
    Committed,
    /// This one refused or panicked, and nothing was written.
    Refused(usize),
    /// The disk or the database failed; whether before or after the commit is for the witness to say.
    Failed(Outage),
}

/// Runs `jobs` in one transaction and commits it.
pub(crate) fn attempt(
    database: &Database,
    witness: &Witness,
    jobs: &mut [Box<dyn Job>],
    quick_repair: bool,
) -> Attempt {
    witness.begin();
    // A closure that panicked within the database may leave it unable to undo: it panics then too.
    let done = catch_unwind(AssertUnwindSafe(|| run(database, jobs, quick_repair)));
    if let Some(outage) = witness.fault() {
        return Attempt::Failed(outage);
    }
    match done {
        Ok(Ok(None)) => Attempt::Committed,
        Ok(Ok(Some(index))) => Attempt::Refused(index),
        Ok(Err(error)) => Attempt::Failed(Outage::of(*error)),
        Err(_) => Attempt::Failed(Outage::of(redb::Error::TransactionPoisoned)),
    }
}

/// Returns the place of the write that refused, if one did.
fn run(
    database: &Database,
    jobs: &mut [Box<dyn Job>],
    quick_repair: bool,
) -> Result<Option<usize>, Box<redb::Error>> {
    let mut transaction = database.begin_write().map_err(boxed)?;
    transaction.set_durability(Durability::Immediate).map_err(boxed)?;
    transaction.set_quick_repair(quick_repair);
    for (index, job) in jobs.iter_mut().enumerate() {
        if !job.run(&transaction) {
            transaction.abort().map_err(boxed)?;
            return Ok(Some(index));
        }
    }
    transaction.commit().map_err(boxed)?;
    Ok(None)
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}
