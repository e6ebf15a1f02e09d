//! Wire to domain and back for what is forgotten.

use std::{ops::Range, sync::Arc, time::SystemTime};

use contracts::memory as wire;
use rpc::{Check, Fault, time};

use crate::{
    engine::{Going, Pruned},
    shape::SpaceKey,
    upkeep::{
        audit::{Finding, Report},
        forgettings::{Cause, Forgetting, State},
    },
};

/// Examples named unless a request says how many, and most of them.
const EXAMPLES: (u32, u32) = (10, 100);
/// Forgettings listed unless a request says how many, and most of them.
const LISTED: (u32, u32) = (100, 1000);

/// Reads which space of `tenant` is meant, and how many examples are wanted.
pub(crate) fn examples(tenant: Arc<str>, namespace: &str, examples: u32) -> Result<(SpaceKey, usize), Fault> {
    let mut check = Check::default();
    check.text("namespace", namespace, 0..=super::NAMESPACE_BYTES);
    let examples = check.limit("examples", examples, EXAMPLES.0, EXAMPLES.1);
    check.end((SpaceKey::new(tenant, namespace), examples))
}

/// Reads which forgettings of which space of `tenant` are wanted, and how many.
pub(crate) fn listed(
    tenant: Arc<str>,
    request: &wire::ListForgettingsRequest,
) -> Result<(SpaceKey, Range<u64>, usize), Fault> {
    let mut check = Check::default();
    check.text("namespace", &request.namespace, 0..=super::NAMESPACE_BYTES);
    let limit = check.limit("limit", request.limit, LISTED.0, LISTED.1);
    let before = if request.before == 0 { u64::MAX } else { request.before };
    check.end((SpaceKey::new(tenant, request.namespace.as_str()), 0..before, limit))
}

/// Reads which forgetting of which space of `tenant` is meant.
pub(crate) fn forgetting(tenant: Arc<str>, namespace: &str, number: u64) -> Result<(SpaceKey, u64), Fault> {
    let mut check = Check::default();
    check.text("namespace", namespace, 0..=super::NAMESPACE_BYTES);
    check.require("forgetting", number > 0, "must be given");
    check.end((SpaceKey::new(tenant, namespace), number))
}

/// Writes what a prune did.
pub(crate) fn pruned(pruned: Pruned) -> wire::PruneResponse {
    let Pruned { generation, memories, going, over, forgotten, forgettings } = pruned;
    let going = going.into_iter().map(|Going { cause, memories, examples }| wire::Going {
        cause: of_cause(cause).into(),
        memories,
        ids: texts(&examples),
    });
    wire::PruneResponse { generation, memories, going: going.collect(), over, forgotten, forgettings }
}

/// Writes a forgetting as it stands at `now`.
pub(crate) fn entry(entry: &Forgetting, now: SystemTime) -> wire::Forgetting {
    let state = match entry.state {
        State::Undone => wire::ForgettingState::Undone,
        State::Undoable if entry.undoable(now).is_ok() => wire::ForgettingState::Undoable,
        State::Undoable | State::Purged => wire::ForgettingState::Purged,
    };
    wire::Forgetting {
        number: entry.number,
        time: Some(time::to_proto(entry.at)),
        cause: of_cause(entry.cause).into(),
        memories: entry.memories,
        undo_deadline: Some(time::to_proto(entry.until)),
        state: state.into(),
    }
}

/// Writes what an audit found.
pub(crate) fn audited(report: &Report) -> wire::AuditResponse {
    let kinds = [
        (wire::FindingKind::Duplicate, &report.exact),
        (wire::FindingKind::NearDuplicate, &report.near),
        (wire::FindingKind::Alike, &report.alike),
        (wire::FindingKind::Contradiction, &report.contradictions),
        (wire::FindingKind::MissingSource, &report.sources),
        (wire::FindingKind::AloneInThread, &report.alone),
        (wire::FindingKind::ThreadGap, &report.gaps),
        (wire::FindingKind::Expired, &report.expired),
        (wire::FindingKind::NeverRecalled, &report.unasked),
        (wire::FindingKind::Idle, &report.idle),
    ];
    let found = kinds.into_iter().filter(|(_, finding)| finding.count > 0);
    let findings = found.map(|(kind, Finding { count, examples })| wire::Finding {
        kind: kind.into(),
        count: *count,
        examples: examples.iter().map(|ids| wire::Example { ids: texts(ids) }).collect(),
    });
    let Report { memories, compared, cut, .. } = *report;
    wire::AuditResponse { memories, findings: findings.collect(), compared, cut }
}

fn of_cause(cause: Cause) -> wire::Cause {
    match cause {
        Cause::Named => wire::Cause::Named,
        Cause::Expired => wire::Cause::Expired,
        Cause::Quota => wire::Cause::Quota,
        Cause::Prune => wire::Cause::Prune,
        Cause::Merged => wire::Cause::Merged,
    }
}

fn texts(ids: &[Arc<str>]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
