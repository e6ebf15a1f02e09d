//! Writes down what is in memory: so that a start need not make it from every row, and what no row says.

use std::sync::Arc;

use super::{Inner, Local};
use crate::{error::Error, space::Space};

/// So many times the memories from which on a space has checkpoints have to be written for one that does not wait.
const FAR: u64 = 10;

impl Local {
    /// Writes checkpoints and counts for ever, in the interval of the settings, and sooner while much is written.
    pub(crate) async fn keep_checkpoints(&self) -> std::convert::Infallible {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.0.checkpoints) => {}
                () = self.0.far.notified() => {}
            }
            self.checkpoint().await;
            self.save_accounts().await;
        }
    }

    /// Saves how often memories were recalled and said, as far as that changed; what cannot be saved is kept for the next time.
    pub(super) async fn save_accounts(&self) {
        for (_, space) in self.0.spaces.all() {
            loop {
                let changed = {
                    let index = space.index();
                    space.accounts().take_changed(self.0.saved, |seq| index.has(seq))
                };
                if changed.is_empty() {
                    break;
                }
                if let Err(error) = self.0.store.save_accounts(space.number(), changed.clone()).await {
                    space.accounts().not_saved(&changed);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        space = space.number(),
                        "the counts of recalls cannot be saved yet"
                    );
                    break;
                }
            }
        }
    }

    /// Notes that a write gave `seq` to a memory of `space`: a load of many must not cost a start that reads them all.
    pub(super) fn note_written(&self, space: &Space, seq: u64) {
        // Half as many again: what a load writes of checkpoints in all is then three times the last of them.
        let far = (space.memories() / 2).max(self.0.checkpoints_from.saturating_mul(FAR));
        if space.written_since_checkpoint(seq) > far {
            self.0.far.notify_one();
        }
    }

    /// Writes a checkpoint of each space that is large enough and has changed since its last one.
    pub(super) async fn checkpoint(&self) {
        for (_, space) in self.0.spaces.all() {
            let is_large = space.memories() >= self.0.checkpoints_from.max(1);
            if is_large && space.wants_checkpoint() {
                let number = space.number();
                if let Err(error) = self.checkpoint_of(space).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        space = number,
                        "a checkpoint cannot be written: a start would read every row"
                    );
                }
            }
        }
    }

    pub(super) async fn checkpoint_of(&self, space: Arc<Space>) -> Result<(), Error> {
        // One at a time: an older one must not be named after a newer one.
        let _turn = self.0.picturing.lock().await;
        if space.is_over() {
            return Ok(());
        }
        // Before the picture is taken: what is removed after that has to be left out of it.
        self.0.store.log_removals(space.number()).await?;
        let pictured = Arc::clone(&space);
        let write = move |local: &Inner| {
            // A copy shares with the index what is large, so that writers wait for a moment only.
            let index = pictured.index().clone();
            local.store.checkpoints().write(index.mark(pictured.site()), &index)
        };
        let unnamed = self.off(write).await?;
        let mark = unnamed.mark();
        self.0.store.name_checkpoint(unnamed).await?;
        space.note_checkpoint(mark);
        Ok(())
    }
}
