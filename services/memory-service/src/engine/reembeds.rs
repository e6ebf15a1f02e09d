//! Makes the vectors of namespaces anew, in the background, one page of each after the other.
//!
//! What a job needs after a restart is in the store: where it stands, and the vectors that it has made. The index of the new vectors is made
//! when none is missing, while everybody goes on; the change itself has the namespace for itself, and catches up with what was written
//! meanwhile as a start catches up with a checkpoint.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::SystemTime};

use super::Engine;
use crate::{
    backend::Backend as _,
    error::Error,
    local::{AGAIN, Alone, Base, Local},
    shape::{Shape, SpaceKey},
    space::Space,
    upkeep::reembed::{Job, State, Want},
};

/// Longest reason of a failure that is kept, in bytes.
const REASON_BYTES: usize = 512;
/// Parts of a job after each of which the log says how far it is.
const TOLD: f64 = 10.0;

/// A re-embedding as it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reembedding {
    /// What is kept of it.
    pub(crate) job: Job,
    /// Memories that have no new vector yet.
    pub(crate) left: u64,
}

/// Indices of coming vectors that were made and came too late, by the numbers of their spaces.
type Bases = HashMap<u32, Base>;

/// What a round of steps says of the next one.
enum Next {
    /// There is more to do.
    Now,
    /// Every job pauses until then.
    At(SystemTime),
    /// There is no job.
    Never,
}

