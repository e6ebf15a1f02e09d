//! The writer thread: takes what waits, commits it, answers; and while the disk takes no writes, refuses and tries again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use redb::{Database, DatabaseError, StorageBackend, StorageError, backends::FileBackend};
use tokio::sync::watch;

use crate::{
    Error, Options,
    batch::{Attempt, Job, attempt},
    copy::{self, Kept, Step},
    disk::{Disk, Witness},
    failure::{Outage, Reason, State},
    slot::{Open, Slot},
};

/// Most writes that run again after one that refused; what lies before it is committed otherwise. So a refusal costs no more
/// than these, however many there are in a batch.
const MOST_AGAIN: usize = 64;

/// Opens the journal's file for writing.
pub(crate) type Medium = Arc<dyn Fn(&Path) -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// What the writer thread is told.
pub(crate) enum Order {
    /// Commit this.
    Write(Box<dyn Job>),
    /// A reader met a fault of the disk: see whether it is one of writes too.
    Mend,
    /// Do this, after what was ordered before.
    Rewrite(Step),
    /// Commit what was ordered before, and end.
    Close,
}

/// Owns the database's write side.
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) medium: Medium,
    pub(crate) slot: Arc<Slot>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) witness: Arc<Witness>,
    /// When to try again; absent while writes are taken.
    retry: Option<Instant>,
    /// Keeps other processes out.
    pub(crate) lock: File,
    /// What was committed since a rewrite began, while there is one.
    pub(crate) kept: Option<Kept>,
}

/// Returns the medium of an ordinary file.
pub(crate) fn file() -> Medium {
    Arc::new(|path| {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    })
}

/// Starts the writer thread and returns once the database is open. The thread ends, and `state` says so, when it is told to or
/// every sender of `orders` is gone.
pub(crate) fn start(
    path: &Path,
    options: &Options,
    medium: Medium,
    slot: Arc<Slot>,
    orders: Receiver<Order>,
    state: watch::Sender<State>,
) -> Result<(), Error> {
    let (path, options) = (path.to_owned(), options.clone());
    let (opened, wait) = std::sync::mpsc::sync_channel(1);
    // Else the lines of this thread would reach no log.
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let work = move || match Writer::open(path, options, medium, slot, state) {
        Ok(writer) => {
            // Whoever opens waits for it.
            drop(opened.send(Ok(())));
            writer.run(&orders);
        }
        Err(error) => drop(opened.send(Err(error))),
    };
    let run = move || tracing::dispatcher::with_default(&dispatch, work);
    thread::Builder::new().name("journal".into()).spawn(run).map_err(Error::Thread)?;
    wait.recv().unwrap_or_else(|_| Err(Error::Thread(io::ErrorKind::BrokenPipe.into())))
}

