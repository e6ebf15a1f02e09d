//! The service without its wire: remember, recall, explain, get, forget, count.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use caching::Cache;
use clock::Clock;
use embedding::{Cached, Embedder, Hashing};
use journal::State;
use telemetry::{Gauge, KeyValue, Telemetry, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Config,
    error::Error,
    explain::Stage,
    index::Index,
    memory::{Change, Draft, Memory, Record},
    query::{Likeness, Query},
    recall::{self, Answer},
    scan::{Stop, Stopped},
    space::{Metric, Shape, Space, SpaceKey, Written},
    spaces::Spaces,
    store::Store,
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
    answers: Cache<Key, Arc<Answer>>,
    /// Embeds what is remembered.
    embedder: Arc<dyn Embedder>,
    /// Embeds what is asked, and keeps it: questions come again.
    questions: Arc<Cached>,
    query_timeout: Duration,
    /// Threads a large scan is split over.
    threads: usize,
    /// As many scans as there are cores: more would only share them.
    scans: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    hits: AtomicU64,
    misses: AtomicU64,
    hit_rate: Gauge,
    count: Gauge,
    quarantined: Gauge,
    clock: Clock,
    pub(crate) telemetry: Telemetry,
}

/// Under what an answer is cached. A write makes another generation, so no recall finds an answer from before it; nor one of a
/// space that was dropped, whose number is never given again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    space: u32,
    generation: u64,
    query: Query,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The ids, in the order of the drafts.
    pub(crate) ids: Vec<String>,
    /// Memories that replaced an earlier one.
    pub(crate) replaced: u32,
}

/// What a recall would do.
#[derive(Clone, Debug)]
pub(crate) struct Explained {
    /// Its stages in the order in which they ran.
    pub(crate) stages: Vec<Stage>,
    /// What it would return.
    pub(crate) answer: Answer,
    /// Whether the query cache holds its answer.
    pub(crate) would_hit_cache: bool,
    /// Wall time of the whole.
    pub(crate) total: Duration,
}

/// Statistics of one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) memories: u64,
    pub(crate) categories: BTreeMap<String, u64>,
    pub(crate) dimensions: usize,
    pub(crate) embedder: String,
    pub(crate) store_bytes: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
    pub(crate) generation: u64,
}

