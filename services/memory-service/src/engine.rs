//! The service without its wire: remember, recall, explain, get, forget, count.

mod checkpoints;
mod completes;
mod forgets;
mod makers;
mod recalls;
mod reembeds;
mod surveys;
mod upkeep;
mod writes;

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use caching::Resize;
use clock::Clock;
use journal::State;
use telemetry::{Counter, Gauge, KeyValue, Telemetry, names};
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedSemaphorePermit, Semaphore};

pub(crate) use self::{
    forgets::{Going, Pruned},
    recalls::{Explained, Planned},
    reembeds::Reembedding,
    writes::Remembered,
};
use self::{makers::Makers, writes::Hygiene};
use crate::{
    answers::{Answers, AnswersStats},
    config::Config,
    error::Error,
    index::Index,
    memory::{Change, Memory},
    plan::Planner,
    recall::calibration,
    space::{Gate, Shape, Space, SpaceKey, Written},
    spaces::Spaces,
    store::{Committed, Store},
    upkeep::{Policy, accounts::Account},
    vector::pool::Pool,
};

/// Writes that may be on their way at a time; more wait for room.
const WRITES: u32 = 4096;

/// Keeps memories and finds them.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) spaces: Spaces,
    /// What a space is made of unless it is said.
    pub(crate) shape: Shape,
    /// Where snapshots go.
    pub(crate) snapshots: Option<PathBuf>,
    pub(crate) answers: Answers,
    planner: Arc<Planner>,
    /// Where what the planner learned is kept.
    learned: PathBuf,
    /// Who embeds what is remembered and what is asked.
    pub(crate) makers: Makers,
    /// A re-embedding began.
    begun: Notify,
    query_timeout: Duration,
    /// Threads a large scan is split over.
    threads: usize,
    /// Most candidates that a task of a scan takes.
    batch: usize,
    /// As many recalls as there are cores: more would only share them.
    scans: Arc<Semaphore>,
    /// Who compares vectors: threads of its own, so that no async worker ever does.
    pool: Arc<Pool>,
    /// Most full vectors that are read to prove the order of an answer.
    reads: usize,
    half_life: Duration,
    writes: Arc<Semaphore>,
    hygiene: Hygiene,
    policy: Policy,
    /// One look at all memories of a space at a time: it takes a core, and some bytes of each memory.
    looks: Arc<Semaphore>,
    forgotten: Counter,
    hits: AtomicU64,
    misses: AtomicU64,
    hit_rate: Gauge,
    count: Gauge,
    quarantined: Gauge,
    /// Memories that cannot be read.
    corrupt: Counter,
    /// How often what is in memory is written down, and from how many memories of a space on.
    checkpoints: Duration,
    /// A space has changed so much that its checkpoint should not wait.
    far: Notify,
    checkpoints_from: u64,
    clock: Clock,
    pub(crate) telemetry: Telemetry,
}

/// Statistics of one space.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    pub(crate) memories: u64,
    pub(crate) categories: BTreeMap<String, u64>,
    pub(crate) dimensions: usize,
    pub(crate) embedder: String,
    pub(crate) store_bytes: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) generation: u64,
    /// Recalls by the plan they took.
    pub(crate) plans: BTreeMap<&'static str, u64>,
    /// The query cache, over all tenants.
    pub(crate) answers: AnswersStats,
    /// Nanoseconds that a unit of each kind of work takes.
    pub(crate) costs: BTreeMap<&'static str, f64>,
}

impl Engine {
    /// Opens the store and loads every memory of it.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Embedder`] where the embedder cannot be made, [`Error::Open`], [`Error::Store`], or
    /// [`Error::Maker`] where the stored vectors do not fit the settings.
    pub(crate) async fn open(
        config: &Config,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let makers = Makers::of_settings(config, &clock).await?;
        Self::open_with(config, makers, telemetry, clock).await
    }