impl Writer {
    fn open(
        path: PathBuf,
        options: Options,
        medium: Medium,
        slot: Arc<Slot>,
        state: watch::Sender<State>,
    ) -> Result<Self, Error> {
        let failed = |error| Error::Open(Box::new(error));
        let file = medium(&path).map_err(|error| failed(io_error(error)))?;
        // Read-only, so that the lock keeps no disk from being made so.
        let lock = File::open(&path).map_err(|error| failed(io_error(error)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(failed(DatabaseError::DatabaseAlreadyOpen)),
            Err(fs::TryLockError::Error(error)) => {
                tracing::warn!(%error, "the journal's file cannot be locked: nothing keeps another process out");
            }
        }
        let disk = begin_again(&*file).and_then(|()| Disk::new(file));
        let disk = disk.map_err(|error| failed(io_error(error)))?;
        let open = opened(&options, disk).map_err(failed)?;
        let witness = Arc::clone(&open.witness);
        slot.put(open);
        copy::tidy(&path);
        Ok(Self { path, options, medium, slot, state, witness, retry: None, lock, kept: None })
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let mut open = true;
        while open {
            let first = match self.retry {
                None => orders.recv().map_err(RecvTimeoutError::from),
                Some(moment) => orders.recv_timeout(moment.saturating_duration_since(Instant::now())),
            };
            match first {
                Ok(first) => open = self.obey(first, orders),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            if open && self.retry.is_some_and(|moment| moment <= Instant::now()) {
                self.try_again();
            }
        }
        // In this order: whoever waits for the end opens the file next.
        self.slot.clear();
        self.slot.close();
        drop(self.lock);
        self.state.send_replace(State::Closed);
    }

    /// Does what is ordered by now, in one batch; returns whether there is more to come.
    fn obey(&mut self, first: Order, orders: &Receiver<Order>) -> bool {
        let mut jobs = Vec::new();
        let mut next = Some(first);
        let (mut open, mut step) = (true, None);
        while let Some(order) = next {
            match order {
                Order::Write(job) => jobs.push(job),
                Order::Mend => {
                    if let (None, Some(outage)) = (self.retry, self.witness.fault()) {
                        self.degrade(outage);
                    }
                }
                Order::Rewrite(ordered) => step = Some(ordered),
                Order::Close => open = false,
            }
            let is_room = open && step.is_none() && jobs.len() < self.options.batch;
            next = if is_room { orders.try_recv().ok() } else { None };
        }
        self.commit(jobs);
        step.into_iter().for_each(|step| self.rewrite(step));
        open
    }

    /// Commits `jobs` in as few commits as their refusals allow, and answers all of them.
    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let mut tried = jobs.len();
        while !jobs.is_empty() {
            match self.attempt(&mut jobs[..tried]) {
                Attempt::Committed => {
                    jobs.drain(..tried).for_each(|job| self.finish(job));
                    tried = jobs.len();
                }
                Attempt::Refused(index) => {
                    jobs.remove(index).finish(false);
                    tried = if index < MOST_AGAIN { jobs.len() } else { index };
                }
                Attempt::Failed(outage) => {
                    let done = if self.retry.is_none() && self.is_committed() { tried } else { 0 };
                    if self.retry.is_none() {
                        self.degrade(outage.clone());
                    }
                    jobs.drain(..done).for_each(|job| drop(job.finish(false)));
                    jobs.drain(..).for_each(|job| job.fail(outage.clone()));
                }
            }
        }
    }

    fn finish(&mut self, job: Box<dyn Job>) {
        let again = job.finish(self.kept.is_some());
        if let (Some(kept), Some(again)) = (&mut self.kept, again) {
            kept.keep(again);
        }
    }

    fn attempt(&self, jobs: &mut [Box<dyn Job>]) -> Attempt {
        if let Some(outage) = self.state.borrow().outage() {
            return Attempt::Failed(outage);
        }
        match self.slot.open() {
            Some(database) => attempt(&database, &self.witness, jobs, self.options.quick_repair),
            None => Attempt::Failed(Outage::of(redb::Error::DatabaseClosed)),
        }
    }

    /// Returns whether the last try, which ended with an error, had put its commit on the disk before.
    fn is_committed(&self) -> bool {
        self.witness.syncs() >= if self.options.quick_repair { 2 } else { 1 }
    }

    /// Takes no more writes, and lets readers go on with what is surely on the disk.
    fn degrade(&mut self, outage: Outage) {
        let error: &dyn std::error::Error = &*outage.cause;
        tracing::error!(error, reason = outage.reason.word(), "the journal takes no writes");
        // A rewrite is given up.
        self.kept = None;
        self.slot.clear();
        self.read_only(outage);
        // What is no fault of the disk is mended by opening again.
        let pause = if self.witness.fault().is_some() { self.options.retry } else { Duration::ZERO };
        self.retry = Some(Instant::now() + pause);
    }

    /// Puts a database into the cleared slot that is read only.
    fn read_only(&self, outage: Outage) {
        match self.scratch() {
            Ok(open) => self.slot.put(open),
            Err(error) => {
                tracing::error!(%error, "the journal cannot be read");
                self.slot.lose(outage.clone());
            }
        }
        self.state.send_replace(State::Refusing(outage));
    }

    fn scratch(&self) -> Result<Open, DatabaseError> {
        let file = FileBackend::new(File::open(&self.path).map_err(io_error)?)?;
        let header = self.witness.header();
        let disk = Disk::read_only(Box::new(file), header.as_deref()).map_err(io_error)?;
        opened(&self.options, disk)
    }

    /// Takes writes again if the disk does.
    fn try_again(&mut self) {
        self.retry = Some(Instant::now() + self.options.retry);
        if let Err(error) = self.probe() {
            let reason = Reason::of(&error);
            let outage = Outage::of(redb::Error::Io(error));
            let changed = |state: &mut State| {
                let changed = state.reason() != Some(reason);
                *state = State::Refusing(outage);
                changed
            };
            self.state.send_if_modified(changed);
            return;
        }
        self.slot.clear();
        match self.reopen() {
            Ok(open) => {
                self.slot.put(open);
                self.retry = None;
                self.state.send_replace(State::Ready);
                tracing::info!("the journal takes writes again");
            }
            Err(error) => self.read_only(self.witness.fault().unwrap_or_else(|| Outage::of(error))),
        }
    }

    /// Sees whether the disk takes as much as a batch may need, beside the file and without touching it.
    fn probe(&self) -> io::Result<()> {
        let path = self.path.with_extension("probe");
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&vec![1; self.options.spare_bytes])?;
            file.sync_data()
        };
        let written = write();
        // What was not made cannot be removed.
        drop(fs::remove_file(&path));
        written
    }

    /// Opens the file for writing again, as it was before the commit that failed.
    fn reopen(&mut self) -> Result<Open, DatabaseError> {
        let file = (self.medium)(&self.path).map_err(io_error)?;
        if let Some(header) = self.witness.header() {
            // The refused commit may lie on the disk whole: it must not come back.
            file.write(0, &header).and_then(|()| file.sync_data()).map_err(io_error)?;
        }
        let disk = Disk::new(file).map_err(io_error)?;
        self.witness = disk.witness();
        opened(&self.options, disk)
    }
}

/// Empties a file whose making was broken off: redb writes its mark last, and takes what has none for another's file.
fn begin_again(file: &dyn StorageBackend) -> io::Result<()> {
    let mut mark = [0; 9];
    if file.len()? >= mark.len() as u64 {
        file.read(0, &mut mark)?;
        if mark == [0; 9] {
            tracing::warn!("the journal's file was never finished and is made again");
            file.set_len(0)?;
        }
    }
    Ok(())
}

/// Opens the database on `disk`, which it may write.
pub(crate) fn opened(options: &Options, disk: Disk) -> Result<Open, DatabaseError> {
    let witness = disk.witness();
    let mut builder = Database::builder();
    let database = builder.set_cache_size(options.cache_bytes).create_with_backend(disk)?;
    match witness.fault() {
        // Repaired in memory only.
        Some(outage) if witness.is_detached() => Err(io_error(io::Error::other(outage))),
        _ => Ok(Open { database: Arc::new(database), witness }),
    }
}

fn io_error(error: io::Error) -> DatabaseError {
    DatabaseError::Storage(StorageError::Io(error))
}
