//! The backend of this process: the store on disk, and what is searched of it in memory.

mod checkpoints;
mod erase;
mod recalls;
mod reembeds;
mod settles;

use std::{
    num::NonZero,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use clock::Clock;
use journal::State;
use telemetry::{Counter, Gauge, Telemetry, names};
use tokio::sync::{Notify, Semaphore};

pub(crate) use self::reembeds::{Alone, Base};
use crate::{
    backend::{Backend, Census, Done, Due, Forget, Found, Joined, Merge, Purged, Question, Restored, View},
    config::Config,
    error::Error,
    hygiene::settle::{self, Given, Manner},
    index::Index,
    known::Total,
    memory::{Change, Record},
    plan::{Plan, Planner, Rejected, Strategy, Wish},
    query::Query,
    recall::{self, Ran, calibration},
    shape::{Shape, SpaceKey},
    space::Space,
    spaces::Spaces,
    stop::Stop,
    store::{Committed, Merged, Snapshot, Store, tidy_snapshots},
    upkeep::forgettings::Forgetting,
    vector::pool::Pool,
    written::Written,
};

/// Pause after a commit in the background that failed.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// The store and the index of this process.
#[derive(Clone, Debug)]
pub(crate) struct Local(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    spaces: Spaces,
    /// Where snapshots go.
    snapshots: Option<PathBuf>,
    planner: Planner,
    /// Where what the planner learned is kept.
    learned: PathBuf,
    /// Threads a large scan is split over.
    threads: usize,
    /// Most candidates that a task of a scan takes.
    batch: usize,
    /// As many recalls as there are cores: more would only share them.
    scans: Arc<Semaphore>,
    /// Who compares vectors: threads of its own, so that no async worker ever does.
    pool: Pool,
    /// Most full vectors that are read to prove the order of an answer.
    reads: usize,
    half_life: Duration,
    /// Memories that cannot be read.
    corrupt: Counter,
    /// How often what is in memory is written down, and from how many memories of a space on.
    checkpoints: Duration,
    checkpoints_from: u64,
    /// Memories that re-embeddings have still to come to.
    to_embed: Gauge,
    /// A re-embedding began, or was cancelled.
    begun: Notify,
    /// A space has changed so much that its checkpoint should not wait.
    far: Notify,
    /// Most accounts of memories that one commit saves.
    saved: usize,
    /// Checkpoints are written one at a time.
    picturing: tokio::sync::Mutex<()>,
    /// The file is rewritten by one at a time, at least so long after the last time, keeping so many bytes of what is written meanwhile.
    erasing: tokio::sync::Mutex<()>,
    erase_every: Duration,
    erase_bytes: usize,
    telemetry: Telemetry,
}

impl Local {
    /// Opens the store, whose default namespaces are of `shape`, or of the `other`, and loads every memory of it.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Store`], [`Error::Later`], [`Error::Threads`], or [`Error::Maker`] where the stored vectors do not fit
    /// the settings.
    pub(crate) async fn open(
        config: &Config,
        shape: &Shape,
        other: Option<Shape>,
        telemetry: Telemetry,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let (store, loaded) = Store::open::<Index>(&config.store(shape, other), clock, &telemetry).await?;
        let spaces = Spaces::default();
        for space in loaded.spaces {
            let made = spaces.load(space.key, (space.number, space.vectors), space.shape, space.memories);
            *made.accounts() = space.accounts;
            space.mark.into_iter().for_each(|mark| made.note_checkpoint(mark));
        }
        let corrupt = telemetry.counter(names::MEMORY_CORRUPT);
        corrupt.add(loaded.corrupt, &[]);
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if config.memory_parallel_queries { cores } else { 1 };
        let (learned, snapshots) =
            (config.memory_dir.join(calibration::FILE), config.memory_snapshot_dir.clone());
        let file = learned.clone();
        let costs = telemetry.spawn_blocking(move || {
            snapshots.iter().for_each(|folder| tidy_snapshots(folder));
            calibration::load(&file)
        });
        let costs = costs.await.map_err(Error::Task)?;
        let local = Self(Arc::new(Inner {
            store,
            spaces,
            snapshots: config.memory_snapshot_dir.clone(),
            planner: Planner::new(costs),
            learned,
            threads,
            batch: config.memory_query_batch_size,
            scans: Arc::new(Semaphore::new(cores)),
            // Each of the recalls that run has one job at most.
            pool: Pool::new(threads, cores).map_err(Error::Threads)?,
            reads: config.memory_max_reads,
            half_life: config.memory_half_life,
            corrupt,
            checkpoints: config.memory_checkpoint_interval,
            checkpoints_from: config.memory_checkpoint_min,
            to_embed: telemetry.gauge(names::MEMORY_TO_EMBED),
            begun: Notify::new(),
            far: Notify::new(),
            saved: config.memory_upkeep_batch,
            picturing: tokio::sync::Mutex::default(),
            erasing: tokio::sync::Mutex::default(),
            erase_every: config.memory_erase_interval,
            erase_bytes: usize::try_from(config.memory_erase_bytes.bytes()).unwrap_or(usize::MAX),
            telemetry,
        }));
        let (memories, store_bytes) = (local.memories(), local.0.store.bytes());
        let (corrupt, quarantined) = (loaded.corrupt, loaded.quarantined.len());
        tracing::info!(memories, corrupt, quarantined, store_bytes, "memories are loaded");
        local.sweep();
        local.sweep_sets().await?;
        Ok(local)
    }

    /// Measures what the planner's kinds of work cost here, on vectors of `dimensions` values, and keeps it. Takes a few milliseconds off
    /// the async workers.
    pub(crate) async fn calibrate(&self, dimensions: usize) {
        let measure = move |local: &Inner| {
            calibration::measure(&local.planner, &local.pool, dimensions, local.threads);
            Ok(())
        };
        if let Err(error) = self.off(measure).await {
            tracing::warn!(%error, "the costs of plans could not be measured");
            return;
        }
        self.keep_costs().await;
    }

    /// Returns how many files were set aside because they could not be read, and are still there.
    pub(crate) fn quarantined(&self) -> usize {
        self.0.store.quarantined().len()
    }

    /// Returns how many more recalls may run now.
    #[cfg(test)]
    pub(crate) fn free_turns(&self) -> usize {
        self.0.scans.available_permits()
    }

    /// Writes a snapshot of the whole store under `name`. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::SnapshotDir`], [`Error::SnapshotExists`], [`Error::Snapshot`], [`Error::Store`].
    pub(crate) async fn snapshot(&self, name: &str) -> Result<Snapshot, Error> {
        let to = self.0.snapshots.as_ref().ok_or(Error::SnapshotDir)?.join(name);
        self.off(move |local| local.store.snapshot(&to)).await
    }

    /// Removes the rows of dropped spaces in the background, a few in each commit, so that writers go on meanwhile.
    fn sweep(&self) {
        let local = self.clone();
        self.0.telemetry.spawn(async move { while goes_on(local.0.store.sweep().await).await {} });
    }

    /// Takes over what is on disk into memory.
    async fn take_over(&self, key: &SpaceKey, committed: Committed, change: Arc<Change>) -> Done {
        let Committed { space, shape, generation, first, touched, removed } = committed;
        let space = match (generation, shape) {
            (Some(_), Some(shape)) => self.0.spaces.of(key, space, &shape),
            _ => self.find(key),
        };
        if let (Some(generation), Some(space)) = (generation, &space) {
            space.apply(generation, Written { change, first, removed }).await;
            self.note_written(space, first);
            self.compact_in_time(space);
        }
        Done { space: space.map(|space| Arc::clone(space.known())), generation, touched }
    }

    /// Removes the dead rows of `space` in the background once they are many.
    fn compact_in_time(&self, space: &Arc<Space>) {
        if space.wants_compaction() {
            let space = Arc::clone(space);
            // Nobody waits for it.
            drop(self.0.telemetry.spawn_blocking(move || space.compact(Index::is_sparse)));
        }
    }

    /// Writes down what the planner learned; where that fails, the next start measures again.
    async fn keep_costs(&self) {
        let keep = |local: &Inner| Ok(calibration::keep(&local.learned, local.planner.costs()));
        if let Ok(Err(error)) = self.off(keep).await {
            tracing::warn!(%error, "the costs of plans could not be kept");
        }
    }

    /// Runs what blocks off the async workers.
    async fn off<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        self.0.telemetry.spawn_blocking(move || work(&inner)).await.map_err(Error::Task)?
    }
}

