//! Drives cycles: does what the [`Machine`] orders, and keeps what comes of it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use clock::Clock;
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use parking_lot::Mutex;
use rpc::Deadline;
use telemetry::{Counter, Histogram, KeyValue, Telemetry, names};
use tokio::sync::broadcast;
use tracing::Instrument as _;

use crate::{
    branch::{Branch, bounded},
    budget::Budget,
    clients::Peers,
    cycle::{Completeness, Cycle, Limits, Machine, Order, Start},
    error::Error,
    interest::Rule,
    journal::{Entry, Journal, Progress},
    lease::{self, Agent, Agents, Lease},
    peers::{Memory, Question, Writes},
    source::Sources,
};

/// Cycles a watcher may be behind before it misses some.
const WATCH_BACKLOG: usize = 64;
/// Part of a caller's deadline kept for the record and the answer, and its most.
const ANSWER_SHARE: u32 = 20;
const ANSWER_MOST: Duration = Duration::from_millis(250);

/// Runs the cycles of every agent of every tenant.
#[derive(Debug)]
pub(crate) struct Runner {
    parts: Parts,
    agents: Agents,
    ids: Mutex<ulid::Generator>,
    watchers: Mutex<HashMap<Arc<str>, broadcast::Sender<Arc<Cycle>>>>,
    durations: Histogram,
    degenerate: Counter,
}

/// What a runner is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where observations come from.
    pub sources: Sources,
    /// The other services.
    pub peers: Peers,
    /// The record of cycles.
    pub journal: Journal,
    /// Which pools are interesting.
    pub rule: Rule,
    /// Caps and thresholds.
    pub limits: Limits,
    /// Most agents.
    pub agents: usize,
    /// Deadline of a cycle that brings none.
    pub deadline: Duration,
    /// Spans, logs and measurements.
    pub telemetry: Telemetry,
    /// The agent clock.
    pub clock: Clock,
}