    /// As [`Engine::open`], with these embedders.
    async fn open_with(
        config: &Config,
        makers: Makers,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let shape = makers.shape();
        let options = config.store(&shape, makers.next_shape());
        let (store, loaded) = Store::open(&options, &clock, &telemetry).await?;
        let damaged = telemetry.counter(names::MEMORY_CORRUPT);
        damaged.add(loaded.corrupt, &[]);
        let (corrupt, quarantined) = (loaded.corrupt, loaded.quarantined.len());
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if config.memory_parallel_queries { cores } else { 1 };
        let capacity = telemetry.gauge(names::CACHE_CAPACITY);
        show(&capacity, config.memory_query_cache_size);
        let resized = move |resize: &Resize| {
            let (previous, now, why) = (resize.from, resize.change.to, resize.change.why.as_str());
            show(&capacity, now);
            tracing::info!(previous, capacity = now, why, "resized the query cache");
        };
        let learned = config.memory_dir.join(calibration::FILE);
        let file = learned.clone();
        let costs = telemetry.spawn_blocking(move || calibration::load(&file)).await.map_err(Error::Task)?;
        let engine = Arc::new(Self {
            store,
            spaces: Spaces::new(loaded.spaces),
            shape,
            snapshots: config.memory_snapshot_dir.clone(),
            answers: Answers::new(config.answers(), clock.clone(), Some(Arc::new(resized))),
            planner: Arc::new(Planner::new(costs)),
            learned,
            makers,
            begun: Notify::new(),
            query_timeout: config.query_timeout,
            threads,
            batch: config.memory_query_batch_size,
            scans: Arc::new(Semaphore::new(cores)),
            // Each of the recalls that run has one job at most.
            pool: Arc::new(Pool::new(threads, cores).map_err(Error::Threads)?),
            reads: config.memory_max_reads,
            half_life: config.memory_half_life,
            writes: Arc::new(Semaphore::new(WRITES as usize)),
            hygiene: Hygiene::new(config),
            policy: config.policy()?,
            looks: Arc::new(Semaphore::new(1)),
            forgotten: telemetry.counter(names::MEMORY_FORGOTTEN),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            hit_rate: telemetry.gauge(names::CACHE_HIT_RATE),
            count: telemetry.gauge(names::MEMORY_COUNT),
            quarantined: telemetry.gauge(names::MEMORY_QUARANTINED),
            corrupt: damaged,
            checkpoints: config.memory_checkpoint_interval,
            far: Notify::new(),
            checkpoints_from: config.memory_checkpoint_min,
            clock,
            telemetry,
        });
        let memories = engine.count_all();
        tracing::info!(
            memories,
            corrupt,
            quarantined,
            store_bytes = engine.store.bytes(),
            "memories are loaded"
        );
        engine.sweep();
        engine.sweep_sets().await?;
        Ok(engine)
    }

