//! How each target's value comes from the series.

use std::collections::BTreeMap;

use telemetry::names;

use super::{Measure, Measured, Window};
use crate::series::{Store, point::Labels};

/// What a documents-a-minute value counts; reads are not written.
const SENT: [&str; 3] = ["write", "delete", "ledger"];

/// How an item is served without asking a model.
const HITS: [&str; 4] = ["pattern", "exact", "semantic", "coalesced"];

/// The model that is none.
const STATISTICS: &str = "builtin/statistics";

/// Services whose calls are no part of the API.
const APART: [&str; 3] = ["grpc.health.", "grpc.reflection.", "opentelemetry.proto.collector."];

impl Measure {
    /// Returns the metric behind the value.
    #[must_use]
    pub fn metric(self) -> names::Metric {
        match self {
            Self::MemoryQuery => names::MEMORY_QUERY_LATENCY,
            Self::LlmResponse => names::LLM_RESPONSE_TIME,
            Self::FirestoreWrites => names::FIRESTORE_OPERATIONS,
            Self::CacheHitRate => names::LLM_ITEMS,
            Self::AgentCycle => names::CYCLE_DURATION,
            Self::ApiResponse => names::RPC_SERVER_DURATION,
        }
    }
}

/// Returns whether `method` (`package.Service/Method`) counts as an API response: every unary rpc but those that ask a
/// model, run a cycle, or serve operation (health, reflection, OTLP export).
#[must_use]
pub fn is_api_method(method: &str) -> bool {
    let Some((service, name)) = method.trim_start_matches('/').rsplit_once('/') else { return false };
    if APART.iter().any(|prefix| service.starts_with(prefix)) {
        return false;
    }
    // Streams last for as long as somebody watches, or writes.
    let is_stream = name.starts_with("Watch") || name.ends_with("Stream");
    !(is_stream || name.starts_with("Generate") || name == "Analyze" || name == "RunCycle")
}

pub(super) fn measure(store: &Store, measure: Measure, window: Window) -> Measured {
    let every = |_: &Labels| true;
    match measure {
        Measure::MemoryQuery => p95(store, measure, window, 1_000.0, every),
        Measure::AgentCycle => p95(store, measure, window, 1.0, every),
        Measure::ApiResponse => p95(store, measure, window, 1_000.0, |labels| {
            labels.get(names::RPC_METHOD).is_some_and(is_api_method)
        }),
        Measure::LlmResponse => {
            let models = store.measured_by(measure.metric().name, window.since, names::MODEL);
            Measured { notes: answered_by(&models), ..p95(store, measure, window, 1.0, every) }
        }
        Measure::FirestoreWrites => documents(store, window),
        Measure::CacheHitRate => hit_rate(store, window),
    }
}

fn p95(
    store: &Store,
    measure: Measure,
    window: Window,
    scale: f64,
    keep: impl Fn(&Labels) -> bool,
) -> Measured {
    let Some(distribution) = store.distribution(measure.metric().name, window.since, keep) else {
        return Measured::default();
    };
    let value = distribution.quantile(0.95).map(|value| value * scale);
    Measured { value, samples: distribution.count(), ..Measured::default() }
}

fn answered_by(models: &BTreeMap<String, u64>) -> Vec<String> {
    let note = |(model, count): (&String, &u64)| match model.as_str() {
        "" => None,
        STATISTICS => Some("answered by builtin/statistics: not an LLM".to_owned()),
        model if models.len() > 1 => {
            Some(format!("answered by {model} ({count} of {})", models.values().sum::<u64>()))
        }
        model => Some(format!("answered by {model}")),
    };
    models.iter().filter_map(note).collect()
}

/// Documents a minute. Its samples are the whole minutes of the window that somebody could have reported on, so that a
/// quiet batcher has the value 0 and a silent one has none.
fn documents(store: &Store, window: Window) -> Measured {
    let sums = store.counted_by(Measure::FirestoreWrites.metric().name, window.since, names::OPERATION_TYPE);
    let minutes = window.width.as_secs_f64() / 60.0;
    let heard = store.last_heard(Measure::FirestoreWrites.metric().name);
    let Some(heard) = heard.filter(|heard| window.since.is_none_or(|since| *heard > since)) else {
        let silent = heard.and_then(|heard| window.now.duration_since(heard).ok()).unwrap_or_default();
        let note = format!("nothing was reported for {} min", silent.as_secs() / 60);
        return Measured { notes: vec![note], ..Measured::default() };
    };
    let covered = window.width.saturating_sub(window.now.duration_since(heard).unwrap_or_default());
    if minutes <= 0.0 {
        return Measured::default();
    }
    let parts: BTreeMap<String, f64> = SENT
        .iter()
        .filter_map(|kind| sums.get(*kind).map(|sum| ((*kind).to_owned(), sum / minutes)))
        .collect();
    Measured {
        value: Some(parts.values().sum()),
        samples: covered.as_secs() / 60,
        notes: vec!["agent clock".to_owned()],
        parts,
    }
}

fn hit_rate(store: &Store, window: Window) -> Measured {
    let sums = store.counted_by(Measure::CacheHitRate.metric().name, window.since, names::SERVED);
    let items: f64 = sums.values().sum();
    if items <= 0.0 {
        return Measured::default();
    }
    let share = |tier: &str| 100.0 * sums.get(tier).copied().unwrap_or(0.0) / items;
    let shown = HITS.iter().filter(|tier| **tier != "semantic" || sums.contains_key(**tier));
    let parts: BTreeMap<String, f64> = shown.map(|tier| ((*tier).to_owned(), share(tier))).collect();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of items")]
    let samples = items.round() as u64;
    Measured { value: Some(parts.values().sum()), samples, notes: Vec::new(), parts }
}
