//! Requests and cycles of our own contract.

use std::time::Duration;

use contracts::agent as wire;
use rpc::{Check, Fault, time};

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

/// Reads which agent is to run a cycle (`None`: the configured one), and until when.
pub(crate) fn run(request: wire::RunCycleRequest) -> Result<(Option<String>, Option<Duration>), Fault> {
    let mut check = Check::default();
    let agent = agent(&mut check, request.agent_id);
    let deadline = check.positive("deadline", request.deadline.as_ref());
    check.end((agent, deadline))
}

/// Reads whose cycles are watched; `None`: everyone's.
pub(crate) fn watch(request: wire::WatchCyclesRequest) -> Result<Option<String>, Fault> {
    let mut check = Check::default();
    let agent = agent(&mut check, request.agent_id);
    check.end(agent)
}

/// Reads whose cycles are wanted (`None`: everyone's), and how many.
pub(crate) fn list(request: wire::ListCyclesRequest) -> Result<(Option<String>, usize), Fault> {
    let mut check = Check::default();
    let agent = agent(&mut check, request.agent_id);
    let limit = check.limit("limit", request.limit, LISTED, LISTED_MOST);
    check.end((agent, limit))
}

/// Reads the id of a wanted cycle.
pub(crate) fn wanted_id(request: wire::GetCycleRequest) -> Result<String, Fault> {
    let mut check = Check::default();
    check.text("cycle_id", &request.cycle_id, 1..=CYCLE_BYTES);
    check.end(request.cycle_id)
}

fn agent(check: &mut Check, id: String) -> Option<String> {
    check.text("agent_id", &id, 0..=AGENT_BYTES);
    check.require("agent_id", !id.chars().any(char::is_control), "must have no control characters");
    (!id.is_empty()).then_some(id)
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

    fn fields(fault: &Fault) -> Vec<&str> {
        fault.violations().iter().map(|wrong| wrong.field.as_str()).collect()
    }

    #[test]
    fn a_bad_request_names_its_fields() {
        let zero = prost_types::Duration { seconds: 0, nanos: 0 };
        let request = wire::RunCycleRequest { agent_id: "x".repeat(129), deadline: Some(zero) };
        assert_eq!(fields(&run(request).unwrap_err()), ["agent_id", "deadline"]);
        let request = wire::ListCyclesRequest { agent_id: "a\nb".into(), limit: 1001 };
        assert_eq!(fields(&list(request).unwrap_err()), ["agent_id", "limit"]);
        assert_eq!(fields(&wanted_id(wire::GetCycleRequest::default()).unwrap_err()), ["cycle_id"]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(run(wire::RunCycleRequest::default()).unwrap(), (None, None));
        assert_eq!(list(wire::ListCyclesRequest::default()).unwrap(), (None, 100));
    }
}
