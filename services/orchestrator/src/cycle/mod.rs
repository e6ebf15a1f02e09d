//! One cycle as a state machine: no I/O, no clock of its own, no task.
//!
//! A driver asks [`Machine::order`] what to do next and how long it may take, does it, and hands the outcome back by the method of that
//! stage. Whatever comes back, or does not, the machine goes on: a failed branch becomes a labelled failure, a stage without time is
//! skipped and says so, and the cycle ends with a record.
//!
//! ```text
//! observe ─▶ recall ─▶ analyse ─▶ decide ─▶ store ─▶ learn ─▶ end
//!    │ nothing seen: FAILED                                    ▲
//!    └─────────────────────────────────────────────────────────┘
//! ```

mod paper;
mod plan;
pub(crate) mod record;

use std::time::{Duration, SystemTime};

pub use plan::Limits;
pub use record::{Completeness, Cycle, Decision, Failure, NAMED_FAILURES, Stage, StageReport};

use crate::{
    branch::Branch,
    budget::Budget,
    decide::{self, GasCase, PoolCase},
    history::{History, Known},
    interest::Rule,
    peers::{About, Analysed, Memory, Observation, Question, Writes},
    pool::{Gas, Moment, Pool},
    quality::{self, Kind, Warning},
    source::Observed,
};

/// What identifies a cycle before it begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// The cycle's id.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// Counts the agent's cycles from 1.
    pub number: u64,
    /// The agent clock's now.
    pub time: SystemTime,
    /// The trace; empty without one.
    pub trace_id: String,
}

/// What the driver has to do next; every `limit` is wall time from now.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Read the sources, then call [`Machine::observed`].
    Observe {
        /// How long it may take.
        limit: Duration,
    },
    /// Ask memory all questions at once, and the monitor for missed targets; then call [`Machine::recalled`].
    Recall {
        /// The 1 + 2N questions.
        questions: Vec<Question>,
        /// How long it may take.
        limit: Duration,
    },
    /// Ask the gateway once, then call [`Machine::analysed`].
    Analyse {
        /// Every observation.
        observations: Vec<Observation>,
        /// How long it may take.
        limit: Duration,
    },
    /// Call [`Machine::decide`], then [`Machine::decided`].
    Decide,
    /// Write everything at once, then call [`Machine::stored`].
    Store {
        /// What to write.
        writes: Writes,
        /// How long it may take.
        limit: Duration,
    },
    /// Remember, then call [`Machine::learned`].
    Learn {
        /// What was learned.
        lessons: Vec<Memory>,
        /// How long it may take.
        limit: Duration,
    },
    /// Nothing: call [`Machine::end`].
    End,
}

/// One cycle on its way.
#[derive(Debug)]
pub struct Machine {
    cycle: Cycle,
    budget: Budget,
    next: Option<Stage>,
    seen: Seen,
    limits: Limits,
}

/// What is known so far.
#[derive(Debug, Default)]
struct Seen {
    moment: Option<Moment>,
    pools: Vec<Pool>,
    /// Pools that a cap left out: they count for the history only.
    left_out: Vec<Pool>,
    known: Vec<Known>,
    /// Positions of the interesting pools.
    interesting: Vec<usize>,
    gas: Option<(Gas, Option<f64>)>,
    /// Whether the whole snapshot is of an earlier moment.
    stale: bool,
    /// What memory said of gas and the market; `None` if it did not.
    general: Option<Vec<Memory>>,
    /// What memory said of each interesting pool, in their order.
    of_pool: Vec<Option<Vec<Memory>>>,
    /// How many patterns memory knows for each interesting pool.
    patterns: Vec<Option<Vec<Memory>>>,
    analysed: Option<Analysed>,
}

impl Machine {
    /// Begins a cycle.
    #[must_use]
    pub fn begin(start: Start, budget: Budget, limits: Limits) -> Self {
        let cycle = Cycle {
            id: start.id,
            agent: start.agent,
            number: start.number,
            time: start.time,
            recorded_date: String::new(),
            duration: Duration::ZERO,
            deadline: budget.deadline(),
            trace_id: start.trace_id,
            completeness: Completeness::Failed,
            stages: Vec::with_capacity(6),
            decisions: Vec::new(),
            input_warnings: Vec::new(),
            pools: 0,
            interesting: 0,
            recalls: 0,
            recalls_in_sequence: Duration::ZERO,
            served: std::collections::BTreeMap::new(),
            upstream_calls: 0,
            cost_usd: 0.0,
            saved_usd: 0.0,
            assessment: String::new(),
            missed_targets: Vec::new(),
            model: String::new(),
        };
        Self { cycle, budget, next: Some(Stage::Observe), seen: Seen::default(), limits }
    }

