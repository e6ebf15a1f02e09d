//! What a gateway holds, and how a call to a model is paid for. Its ways are told beside it: [`crate::generate`], [`crate::semantic`],
//! [`crate::merge`], [`crate::analyze`], [`crate::stream`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clock::Clock;
use embedding::{Cached, Embedder};
use telemetry::Telemetry;

use crate::{
    batch::{self, Merger},
    cache::{Bands, Exact, Flights, Key, Keys, Room, StoredAnswer, bands},
    conversation::Usage,
    error::Error,
    merge::{Merged, Request},
    meter::Meter,
    pattern::Patterns,
    price::Price,
    provider::Failure,
    route::{Model, Models},
    semantic::{self, Semantic},
    served::{Served, Terms},
    tenant::{Reservation, Tenants},
};

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// Who can be asked.
    pub models: Models,
    /// What tenants may use.
    pub tenants: Tenants,
    /// What is answered without them.
    pub patterns: Patterns,
    /// How many observations share a call to a language model, and how long callers wait for company.
    pub merging: batch::Limits,
    /// How many answers are kept, and for how long.
    pub cache: Room,
    /// What is known of the figures that answers are about.
    pub bands: bands::Limits,
    /// What the semantic cache does.
    pub semantic: semantic::Options,
    /// Who turns texts into vectors.
    pub embedder: Arc<dyn Embedder>,
    /// Most vectors kept.
    pub embedding_cache_size: u64,
    /// The agent clock.
    pub clock: Clock,
    /// Where work is counted and traced.
    pub telemetry: Telemetry,
}

/// Answers conversations and analyses observations.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) models: Models,
    pub(crate) tenants: Tenants,
    pub(crate) patterns: Patterns,
    pub(crate) keys: Keys,
    pub(crate) cache: Exact,
    pub(crate) bands: Bands,
    pub(crate) answers: Flights<Arc<StoredAnswer>>,
    pub(crate) merges: Flights<Arc<Merged>>,
    pub(crate) merger: Merger<Key, Request>,
    pub(crate) semantic: Arc<Semantic>,
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) meter: Meter,
    pub(crate) clock: Clock,
    pub(crate) telemetry: Telemetry,
}

impl Gateway {
    /// Puts a gateway together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let meter = Meter::new(&parts.telemetry, parts.models.stored_names());
        meter.capacity(parts.cache.size);
        Self {
            models: parts.models,
            tenants: parts.tenants,
            patterns: parts.patterns,
            keys: Keys::new(rand::random()),
            cache: Exact::new(parts.cache, parts.clock.clone(), Some(meter.resized())),
            bands: Bands::new(parts.bands, parts.clock.clone()),
            clock: parts.clock.clone(),
            answers: Flights::default(),
            merges: Flights::default(),
            merger: Merger::new(parts.merging),
            semantic: Arc::new(Semantic::new(parts.semantic, &parts.telemetry)),
            // By the same text it is the same vector for ever: what is not asked for again makes room.
            embedder: Arc::new(Cached::new(
                parts.embedder,
                caching::Cache::new(parts.embedding_cache_size, Duration::MAX, parts.clock.clone()),
            )),
            meter,
            telemetry: parts.telemetry,
        }
    }

    /// Tells how a call that began at `begun` was answered: counts it, and says so in its span.
    pub(crate) fn account(&self, served: &Served, begun: Instant) {
        self.meter.items(served.by, 1, served.saved_usd);
        self.meter.phases(&served.phases, begun.elapsed());
        served.tell();
    }

    /// Checks what a call is likely to use against its own limit, `beside` what else is spent for its caller, and its tenant's, and
    /// reserves it.
    pub(crate) fn reserve(
        &self,
        terms: &Terms,
        model: &Model,
        likely: Usage,
        beside_usd: f64,
    ) -> Result<Reservation, Error> {
        if model.is_free() {
            return Ok(Reservation::default());
        }
        let usd = model.dearest().cost(likely);
        terms.afford(beside_usd + usd)?;
        Ok(self.tenants.reserve(&terms.tenant, likely.total(), usd).map_err(Failure::Limited)?)
    }

    /// Replaces what was reserved for a call to `model` by what it used, counts it, and returns what it cost, in USD.
    pub(crate) fn pay(&self, model: &Model, reservation: Reservation, price: Price, usage: Usage) -> f64 {
        let cost_usd = price.cost(usage);
        reservation.settle(usage.total(), cost_usd);
        self.meter.paid(&model.name, cost_usd);
        cost_usd
    }

    /// Notes that a call failed.
    pub(crate) fn failed(&self, model: &Model, failure: Failure) -> Error {
        self.cache.refuse();
        tracing::warn!(model = &*model.name, failure = %failure, "the model did not answer");
        Error::Failed(failure)
    }
}

/// Gives back what was reserved for a call that failed before it was answered; an upstream may charge for what a caller's
/// deadline cut off.
pub(crate) fn forgo(reservation: Reservation, failure: &Failure) {
    if !failure.is_own() {
        reservation.release();
    }
}
