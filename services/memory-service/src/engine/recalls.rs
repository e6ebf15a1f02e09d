//! The reading half: recall and explain.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use journal::Reason;

use super::Engine;
use crate::{
    answers::Key,
    error::Error,
    hygiene::echo::Listener,
    plan::{Plan, Rejected, Strategy, Unfit, Wish},
    query::{Query, Ranking},
    recall::{self, Answer, Found, Halt, Means, Ran, Wanted, contents::Contents},
    space::{Space, SpaceKey},
    stop::Stop,
    store::Stored,
    vector::{metric::Metric, source::Unread},
};

/// How often a recall whose memories are gone from the store waits for memory to hear of it, and how long each time.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(1);
/// Most memories that an answer names as contradicting one of it, as the contract has it.
const CONTRADICTING: usize = 16;

/// What a recall did.
#[derive(Debug)]
pub(crate) struct Explained {
    /// What it found, and how.
    pub(crate) ran: Ran,
    /// Whether the query cache holds its answer.
    pub(crate) would_hit_cache: bool,
    /// Wall time of the whole.
    pub(crate) total: Duration,
}

/// What a recall would do.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The plan it would take.
    pub(crate) plan: Plan,
    /// Those it would not.
    pub(crate) rejected: Vec<Rejected>,
    /// Whether the query cache holds its answer.
    pub(crate) would_hit_cache: bool,
}

/// Stops a scan whose caller has left.
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl From<Unfit> for Error {
    fn from(Unfit { strategy, why }: Unfit) -> Self {
        Self::Unfit { plan: strategy.as_str(), why }
    }
}

impl Engine {
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
        let mut query = query;
        loop {
            let memories = self.space(key);
            query = canonical(query, &memories)?;
            let key = Key { space: memories.number(), generation: memories.generation(), query };
            let hit = self.answers.get(&key, self.clock.now());
            memories.count(hit.is_some());
            self.note_read(hit.is_some());
            if let Some(answer) = hit {
                self.note_recalled(&memories, &key.query, &answer);
                return Ok((answer, true));
            }
            let answer = match self.run(&memories, key.query.clone(), None, budget, true).await {
                Err(Error::Reembedded) => {
                    query = key.query;
                    continue;
                }
                ran => Arc::new(ran?.answer),
            };
            self.note_recalled(&memories, &key.query, &answer);
            self.answers.keep(&memories, key.query, &answer);
            return Ok((answer, false));
        }
    }

    /// Runs `query` past every cache, by `plan` or by the cheapest, and counts nothing.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it took longer than `budget` or `query_timeout`, [`Error::Embedder`], [`Error::Unfit`] if `plan`
    /// cannot be taken.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        key: &SpaceKey,
        query: Query,
        plan: Option<Strategy>,
        budget: Option<Duration>,
    ) -> Result<Explained, Error> {
        let start = Instant::now();
        let mut query = query;
        loop {
            let memories = self.space(key);
            query = canonical(query, &memories)?;
            let would_hit_cache = self.would_hit(&memories, &query);
            match self.run(&memories, query.clone(), plan, budget, false).await {
                Err(Error::Reembedded) => {}
                ran => return Ok(Explained { ran: ran?, would_hit_cache, total: start.elapsed() }),
            }
        }
    }

    /// Says how `query` would be run, by `plan` or by the cheapest, and runs nothing.
    ///
    /// # Errors
    /// [`Error::Unfit`] if `plan` cannot be taken.
    pub(crate) async fn explain_only(
        self: &Arc<Self>,
        key: &SpaceKey,
        query: Query,
        plan: Option<Strategy>,
    ) -> Result<Planned, Error> {
        let memories = self.space(key);
        let query = canonical(query, &memories)?;
        let would_hit_cache = self.would_hit(&memories, &query);
        let (engine, now) = (Arc::clone(self), self.clock.now());
        // Off the async workers: it waits for a writer, and looks at some rows.
        let wish = self.wish(plan);
        let choose = move || recall::plan(&memories, &query, now, &engine.planner, wish);
        let (plan, rejected) = self.telemetry.spawn_blocking(choose).await.map_err(Error::Task)??;
        Ok(Planned { plan, rejected, would_hit_cache })
    }

    /// Counts a recall of what it returned, and hears it: so that it is not stored back as something new.
    fn note_recalled(&self, space: &Space, query: &Query, answer: &Answer) {
        if answer.found.is_empty() {
            return;
        }
        let now = self.clock.now();
        space.accounts().recalled(answer.found.iter().map(|found| found.seq), now);
        let agent = match &*query.filter.agents {
            [agent] => agent,
            _ => "",
        };
        let who = Listener { space: space.number(), agent };
        let said = answer.found.iter().map(|found| (found.saying.words, found.seq));
        self.hygiene.echoes.lock().hear(who, said, now);
    }

    pub(super) async fn run(
        self: &Arc<Self>,
        space: &Arc<Space>,
        query: Query,
        plan: Option<Strategy>,
        budget: Option<Duration>,
        is_question: bool,
    ) -> Result<Ran, Error> {
        let timeout = budget.map_or(self.query_timeout, |budget| budget.min(self.query_timeout));
        let deadline = Instant::now() + timeout;
        let stop = Arc::new(Stop::at(deadline));
        let guard = StopOnDrop(Arc::clone(&stop));
        let (space, now) = (Arc::clone(space), self.clock.now());
        let dimensions = space.shape().dimensions;
        let embedder = match query.likeness.vector() {
            Some(vector) if vector.len() != dimensions => return Err(Error::Dimensions(dimensions)),
            None if query.ranking.by_vector() => self.makers.of(space.shape(), is_question)?,
            _ => self.makers.ours(),
        };
        let scan = async {
            // Before its turn: an embedder that is waited for must not keep others from scanning.
            let wanted = recall::wanted(&query, &*embedder).await?;
            let turn = Arc::clone(&self.scans).acquire_owned().await.map_err(|_| Error::NotReady)?;
            let engine = Arc::clone(self);
            let run = move || {
                // A caller that leaves does not end its scan at once: the turn is over when the scan is.
                let _turn = turn;
                engine.until_read(&space, &query, &wanted, now, plan, &stop)
            };
            self.telemetry.spawn_blocking(run).await.map_err(Error::Task)?
        };
        let done = tokio::time::timeout_at(deadline.into(), scan).await.map_err(|_| Error::TimedOut)?;
        drop(guard);
        done
    }

    /// Runs a recall, and again where a write overtook it, or without a memory that is damaged or lost. Blocks the thread.
    fn until_read(
        &self,
        space: &Space,
        query: &Query,
        wanted: &Wanted,
        now: SystemTime,
        plan: Option<Strategy>,
        stop: &Arc<Stop>,
    ) -> Result<Ran, Error> {
        let number = space.number();
        let contents = Stored { store: &self.store, site: space.site() };
        let means = Means {
            planner: &self.planner,
            wish: self.wish(plan),
            batch: self.batch,
            reads: self.reads,
            half_life: self.half_life,
            pool: &self.pool,
            contents: &contents,
        };
        let mut tried = 0;
        loop {
            match recall::run(space, query, wanted.clone(), now, &means, stop) {
                Ok(mut ran) => {
                    contradict(space, &contents, &mut ran.answer.found, now)?;
                    return Ok(ran);
                }
                Err(Halt::Stopped) => return Err(Error::TimedOut),
                Err(Halt::Unfit(unfit)) => return Err(unfit.into()),
                Err(Halt::Failed(error)) => return Err(Error::Store(Reason::Store, error)),
                // Another took its place, or it was dropped: what is written by now is none of this one's.
                Err(Halt::Overtaken { .. }) if space.is_over() => return Err(Error::Reembedded),
                // The write is on disk, and memory has it in no time.
                Err(Halt::Overtaken { generation, .. }) if tried < TRIES => {
                    tried += u32::from(space.generation() == generation);
                    std::thread::sleep(PAUSE);
                }
                Err(Halt::Overtaken { seq, .. } | Halt::Damaged(seq)) => {
                    tracing::warn!(space = number, seq, "a stored memory cannot be read and is left out");
                    self.corrupt.add(1, &[]);
                    space.leave_out(seq);
                }
            }
        }
    }

    fn wish(&self, strategy: Option<Strategy>) -> Wish {
        Wish { threads: self.threads, strategy }
    }

    fn would_hit(&self, space: &Space, query: &Query) -> bool {
        let key = Key { space: space.number(), generation: space.generation(), query: query.clone() };
        self.answers.holds(&key, self.clock.now())
    }
}

