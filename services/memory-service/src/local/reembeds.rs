//! What a re-embedding needs of this backend: its job, pages of memories, the index of the new vectors, and the change to it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::{MutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::{Inner, Local, goes_on};
use crate::{
    error::Error,
    index::Index,
    memory::Memory,
    shape::{Shape, SpaceKey},
    space::Space,
    store::{Changed, FromRows as _, Mark},
    upkeep::reembed::{Job, State},
};

/// The index of the vectors that a job has made, as it was at one moment.
pub(crate) type Base = (Index, Mark);

/// Keeps writers and checkpoints away from a space.
#[must_use]
#[derive(Debug)]
pub(crate) struct Alone<'l> {
    _checkpoints: MutexGuard<'l, ()>,
    _writers: OwnedRwLockWriteGuard<()>,
}

impl Local {
    /// Begins a re-embedding of the space of `key` with the aim of vectors of `aim`, or finds the one that has it.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Reembedding`] if one with another aim runs, and those of a write.
    pub(crate) async fn begin_reembedding(
        &self,
        key: &SpaceKey,
        aim: &Shape,
        now: SystemTime,
    ) -> Result<Job, Error> {
        let job = self.0.store.begin_reembedding(key, &aim.embedder, aim.dimensions, now).await?;
        self.0.begun.notify_one();
        Ok(job)
    }

    /// Returns once a re-embedding has begun or was cancelled since the last time.
    pub(crate) async fn begun(&self) {
        self.0.begun.notified().await;
    }

    /// Returns the re-embedding of the space of `key` that runs, or the last one.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`], and [`Error::Store`] if it cannot be read.
    pub(crate) async fn reembedding(&self, key: &SpaceKey) -> Result<Job, Error> {
        let key = key.clone();
        self.off(move |local| local.store.reembedding(&key)).await
    }

    /// Ends the re-embedding of the space of `key` if it runs, and returns it as it stands.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`], and those of a write.
    pub(crate) async fn cancel_reembedding(&self, key: &SpaceKey) -> Result<Job, Error> {
        let job = self.0.store.cancel_reembedding(key).await?;
        if job.state == State::Cancelled {
            // Nobody reads from it but who makes an index of it, in vain.
            self.remove_set(job.set, Duration::ZERO);
            // Whoever pauses for its sake need not.
            self.0.begun.notify_one();
        }
        Ok(job)
    }

    /// Returns the re-embeddings that run, with their spaces, and shows how much they have still to do.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) async fn reembeddings(&self) -> Result<Vec<(SpaceKey, Arc<Space>, Job)>, Error> {
        let running = self.off(|local| local.store.running()).await?;
        let spaces = self.0.spaces.all();
        let of = |(number, job): (u32, Job)| {
            let (key, space) = spaces.iter().find(|(_, space)| space.number() == number)?;
            Some((key.clone(), Arc::clone(space), job))
        };
        let running: Vec<_> = running.into_iter().filter_map(of).collect();
        let left: u64 = running.iter().map(|(_, space, job)| space.left_of(job)).sum();
        #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
        self.0.to_embed.set(left as f64, &[]);
        Ok(running)
    }

    /// Returns up to `most` memories of `space` after number `after`, in the order of their numbers; one that cannot be read is absent.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(crate) async fn after(
        &self,
        space: &Space,
        after: u64,
        most: usize,
    ) -> Result<Vec<(u64, Option<Memory>)>, Error> {
        let number = space.number();
        self.off(move |local| local.store.after(number, after, most)).await
    }

    /// Keeps the job of the space of `key` as it stands, with vectors for those of the memories that are still there.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if it is over, and those of a write.
    pub(crate) async fn bring(
        &self,
        key: &SpaceKey,
        job: Job,
        vectors: Vec<(u64, Vec<f32>)>,
    ) -> Result<(), Error> {
        self.0.store.bring(key, job, vectors).await
    }

    /// Makes the index of a job's vectors, or brings one up to date.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if the job is over, [`Error::Store`] if the space cannot be read.
    pub(crate) async fn remade(&self, key: &SpaceKey, job: &Job, base: Option<Base>) -> Result<Base, Error> {
        let (key, job) = (key.clone(), job.clone());
        self.off(move |local| local.store.remake(&key, &job, base)).await
    }

    /// Keeps writers and checkpoints away from `space` until what is returned is dropped. Recalls go on.
    pub(crate) async fn alone(&self, space: &Space) -> Alone<'_> {
        // In this order: a checkpoint takes long, and no writer is to wait for it.
        let checkpoints = self.0.picturing.lock().await;
        Alone { _checkpoints: checkpoints, _writers: space.gate().write_owned().await }
    }

    /// Changes `space` to the vectors of `job`, which `base` is made of, and removes the old ones once no recall can be at them: after
    /// `pause`. Returns the index again if it came too late.
    ///
    /// # Errors
    /// [`Error::NoReembedding`] if the job is over, and those of a write.
    pub(crate) async fn change(
        &self,
        _: &Alone<'_>,
        (key, space): (&SpaceKey, &Space),
        job: &Job,
        base: Base,
        pause: Duration,
    ) -> Result<Option<Base>, Error> {
        let changed = self.0.store.change(key, job.clone(), base.1.generation).await?;
        let Some(Changed { generation, old }) = changed else { return Ok(Some(base)) };
        let (mut index, mark) = base;
        index.reached(generation);
        let shape = job.shape(space.shape().metric);
        self.0.spaces.replace(key, space, space.successor(shape, mark.vectors, index));
        self.remove_set(old, pause);
        Ok(None)
    }

    /// Goes through the gate of the space of `key`, if it is there: until this is dropped, it does not change to other vectors.
    pub(crate) async fn gate(&self, key: &SpaceKey) -> Option<OwnedRwLockReadGuard<()>> {
        let gate = self.0.spaces.get(key)?.gate();
        Some(gate.read_owned().await)
    }

    /// Removes the sets of vectors that nobody reads any more since before this start.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub(super) async fn sweep_sets(&self) -> Result<(), Error> {
        let sets = self.off(|local: &Inner| local.store.old_sets()).await?;
        sets.into_iter().for_each(|set| self.remove_set(set, Duration::ZERO));
        Ok(())
    }

    /// Removes the vectors of a set in the background, some in each commit, not before `pause` is over.
    fn remove_set(&self, set: u32, pause: Duration) {
        let local = self.clone();
        self.0.telemetry.spawn(async move {
            // Real time: so long do recalls take at most.
            tokio::time::sleep(pause).await;
            while goes_on(local.0.store.remove_set(set).await).await {}
        });
    }

    /// Returns how many vectors the store has in all, of whatever set.
    #[cfg(test)]
    pub(crate) async fn vectors(&self) -> u64 {
        self.0.store.vectors().await
    }
}
