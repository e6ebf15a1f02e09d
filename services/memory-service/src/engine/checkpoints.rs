//! Writes down what is in memory: so that a start need not make it from every row, and what no row says.

use std::sync::Arc;

use super::Engine;
use crate::{error::Error, space::Space};

/// So many times the memories from which on a space has checkpoints have to be written for one that does not wait.
const FAR: u64 = 10;

impl Engine {
    /// Writes checkpoints and counts for ever, in the interval of the settings, and sooner while much is written.
    pub(crate) async fn keep_checkpoints(&self) -> std::convert::Infallible {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.checkpoints) => {}
                () = self.far.notified() => {}
            }
            self.checkpoint().await;
            self.save_accounts().await;
        }
    }

    /// Saves how often memories were recalled and said, as far as that changed; what cannot be saved is kept for the next time.
    pub(super) async fn save_accounts(&self) {
        for (_, space) in self.spaces.all() {
            loop {
                let changed = {
                    let index = space.index();
                    space.accounts().take_changed(self.policy.batch, |seq| index.has(seq))
                };
                if changed.is_empty() {
                    break;
                }
                if let Err(error) = self.store.save_accounts(space.number(), changed.clone()).await {
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
        let far = (space.index().len() / 2).max(self.checkpoints_from.saturating_mul(FAR));
        if space.written_since_checkpoint(seq) > far {
            self.far.notify_one();
        }
    }

    /// Writes a checkpoint of each space that is large enough and has changed since its last one.
    pub(super) async fn checkpoint(&self) {
        for (_, space) in self.spaces.all() {
            let is_large = space.index().len() >= self.checkpoints_from.max(1);
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

    async fn checkpoint_of(&self, space: Arc<Space>) -> Result<(), Error> {
        // Before the picture is taken: what is removed after that has to be left out of it.
        self.store.log_removals(space.number()).await?;
        let (checkpoints, pictured) = (self.store.checkpoints(), Arc::clone(&space));
        let write = move || {
            let picture = pictured.index().picture();
            let mark = picture.mark(pictured.site());
            checkpoints.write(mark, &picture)
        };
        let unnamed = self.telemetry.spawn_blocking(write).await.map_err(Error::Task)??;
        let mark = unnamed.mark();
        self.store.name_checkpoint(unnamed).await?;
        space.note_checkpoint(mark);
        Ok(())
    }
}
