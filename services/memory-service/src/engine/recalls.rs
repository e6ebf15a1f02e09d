//! The reading half: recall and explain.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    answers::Key,
    backend::{Backend, Question},
    error::Error,
    hygiene::echo::Listener,
    known::Known,
    plan::{Plan, Rejected, Strategy},
    query::{Query, Ranking},
    recall::{self, Answer, Ran},
    shape::{Metric, SpaceKey},
    stop::Stop,
};

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

impl<B: Backend> Engine<B> {
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
            let (space, generation) = (memories.number(), memories.generation());
            let key = Key { space, generation, query: canonical(query, &memories)? };
            let hit = self.answers.get(&key, self.clock.now());
            memories.count(hit.is_some());
            self.note_read(hit.is_some());
            if let Some(answer) = hit {
                self.note_recalled(&memories, &key.query, &answer);
                return Ok((answer, true));
            }
            let ran = match self.run(&memories, key.query.clone(), None, budget, true).await {
                // Another space has taken the place of the one that was asked.
                Err(Error::Reembedded) => {
                    query = key.query;
                    continue;
                }
                ran => ran?,
            };
            let answer = Arc::new(ran.answer);
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
        loop {
            let memories = self.space(key);
            let query = canonical(query.clone(), &memories)?;
            let would_hit_cache = self.would_hit(&memories, &query);
            match self.run(&memories, query, plan, budget, false).await {
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
        let (plan, rejected) = self.store.plan(&memories, query, self.clock.now(), plan).await?;
        Ok(Planned { plan, rejected, would_hit_cache })
    }

    /// Counts a recall of what it returned, and hears it: so that it is not stored back as something new.
    fn note_recalled(&self, space: &Known, query: &Query, answer: &Answer) {
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
        &self,
        space: &Arc<B::Space>,
        query: Query,
        plan: Option<Strategy>,
        budget: Option<Duration>,
        is_question: bool,
    ) -> Result<Ran, Error> {
        let timeout = budget.map_or(self.query_timeout, |budget| budget.min(self.query_timeout));
        let deadline = Instant::now() + timeout;
        let stop = Arc::new(Stop::at(deadline));
        let guard = StopOnDrop(Arc::clone(&stop));
        let (shape, now) = (space.shape(), self.clock.now());
        let embedder = match query.likeness.vector() {
            Some(vector) if vector.len() != shape.dimensions => {
                return Err(Error::Dimensions(shape.dimensions));
            }
            None if query.ranking.by_vector() => self.makers.of(shape, is_question)?,
            _ => self.makers.ours(),
        };
        let recall = async {
            // Before its turn: an embedder that is waited for must not keep others from scanning.
            let wanted = recall::wanted(&query, &*embedder).await?;
            let question = Question { query: query.clone(), wanted, now, plan };
            self.store.recall(space, question, &stop).await
        };
        let done = tokio::time::timeout_at(deadline.into(), recall).await.map_err(|_| Error::TimedOut)?;
        drop(guard);
        done
    }

    fn would_hit(&self, space: &Known, query: &Query) -> bool {
        let key = Key { space: space.number(), generation: space.generation(), query: query.clone() };
        self.answers.holds(&key, self.clock.now())
    }
}

/// Brings `query` into its canonical form, if the memories of `space` can be ordered so.
fn canonical(query: Query, space: &Known) -> Result<Query, Error> {
    let metric = space.shape().metric;
    let query = query.canonical(metric);
    if query.ranking == Ranking::Hybrid && metric != Metric::Cosine { Err(Error::Ranking) } else { Ok(query) }
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
        shape::SpaceKey,
        stop::{Stop, Stopped},
    };

    #[tokio::test]
    async fn a_scan_keeps_its_turn_after_its_caller_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(&folder).await;
        let space = engine.space(&SpaceKey::new("t", ""));
        let free = engine.store.free_turns();
        let held = space.hold();
        let left = engine.run(&space, newest(), None, None, false).now_or_never();
        assert!(left.is_none());
        assert_eq!(engine.store.free_turns(), free - 1, "the scan still waits for the memories");
        drop(held);
        while engine.store.free_turns() < free {
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
