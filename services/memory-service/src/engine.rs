//! The service without its wire: remember, recall, explain, get, forget, count.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use caching::Cache;
use clock::Clock;
use embedding::{Cached, Embedder};
use journal::State;
use parking_lot::RwLock;
use telemetry::{Gauge, KeyValue, Telemetry, names};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config::Config,
    error::Error,
    explain::Stage,
    index::Index,
    memory::{Change, Draft, Memory, Record},
    query::Query,
    recall::{self, Answer},
    scan::{Stop, Stopped},
    store::{Maker, Store},
    tenant::Tenant,
};

/// Writes that may be on their way at a time; more wait for room.
const WRITES: u32 = 4096;

/// Keeps memories and finds them.
#[derive(Debug)]
pub(crate) struct Engine {
    store: Store,
    tenants: RwLock<HashMap<Arc<str>, Arc<Tenant>>>,
    answers: Cache<Key, Arc<Answer>>,
    /// Embeds what is remembered.
    embedder: Arc<dyn Embedder>,
    /// Embeds what is asked, and keeps it: questions come again.
    questions: Cached,
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
    clock: Clock,
    telemetry: Telemetry,
}

/// Under what an answer is cached. A write makes another generation, so no recall finds an answer from before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: Arc<str>,
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

/// Statistics of one tenant.
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
        let dimensions = embedder.dimensions();
        let maker = Maker { embedder: embedder.name().to_owned(), dimensions };
        let (store, loaded) = Store::open(&config.memory_dir, config.journal(), &maker, &telemetry).await?;
        telemetry.counter(names::MEMORY_CORRUPT).add(loaded.corrupt, &[]);
        let corrupt = loaded.corrupt;
        let tenants = loaded.tenants.into_iter();
        let tenants = tenants.map(|(name, index)| (name.into(), Arc::new(Tenant::new(index)))).collect();
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let questions =
            Cache::new(config.memory_embedding_cache_size, config.memory_cache_ttl, clock.clone());
        let engine = Arc::new(Self {
            store,
            tenants: RwLock::new(tenants),
            answers: Cache::new(config.memory_cache_size, config.memory_cache_ttl, clock.clone()),
            questions: Cached::new(Arc::clone(&embedder), questions),
            embedder,
            query_timeout: config.query_timeout,
            threads,
            scans: Arc::new(Semaphore::new(threads)),
            writes: Arc::new(Semaphore::new(WRITES as usize)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            hit_rate: telemetry.gauge(names::CACHE_HIT_RATE),
            count: telemetry.gauge(names::MEMORY_COUNT),
            clock,
            telemetry,
        });
        let memories = engine.count_all();
        tracing::info!(memories, corrupt, store_bytes = engine.store.bytes(), "memories are loaded");
        Ok(engine)
    }

    /// Stores `drafts` in one commit and returns once they are on disk and found by every recall. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Embedder`], [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was stored then.
    pub(crate) async fn remember(
        self: &Arc<Self>,
        tenant: Arc<str>,
        drafts: Vec<Draft>,
    ) -> Result<Remembered, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let records = engine.complete(drafts).await?;
            let ids = records.iter().map(|record| record.memory.id.to_string()).collect();
            let replaced = engine.write(tenant, Change::Put(records), room).await?;
            Ok(Remembered { ids, replaced })
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Deletes the memories of `ids` (each once) and returns how many there were, once they are gone from disk, from
    /// memory and from the query cache. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Store`], and [`Error::NotReady`] once the service stops; nothing was deleted then.
    pub(crate) async fn forget(self: &Arc<Self>, tenant: Arc<str>, ids: Vec<String>) -> Result<u32, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move { engine.write(tenant, Change::Forget(ids), room).await };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Answers `query`; also says whether the answer came from the query cache.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it took longer than `budget` or `query_timeout`, [`Error::Embedder`].
    pub(crate) async fn recall(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        query: Query,
        budget: Option<Duration>,
    ) -> Result<(Arc<Answer>, bool), Error> {
        let memories = self.tenant(tenant);
        let mut key = Key { tenant: Arc::clone(tenant), generation: memories.generation(), query };
        let now = self.clock.now();
        let hit = self.answers.get(&key).filter(|hit| answers_at(&hit.value, now));
        memories.count(hit.is_some());
        self.note_read(hit.is_some());
        if let Some(hit) = hit {
            return Ok((hit.value, true));
        }
        let (answer, _) = self.run(&memories, key.query.clone(), budget, &self.questions).await?;
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
        tenant: &Arc<str>,
        query: Query,
        budget: Option<Duration>,
    ) -> Result<Explained, Error> {
        let start = Instant::now();
        let memories = self.tenant(tenant);
        let key = Key { tenant: Arc::clone(tenant), generation: memories.generation(), query };
        let now = self.clock.now();
        let would_hit_cache = self.answers.peek(&key).is_some_and(|hit| answers_at(&hit.value, now));
        let (answer, stages) = self.run(&memories, key.query, budget, &*self.embedder).await?;
        Ok(Explained { stages, answer, would_hit_cache, total: start.elapsed() })
    }

    /// Returns the memory of `id` with its vector.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(crate) fn get(&self, tenant: &Arc<str>, id: &str) -> Result<(Arc<Memory>, Vec<f32>), Error> {
        let found = self.tenant(tenant).index().get(id);
        let now = self.clock.now();
        found.filter(|(memory, _)| memory.expires.is_none_or(|at| now < at)).ok_or(Error::NotFound)
    }

    /// Returns the statistics of `tenant`.
    pub(crate) fn stats(&self, tenant: &Arc<str>) -> Stats {
        let tenant = self.tenant(tenant);
        let (cache_hits, cache_misses) = tenant.counts();
        let index = tenant.index();
        Stats {
            memories: index.len(),
            categories: index.categories(),
            dimensions: self.embedder.dimensions(),
            embedder: self.embedder.name().to_owned(),
            store_bytes: self.store.bytes(),
            cache_hits,
            cache_misses,
            generation: index.generation(),
        }
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
    async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.writes).acquire_owned().await.map_err(|_| Error::NotReady)
    }

    /// The one way in which a tenant's memories change: on disk, then in memory, then out of the query cache.
    async fn write(
        &self,
        tenant: Arc<str>,
        change: Change,
        _room: OwnedSemaphorePermit,
    ) -> Result<u32, Error> {
        let change = Arc::new(change);
        let committed = self.store.commit(&tenant, &change).await?;
        if let Some(generation) = committed.generation {
            let memories = self.tenant(&tenant);
            memories.apply(generation, change).await;
            if memories.take_answered() {
                // Nobody can find the older answers any more: they would only fill the cache, and what they hold of the dead has
                // to go as well.
                self.answers.invalidate_if(|key, _| key.tenant == tenant && key.generation < generation);
            }
            self.count_all();
        }
        Ok(committed.touched)
    }

    async fn run(
        &self,
        tenant: &Arc<Tenant>,
        query: Query,
        budget: Option<Duration>,
        embedder: &dyn Embedder,
    ) -> Result<(Answer, Vec<Stage>), Error> {
        let timeout = budget.map_or(self.query_timeout, |budget| budget.min(self.query_timeout));
        let deadline = Instant::now() + timeout;
        let stop = Arc::new(Stop::at(deadline));
        let guard = StopOnDrop(Arc::clone(&stop));
        let (tenant, now) = (Arc::clone(tenant), self.clock.now());
        let scan = async {
            // Before its turn: an embedder that is waited for must not keep others from scanning.
            let wanted = recall::wanted(&query.likeness, embedder).await?;
            let turn = Arc::clone(&self.scans).acquire_owned().await.map_err(|_| Error::NotReady)?;
            let threads = self.threads;
            let run = move || {
                // A caller that leaves does not end its scan at once: the turn is over when the scan is.
                let _turn = turn;
                recall::run(&tenant, &query, wanted, now, threads, &stop)
            };
            let done = self.telemetry.spawn_blocking(run).await.map_err(Error::Task)?;
            done.map_err(|Stopped| Error::TimedOut)
        };
        let done = tokio::time::timeout_at(deadline.into(), scan).await.map_err(|_| Error::TimedOut)?;
        drop(guard);
        done
    }

    /// Completes `drafts`; what comes without a vector is embedded in one batch.
    async fn complete(&self, drafts: Vec<Draft>) -> Result<Vec<Record>, Error> {
        let bare = drafts.iter().filter(|draft| draft.embedding.is_none());
        let texts: Vec<&str> = bare.map(|draft| draft.content.as_str()).collect();
        let mut vectors = self.embedder.embed(&texts).await?.into_iter();
        let now = self.clock.now();
        let complete = |draft: Draft| {
            let vector = || vectors.next().unwrap_or_default();
            draft.complete(now, || ulid::Ulid::from_datetime(now).to_string(), vector)
        };
        Ok(drafts.into_iter().map(complete).collect())
    }

    fn tenant(&self, name: &Arc<str>) -> Arc<Tenant> {
        if let Some(tenant) = self.tenants.read().get(name) {
            return Arc::clone(tenant);
        }
        let fresh = || Arc::new(Tenant::new(Index::new(self.embedder.dimensions(), 0)));
        Arc::clone(self.tenants.write().entry(Arc::clone(name)).or_insert_with(fresh))
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
    fn count_all(&self) -> u64 {
        let count = self.tenants.read().values().map(|tenant| tenant.index().len()).sum();
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
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use clock::Clock;
    use futures::FutureExt as _;
    use telemetry::Telemetry;

    use super::{Engine, Key, StopOnDrop};
    use crate::{
        config::Config,
        error::Error,
        memory::Draft,
        query::{Filter, Likeness, Query},
        scan::{Stop, Stopped},
    };

    fn draft(id: &str) -> Draft {
        Draft { id: Some(id.to_owned()), category: "c".into(), content: "content".into(), ..Draft::default() }
    }

    fn newest() -> Query {
        Query { likeness: Likeness::Newest, filter: Filter::default(), limit: 10, include_embedding: false }
    }

    async fn open(folder: &tempfile::TempDir) -> Arc<Engine> {
        let config = Config { memory_dir: folder.path().to_owned(), ..Config::defaults() };
        Engine::open(&config, Telemetry::silent("memory-service"), Clock::system()).await.unwrap()
    }

    #[tokio::test]
    async fn a_write_goes_on_when_its_caller_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, tenant) = (open(&folder).await, Arc::from("t"));
        {
            let call = std::pin::pin!(engine.remember(Arc::clone(&tenant), vec![draft("a")]));
            assert!(futures::poll!(call).is_pending());
        }
        while engine.stats(&tenant).memories == 0 {
            tokio::task::yield_now().await;
        }
        engine.close().await;
        assert_eq!(open(&folder).await.stats(&tenant).memories, 1, "what memory shows is on disk");
    }

    #[tokio::test]
    async fn a_closed_engine_takes_no_writes() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, tenant) = (open(&folder).await, Arc::from("t"));
        engine.close().await;
        let refused = engine.remember(tenant, vec![draft("a")]).await;
        assert!(matches!(refused, Err(Error::NotReady)), "{refused:?}");
    }

    #[tokio::test]
    async fn what_is_forgotten_leaves_the_query_cache_too() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, tenant) = (open(&folder).await, Arc::from("t"));
        engine.remember(Arc::clone(&tenant), vec![draft("a")]).await.unwrap();
        engine.recall(&tenant, newest(), None).await.unwrap();
        let key = Key { tenant: Arc::clone(&tenant), generation: 1, query: newest() };
        assert!(engine.answers.peek(&key).is_some());
        engine.forget(Arc::clone(&tenant), vec!["a".into()]).await.unwrap();
        assert!(engine.answers.peek(&key).is_none());
    }

    #[tokio::test]
    async fn what_is_learned_makes_the_query_cache_let_go_of_older_answers() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, tenant) = (open(&folder).await, Arc::from("t"));
        for id in ["a", "b", "c"] {
            engine.remember(Arc::clone(&tenant), vec![draft(id)]).await.unwrap();
            engine.recall(&tenant, newest(), None).await.unwrap();
        }
        assert_eq!(engine.answers.stats().entries, 1);
    }

    #[tokio::test]
    async fn an_answer_with_vectors_is_not_cached() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, tenant) = (open(&folder).await, Arc::from("t"));
        engine.remember(Arc::clone(&tenant), vec![draft("a")]).await.unwrap();
        let heavy = || Query { include_embedding: true, ..newest() };
        engine.recall(&tenant, heavy(), None).await.unwrap();
        assert!(!engine.recall(&tenant, heavy(), None).await.unwrap().1);
        engine.recall(&tenant, newest(), None).await.unwrap();
        assert!(engine.recall(&tenant, newest(), None).await.unwrap().1);
    }

    #[tokio::test]
    async fn a_scan_keeps_its_turn_after_its_caller_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&folder).await;
        let tenant = engine.tenant(&Arc::from("t"));
        let free = engine.scans.available_permits();
        let held = tenant.hold();
        let left = engine.run(&tenant, newest(), None, &*engine.embedder).now_or_never();
        assert!(left.is_none());
        assert_eq!(engine.scans.available_permits(), free - 1, "the scan still waits for the memories");
        drop(held);
        while engine.scans.available_permits() < free {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_scan_ends_when_its_caller_leaves() {
        let stop = Arc::new(Stop::at(Instant::now() + Duration::from_secs(600)));
        let guard = StopOnDrop(Arc::clone(&stop));
        assert_eq!(stop.check(), Ok(()));
        drop(guard);
        assert_eq!(stop.check(), Err(Stopped));
    }
}
