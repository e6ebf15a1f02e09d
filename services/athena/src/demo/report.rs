//! What a demo measured: plain values, and their form as one JSON object.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Cycle, Served, Span, Target, clients::Costs};

/// What a demo measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cycles that ran, in order; a failed one among them.
    pub cycles: Vec<Cycle>,
    /// Cycles that failed.
    pub failed: usize,
    /// Why they failed, in words.
    pub why_failed: Vec<String>,
    /// The six targets over the whole run.
    pub targets: Vec<Target>,
    /// Items by what answered them.
    pub served: Served,
    /// Upstream calls made.
    pub upstream_calls: u64,
    /// Documents written and saved.
    pub documents: Documents,
    /// Recalls measured after the replay.
    pub recalls: Recalls,
    /// Traces whose root is a cycle.
    pub traces: usize,
    /// Spans of those traces whose parent is missing.
    pub orphans: u64,
    /// The cycle whose trace is shown.
    pub shown: Option<Cycle>,
    /// The spans of that trace.
    pub spans: Vec<Span>,
    /// Wall time of the whole run, the mesh's start left out.
    pub wall: Duration,
    /// Agent time of the replay.
    pub agent_time: Duration,
}

/// As many recalls as a cycle makes, measured both ways against the memories of the run; medians.
#[derive(Clone, Copy, Debug)]
pub struct Recalls {
    /// How many.
    pub count: u32,
    /// One after another.
    pub sequence: Duration,
    /// All at once.
    pub together: Duration,
}

/// Documents written and saved.
#[derive(Clone, Copy, Debug)]
pub struct Documents {
    /// One document for every write and sample.
    pub naive: u64,
    /// Documents sent to the sink.
    pub written: u64,
    /// Saved by folding writes to one document.
    pub folded: u64,
    /// Saved by aggregating samples.
    pub aggregated: u64,
    /// Documents sent per minute of the agent clock.
    pub per_minute: f64,
}

impl Documents {
    pub(super) fn over(costs: &Costs, window: Duration) -> Self {
        let minutes = (window.as_secs_f64() / 60.0).max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "counts of documents are far below 2^52")]
        let per_minute = costs.written as f64 / minutes;
        Self {
            naive: costs.naive,
            written: costs.written,
            folded: costs.folded,
            aggregated: costs.aggregated,
            per_minute,
        }
    }
}

impl Report {
    /// Returns whether every cycle succeeded.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed == 0 && !self.cycles.is_empty()
    }

    /// Returns the report as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let durations = self.durations();
        json!({
            "cycles": self.cycles.len(),
            "failed_cycles": self.failed,
            "targets": self.targets,
            "served": self.served,
            "upstream_calls": self.upstream_calls,
            "documents": { "naive": self.documents.naive, "written": self.documents.written },
            "documents_per_minute": round(self.documents.per_minute),
            "cycle_ms": { "p50": round(quantile(&durations, 0.5)), "p99": round(quantile(&durations, 0.99)) },
            "traces": { "cycles": self.traces, "orphans": self.orphans },
        })
    }

    /// Returns the cycles' wall times in ms, ascending.
    #[must_use]
    pub fn durations(&self) -> Vec<f64> {
        let mut all: Vec<f64> = self.cycles.iter().map(|cycle| cycle.duration.as_secs_f64() * 1e3).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    /// Returns the fewest and the most pools of a cycle.
    #[must_use]
    pub fn pools(&self) -> (u32, u32) {
        let pools = || self.cycles.iter().map(|cycle| cycle.pools);
        (pools().min().unwrap_or(0), pools().max().unwrap_or(0))
    }
}

/// Returns the cycle of median duration: the one worth showing.
pub(super) fn typical(cycles: &[Cycle]) -> Option<&Cycle> {
    let mut sorted: Vec<&Cycle> = cycles.iter().filter(|cycle| !cycle.failed).collect();
    sorted.sort_by_key(|cycle| cycle.duration);
    sorted.get(sorted.len() / 2).copied()
}

/// Returns the nearest-rank quantile of ascending values; 0 of none.
pub(super) fn quantile(ascending: &[f64], q: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of cycles are small")]
    let rank = (q * ascending.len() as f64).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is a small whole number"
    )]
    let index = (rank as usize).saturating_sub(1);
    ascending.get(index).or(ascending.last()).copied().unwrap_or(0.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_is_the_value_at_its_nearest_rank() {
        let values = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&values, 0.5), 2.0);
        assert_eq!(quantile(&values, 0.99), 4.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
