//! The service without its wire: remember, recall, explain, get, forget, count.

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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use caching::Resize;
use clock::Clock;
use telemetry::{Counter, Gauge, KeyValue, Telemetry, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::writes::Hygiene;
pub(crate) use self::{
    forgets::{Going, Pruned},
    makers::Makers,
    recalls::{Explained, Planned},
    reembeds::Reembedding,
    writes::Remembered,
};
use crate::{
    answers::{Answers, AnswersStats},
    backend::{Backend, Census, Done},
    config::Config,
    error::Error,
    local::Local,
    memory::{Memory, Record},
    shape::{Shape, SpaceKey},
    upkeep::{Policy, accounts::Account},
};

/// Writes that may be on their way at a time; more wait for room.
const WRITES: u32 = 4096;

/// Keeps memories and finds them, by the backend `B`.
#[derive(Debug)]
pub(crate) struct Engine<B = Local> {
    pub(crate) store: B,
    /// What a space is made of unless it is said.
    pub(crate) shape: Shape,
    pub(crate) answers: Answers,
    /// Who embeds what is remembered and what is asked.
    pub(crate) makers: Makers,
    query_timeout: Duration,
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
        let (shape, other) = (makers.shape(), makers.next_shape());
        let store = Local::open(config, &shape, other, telemetry.clone(), &clock).await?;
        Self::over(store, makers, config, telemetry, clock)
    }

    /// Measures what the planner's kinds of work cost here, and keeps it.
    pub(crate) async fn calibrate(&self) {
        self.store.calibrate(self.shape.dimensions).await;
    }

    /// Looks whether a file that could not be read waits for somebody, and returns whether there is none.
    pub(crate) fn is_whole(&self) -> bool {
        let files = self.store.quarantined();
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2⁵² files")]
        self.quarantined.set(files as f64, &[]);
        files == 0
    }
}

impl<B: Backend> Engine<B> {
    /// Begins with what is in `store`, whose default spaces are of what `makers` make.
    ///
    /// # Errors
    /// [`Error::Setting`] where a setting cannot be read.
    pub(crate) fn over(
        store: B,
        makers: Makers,
        config: &Config,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Arc<Self>, Error> {
        let capacity = telemetry.gauge(names::CACHE_CAPACITY);
        show(&capacity, config.memory_query_cache_size);
        let resized = move |resize: &Resize| {
            let (previous, now, why) = (resize.from, resize.change.to, resize.change.why.as_str());
            show(&capacity, now);
            tracing::info!(previous, capacity = now, why, "resized the query cache");
        };
        let engine = Arc::new(Self {
            store,
            shape: makers.shape(),
            answers: Answers::new(config.answers(), clock.clone(), Some(Arc::new(resized))),
            makers,
            query_timeout: config.query_timeout,
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
            clock,
            telemetry,
        });
        engine.count_all();
        Ok(engine)
    }

    /// Returns the memory of `id` with its vector, and how often it was recalled and said. Counts as no recall.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Store`] if it cannot be read.
    pub(crate) async fn get(
        &self,
        key: &SpaceKey,
        id: String,
    ) -> Result<(Arc<Memory>, Vec<f32>, Account), Error> {
        let space = self.store.find(key).ok_or(Error::NotFound)?;
        let (found, now) = (self.store.get(&space, id).await?, self.clock.now());
        let (seq, (memory, vector)) = found.ok_or(Error::NotFound)?;
        let is_there = memory.expires.is_none_or(|at| now < at);
        is_there.then(|| (memory, vector, space.accounts().of(seq))).ok_or(Error::NotFound)
    }

    /// Returns the statistics of the space of `key`.
    pub(crate) fn stats(&self, key: &SpaceKey) -> Stats {
        let space = self.space(key);
        let Census { categories, bytes, costs } = self.store.census(&space);
        let (cache_hits, cache_misses) = space.counts();
        Stats {
            memories: space.memories(),
            categories,
            dimensions: space.shape().dimensions,
            embedder: space.shape().embedder.clone(),
            store_bytes: bytes,
            cache_hits,
            cache_misses,
            generation: space.generation(),
            plans: space.plans().map(|(plan, count)| (plan.as_str(), count)).collect(),
            answers: self.answers.stats(),
            costs,
        }
    }

    /// Returns the agent clock's now.
    pub(crate) fn now(&self) -> std::time::SystemTime {
        self.clock.now()
    }

    /// Returns how many values the vectors of the space of `key` have.
    pub(crate) fn dimensions(&self, key: &SpaceKey) -> usize {
        self.shape(key).dimensions
    }

    /// Returns whether memories are recalled.
    pub(crate) fn is_open(&self) -> bool {
        self.store.is_open()
    }

    /// Waits until the writes on their way are done, takes no more and lets go of the store.
    pub(crate) async fn close(&self) {
        // Never given back: whoever comes later waits for room until the semaphore closes and says so.
        let _all = self.writes.acquire_many(WRITES).await;
        self.writes.close();
        self.store.close().await;
    }

    /// Waits for room for one write; whoever leaves meanwhile takes the write along.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.writes).acquire_owned().await.map_err(|_| Error::NotReady)
    }

    /// Stores `records`, whose vectors are of `shape`, and returns how many memories they replaced.
    async fn write(&self, key: &SpaceKey, shape: &Shape, records: Vec<Record>) -> Result<u32, Error> {
        let done = self.store.put(key, shape, records).await?;
        self.take_over(&done);
        Ok(done.touched)
    }

    /// Takes over a write that is kept and found: out of the query cache goes what was known before it.
    fn take_over(&self, done: &Done) {
        if let (Some(generation), Some(space)) = (done.generation, &done.space) {
            self.answers.forget_before(space, generation);
            self.count_all();
        }
    }

    /// Returns the space of `key`; one without memories if nothing was ever written to it.
    fn space(&self, key: &SpaceKey) -> Arc<B::Space> {
        self.store.find(key).unwrap_or_else(|| self.store.bare(self.shape.clone()))
    }

    fn note_read(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Relaxed);
        let (hits, misses) = (self.hits.load(Relaxed), self.misses.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
        let rate = hits as f64 / (hits + misses).max(1) as f64;
        self.hit_rate.set(rate, &[KeyValue::new(names::CACHE, "memory_query")]);
    }

    /// Shows how many memories there are.
    pub(crate) fn count_all(&self) {
        #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
        self.count.set(self.store.memories() as f64, &[]);
    }
}

/// Shows how many answers the query cache holds at most.
#[expect(clippy::cast_precision_loss, reason = "at most a million")]
fn show(capacity: &Gauge, entries: u64) {
    capacity.set(entries as f64, &[KeyValue::new(names::CACHE, "memory_query")]);
}

#[cfg(test)]
mod tests;
