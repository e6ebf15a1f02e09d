//! Requests and cycles of our own contract.

use std::time::Duration;

use contracts::agent as wire;
use rpc::{Fault, time};

use crate::{
    cycle::{Completeness, Cycle, Decision, Stage, StageReport},
    quality::Warning,
};

/// Longest id of an agent, in bytes.
const AGENT_BYTES: usize = 128;
/// Longest id of a cycle, in bytes.
const CYCLE_BYTES: usize = 64;
/// Cycles listed where no number is given, and the most.
const LISTED: u32 = 100;
const LISTED_MOST: u32 = 1000;

/// What a benchmark reads of a cycle.
#[cfg(feature = "bench")]
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// The sum over its stages of the slowest branch.
    pub(crate) branches: Duration,
    /// Pools observed.
    pub(crate) pools: u32,
    /// Recalls made.
    pub(crate) recalls: u32,
    /// Each stage's own time: its wall time less its slowest branch.
    pub(crate) own: Vec<(&'static str, Duration)>,
    /// What did not arrive, in words; `None` if the cycle is complete.
    pub(crate) incomplete: Option<String>,
}

/// Reads the agent a call is about; `default` where none is named.
pub(crate) fn agent_id(id: String, default: &str) -> Result<String, Fault> {
    Ok(list_agent(id)?.unwrap_or_else(|| default.to_owned()))
}

/// Reads an agent to filter by; `None` where none is named.
pub(crate) fn list_agent(id: String) -> Result<Option<String>, Fault> {
    match id.len() {
        0 => Ok(None),
        1..=AGENT_BYTES if !id.chars().any(char::is_control) => Ok(Some(id)),
        _ => Err(Fault::invalid("agent_id", "must be 1 to 128 bytes without control characters")),
    }
}

/// Reads the id of a wanted cycle.
pub(crate) fn wanted_id(id: String) -> Result<String, Fault> {
    match id.len() {
        1..=CYCLE_BYTES => Ok(id),
        _ => Err(Fault::invalid("cycle_id", "must be 1 to 64 bytes")),
    }
}

/// Reads a cycle's deadline.
pub(crate) fn deadline(deadline: Option<prost_types::Duration>) -> Result<Option<Duration>, Fault> {
    let Some(deadline) = deadline else { return Ok(None) };
    match time::duration_from_proto(&deadline, "deadline")? {
        Duration::ZERO => Err(Fault::invalid("deadline", "must be longer than 0")),
        deadline => Ok(Some(deadline)),
    }
}

/// Reads how many cycles are wanted.
pub(crate) fn limit(limit: u32) -> Result<usize, Fault> {
    match limit {
        0 => Ok(LISTED as usize),
        1..=LISTED_MOST => Ok(limit as usize),
        _ => Err(Fault::invalid("limit", "must be at most 1,000")),
    }
}

/// Reads what a benchmark needs of a cycle.
#[cfg(feature = "bench")]
pub(crate) fn ran(cycle: wire::Cycle) -> Ran {
    let read = |duration: Option<&prost_types::Duration>| {
        duration.and_then(|it| time::duration_from_proto(it, "duration").ok()).unwrap_or_default()
    };
    let slowest = |stage: &wire::StageReport| read(stage.slowest_branch.as_ref());
    let own = |stage: &wire::StageReport| {
        let own = read(stage.duration.as_ref()).saturating_sub(slowest(stage));
        (stage.stage().as_str_name(), own)
    };
    Ran {
        branches: cycle.stages.iter().map(slowest).sum(),
        own: cycle.stages.iter().map(own).collect(),
        pools: cycle.pools,
        recalls: cycle.recalls,
        incomplete: incomplete(&cycle),
    }
}

#[cfg(feature = "bench")]
fn incomplete(cycle: &wire::Cycle) -> Option<String> {
    if cycle.completeness() == wire::Completeness::Complete {
        return None;
    }
    let stage = cycle.stages.iter().find(|it| it.completeness() != wire::Completeness::Complete);
    Some(stage.map_or_else(String::new, |it| {
        let failure = it.failures.first();
        let why = failure.map(|it| format!(" ({}: {})", it.branch, it.message)).unwrap_or_default();
        format!("{} was {}{why}", it.stage().as_str_name(), it.completeness().as_str_name())
    }))
}