    /// Says what to do next, `at` after the cycle's start. Stages without time left are skipped on the way.
    pub fn order(&mut self, at: Duration) -> Order {
        while let Some(stage) = self.next {
            if self.seen.moment.is_none() && stage != Stage::Observe {
                self.skip(stage, None);
                continue;
            }
            let limit = match (stage, self.budget.allowance(stage, at)) {
                (Stage::Decide, _) => return Order::Decide,
                (_, Some(limit)) => limit,
                (_, None) => {
                    self.skip(stage, Some("too little was left of the cycle's deadline"));
                    continue;
                }
            };
            match stage {
                Stage::Observe => return Order::Observe { limit },
                Stage::Recall => return Order::Recall { questions: self.questions(), limit },
                Stage::Analyse => {
                    let observations = self.observations();
                    if !observations.is_empty() {
                        return Order::Analyse { observations, limit };
                    }
                    self.skip(stage, None);
                }
                Stage::Decide => return Order::Decide,
                Stage::Store => return Order::Store { writes: self.writes(), limit },
                Stage::Learn => return Order::Learn { lessons: self.lessons(), limit },
            }
        }
        Order::End
    }

    /// Takes what the sources gave. `history` is the past before this moment.
    pub fn observed(&mut self, observed: Observed, history: &History, rule: &Rule, took: Duration) {
        let mut report = StageReport::begun(Stage::Observe, took);
        let moment = observed.moment;
        let reading = report.add(observed.pools);
        let gas = observed.gas.and_then(|branch| report.add(branch)).flatten();
        if let Some(mut reading) = reading {
            self.cycle.input_warnings.append(&mut reading.warnings);
            self.cycle.input_warnings.extend(quality::inspect_pools(&mut reading.pools));
            self.cap(&mut reading.pools);
            let unchanged = history.unchanged(moment, &reading.pools, self.limits.stale_after);
            self.cycle.input_warnings.extend(unchanged);
            let known = reading.pools.iter().map(|pool| history.pool(&pool.id, moment.date));
            self.seen.known = known.collect();
            self.seen.pools = reading.pools;
            self.seen.moment = Some(moment);
        }
        if let Some(mut gas) = gas {
            self.cycle.input_warnings.extend(quality::inspect_gas(&mut gas));
            let mean = history.gas(&gas.chain, moment.date);
            self.seen.gas = Some((gas, mean));
            self.seen.moment = Some(moment);
        }
        self.choose(rule);
        let all_stale = |it: &Warning| it.kind == Kind::Stale && it.affected == it.readings;
        self.seen.stale = self.cycle.input_warnings.iter().any(all_stale);
        report.completeness = match report.completeness {
            _ if self.seen.moment.is_none() => Completeness::Failed,
            Completeness::Complete if self.seen.stale => Completeness::Stale,
            other => other,
        };
        if moment.recorded {
            self.cycle.recorded_date = moment.date.to_string();
        }
        self.finish(report);
    }

    /// Takes memory's answers, in the order of the questions, and the monitor's.
    pub fn recalled(
        &mut self,
        questions: &[Question],
        answers: Vec<Branch<Vec<Memory>>>,
        targets: Branch<Vec<String>>,
        took: Duration,
    ) {
        let mut report = StageReport::begun(Stage::Recall, took);
        self.cycle.recalls = answers.len();
        self.cycle.recalls_in_sequence = answers.iter().map(|branch| branch.duration).sum();
        let mut arrived = 0;
        for (question, branch) in questions.iter().zip(answers) {
            let memories = report.add(branch);
            arrived += usize::from(memories.is_some());
            match question.about {
                About::General => self.seen.general = memories,
                About::Pool(index) => put(&mut self.seen.of_pool, index, memories),
                About::Pattern(index) => put(&mut self.seen.patterns, index, memories),
            }
        }
        self.cycle.missed_targets = report.add(targets).unwrap_or_default();
        if arrived == 0 {
            report.completeness = Completeness::Failed;
        }
        self.finish(report);
    }

    /// Takes the gateway's answer.
    pub fn analysed(&mut self, answer: Branch<Analysed>, took: Duration) {
        let mut report = StageReport::begun(Stage::Analyse, took);
        match report.add(answer) {
            Some(analysed) => {
                report.completeness = Completeness::of(
                    analysed.findings.len(),
                    analysed.findings.len() + analysed.failed.len(),
                );
                for (id, problem) in &analysed.failed {
                    let (kept, problem) = (report.completeness, problem.clone());
                    report.fail(format!("analyse {}", self.subject(id)), problem);
                    report.completeness = kept;
                }
                self.cycle.served = analysed.served.clone();
                self.cycle.upstream_calls = analysed.upstream_calls;
                self.cycle.cost_usd = analysed.cost_usd;
                self.cycle.saved_usd = analysed.saved_usd;
                self.cycle.assessment = analysed.assessment.clone();
                self.cycle.model = analysed.model.clone();
                self.seen.analysed = Some(analysed);
            }
            None => report.completeness = Completeness::Failed,
        }
        self.finish(report);
    }

