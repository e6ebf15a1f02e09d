//! Plans, as they are shown.

use contracts::memory as wire;
use rpc::{Fault, time::duration_to_proto};

use super::scored;
use crate::{
    engine::{Explained, Planned},
    explain::Node,
    plan::{Rejected, Strategy},
};

/// Reads the plan that a caller wants taken; empty: none.
pub(crate) fn plan(name: &str) -> Result<Option<Strategy>, Fault> {
    if name.is_empty() {
        return Ok(None);
    }
    let must = || {
        let names: Vec<_> = Strategy::ALL.into_iter().map(Strategy::as_str).collect();
        Fault::invalid("plan", format!("must be empty or one of {}", names.join(", ")))
    };
    Strategy::of(name).map(Some).ok_or_else(must)
}

/// Writes how a recall was run.
pub(crate) fn explained(explained: Explained) -> wire::ExplainResponse {
    let Explained { ran, would_hit_cache, total } = explained;
    wire::ExplainResponse {
        plan: ran.plan.strategy.as_str().to_owned(),
        root: Some(node(ran.plan.root)),
        rejected: ran.rejected.into_iter().map(rejected).collect(),
        memories: ran.answer.found.iter().map(scored).collect(),
        would_hit_cache,
        total: Some(duration_to_proto(total)),
    }
}

/// Writes how a recall would be run.
pub(crate) fn planned(planned: Planned) -> wire::ExplainOnlyResponse {
    wire::ExplainOnlyResponse {
        plan: planned.plan.strategy.as_str().to_owned(),
        root: Some(node(planned.plan.root)),
        rejected: planned.rejected.into_iter().map(rejected).collect(),
        would_hit_cache: planned.would_hit_cache,
    }
}

fn node(node: Node) -> wire::PlanNode {
    wire::PlanNode {
        name: node.name.to_owned(),
        detail: node.detail,
        estimated_rows: node.estimated_rows,
        actual_rows: node.rows,
        estimated_duration: node.estimated.map(duration_to_proto),
        duration: node.duration.map(duration_to_proto),
        children: node.children.into_iter().map(self::node).collect(),
    }
}

fn rejected(rejected: Rejected) -> wire::RejectedPlan {
    wire::RejectedPlan {
        plan: rejected.strategy.as_str().to_owned(),
        estimated_cost: rejected.cost.map(duration_to_proto),
        why: rejected.why,
    }
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::plan::Strategy;

    #[test]
    fn a_plan_is_read_by_its_name() {
        assert_eq!(plan("").unwrap(), None);
        assert_eq!(plan("direct").unwrap(), Some(Strategy::Direct));
        let refused = plan("fastest").unwrap_err();
        assert_eq!(refused.violations()[0].field, "plan");
    }
}