/// Writes a cycle.
pub(crate) fn cycle(cycle: &Cycle) -> wire::Cycle {
    wire::Cycle {
        cycle_id: cycle.id.clone(),
        agent_id: cycle.agent.clone(),
        number: cycle.number,
        time: Some(time::to_proto(cycle.time)),
        recorded_date: cycle.recorded_date.clone(),
        duration: Some(time::duration_to_proto(cycle.duration)),
        deadline: Some(time::duration_to_proto(cycle.deadline)),
        trace_id: cycle.trace_id.clone(),
        completeness: completeness(cycle.completeness).into(),
        stages: cycle.stages.iter().map(stage).collect(),
        decisions: cycle.decisions.iter().map(decision).collect(),
        input_warnings: cycle.input_warnings.iter().map(warning).collect(),
        pools: count(cycle.pools),
        interesting: count(cycle.interesting),
        recalls: count(cycle.recalls),
        recalls_in_sequence: Some(time::duration_to_proto(cycle.recalls_in_sequence)),
        served: cycle.served.clone().into_iter().collect(),
        upstream_calls: cycle.upstream_calls,
        cost_usd: cycle.cost_usd,
        saved_usd: cycle.saved_usd,
        assessment: cycle.assessment.clone(),
        missed_targets: cycle.missed_targets.clone(),
        model: cycle.model.clone(),
    }
}

fn stage(report: &StageReport) -> wire::StageReport {
    let stage = match report.stage {
        Stage::Observe => wire::Stage::Observe,
        Stage::Recall => wire::Stage::Recall,
        Stage::Analyse => wire::Stage::Analyse,
        Stage::Decide => wire::Stage::Decide,
        Stage::Store => wire::Stage::Store,
        Stage::Learn => wire::Stage::Learn,
    };
    let failures = report.failures.iter().map(|failure| wire::BranchFailure {
        branch: failure.branch.clone(),
        code: failure.problem.code.clone(),
        message: failure.problem.message.clone(),
    });
    wire::StageReport {
        stage: stage.into(),
        completeness: completeness(report.completeness).into(),
        duration: Some(time::duration_to_proto(report.duration)),
        slowest_branch: Some(time::duration_to_proto(report.slowest_branch)),
        branches: count(report.branches),
        failures: failures.collect(),
    }
}

fn decision(decision: &Decision) -> wire::Decision {
    wire::Decision {
        rule: decision.rule.clone(),
        subject: decision.subject.clone(),
        action: decision.action.clone(),
        confidence: decision.confidence,
        inputs: completeness(decision.inputs).into(),
        subject_id: decision.subject_id.clone(),
    }
}

fn warning(warning: &Warning) -> wire::InputWarning {
    wire::InputWarning {
        kind: warning.kind.as_str().to_owned(),
        field: warning.field.clone(),
        affected: count(warning.affected),
        readings: count(warning.readings),
        message: warning.message.clone(),
    }
}

fn completeness(completeness: Completeness) -> wire::Completeness {
    match completeness {
        Completeness::Complete => wire::Completeness::Complete,
        Completeness::Partial => wire::Completeness::Partial,
        Completeness::Stale => wire::Completeness::Stale,
        Completeness::Skipped => wire::Completeness::Skipped,
        Completeness::Failed => wire::Completeness::Failed,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(fault: &Fault) -> &str {
        &fault.violations()[0].field
    }

    #[test]
    fn a_bad_request_names_its_field() {
        assert_eq!(field(&agent_id("x".repeat(129), "a").unwrap_err()), "agent_id");
        assert_eq!(field(&agent_id("a\nb".into(), "a").unwrap_err()), "agent_id");
        assert_eq!(field(&limit(1001).unwrap_err()), "limit");
        assert_eq!(field(&wanted_id(String::new()).unwrap_err()), "cycle_id");
        let zero = prost_types::Duration { seconds: 0, nanos: 0 };
        assert_eq!(field(&deadline(Some(zero)).unwrap_err()), "deadline");
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(field(&deadline(Some(negative)).unwrap_err()), "deadline");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(agent_id(String::new(), "agent").unwrap(), "agent");
        assert_eq!(limit(0).unwrap(), 100);
        assert_eq!(deadline(None).unwrap(), None);
    }
}
