//! A handle to the journal that can be let go of, so that the file can be opened again while the process lives.

use std::sync::Arc;

use journal::{Failed, Journal};
use parking_lot::RwLock;

/// A journal until it is closed. Clones share it.
#[derive(Clone, Debug)]
pub struct File(Arc<RwLock<Option<Journal>>>);

impl File {
    /// Holds `journal`.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        Self(Arc::new(RwLock::new(Some(journal))))
    }

    /// Returns the journal for one piece of work.
    ///
    /// # Errors
    /// [`Failed::Closed`] after [`File::close`].
    pub fn journal(&self) -> Result<Journal, Failed<redb::Error>> {
        self.0.read().clone().ok_or(Failed::Closed)
    }

    /// Waits for the work that is under way and lets go of the file.
    pub async fn close(&self) {
        let journal = self.0.write().take();
        if let Some(journal) = journal {
            journal.close().await;
        }
    }
}
