//! What a cycle leaves behind: its record.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::{
    branch::{Branch, Problem},
    quality::Warning,
};

/// Failures named in one stage's report; the rest is counted by its completeness only.
pub const NAMED_FAILURES: usize = 20;

/// How complete a result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Everything asked for arrived.
    Complete,
    /// Some of it failed or was late.
    Partial,
    /// It arrived, but describes an earlier moment than it should.
    Stale,
    /// It was not tried: nothing to do, or no time left.
    Skipped,
    /// None of it arrived.
    Failed,
}

/// The stages of a cycle, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reads the sources.
    Observe,
    /// Asks memory.
    Recall,
    /// Asks the gateway.
    Analyse,
    /// Applies the rules.
    Decide,
    /// Writes samples, the decision and the cycle.
    Store,
    /// Remembers what was learned.
    Learn,
}

/// How one stage went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// How complete its result is.
    pub completeness: Completeness,
    /// Wall time.
    pub duration: Duration,
    /// Wall time of its slowest branch.
    pub slowest_branch: Duration,
    /// Branches tried.
    pub branches: usize,
    /// Branches that failed or were late; at most [`NAMED_FAILURES`].
    pub failures: Vec<Failure>,
}

/// A branch that failed or was late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it was.
    pub branch: String,
    /// Why.
    pub problem: Problem,
}

/// What was decided about one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The rule that decided.
    pub rule: String,
    /// The subject in words.
    pub subject: String,
    /// The subject's id in its source.
    pub subject_id: String,
    /// What to do, in words.
    pub action: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// How complete the inputs were.
    pub inputs: Completeness,
}

/// One cycle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    /// Unique; sorts by start.
    pub id: String,
    /// The agent.
    pub agent: String,
    /// Counts the agent's cycles from 1.
    pub number: u64,
    /// When it began, on the agent clock.
    pub time: SystemTime,
    /// The date its observations were recorded on; empty for live sources.
    pub recorded_date: String,
    /// Wall time it took.
    pub duration: Duration,
    /// Its deadline, wall time.
    pub deadline: Duration,
    /// The trace: 32 hexadecimal digits; empty without one.
    pub trace_id: String,
    /// How complete it is.
    pub completeness: Completeness,
    /// The stages, in order.
    pub stages: Vec<StageReport>,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// What is wrong with the input.
    pub input_warnings: Vec<Warning>,
    /// Pools observed.
    pub pools: usize,
    /// Observations that passed the interest rule, capped.
    pub interesting: usize,
    /// Recalls made.
    pub recalls: usize,
    /// The sum of the recalls' durations.
    pub recalls_in_sequence: Duration,
    /// How the analysis' items were served.
    pub served: BTreeMap<String, u64>,
    /// Upstream calls of the analysis.
    pub upstream_calls: u32,
    /// Cost of the analysis, in USD.
    pub cost_usd: f64,
    /// What patterns, cache and merging saved, in USD.
    pub saved_usd: f64,
    /// The overall assessment.
    pub assessment: String,
    /// Targets missed when the cycle began.
    pub missed_targets: Vec<String>,
    /// The model that answered the analysis.
    pub model: String,
}

impl Completeness {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Stale => "stale",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// Judges branches by how many of them arrived.
    #[must_use]
    pub fn of(arrived: usize, tried: usize) -> Self {
        match (arrived, tried) {
            (_, 0) => Self::Skipped,
            (arrived, tried) if arrived == tried => Self::Complete,
            (0, _) => Self::Failed,
            _ => Self::Partial,
        }
    }
}

impl Stage {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Recall => "recall",
            Self::Analyse => "analyse",
            Self::Decide => "decide",
            Self::Store => "store",
            Self::Learn => "learn",
        }
    }

    /// Returns the stage after this one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Observe => Some(Self::Recall),
            Self::Recall => Some(Self::Analyse),
            Self::Analyse => Some(Self::Decide),
            Self::Decide => Some(Self::Store),
            Self::Store => Some(Self::Learn),
            Self::Learn => None,
        }
    }
}

impl StageReport {
    /// Reports a stage that was not tried, with why if it should have been.
    #[must_use]
    pub fn skipped(stage: Stage, why: Option<&str>) -> Self {
        let problem = |why| Failure {
            branch: stage.as_str().to_owned(),
            problem: Problem::new("DEADLINE_EXCEEDED", why),
        };
        Self {
            stage,
            completeness: Completeness::Skipped,
            duration: Duration::ZERO,
            slowest_branch: Duration::ZERO,
            branches: 0,
            failures: why.map(problem).into_iter().collect(),
        }
    }

    /// Reports a stage that took `duration`, with no branch yet.
    #[must_use]
    pub fn begun(stage: Stage, duration: Duration) -> Self {
        Self { duration, completeness: Completeness::Complete, ..Self::skipped(stage, None) }
    }

    /// Adds a branch; a failed one makes the stage partial. Returns its result if it arrived.
    pub fn add<T>(&mut self, branch: Branch<T>) -> Option<T> {
        self.branches += 1;
        self.slowest_branch = self.slowest_branch.max(branch.duration);
        branch.result.map_err(|problem| self.fail(branch.name, problem)).ok()
    }

    /// Names a failure; the stage becomes partial.
    pub fn fail(&mut self, branch: String, problem: Problem) {
        self.completeness = Completeness::Partial;
        if self.failures.len() < NAMED_FAILURES {
            self.failures.push(Failure { branch, problem });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_twenty_failures_and_counts_every_branch() {
        let mut report = StageReport::begun(Stage::Recall, Duration::from_secs(1));
        for index in 0..25 {
            let result = Err::<(), _>(Problem::new("UNAVAILABLE", "down"));
            let branch = Branch { name: index.to_string(), duration: Duration::from_millis(index), result };
            assert_eq!(report.add(branch), None);
        }
        assert_eq!((report.branches, report.failures.len()), (25, NAMED_FAILURES));
        assert_eq!(report.completeness, Completeness::Partial);
        assert_eq!(report.slowest_branch, Duration::from_millis(24));
    }

    #[test]
    fn completeness_counts_what_arrived() {
        assert_eq!(Completeness::of(0, 0), Completeness::Skipped);
        assert_eq!(Completeness::of(2, 2), Completeness::Complete);
        assert_eq!(Completeness::of(1, 2), Completeness::Partial);
        assert_eq!(Completeness::of(0, 2), Completeness::Failed);
    }
}
