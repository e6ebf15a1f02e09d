//! The copy that a rewrite makes: what it still lacks, and what the rewrite and the writer thread tell each other of it.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender},
    time::Duration,
};

use redb::{Database, Durability, WriteTransaction};

use crate::{
    batch::Again,
    failure::{Failed, Outage},
};

/// Bytes that a kept write takes beside its own, about.
const OVERHEAD_BYTES: usize = 256;

/// What a rewrite did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// Bytes of the file before and after.
    pub bytes: (u64, u64),
    /// Writes that were run again.
    pub again: u64,
    /// How long writers waited, wall time.
    pub held: Duration,
}

/// A part of a rewrite that the writer thread does.
pub(crate) enum Step {
    /// Keep what is committed from now on, up to so many bytes; wait until the other end is gone, which takes a snapshot meanwhile.
    Begin(usize, SyncSender<Result<Receiver<()>, Outage>>),
    /// Finish with this copy, or hand it back with the writes that it still lacks: always finish where that is wanted.
    CatchUp(Copy, bool, SyncSender<Result<Caught, Halt>>),
    /// It was given up.
    Drop,
}

/// What came of catching up.
pub(crate) enum Caught {
    /// These writes are to be run over the copy.
    Behind(Copy, Vec<Again>),
    /// The copy has taken the place of the file.
    Done(Rewritten),
}

/// Why a rewrite was given up.
pub(crate) enum Halt {
    /// More was committed meanwhile than is kept.
    Overrun,
    /// The disk or the database failed.
    Failed(Outage),
    /// A write did not do over the copy what it did over the file.
    Differs,
}

/// What was committed since a rewrite began.
pub(crate) struct Kept {
    writes: Vec<Again>,
    bytes: usize,
    most: usize,
}

/// A copy of the file as it was, and what was run again over it.
pub(crate) struct Copy {
    pub(crate) database: Database,
    pub(crate) again: u64,
}

impl Kept {
    pub(crate) fn new(most: usize) -> Self {
        Self { writes: Vec::new(), bytes: 0, most }
    }

    /// Keeps a write; all are let go of once they are too many.
    pub(crate) fn keep(&mut self, again: Again) {
        self.bytes = self.bytes.saturating_add(again.bytes + OVERHEAD_BYTES);
        if self.is_overrun() { self.writes = Vec::new() } else { self.writes.push(again) }
    }

    pub(crate) fn is_overrun(&self) -> bool {
        self.bytes > self.most
    }

    pub(crate) fn take(&mut self) -> Vec<Again> {
        self.bytes = 0;
        std::mem::take(&mut self.writes)
    }
}

impl Copy {
    /// Runs `writes` again and commits them.
    pub(crate) fn run(&mut self, writes: Vec<Again>) -> Result<(), Halt> {
        self.again += writes.len() as u64;
        let run = || {
            let mut transaction = begin(&self.database)?;
            for mut again in writes {
                if !(again.write)(&transaction) {
                    return Err(Halt::Differs);
                }
            }
            transaction.set_quick_repair(true);
            transaction.commit().map_err(Halt::of)
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(Halt::Differs))
    }
}

impl Halt {
    pub(crate) fn of(error: impl Into<redb::Error>) -> Self {
        Self::Failed(Outage::of(error))
    }

    pub(crate) fn failed<E>(self) -> Failed<E> {
        match self {
            Self::Overrun => Failed::Full,
            Self::Failed(outage) => Failed::Store(outage),
            Self::Differs => Failed::Panicked,
        }
    }
}

/// Removes what is left of a rewrite that was broken off.
pub(crate) fn tidy(path: &Path) {
    // What is not there cannot be removed.
    drop(fs::remove_file(beside(path)));
}

pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".rewrite");
    name.into()
}

pub(crate) fn begin(database: &Database) -> Result<WriteTransaction, Halt> {
    let mut transaction = database.begin_write().map_err(Halt::of)?;
    transaction.set_durability(Durability::Immediate).map_err(Halt::of)?;
    Ok(transaction)
}
