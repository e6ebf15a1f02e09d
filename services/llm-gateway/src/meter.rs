//! What the gateway did since it started: for `/metrics`, and for `GetStats`.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use caching::{Resize, Told};
use parking_lot::Mutex;
use telemetry::{Counter, CounterSeries, Gauge, Histogram, HistogramSeries, KeyValue, Telemetry, names};

use crate::served::{By, Phases};

/// Name of the response cache in metrics.
const CACHE: &str = "llm";

/// By how much the hit rate moves before its gauge does.
const RATE_STEP: f64 = 1e-4;
/// The phase that is left when all others are taken off.
const OWN: &str = "gateway";

/// Most models that have figures of their own, beside those that the gateway is set up with: callers may name any that the upstream
/// of the settings has, and every name is a series that is kept.
const MOST_MODELS: usize = 100;
/// The rest.
const OTHER: &str = "other";

/// Counts items, calls and money.
#[derive(Debug)]
pub struct Meter {
    models: Mutex<Named>,
    /// In the order of [`By::ALL`].
    items: [CounterSeries; By::ALL.len()],
    calls: Counter,
    cost: Counter,
    hit_rate: Gauge,
    capacity: Gauge,
    response_time: Histogram,
    /// In their order, and our own.
    phases: [HistogramSeries; 5],
    own: HistogramSeries,
    counted: Mutex<Counted>,
}

/// The models that have figures of their own.
#[derive(Debug)]
struct Named {
    names: HashSet<Arc<str>>,
    most: usize,
}

/// A model being asked. When it ends, in whatever way, the server time is recorded: failures and callers that left count too.
#[derive(Debug)]
pub struct Asking<'a> {
    meter: &'a Meter,
    attributes: [KeyValue; 1],
    begun: Instant,
}

/// Sums since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Items answered by a pattern.
    pub pattern: u64,
    /// Items answered from the exact cache.
    pub exact: u64,
    /// Items answered from the semantic cache.
    pub semantic: u64,
    /// Items answered by a call already in flight.
    pub coalesced: u64,
    /// Items answered by a shared model call.
    pub merged: u64,
    /// Items answered by a model call of their own.
    pub upstream: u64,
    /// Model calls made; repetitions of a call that failed on its way are part of it.
    pub upstream_calls: u64,
    /// Spent, in USD.
    pub cost_usd: f64,
    /// Saved, in USD.
    pub saved_usd: f64,
}

/// What was counted, and what of it is shown.
#[derive(Debug, Default)]
struct Counted {
    totals: Totals,
    /// The hit rate that the gauge shows.
    shown: Option<f64>,
}

impl Meter {
    /// Makes the instruments of one gateway that is set up with these `models`.
    #[must_use]
    pub fn new(telemetry: &Telemetry, models: impl IntoIterator<Item = Arc<str>>) -> Self {
        let names: HashSet<Arc<str>> = models.into_iter().collect();
        let items = telemetry.counter(names::LLM_ITEMS);
        let phases = telemetry.histogram(names::LLM_PHASE);
        let phase = |name| phases.series(&[KeyValue::new(names::PHASE, name)]);
        Self {
            models: Mutex::new(Named { most: names.len() + MOST_MODELS, names }),
            items: By::ALL.map(|by| items.series(&[KeyValue::new(names::SERVED, by.as_str())])),
            calls: telemetry.counter(names::LLM_UPSTREAM_CALLS),
            cost: telemetry.counter(names::LLM_COST),
            hit_rate: telemetry.gauge(names::CACHE_HIT_RATE),
            capacity: telemetry.gauge(names::CACHE_CAPACITY),
            response_time: telemetry.histogram(names::LLM_RESPONSE_TIME),
            phases: Phases::default().named().map(|(name, _)| phase(name)),
            own: phase(OWN),
            counted: Mutex::default(),
        }
    }

    /// Counts `count` items that were answered the same way and saved `saved_usd` together.
    pub fn items(&self, by: By, count: u64, saved_usd: f64) {
        if count == 0 {
            return;
        }
        let moved = {
            let mut counted = self.counted.lock();
            let Counted { totals, shown } = &mut *counted;
            *totals.of(by) += count;
            totals.saved_usd += saved_usd;
            // A gauge costs as much as a counter, and what it shows of a long run hardly moves with one answer.
            let moves = |ratio: &f64| shown.is_none_or(|shown| (shown - ratio).abs() >= RATE_STEP);
            totals.hit_ratio().filter(moves).inspect(|ratio| *shown = Some(*ratio))
        };
        self.items[by as usize].add(count);
        if let Some(ratio) = moved {
            self.hit_rate.set(ratio, &[KeyValue::new(names::CACHE, CACHE)]);
        }
    }

    /// Records what the `total` of an answered call was spent on: once for each phase that happened, and once for what is left.
    pub fn phases(&self, phases: &Phases, total: Duration) {
        let mut own = total;
        for ((_, took), series) in phases.named().into_iter().zip(&self.phases) {
            let Some(took) = took else { continue };
            series.record(took.as_secs_f64());
            own = own.saturating_sub(took);
        }
        self.own.record(own.as_secs_f64());
    }

