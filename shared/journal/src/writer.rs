//! The writer thread: takes what waits, runs it in one transaction, commits, answers.

use std::{io, sync::Arc, thread};

use redb::{Database, Durability, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{Failed, Options};

/// A queued write with its caller's type forgotten.
pub(crate) trait Job: Send {
    /// Runs the write and keeps its result; returns whether the transaction may be committed with it.
    fn run(&mut self, transaction: &WriteTransaction) -> bool;
    /// Answers the caller with the kept result.
    fn finish(self: Box<Self>);
    /// Answers the caller that the database failed.
    fn fail(self: Box<Self>, error: Arc<redb::Error>);
}

/// A write and the caller who waits for it.
pub(crate) struct Write<F, T, E> {
    write: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, Failed<E>>>,
}

impl<F, T, E> Write<F, T, E> {
    pub(crate) fn new(write: F, answer: oneshot::Sender<Result<T, Failed<E>>>) -> Self {
        Self { write, result: None, answer }
    }
}

impl<F, T, E> Job for Write<F, T, E>
where
    F: FnMut(&WriteTransaction) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, transaction: &WriteTransaction) -> bool {
        self.result.insert((self.write)(transaction)).is_ok()
    }

    fn finish(self: Box<Self>) {
        let result = self.result.map_or(Err(Failed::Closed), |result| result.map_err(Failed::Refused));
        // A caller that left does not need the answer.
        drop(self.answer.send(result));
    }

    fn fail(self: Box<Self>, error: Arc<redb::Error>) {
        drop(self.answer.send(Err(Failed::Store(error))));
    }
}

/// Starts the writer thread; it ends, and `end` with it, when every sender of `queue` is gone and what waits is committed.
pub(crate) fn start(
    database: Arc<Database>,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    options: &Options,
    end: watch::Sender<()>,
) -> io::Result<()> {
    let (most, quick_repair) = (options.batch.max(1), options.quick_repair);
    // Else the lines of this thread would reach no log.
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let work = move || {
        let mut batch = Vec::with_capacity(most);
        while queue.blocking_recv_many(&mut batch, most) > 0 {
            commit(&database, std::mem::take(&mut batch), quick_repair);
        }
        // In this order: whoever waits for the end opens the file next.
        drop(database);
        drop(end);
    };
    let run = move || tracing::dispatcher::with_default(&dispatch, work);
    thread::Builder::new().name("journal".into()).spawn(run).map(drop)
}

/// Commits `batch` as one; what refuses is answered and left out of another try.
fn commit(database: &Database, mut batch: Vec<Box<dyn Job>>, quick_repair: bool) {
    while !batch.is_empty() {
        match attempt(database, &mut batch, quick_repair) {
            Ok(Attempt::Committed) => return batch.into_iter().for_each(Job::finish),
            Ok(Attempt::Refused(index)) => batch.remove(index).finish(),
            Err(error) => {
                tracing::error!(error = %error, writes = batch.len(), "journal commit failed");
                let error = Arc::new(*error);
                return batch.into_iter().for_each(|job| job.fail(Arc::clone(&error)));
            }
        }
    }
}

enum Attempt {
    Committed,
    Refused(usize),
}

fn attempt(
    database: &Database,
    batch: &mut [Box<dyn Job>],
    quick_repair: bool,
) -> Result<Attempt, Box<redb::Error>> {
    let failed = |error: redb::Error| Box::new(error);
    let mut transaction = database.begin_write().map_err(|error| failed(error.into()))?;
    transaction.set_durability(Durability::Immediate).map_err(|error| failed(error.into()))?;
    transaction.set_quick_repair(quick_repair);
    for (index, job) in batch.iter_mut().enumerate() {
        if !job.run(&transaction) {
            transaction.abort().map_err(|error| failed(error.into()))?;
            return Ok(Attempt::Refused(index));
        }
    }
    transaction.commit().map_err(|error| failed(error.into()))?;
    Ok(Attempt::Committed)
}