    /// Returns the memory of `id` with its vector, and how often it was recalled and said. Counts as no recall.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Store`] if it cannot be read.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &SpaceKey,
        id: String,
    ) -> Result<(Arc<Memory>, Vec<f32>, Account), Error> {
        let (engine, space) = (Arc::clone(self), self.spaces.get(key).ok_or(Error::NotFound)?);
        let read = move || {
            let found = engine.store.get(space.site(), &id)?;
            let seq = engine.store.seq(space.number(), &id)?;
            let account = seq.map(|seq| space.accounts().of(seq)).unwrap_or_default();
            Ok::<_, Error>(found.map(|(memory, vector)| (memory, vector, account)))
        };
        let found = self.telemetry.spawn_blocking(read).await.map_err(Error::Task)??;
        let now = self.clock.now();
        found.filter(|(memory, ..)| memory.expires.is_none_or(|at| now < at)).ok_or(Error::NotFound)
    }

    /// Returns the statistics of the space of `key`.
    pub(crate) fn stats(&self, key: &SpaceKey) -> Stats {
        let space = self.space(key);
        let (cache_hits, cache_misses) = space.counts();
        let index = space.index();
        Stats {
            memories: index.len(),
            categories: index.categories(),
            dimensions: space.shape().dimensions,
            embedder: space.shape().embedder.clone(),
            store_bytes: self.store.bytes(),
            cache_hits,
            cache_misses,
            generation: index.generation(),
            plans: space.plans().map(|(plan, count)| (plan.as_str(), count)).collect(),
            answers: self.answers.stats(),
            costs: self.planner.costs().named().collect(),
        }
    }

    /// Measures what the planner's kinds of work cost here, and keeps it. Takes a few milliseconds off the async workers.
    pub(crate) async fn calibrate(&self) {
        let (planner, pool, threads) = (Arc::clone(&self.planner), Arc::clone(&self.pool), self.threads);
        let dimensions = self.shape.dimensions;
        let measure = move || calibration::measure(&planner, &pool, dimensions, threads);
        if let Err(error) = self.telemetry.spawn_blocking(measure).await {
            tracing::warn!(%error, "the costs of plans could not be measured");
            return;
        }
        self.keep_costs().await;
    }

    /// Returns the agent clock's now.
    pub(crate) fn now(&self) -> std::time::SystemTime {
        self.clock.now()
    }

    /// Returns how many values the vectors of the space of `key` have.
    pub(crate) fn dimensions(&self, key: &SpaceKey) -> usize {
        self.spaces.get(key).map_or(self.shape.dimensions, |space| space.shape().dimensions)
    }

    /// Looks whether a file that could not be read waits for somebody, and returns whether there is none.
    pub(crate) fn is_whole(&self) -> bool {
        let files = self.store.quarantined().len();
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2⁵² files")]
        self.quarantined.set(files as f64, &[]);
        files == 0
    }

    /// Returns whether the store takes writes; memories are recalled as long as it is not closed.
    pub(crate) fn state(&self) -> State {
        self.store.state()
    }

    /// Waits until the writes on their way are done, takes no more and lets go of the store.
    pub(crate) async fn close(&self) {
        // Never given back: whoever comes later waits for room until the semaphore closes and says so.
        let _all = self.writes.acquire_many(WRITES).await;
        self.writes.close();
        self.checkpoint().await;
        self.save_accounts().await;
        self.keep_costs().await;
        self.store.close().await;
    }

    /// Waits for room for one write; whoever leaves meanwhile takes the write along.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.writes).acquire_owned().await.map_err(|_| Error::NotReady)
    }

    /// The one way in which a space's memories change: on disk, then in memory, then out of the query cache.
    async fn write(&self, key: &SpaceKey, shape: &Shape, change: &Arc<Change>) -> Result<u32, Error> {
        let _gate = self.gate(key).await;
        let committed = self.store.commit(key, shape, change).await?;
        let touched = committed.touched;
        self.take_over(key, committed, Arc::clone(change)).await;
        Ok(touched)
    }

    /// Goes through the gate of the space of `key`, if it is there: until this is dropped, it does not change to other vectors.
    async fn gate(&self, key: &SpaceKey) -> Option<OwnedRwLockReadGuard<()>> {
        let gate: Arc<Gate> = self.spaces.get(key)?.gate();
        Some(gate.read_owned().await)
    }

    /// Takes over what is on disk: into memory, then out of the query cache.
    async fn take_over(&self, key: &SpaceKey, committed: Committed, change: Arc<Change>) {
        if let (Some(generation), Some(space)) = (committed.generation, self.spaces.of(key, &committed)) {
            let (first, removed) = (committed.first, committed.removed);
            space.apply(generation, Written { change, first, removed }).await;
            self.answers.forget_before(&space, generation);
            self.note_written(&space, first);
            self.count_all();
        }
    }

    /// Writes down what the planner learned; where that fails, the next start measures again.
    async fn keep_costs(&self) {
        let (file, costs) = (self.learned.clone(), self.planner.costs());
        let kept = self.telemetry.spawn_blocking(move || calibration::keep(&file, costs)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "the costs of plans could not be kept");
        }
    }

    /// Returns the space of `key`; one without memories if nothing was ever written to it.
    fn space(&self, key: &SpaceKey) -> Arc<Space> {
        let bare = || {
            Arc::new(Space::new(
                0,
                self.shape.clone(),
                Index::new(self.shape.metric, self.shape.dimensions, 0),
            ))
        };
        self.spaces.get(key).unwrap_or_else(bare)
    }

    fn note_read(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
        let (hits, misses) = (self.hits.load(Relaxed), self.misses.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
        let rate = hits as f64 / (hits + misses).max(1) as f64;
        self.hit_rate.set(rate, &[KeyValue::new(names::CACHE, "memory_query")]);
    }

    /// Measures how many memories there are and returns it.
    pub(crate) fn count_all(&self) -> u64 {
        let count = self.spaces.memories();
        #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
        self.count.set(count as f64, &[]);
        count
    }
}

/// Shows how many answers the query cache holds at most.
#[expect(clippy::cast_precision_loss, reason = "at most a million")]
fn show(capacity: &Gauge, entries: u64) {
    capacity.set(entries as f64, &[KeyValue::new(names::CACHE, "memory_query")]);
}

#[cfg(test)]
mod tests;