/// Returns whether there is more to remove, where a commit removed some rows; at once unless it failed.
async fn goes_on(removed: Result<bool, Error>) -> bool {
    match removed {
        Ok(more) => more,
        Err(Error::NotReady) => false,
        Err(error) => {
            tracing::warn!(%error, "rows that nobody reads any more cannot be removed yet");
            // Real time: it is the disk that is waited for.
            tokio::time::sleep(AGAIN).await;
            true
        }
    }
}

impl Backend for Local {
    type Space = Space;

    fn find(&self, key: &SpaceKey) -> Option<Arc<Space>> {
        self.0.spaces.get(key)
    }

    fn bare(&self, shape: Shape) -> Arc<Space> {
        let index = Index::new(shape.metric, shape.dimensions, 0);
        Arc::new(Space::new(0, shape, index, Total::default()))
    }

    fn all(&self) -> Vec<(SpaceKey, Arc<Space>)> {
        self.0.spaces.all()
    }

    fn memories(&self) -> u64 {
        self.0.spaces.memories()
    }

    fn is_open(&self) -> bool {
        // What takes no writes is read all the same.
        !matches!(self.0.store.state(), State::Closed)
    }

    async fn create(&self, key: &SpaceKey, shape: &Shape) -> Result<bool, Error> {
        let (number, made) = self.0.store.create(key, shape).await?;
        self.0.spaces.of(key, number, shape);
        Ok(made)
    }

