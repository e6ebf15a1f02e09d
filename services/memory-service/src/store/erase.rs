//! What was removed for good, made to be gone from the file too.
//!
//! redb does not zero the pages that it frees. So a commit that removes rows for good notes that their bytes are left, and sooner or later
//! the file is rewritten without them. The note says that it is being done as long as it is, and is taken away in the end: what is removed
//! meanwhile is noted anew, and who is killed in between begins again.

use std::time::{Duration, SystemTime};

use journal::Rewritten;
use redb::{ReadTransaction, ReadableTable as _, WriteTransaction};

use super::{
    Store, failed,
    refused::Refused,
    snapshot,
    tables::{ERASED, LEFT, META},
};
use crate::error::Error;

/// The note, and what it says while the file is being rewritten.
const IS_LEFT: &str = "1";
const GOES: &str = "0";

impl Store {
    /// Returns whether bytes of what was removed for good are left in the file, and the last rewrite is at least `every` ago.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read. Blocks the thread.
    pub(crate) fn is_left(&self, now: SystemTime, every: Duration) -> Result<bool, Error> {
        let read = |read: &ReadTransaction| {
            let meta = read.open_table(META)?;
            let last = meta.get(ERASED)?.and_then(|at| at.value().parse::<u64>().ok());
            // A clock that was set back, or a store that never was rewritten, does not wait.
            let is_early =
                last.is_some_and(|at| seconds(now).checked_sub(at).is_some_and(|ago| ago < every.as_secs()));
            Ok(meta.get(LEFT)?.is_some() && !is_early)
        };
        self.journal.read(read).map_err(failed)
    }

    /// Begins to erase: what is removed for good from now on is noted apart from what goes now.
    ///
    /// # Errors
    /// Those of a write.
    pub(crate) async fn begin_erasing(&self) -> Result<(), Error> {
        let begin = |write: &WriteTransaction| {
            write.open_table(META)?.insert(LEFT, GOES)?;
            Ok(())
        };
        self.journal.commit(begin).await.map_err(failed)
    }

    /// Rewrites the file without what was removed; keeps up to `most` bytes of what is written meanwhile. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Store`]: the file is as it was; [`Error::NotReady`] once the store is closed.
    pub(crate) fn rewrite(&self, most: usize) -> Result<Rewritten, Error> {
        self.journal.rewrite(most, snapshot::copy).map_err(failed)
    }

    /// Notes that all is gone that was removed before [`Store::begin_erasing`].
    ///
    /// # Errors
    /// Those of a write.
    pub(crate) async fn end_erasing(&self, now: SystemTime) -> Result<(), Error> {
        let end = move |write: &WriteTransaction| {
            let mut meta = write.open_table(META)?;
            let is_all = meta.get(LEFT)?.is_some_and(|note| note.value() == GOES);
            if is_all {
                meta.remove(LEFT)?;
            }
            meta.insert(ERASED, seconds(now).to_string().as_str())?;
            Ok(())
        };
        self.journal.commit(end).await.map_err(failed)
    }
}

/// Notes that bytes are left of rows which this commit removes for good.
pub(super) fn leave(write: &WriteTransaction) -> Result<(), Refused> {
    let mut meta = write.open_table(META)?;
    let is_noted = meta.get(LEFT)?.is_some_and(|note| note.value() == IS_LEFT);
    if !is_noted {
        meta.insert(LEFT, IS_LEFT)?;
    }
    Ok(())
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