/// Stops a scan whose caller has left.
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
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
        let embedder = config.make_embedder().await?;
        let shape = Shape {
            embedder: embedder.name().to_owned(),
            dimensions: embedder.dimensions(),
            metric: Metric::Cosine,
        };
        let (store, loaded) = Store::open(&config.store(&shape), &clock, &telemetry).await?;
        telemetry.counter(names::MEMORY_CORRUPT).add(loaded.corrupt, &[]);
        let (corrupt, quarantined) = (loaded.corrupt, loaded.quarantined.len());
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let questions =
            Cache::new(config.memory_embedding_cache_size, config.memory_cache_ttl, clock.clone());
        let engine = Arc::new(Self {
            store,
            spaces: Spaces::new(loaded.spaces),
            shape,
            snapshots: config.memory_snapshot_dir.clone(),
            answers: Cache::new(config.memory_cache_size, config.memory_cache_ttl, clock.clone()),
            questions: Arc::new(Cached::new(Arc::clone(&embedder), questions)),
            embedder,
            query_timeout: config.query_timeout,
            threads,
            scans: Arc::new(Semaphore::new(threads)),
            writes: Arc::new(Semaphore::new(WRITES as usize)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            hit_rate: telemetry.gauge(names::CACHE_HIT_RATE),
            count: telemetry.gauge(names::MEMORY_COUNT),
            quarantined: telemetry.gauge(names::MEMORY_QUARANTINED),
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
        Ok(engine)
    }

    /// Stores `drafts` in one commit and returns once they are on disk and found by every recall. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Embedder`], [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was stored then.
    pub(crate) async fn remember(
        self: &Arc<Self>,
        key: SpaceKey,
        drafts: Vec<Draft>,
    ) -> Result<Remembered, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let records = engine.complete(&key, drafts).await?;
            let ids = records.iter().map(|record| record.memory.id.to_string()).collect();
            let replaced = engine.write(key, Change::Put(records), room).await?;
            Ok(Remembered { ids, replaced })
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Deletes the memories of `ids` (each once) and returns how many there were, once they are gone from disk, from
    /// memory and from the query cache. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was deleted then.
    pub(crate) async fn forget(self: &Arc<Self>, key: SpaceKey, ids: Vec<String>) -> Result<u32, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move { engine.write(key, Change::Forget(ids), room).await };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Answers `query`; also says whether the answer came from the query cache.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it took longer than `budget` or `query_timeout`, [`Error::Embedder`].
    pub(crate) async fn recall(
        self: &Arc<Self>,
        key: &SpaceKey,
        query: Query,
        budget: Option<Duration>,
    ) -> Result<(Arc<Answer>, bool), Error> {
        let memories = self.space(key);
        let mut key = Key { space: memories.number(), generation: memories.generation(), query };
        let now = self.clock.now();
        let hit = self.answers.get(&key).filter(|hit| answers_at(&hit.value, now));
        memories.count(hit.is_some());
        self.note_read(hit.is_some());
        if let Some(hit) = hit {
            return Ok((hit.value, true));
        }
        let (answer, _) = self.run(&memories, key.query.clone(), budget, true).await?;
        let answer = Arc::new(answer);
        if key.query.include_embedding {
            // Vectors are most of the bytes of an answer, and the cache counts answers, not bytes.
            return Ok((answer, false));
        }
        key.generation = answer.generation;
        self.answers.insert(key.clone(), Arc::clone(&answer));
        memories.note_answer();
        if memories.generation() != key.generation {
            // A write passed us by after its own purge: an answer that may hold a forgotten memory is not kept.
            self.answers.remove(&key);
        }
        Ok((answer, false))
    }

    /// Runs `query` past every cache and counts nothing.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it took longer than `budget` or `query_timeout`, [`Error::Embedder`].
    pub(crate) async fn explain(
        self: &Arc<Self>,
        key: &SpaceKey,
        query: Query,
        budget: Option<Duration>,
    ) -> Result<Explained, Error> {
        let start = Instant::now();
        let memories = self.space(key);
        let key = Key { space: memories.number(), generation: memories.generation(), query };
        let now = self.clock.now();
        let would_hit_cache = self.answers.peek(&key).is_some_and(|hit| answers_at(&hit.value, now));
        let (answer, stages) = self.run(&memories, key.query, budget, false).await?;
        Ok(Explained { stages, answer, would_hit_cache, total: start.elapsed() })
    }

    /// Returns the memory of `id` with its vector.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Store`] if it cannot be read.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &SpaceKey,
        id: String,
    ) -> Result<(Arc<Memory>, Vec<f32>), Error> {
        let (engine, space) = (Arc::clone(self), self.spaces.get(key).ok_or(Error::NotFound)?);
        let read = move || engine.store.get(space.number(), space.shape().dimensions, &id);
        let found = self.telemetry.spawn_blocking(read).await.map_err(Error::Task)??;
        let now = self.clock.now();
        found.filter(|(memory, _)| memory.expires.is_none_or(|at| now < at)).ok_or(Error::NotFound)
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
        }
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
        self.store.close().await;
    }

    /// Waits for room for one write; whoever leaves meanwhile takes the write along.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.writes).acquire_owned().await.map_err(|_| Error::NotReady)
    }

    /// The one way in which a space's memories change: on disk, then in memory, then out of the query cache.
    async fn write(&self, key: SpaceKey, change: Change, _room: OwnedSemaphorePermit) -> Result<u32, Error> {
        let change = Arc::new(change);
        let committed = self.store.commit(&key, &self.shape, &change).await?;
        if let (Some(generation), Some(space)) = (committed.generation, self.spaces.of(&key, &committed)) {
            let (first, removed) = (committed.first, committed.removed);
            space.apply(generation, Written { change, first, removed }).await;
            if space.take_answered() {
                // Nobody can find the older answers any more: they would only fill the cache, and what they hold of the dead has
                // to go as well.
                self.purge(&space, generation);
            }
            self.count_all();
        }
        Ok(committed.touched)
    }

    /// Takes the answers of before `generation` out of the query cache.
    pub(crate) fn purge(&self, space: &Space, generation: u64) {
        let number = space.number();
        self.answers.invalidate_if(|key, _| key.space == number && key.generation < generation);
    }

    async fn run(
        &self,
        space: &Arc<Space>,
        query: Query,
        budget: Option<Duration>,
        is_question: bool,
    ) -> Result<(Answer, Vec<Stage>), Error> {
        let timeout = budget.map_or(self.query_timeout, |budget| budget.min(self.query_timeout));
        let deadline = Instant::now() + timeout;
        let stop = Arc::new(Stop::at(deadline));
        let guard = StopOnDrop(Arc::clone(&stop));
        let (space, now) = (Arc::clone(space), self.clock.now());
        let embedder = match &query.likeness {
            Likeness::Text(_) => self.embedder_of(space.shape(), is_question)?,
            Likeness::Vector(vector) if vector.len() != space.shape().dimensions => {
                return Err(Error::Dimensions(space.shape().dimensions));
            }
            Likeness::Vector(_) | Likeness::Newest => Arc::clone(&self.embedder),
        };
        let scan = async {
            // Before its turn: an embedder that is waited for must not keep others from scanning.
            let wanted = recall::wanted(&query.likeness, &*embedder).await?;
            let turn = Arc::clone(&self.scans).acquire_owned().await.map_err(|_| Error::NotReady)?;
            let threads = self.threads;
            let run = move || {
                // A caller that leaves does not end its scan at once: the turn is over when the scan is.
                let _turn = turn;
                recall::run(&space, &query, wanted, now, threads, &stop)
            };
            let done = self.telemetry.spawn_blocking(run).await.map_err(Error::Task)?;
            done.map_err(|Stopped| Error::TimedOut)
        };
        let done = tokio::time::timeout_at(deadline.into(), scan).await.map_err(|_| Error::TimedOut)?;
        drop(guard);
        done
    }

    /// Completes `drafts`; what comes without a vector is embedded in one batch.
    async fn complete(&self, key: &SpaceKey, drafts: Vec<Draft>) -> Result<Vec<Record>, Error> {
        let bare = drafts.iter().filter(|draft| draft.embedding.is_none());
        let texts: Vec<&str> = bare.map(|draft| draft.content.as_str()).collect();
        let mut vectors = if texts.is_empty() {
            Vec::new().into_iter()
        } else {
            self.embedder_of(self.space(key).shape(), false)?.embed(&texts).await?.into_iter()
        };
        let now = self.clock.now();
        let complete = |draft: Draft| {
            let vector = || vectors.next().unwrap_or_default();
            draft.complete(now, || ulid::Ulid::from_datetime(now).to_string(), vector)
        };
        Ok(drafts.into_iter().map(complete).collect())
    }

    /// Returns who makes the vectors of `shape`; for questions, who also keeps them.
    fn embedder_of(&self, shape: &Shape, is_question: bool) -> Result<Arc<dyn Embedder>, Error> {
        if shape.embedder == self.shape.embedder && shape.dimensions == self.shape.dimensions {
            let questions: Arc<dyn Embedder> = Arc::clone(&self.questions) as Arc<dyn Embedder>;
            return Ok(if is_question { questions } else { Arc::clone(&self.embedder) });
        }
        // Made in no time, and from the name alone.
        let hashing = Hashing::new(shape.dimensions);
        if hashing.name() == shape.embedder {
            return Ok(Arc::new(hashing));
        }
        Err(Error::Brought(shape.embedder.clone()))
    }

    /// Returns the space of `key`; one without memories if nothing was ever written to it.
    fn space(&self, key: &SpaceKey) -> Arc<Space> {
        let bare = || Arc::new(Space::new(0, self.shape.clone(), Index::new(self.shape.dimensions, 0)));
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

/// Returns whether nothing that an answer may hold has expired at `now`.
fn answers_at(answer: &Answer, now: SystemTime) -> bool {
    answer.fresh_until.is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests;