    async fn drop_space(&self, key: &SpaceKey) -> Result<Option<(u32, u64)>, Error> {
        let Some(number) = self.0.store.drop_space(key).await? else { return Ok(None) };
        let space = self.find(key).filter(|space| space.number() == number);
        let memories = space.map_or(0, |space| space.memories());
        self.0.spaces.dropped(key, number);
        self.sweep();
        Ok(Some((number, memories)))
    }

    async fn put(&self, key: &SpaceKey, shape: &Shape, records: Vec<Record>) -> Result<Done, Error> {
        let _gate = self.gate(key).await;
        let change = Arc::new(Change::Put(records));
        let committed = self.0.store.commit(key, shape, &change).await?;
        Ok(self.take_over(key, committed, change).await)
    }

    async fn merge(&self, key: &SpaceKey, shape: &Shape, merge: Merge) -> Result<Option<Joined>, Error> {
        let _gate = self.gate(key).await;
        let change = Arc::clone(&merge.change);
        match self.0.store.merge(key, shape, merge).await? {
            Merged::Moved(generation) => {
                if let Some(space) = self.find(key) {
                    space.wait_for(generation).await;
                }
                Ok(None)
            }
            Merged::Done(committed, number) => {
                let first = committed.first;
                let done = self.take_over(key, committed, change).await;
                Ok(Some(Joined { done, first, number }))
            }
        }
    }

    async fn alike(
        &self,
        space: &Arc<Space>,
        given: &Arc<Vec<Given>>,
        heard: Vec<Option<u64>>,
        manner: Manner,
        now: SystemTime,
    ) -> Result<Vec<settle::Known>, Error> {
        let candidates = settles::candidates(space, given, &heard, manner, now);
        if candidates.iter().all(settles::Candidates::is_none) {
            return Ok(Vec::new());
        }
        let (space, given) = (Arc::clone(space), Arc::clone(given));
        let read = move |local: &Inner| {
            let all = given.iter().zip(candidates);
            all.map(|(given, candidates)| local.known(&space, given, candidates)).collect()
        };
        self.off(read).await
    }