impl Runner {
    /// Makes a runner.
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            agents: Agents::new(parts.agents),
            ids: Mutex::new(ulid::Generator::new()),
            watchers: Mutex::default(),
            durations: parts.telemetry.histogram(names::CYCLE_DURATION),
            degenerate: parts.telemetry.counter(names::DEGENERATE_INPUT),
            parts,
        }
    }

    /// Returns the record of cycles.
    #[must_use]
    pub(crate) fn journal(&self) -> &Journal {
        &self.parts.journal
    }

    /// Runs one cycle. It goes on to its end if the caller leaves.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`], [`Error::TooManyAgents`], [`Error::Exhausted`] under replay, [`Error::Disk`] or
    /// [`Error::Journal`] if the cycle could not be recorded.
    pub(crate) async fn run(
        self: &Arc<Self>,
        tenant: Arc<str>,
        agent: String,
        deadline: Option<Duration>,
    ) -> Result<Arc<Cycle>, Error> {
        // A cycle that cannot be written down would be run again: nobody is asked for anything.
        if let Some(reason) = self.parts.journal.outage() {
            return Err(Error::Disk(reason));
        }
        let mut lease = self.agents.lease(&tenant, &agent)?;
        if lease.is_none() {
            *lease = Some(lease::load(&self.parts.journal, &self.parts.sources, &tenant, &agent)?);
        }
        let exhausted = |agent: &Agent| self.parts.sources.is_exhausted(agent.progress.cursor);
        if lease.as_ref().is_some_and(exhausted) {
            return Err(Error::Exhausted);
        }
        let budget = Budget::new(self.deadline(deadline));
        let runner = Arc::clone(self);
        let task = async move {
            let span = tracing::info_span!(
                names::SPAN_CYCLE,
                athena.agent.id = agent,
                athena.agent.cycle.id = tracing::field::Empty,
                athena.agent.completeness = tracing::field::Empty,
            );
            runner.cycle(tenant, agent, budget, lease).instrument(span).await
        };
        self.parts.telemetry.spawn(rpc::carry(task)).await.map_err(Error::Task)?
    }

    /// Returns a receiver of every cycle of a tenant as it ends.
    pub(crate) fn watch(&self, tenant: &Arc<str>) -> broadcast::Receiver<Arc<Cycle>> {
        let mut watchers = self.watchers.lock();
        watchers.entry(Arc::clone(tenant)).or_insert_with(|| broadcast::channel(WATCH_BACKLOG).0).subscribe()
    }

    /// Waits until no cycle is running.
    pub(crate) async fn idle(&self) {
        self.agents.idle().await;
    }

    /// The earliest of what was asked for and the caller's own deadline, less what the record and the answer need.
    fn deadline(&self, asked: Option<Duration>) -> Duration {
        let asked = asked.unwrap_or(self.parts.deadline);
        let Some(left) = Deadline::current().map(|deadline| deadline.remaining()) else { return asked };
        asked.min(left.saturating_sub((left / ANSWER_SHARE).min(ANSWER_MOST)))
    }

    async fn cycle(
        &self,
        tenant: Arc<str>,
        agent: String,
        budget: Budget,
        mut lease: Lease,
    ) -> Result<Arc<Cycle>, Error> {
        let begun = Instant::now();
        let Some(state) = lease.as_mut() else { return Err(Error::NotReady) };
        let time = self.parts.clock.now();
        let number = state.progress.number + 1;
        let start = Start {
            id: self.next_id(),
            agent,
            number,
            time,
            trace_id: telemetry::trace_id().unwrap_or_default(),
        };
        tracing::Span::current().record("athena.agent.cycle.id", start.id.as_str());
        let mut machine = Machine::begin(start, budget, self.parts.limits.clone());
        self.drive(&mut machine, state, begun).await;
        let cycle = Arc::new(machine.end(begun.elapsed()));
        // A live source has no steps: a recording that replaces it begins at its start.
        let steps = u64::from(self.parts.sources.is_recorded());
        let progress = Progress { number, cursor: state.progress.cursor + steps };
        machine.remember_in(&mut state.history);
        let day = machine.day().filter(|_| !self.parts.sources.is_recorded());
        let day = day.map(|moment| (moment.date, state.history.day(moment.date)));
        let entry = Entry { tenant: Arc::clone(&tenant), cycle: Arc::clone(&cycle), progress, day };
        if let Err(error) = self.parts.journal.record(entry).await {
            // The history has the day and the journal has not: it is read again before the next cycle.
            *lease = None;
            return Err(error);
        }
        state.progress = progress;
        self.report(&tenant, &cycle, begun.elapsed());
        Ok(cycle)
    }

    async fn drive(&self, machine: &mut Machine, agent: &Agent, begun: Instant) {
        loop {
            let order = machine.order(begun.elapsed());
            let started = Instant::now();
            match order {
                Order::Observe { limit } => {
                    let now = self.parts.clock.now();
                    let observe = self.parts.sources.observe(agent.progress.cursor, now, limit);
                    let observed = observe.instrument(tracing::info_span!(names::SPAN_OBSERVE)).await;
                    machine.observed(observed, &agent.history, &self.parts.rule, started.elapsed());
                }
                Order::Recall { questions, limit } => {
                    let span =
                        tracing::info_span!(names::SPAN_RECALL, athena.agent.recalls = questions.len());
                    let (answers, targets) = self.recall(&questions, limit).instrument(span).await;
                    machine.recalled(&questions, answers, targets, started.elapsed());
                }
                Order::Analyse { observations, limit } => {
                    let count = observations.len();
                    let span = tracing::info_span!(names::SPAN_ANALYSE, athena.agent.observations = count);
                    let analyse = call("analyse", limit, self.parts.peers.analyse(observations));
                    machine.analysed(analyse.instrument(span).await, started.elapsed());
                }
                Order::Decide => {
                    tracing::info_span!(names::SPAN_DECIDE).in_scope(|| machine.decide());
                    machine.decided(started.elapsed());
                }
                Order::Store { writes, limit } => {
                    let store = self.store(writes, limit).instrument(tracing::info_span!(names::SPAN_STORE));
                    machine.stored(store.await, started.elapsed());
                }
                Order::Learn { lessons, limit } => {
                    let learn = call("remember", limit, self.parts.peers.remember(lessons));
                    let learned = learn.instrument(tracing::info_span!(names::SPAN_LEARN)).await;
                    machine.learned(learned, started.elapsed());
                }
                Order::End => return,
            }
        }
    }

    /// Asks memory every question and the monitor for missed targets, all at once.
    async fn recall(
        &self,
        questions: &[Question],
        limit: Duration,
    ) -> (Vec<Branch<Vec<Memory>>>, Branch<Vec<String>>) {
        let asked: FuturesUnordered<_> = questions
            .iter()
            .enumerate()
            .map(|(place, question)| async move {
                (place, call(question.name.as_str(), limit, self.parts.peers.recall(question)).await)
            })
            .collect();
        let (mut answers, targets) = tokio::join!(
            asked.collect::<Vec<_>>(),
            call("targets", limit, self.parts.peers.missed_targets())
        );
        answers.sort_unstable_by_key(|(place, _)| *place);
        (answers.into_iter().map(|(_, branch)| branch).collect(), targets)
    }

    async fn store(&self, writes: Writes, limit: Duration) -> Vec<Branch<()>> {
        let peers = &self.parts.peers;
        let time = writes.time;
        let samples =
            [("record pools", "pool_metrics", writes.pools), ("record gas", "gas_metrics", writes.gas)];
        let records = samples
            .into_iter()
            .filter(|(.., samples)| !samples.is_empty())
            .map(|(name, collection, samples)| call(name, limit, peers.record(collection, time, samples)));
        let (mut answers, written) =
            tokio::join!(join_all(records), call("write documents", limit, peers.write(writes.documents)));
        answers.push(written);
        answers
    }

    fn next_id(&self) -> String {
        let mut ids = self.ids.lock();
        match ids.generate_from_datetime(self.parts.clock.now()) {
            Ok(id) => id.to_string(),
            Err(overflow) => overflow.commit_overflow_increment().to_string(),
        }
    }

    fn report(&self, tenant: &Arc<str>, cycle: &Arc<Cycle>, took: Duration) {
        let completeness = cycle.completeness.as_str();
        tracing::Span::current().record("athena.agent.completeness", completeness);
        self.durations.record(took.as_secs_f64(), &[KeyValue::new(names::COMPLETENESS, completeness)]);
        for warning in cycle.input_warnings.iter().filter(|warning| warning.is_degenerate()) {
            let field = KeyValue::new(names::FIELD, warning.field.clone());
            self.degenerate.add(1, &[field, KeyValue::new(names::KIND, warning.kind.as_str())]);
        }
        let (pools, decisions) = (cycle.pools, cycle.decisions.len());
        if cycle.completeness == Completeness::Complete {
            tracing::info!(agent = cycle.agent, number = cycle.number, pools, decisions, "cycle complete");
        } else {
            let failures: Vec<String> = cycle
                .stages
                .iter()
                .flat_map(|stage| &stage.failures)
                .take(3)
                .map(|it| format!("{}: {}", it.branch, it.problem.code))
                .collect();
            tracing::warn!(
                agent = cycle.agent,
                number = cycle.number,
                pools,
                decisions,
                completeness,
                ?failures,
                "cycle incomplete"
            );
        }
        if let Some(watchers) = self.watchers.lock().get(tenant) {
            // Fails if nobody watches just now.
            let _ = watchers.send(Arc::clone(cycle));
        }
    }
}

/// Runs a call to a peer as a branch whose limit travels with it.
async fn call<T>(
    name: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, crate::branch::Problem>>,
) -> Branch<T> {
    bounded(name, limit, Deadline::after(limit).scope(work)).await
}