    /// Applies the rules.
    pub fn decide(&mut self) {
        let mut decisions = Vec::new();
        let gas_high =
            self.seen.gas.as_ref().is_some_and(|(gas, mean)| decide::gas_is_high(gas.price, *mean));
        if let Some((gas, mean)) = &self.seen.gas {
            let memories = self.seen.general.as_deref();
            let finding = self.finding(&paper::gas_id(gas));
            decisions.push(decide::on_gas(&GasCase { gas, mean: *mean, memories, finding }));
        }
        let is_void = |it: &&Warning| it.field == "apr" && matches!(it.kind, Kind::AllZero | Kind::AllEqual);
        if let Some(void) = self.cycle.input_warnings.iter().find(is_void) {
            decisions.push(decide::on_degenerate_input("apr", &void.message));
        } else if self.seen.interesting.is_empty() && !self.seen.pools.is_empty() {
            let inputs = if self.seen.stale { Completeness::Stale } else { Completeness::Complete };
            decisions.push(decide::on_nothing(self.chain(), self.seen.pools.len(), inputs));
        } else {
            for (place, index) in self.seen.interesting.iter().enumerate() {
                let pool = &self.seen.pools[*index];
                let case = PoolCase {
                    pool,
                    known: self.seen.known[*index],
                    stale: self.seen.stale,
                    memories: self.seen.of_pool.get(place).and_then(|it| it.as_deref()),
                    finding: self.finding(&pool.id),
                };
                decisions.push(decide::on_pool(&case, gas_high));
            }
        }
        self.cycle.decisions = decisions;
    }

    /// Takes how long the rules took.
    pub fn decided(&mut self, took: Duration) {
        let mut report = StageReport::begun(Stage::Decide, took);
        if self.cycle.decisions.is_empty() {
            report.completeness = Completeness::Failed;
        }
        self.finish(report);
    }

    /// Takes the batcher's answers.
    pub fn stored(&mut self, answers: Vec<Branch<()>>, took: Duration) {
        self.take(Stage::Store, answers, took);
    }

    /// Takes memory's answer to what was learned.
    pub fn learned(&mut self, answer: Branch<()>, took: Duration) {
        self.take(Stage::Learn, vec![answer], took);
    }

    /// Ends the cycle `took` after its start and returns its record.
    #[must_use]
    pub fn end(&self, took: Duration) -> Cycle {
        Cycle { duration: took, completeness: self.completeness(), ..self.cycle.clone() }
    }

    /// Takes what was observed into the history. Only what has been recorded durably should be.
    pub fn remember_in(&self, history: &mut History) {
        if let Some(moment) = self.seen.moment {
            let pools = self.seen.pools.iter().chain(&self.seen.left_out);
            history.record(moment, pools, self.seen.gas.as_ref().map(|(gas, _)| gas));
            history.forget_before(moment.date);
        }
    }

    /// Returns the day that was observed; `None` if nothing was.
    #[must_use]
    pub fn day(&self) -> Option<Moment> {
        self.seen.moment
    }

    fn completeness(&self) -> Completeness {
        let of = |stage| self.cycle.stages.iter().find(|it| it.stage == stage).map(|it| it.completeness);
        let is_complete = |it: &StageReport| it.completeness == Completeness::Complete;
        if self.seen.moment.is_none() || of(Stage::Decide) != Some(Completeness::Complete) {
            return Completeness::Failed;
        }
        let whole = self.cycle.stages.iter().all(is_complete);
        if whole { Completeness::Complete } else { Completeness::Partial }
    }

    fn take(&mut self, stage: Stage, answers: Vec<Branch<()>>, took: Duration) {
        let mut report = StageReport::begun(stage, took);
        let tried = answers.len();
        let arrived = answers.into_iter().filter_map(|branch| report.add(branch)).count();
        report.completeness = Completeness::of(arrived, tried);
        self.finish(report);
    }

    fn finish(&mut self, report: StageReport) {
        self.next = report.stage.next();
        self.cycle.stages.push(report);
    }

    fn skip(&mut self, stage: Stage, why: Option<&str>) {
        self.finish(StageReport::skipped(stage, why));
    }
}

fn put(places: &mut Vec<Option<Vec<Memory>>>, index: usize, memories: Option<Vec<Memory>>) {
    if places.len() <= index {
        places.resize_with(index + 1, || None);
    }
    places[index] = memories;
}

#[cfg(test)]
mod tests;