    async fn forget(&self, key: &SpaceKey, forget: Forget) -> Result<(Done, Option<u64>), Error> {
        let _gate = self.gate(key).await;
        let done = self.0.store.forget(key, forget).await?;
        let number = done.number;
        Ok((self.take_over(key, done.committed, Arc::new(Change::Forget(done.ids))).await, number))
    }

    async fn undo(&self, key: &SpaceKey, number: u64, now: SystemTime) -> Result<Restored, Error> {
        let _gate = self.gate(key).await;
        let done = self.0.store.undo(key, number, now).await?;
        let (back, stayed) = (done.records.len() as u64, done.stayed);
        let done = self.take_over(key, done.committed, Arc::new(Change::Put(done.records))).await;
        Ok(Restored { done, back, stayed })
    }

    async fn purge(&self, space: u32, numbers: Vec<u64>, most: usize) -> Result<Purged, Error> {
        self.0.store.purge(space, numbers, most).await
    }

    async fn unlist(&self, space: u32, numbers: Vec<u64>) -> Result<(), Error> {
        self.0.store.unlist(space, numbers).await
    }

    async fn forgettings(
        &self,
        space: u32,
        numbers: Range<u64>,
        most: usize,
    ) -> Result<Vec<Forgetting>, Error> {
        self.off(move |local| local.store.forgettings(space, numbers, most)).await
    }

    async fn due(&self, space: &Arc<Space>, now: Option<SystemTime>, listed: usize) -> Result<Due, Error> {
        let space = Arc::clone(space);
        let read = move |local: &Inner| {
            let (purge, unlist) = local.store.due(space.number(), now, listed)?;
            let expired = now.map(|now| space.index().expired(now)).unwrap_or_default();
            Ok(Due { purge, unlist, expired })
        };
        self.off(read).await
    }

    async fn get(&self, space: &Arc<Space>, id: String) -> Result<Option<(u64, Found)>, Error> {
        let site = space.site();
        self.off(move |local| local.store.get(site, &id)).await
    }

    async fn recall(&self, space: &Arc<Space>, question: Question, stop: &Arc<Stop>) -> Result<Ran, Error> {
        let turn = Arc::clone(&self.0.scans).acquire_owned().await.map_err(|_| Error::NotReady)?;
        let (space, stop) = (Arc::clone(space), Arc::clone(stop));
        let run = move |local: &Inner| {
            // A caller that leaves does not end its scan at once: the turn is over when the scan is.
            let _turn = turn;
            local.until_read(&space, &question, &stop)
        };
        self.off(run).await
    }

    async fn plan(
        &self,
        space: &Arc<Space>,
        query: Query,
        now: SystemTime,
        plan: Option<Strategy>,
    ) -> Result<(Plan, Vec<Rejected>), Error> {
        let space = Arc::clone(space);
        // Off the async workers: it waits for a writer, and looks at some rows.
        let choose = move |local: &Inner| {
            let wish = Wish { threads: local.threads, strategy: plan };
            Ok(recall::plan(&space, &query, now, &local.planner, wish)?)
        };
        self.off(choose).await
    }

    async fn look<T: Send + 'static>(
        &self,
        key: &SpaceKey,
        look: impl FnOnce(&dyn View) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let key = key.clone();
        self.off(move |local| local.store.view(&key, look)).await
    }

    fn census(&self, space: &Space) -> Census {
        Census {
            categories: space.index().categories(),
            bytes: self.0.store.bytes(),
            costs: self.0.planner.costs().named().collect(),
        }
    }

    async fn erase(&self, now: SystemTime, at_once: bool) -> Result<bool, Error> {
        let every = if at_once { Duration::ZERO } else { self.0.erase_every };
        self.erase_after(now, every).await
    }

    async fn close(&self) {
        self.checkpoint().await;
        self.save_accounts().await;
        self.keep_costs().await;
        self.0.store.close().await;
    }
}