impl Engine<Local> {
    /// Begins to make the vectors of the space of `key` anew, by `embedder` (empty: that of the settings), and returns how that stands; as
    /// it stands where it runs already, or is done. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Aim`] if nobody here makes such vectors, [`Error::Reembedding`] if another embedder is at it, and those
    /// of a write.
    pub(crate) async fn reembed(
        self: &Arc<Self>,
        key: SpaceKey,
        embedder: String,
        dimensions: usize,
    ) -> Result<Reembedding, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let aim = self.aim(embedder, dimensions)?;
        let work = async move {
            let _room = room;
            let job = engine.store.begin_reembedding(&key, &aim, engine.clock.now()).await?;
            Ok(engine.stands(&key, job).await)
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Returns the re-embedding of the space of `key` that runs, or the last one.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`], and [`Error::Store`] if it cannot be read.
    pub(crate) async fn reembedding(&self, key: &SpaceKey) -> Result<Reembedding, Error> {
        let job = self.store.reembedding(key).await?;
        Ok(self.stands(key, job).await)
    }

    /// Ends the re-embedding of the space of `key` if it runs, and returns how it stands. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NoReembedding`], and those of a write.
    pub(crate) async fn cancel_reembedding(self: &Arc<Self>, key: SpaceKey) -> Result<Reembedding, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let job = engine.store.cancel_reembedding(&key).await?;
            Ok(engine.stands(&key, job).await)
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Re-embeds for ever, whatever is begun. Whoever stops it lets a commit that is on its way finish.
    pub(crate) async fn keep_reembedding(self: &Arc<Self>) -> Infallible {
        let mut bases = Bases::new();
        loop {
            match self.steps(&mut bases).await {
                Ok(Next::Now) => {}
                Ok(Next::At(time)) => tokio::select! {
                    () = self.clock.sleep_until(time) => {}
                    () = self.store.begun() => {}
                },
                Ok(Next::Never) => self.store.begun().await,
                Err(error) => {
                    tracing::warn!(%error, "re-embedding cannot go on yet");
                    // Real time: it is the disk that is waited for.
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Takes a step of each job that runs.
    async fn steps(self: &Arc<Self>, bases: &mut Bases) -> Result<Next, Error> {
        let running = self.store.reembeddings().await?;
        bases.retain(|number, _| running.iter().any(|(_, space, _)| space.number() == *number));
        let mut next = Next::Never;
        for (key, space, job) in running {
            match (job.want(self.clock.now()), &next) {
                (Want::Nothing, _) | (Want::Pause(_), Next::Now) => {}
                (Want::Pause(until), Next::At(time)) => next = Next::At(until.min(*time)),
                (Want::Pause(until), Next::Never) => next = Next::At(until),
                (Want::Page { .. } | Want::Change { .. }, _) => {
                    next = Next::Now;
                    match self.step(&key, &space, job, bases).await {
                        // Somebody ended it meanwhile, or dropped its namespace.
                        Ok(()) | Err(Error::NoReembedding) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(next)
    }

    async fn step(
        self: &Arc<Self>,
        key: &SpaceKey,
        space: &Arc<Space>,
        job: Job,
        bases: &mut Bases,
    ) -> Result<(), Error> {
        if matches!(job.want(self.clock.now()), Want::Page { hold: false, .. }) {
            return self.embed_page(key, space, job).await.map(drop);
        }
        let base = self.store.remade(key, &job, bases.remove(&space.number())).await?;
        // What came while that was made, which may have taken long.
        let base = self.store.remade(key, &job, Some(base)).await?;
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let (key, changing) = (key.clone(), Arc::clone(space));
        let work = async move {
            let _room = room;
            let alone = engine.store.alone(&changing).await;
            engine.change(&alone, &key, &changing, job, base).await
        };
        let late = self.telemetry.spawn(work).await.map_err(Error::Task)??;
        bases.extend(late.map(|base| (space.number(), base)));
        Ok(())
    }

    /// Embeds the next memories of a job and brings their vectors; returns the job as it stands then. An embedder that fails makes it pause.
    async fn embed_page(&self, key: &SpaceKey, space: &Space, mut job: Job) -> Result<Job, Error> {
        let page = self.store.after(space, job.after, self.policy.batch).await?;
        let seqs: Vec<u64> = page.iter().map(|(seq, _)| *seq).collect();
        let readable =
            page.iter().filter_map(|(seq, memory)| Some((*seq, memory.as_ref()?.content.as_str())));
        let (embedded, texts): (Vec<u64>, Vec<&str>) = readable.unzip();
        let shape = job.shape(space.shape().metric);
        let made = self.embed(&shape, &texts).await.and_then(|vectors| whole(vectors, &texts, &shape));
        let vectors = match made {
            Ok(vectors) => {
                job.embedded(&seqs);
                vectors
            }
            Err(error) => {
                let mut reason = error.to_string();
                reason.truncate(reason.floor_char_boundary(REASON_BYTES));
                let (tenant, namespace) = (&*key.tenant, &*key.namespace);
                tracing::warn!(namespace, tenant, reason, "re-embedding pauses: the embedder failed");
                job.failed(reason, self.clock.now());
                Vec::new()
            }
        };
        let brought = embedded.into_iter().zip(vectors).collect();
        self.store.bring(key, job.clone(), brought).await?;
        tell(key, space, &job, seqs.len() as u64);
        Ok(job)
    }

    /// Changes a space to its new vectors, with nobody writing to it meanwhile; returns the index of the new vectors again if it came too
    /// late.
    async fn change(
        &self,
        alone: &Alone<'_>,
        key: &SpaceKey,
        space: &Space,
        mut job: Job,
        base: Base,
    ) -> Result<Option<Base>, Error> {
        while matches!(job.want(self.clock.now()), Want::Page { hold: true, .. }) {
            job = self.embed_page(key, space, job).await?;
        }
        if !matches!(job.want(self.clock.now()), Want::Change { .. }) {
            return Ok(Some(base));
        }
        let base = self.store.remade(key, &job, Some(base)).await?;
        let late = self.store.change(alone, (key, space), &job, base, self.query_timeout).await?;
        if late.is_none() {
            self.answers.forget_all(space.number());
            self.count_all();
            let (tenant, namespace) = (&*key.tenant, &*key.namespace);
            tracing::info!(
                namespace,
                tenant,
                embedder = job.embedder,
                done = job.done,
                "a namespace is re-embedded"
            );
        }
        Ok(late)
    }

    async fn stands(&self, key: &SpaceKey, job: Job) -> Reembedding {
        if job.state == State::Changed {
            // Whoever hears of the change sees it.
            drop(self.store.gate(key).await);
            return Reembedding { job, left: 0 };
        }
        let left = self.store.find(key).map_or(0, |space| space.left_of(&job));
        Reembedding { job, left }
    }
}

/// Makes sure that there is a vector for each text, of the length that was promised.
fn whole(vectors: Vec<Vec<f32>>, texts: &[&str], shape: &Shape) -> Result<Vec<Vec<f32>>, Error> {
    if vectors.len() == texts.len() && vectors.iter().all(|vector| vector.len() == shape.dimensions) {
        return Ok(vectors);
    }
    let what = format!("not {} vectors of {} values", texts.len(), shape.dimensions);
    Err(embedding::Error::Malformed(what).into())
}

/// Says in the log how far a job is, ten times in all.
fn tell(key: &SpaceKey, space: &Space, job: &Job, came: u64) {
    let left = space.left_of(job);
    let before = Job { done: job.done.saturating_sub(came), ..job.clone() }.progress(left + came);
    let progress = job.progress(left);
    if (before * TOLD).floor() < (progress * TOLD).floor() {
        let (tenant, namespace) = (&*key.tenant, &*key.namespace);
        tracing::info!(namespace, tenant, done = job.done, left, "a namespace is being re-embedded");
    }
}