    /// Shows how many answers the response cache holds at most.
    pub fn capacity(&self, entries: u64) {
        show(&self.capacity, entries);
    }

    /// Returns what is to be told when the response cache has another capacity: it is shown and logged.
    #[must_use]
    pub fn resized(&self) -> Told {
        let capacity = self.capacity.clone();
        Arc::new(move |resize: &Resize| {
            let (previous, now) = (resize.from, resize.change.to);
            show(&capacity, now);
            let why = resize.change.why.as_str();
            tracing::info!(previous, capacity = now, why, "resized the response cache");
        })
    }

    /// Starts asking `model` for a request that began at `begun`; counts no call yet.
    #[must_use]
    pub fn asking(&self, model: &Arc<str>, begun: Instant) -> Asking<'_> {
        Asking { meter: self, attributes: self.attributes(model), begun }
    }

    /// Counts a call to `model` as it is sent: it counts however it ends.
    pub fn sent(&self, model: &Arc<str>) {
        self.count_sent(&self.attributes(model));
    }

    /// Counts what a call to `model` cost that was answered.
    pub fn paid(&self, model: &Arc<str>, cost_usd: f64) {
        self.count_paid(cost_usd, &self.attributes(model));
    }

    fn count_sent(&self, attributes: &[KeyValue; 1]) {
        self.counted.lock().totals.upstream_calls += 1;
        self.calls.add(1, attributes);
    }

    fn count_paid(&self, cost_usd: f64, attributes: &[KeyValue; 1]) {
        self.counted.lock().totals.cost_usd += cost_usd;
        self.cost.add_f64(cost_usd, attributes);
    }

    fn attributes(&self, model: &Arc<str>) -> [KeyValue; 1] {
        let mut models = self.models.lock();
        let is_named = models.names.contains(model) || {
            let has_room = models.names.len() < models.most;
            has_room && models.names.insert(model.clone())
        };
        [KeyValue::new(names::MODEL, if is_named { model.clone() } else { OTHER.into() })]
    }

    /// Returns the sums.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.counted.lock().totals
    }
}

#[expect(clippy::cast_precision_loss, reason = "capacities are far below 2^52")]
fn show(capacity: &Gauge, entries: u64) {
    capacity.set(entries as f64, &[KeyValue::new(names::CACHE, CACHE)]);
}

impl Asking<'_> {
    /// Counts a call as it is sent: it counts however it ends.
    pub fn sent(&self) {
        self.meter.count_sent(&self.attributes);
    }

    /// Counts what a call cost that was answered.
    pub fn paid(&self, cost_usd: f64) {
        self.meter.count_paid(cost_usd, &self.attributes);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.meter.response_time.record(self.begun.elapsed().as_secs_f64(), &self.attributes);
    }
}

impl Totals {
    /// Returns the share of items answered without asking a model; `None` before the first item.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn hit_ratio(&self) -> Option<f64> {
        let saved = self.pattern + self.exact + self.semantic + self.coalesced;
        let items = saved + self.merged + self.upstream;
        (items > 0).then(|| saved as f64 / items as f64)
    }

    fn of(&mut self, by: By) -> &mut u64 {
        match by {
            By::Pattern => &mut self.pattern,
            By::Exact => &mut self.exact,
            By::Semantic => &mut self.semantic,
            By::Coalesced => &mut self.coalesced,
            By::Merged => &mut self.merged,
            By::Upstream => &mut self.upstream,
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Telemetry;

    use super::{MOST_MODELS, Meter};
    use crate::served::By;

    #[tokio::test]
    async fn a_hit_is_what_needed_no_model() {
        let meter = Meter::new(&Telemetry::silent("test"), []);
        assert_eq!(meter.totals().hit_ratio(), None);
        meter.items(By::Merged, 6, 0.0);
        meter.items(By::Pattern, 1, 0.5);
        meter.items(By::Exact, 0, 0.0);
        meter.items(By::Coalesced, 1, 0.5);
        assert_eq!(meter.totals().hit_ratio(), Some(0.25));
        assert!((meter.totals().saved_usd - 1.0).abs() < 1e-12);
    }

    #[tokio::test]
    async fn names_that_callers_make_up_share_their_figures() {
        let telemetry = Telemetry::silent("test");
        let meter = Meter::new(&telemetry, ["fast".into()]);
        for made_up in 0..2 * MOST_MODELS {
            meter.sent(&format!("openai/{made_up}").into());
        }
        meter.sent(&"fast".into());
        let text = telemetry.prometheus_text();
        let series: Vec<_> =
            text.lines().filter(|line| line.starts_with("athena_llm_upstream_calls")).collect();
        assert_eq!(series.len(), MOST_MODELS + 2);
        assert!(series.iter().any(|line| line.contains("\"other\"") && line.ends_with(" 100")), "{series:?}");
        assert!(series.iter().any(|line| line.contains("\"fast\"")));
    }
}
