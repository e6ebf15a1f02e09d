//! What the newest cycles found wrong with their input.

use std::time::SystemTime;

use telemetry::names;

use super::Measure;
use crate::series::Store;

/// Kinds of finding that make the figures of a cycle worthless: nothing in the input differs.
const WORTHLESS: [&str; 2] = ["all_zero", "all_equal"];

/// Findings of the newest cycles, each a field and a kind.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<(String, String)>);

impl Findings {
    /// Collects what was found since the export of cycles before the newest one: a finding may leave its process one
    /// export earlier than the cycle it belongs to, when the export falls into that cycle.
    pub(super) fn of_newest_cycles(store: &Store, since: Option<SystemTime>) -> Self {
        let cycles = store.arrivals(names::CYCLE_DURATION.name, since, 2);
        if cycles.is_empty() {
            return Self::default();
        }
        let since = cycles.get(1).copied().or(since);
        let text =
            |labels: &crate::series::point::Labels, key| labels.get(key).unwrap_or_default().to_owned();
        let risen = store.risen(names::DEGENERATE_INPUT.name, since);
        Self(
            risen.iter().map(|(labels, _)| (text(labels, names::FIELD), text(labels, names::KIND))).collect(),
        )
    }

    /// Returns whether the cycles had nothing to work on.
    pub(super) fn is_degenerate(&self) -> bool {
        self.0.iter().any(|(_, kind)| WORTHLESS.contains(&kind.as_str()))
    }

    /// Returns why the cycles had nothing to work on.
    pub(super) fn reasons(&self) -> Vec<String> {
        let sentence = |(field, kind): &(String, String)| match kind.as_str() {
            "all_zero" => Some(format!("input degenerate: every {field} is 0")),
            "all_equal" => Some(format!("input degenerate: every {field} is the same")),
            _ => None,
        };
        self.0.iter().filter_map(sentence).collect()
    }

    /// Returns what else was found; it is said once, beside the cycles themselves.
    pub(super) fn remarks(&self) -> Vec<String> {
        let others = self.0.iter().filter(|(_, kind)| !WORTHLESS.contains(&kind.as_str()));
        others.map(|(field, kind)| format!("input: {} ({field})", kind.replace('_', " "))).collect()
    }
}

impl Measure {
    /// Returns whether the value measures work on the observations themselves.
    pub(super) fn depends_on_input(self) -> bool {
        matches!(self, Self::AgentCycle | Self::CacheHitRate)
    }
}