/// Brings `query` into its canonical form, if the memories of `space` can be ordered so.
fn canonical(query: Query, space: &Space) -> Result<Query, Error> {
    let metric = space.shape().metric;
    let query = query.canonical(metric);
    if query.ranking == Ranking::Hybrid && metric != Metric::Cosine { Err(Error::Ranking) } else { Ok(query) }
}

/// Tells of each memory that was found which others contradict it. Nothing that was written meanwhile is missed: an answer is served until
/// the next write alone.
fn contradict(
    space: &Space,
    contents: &impl Contents,
    found: &mut [Found],
    now: SystemTime,
) -> Result<(), Error> {
    let claims = found.iter_mut().filter(|found| found.memory.claim.is_some());
    let told: Vec<(&mut Found, Vec<u64>)> = {
        let index = space.index();
        let against = |found: &Found| {
            let claim = found.memory.claim.as_ref();
            claim.map(|claim| index.against(claim, now, CONTRADICTING)).unwrap_or_default()
        };
        claims.map(|found| (against(found), found)).map(|(seqs, found)| (found, seqs)).collect()
    };
    for (found, seqs) in told {
        for seq in seqs {
            match contents.memories(&[seq]) {
                Ok(memories) => found.against.extend(memories.iter().map(|memory| Arc::clone(&memory.id))),
                Err(Unread::Gone(_) | Unread::Damaged(_)) => {}
                Err(Unread::Failed(error)) => return Err(Error::Store(Reason::Store, error)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use futures::FutureExt as _;

    use super::StopOnDrop;
    use crate::{
        engine::tests::{newest, open},
        space::SpaceKey,
        stop::{Stop, Stopped},
    };

    #[tokio::test]
    async fn a_scan_keeps_its_turn_after_its_caller_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&folder).await;
        let space = engine.space(&SpaceKey::new("t", ""));
        let free = engine.scans.available_permits();
        let held = space.hold();
        let left = engine.run(&space, newest(), None, None, false).now_or_never();
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
