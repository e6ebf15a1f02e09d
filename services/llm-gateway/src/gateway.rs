//! The way of a conversation: exact cache, then the semantic one where it is on, then an identical call in flight, then the model.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clock::Clock;
use embedding::{Cached, Embedder};
use telemetry::Telemetry;

use crate::{
    batch::{self, Merger},
    cache::{Bands, Exact, Flights, Found, Key, Keys, Lead, Room, Seat, StoredAnswer, bands},
    conversation::{Answer, Conversation, Usage},
    error::Error,
    merge::{Merged, Request},
    meter::Meter,
    pattern::Patterns,
    price::{self, Price},
    provider::{Failure, statistics},
    route::{Asked, Kind, Model, Models},
    semantic::{self, Nearness, Semantic},
    served::{By, Phases, Served, Terms},
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

/// An answered conversation.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The answer.
    pub answer: Answer,
    /// How it came about.
    pub served: Served,
}

/// One conversation on its way.
#[derive(Debug)]
pub(crate) struct Journey<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) conversation: &'a Conversation,
    pub(crate) model: Model,
    pub(crate) key: Key,
    pub(crate) phases: Phases,
    pub(crate) begun: Instant,
    /// Who answered, once somebody was asked.
    pub(crate) asked: Option<Asked>,
    /// The nearest question answered before, where questions were compared.
    pub(crate) near: Option<Nearness>,
    /// What is asked, to be kept with its answer.
    pub(crate) question: Option<semantic::Asked>,
}

/// Where a conversation got without its own call to a model.
pub(crate) enum Stop {
    /// It is answered.
    Answered(Box<Generated>),
    /// A model is to be asked; with a lead, others wait for the answer.
    Ask(Option<Lead<Arc<StoredAnswer>>>),
}

impl Gateway {
    /// Puts a gateway together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let meter = Meter::new(&parts.telemetry);
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

    /// Answers one conversation.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] for a model nobody serves, [`Error::OverBudget`], [`Error::DeadlineExceeded`], or
    /// [`Error::Failed`] when the model did not answer.
    pub async fn generate(&self, terms: &Terms, conversation: &Conversation) -> Result<Generated, Error> {
        let mut journey = self.depart(terms, conversation)?;
        let generated = match self.cheaply(&mut journey).await? {
            Stop::Answered(generated) => *generated,
            Stop::Ask(lead) => {
                // Kept apart, as a hit would otherwise carry room for it from hand to hand.
                let asked = Box::pin(self.ask(&mut journey)).await;
                let stored = self.tell(lead, asked)?;
                self.answered_question(journey.question.take(), &stored, &journey.key);
                journey.answered(&stored)
            }
        };
        self.account(&generated.served, journey.begun);
        Ok(generated)
    }

    /// Tells how a call that began at `begun` was answered: counts it, and says so in its span.
    pub(crate) fn account(&self, served: &Served, begun: Instant) {
        self.meter.items(served.by, 1, served.saved_usd);
        self.meter.phases(&served.phases, begun.elapsed());
        served.tell();
    }

    pub(crate) fn depart<'a>(
        &self,
        terms: &'a Terms,
        conversation: &'a Conversation,
    ) -> Result<Journey<'a>, Error> {
        let begun = Instant::now();
        let model = self.models.resolve(&conversation.model)?;
        let key = self.keys.conversation(&terms.tenant, &model.name, conversation);
        let phases = Phases::default();
        Ok(Journey {
            terms,
            conversation,
            model,
            key,
            phases,
            begun,
            asked: None,
            near: None,
            question: None,
        })
    }

    /// Tries the exact cache, then the semantic one where it is on, then to join a call in flight.
    pub(crate) async fn cheaply(&self, journey: &mut Journey<'_>) -> Result<Stop, Error> {
        let looking = Instant::now();
        let found = self.cache.answer(&journey.key, journey.terms.control);
        journey.phases.cache = Some(looking.elapsed());
        if let Some(found) = found {
            return Ok(Stop::Answered(Box::new(journey.found(By::Exact, &found))));
        }
        if let Some(found) = self.similar(journey).await? {
            return Ok(Stop::Answered(Box::new(journey.found(By::Semantic, &found))));
        }
        if !journey.terms.control.coalesce {
            return Ok(Stop::Ask(None));
        }
        let waiting = Instant::now();
        match journey.terms.bounded(self.answers.board(&journey.key)).await? {
            Seat::Landed(outcome) => {
                journey.phases.coalesced_wait = Some(waiting.elapsed());
                let stored = outcome?;
                Ok(Stop::Answered(Box::new(journey.joined(&stored))))
            }
            Seat::Lead(lead) => {
                if lead.promoted() {
                    journey.phases.coalesced_wait = Some(waiting.elapsed());
                }
                // An answer may have landed between the look and the turn.
                match self.cache.answer_again(&journey.key, journey.terms.control) {
                    None => Ok(Stop::Ask(Some(lead))),
                    Some(found) => {
                        lead.land(found.entry.clone());
                        Ok(Stop::Answered(Box::new(journey.found(By::Exact, &found))))
                    }
                }
            }
        }
    }

    async fn ask(&self, journey: &mut Journey<'_>) -> Result<Arc<StoredAnswer>, Error> {
        let Journey { terms, conversation, model, .. } = journey;
        let reservation = self.reserve(terms, model, price::estimate(conversation))?;
        let asking = self.meter.asking(&model.name, journey.begun);
        asking.sent();
        let sent = Instant::now();
        let mut asked = None;
        let answer = match &model.kind {
            Kind::Statistics => Ok(statistics_span().in_scope(|| statistics::answer(conversation))),
            Kind::Target(target) => {
                target.complete(conversation, terms.deadline).await.map(|(answer, by)| {
                    asked = Some(by);
                    answer
                })
            }
        };
        journey.asked = asked;
        journey.phases.upstream = Some(sent.elapsed());
        self.settle(journey, reservation, answer)
    }

    /// Checks what a call is likely to use against its own limit and its tenant's, and reserves it.
    pub(crate) fn reserve(&self, terms: &Terms, model: &Model, likely: Usage) -> Result<Reservation, Error> {
        if model.is_free() {
            return Ok(Reservation::default());
        }
        let usd = model.dearest().cost(likely);
        terms.afford(usd)?;
        Ok(self.tenants.reserve(&terms.tenant, likely.total(), usd).map_err(Failure::Limited)?)
    }

    /// Takes what came of a call: settles what was reserved, counts, stores.
    pub(crate) fn settle(
        &self,
        journey: &Journey<'_>,
        reservation: Reservation,
        answer: Result<Answer, Failure>,
    ) -> Result<Arc<StoredAnswer>, Error> {
        match answer {
            Ok(answer) => {
                let price = journey.asked.as_ref().map_or(Price::default(), |asked| asked.price);
                let cost_usd = self.pay(&journey.model, reservation, price, answer.usage);
                Ok(self.keep(journey, answer, cost_usd))
            }
            Err(failure) => {
                // An upstream may charge for what broke off.
                if journey.asked.is_none() {
                    forgo(reservation, &failure);
                }
                Err(self.failed(&journey.model, failure))
            }
        }
    }

    /// Replaces what was reserved for a call to `model` by what it used, counts it, and returns what it cost, in USD.
    pub(crate) fn pay(&self, model: &Model, reservation: Reservation, price: Price, usage: Usage) -> f64 {
        let cost_usd = price.cost(usage);
        reservation.settle(usage.total(), cost_usd);
        self.meter.paid(&model.name, cost_usd);
        cost_usd
    }

    /// Stores an answer of a model if it may be.
    fn keep(&self, journey: &Journey<'_>, answer: Answer, cost_usd: f64) -> Arc<StoredAnswer> {
        let stored = Arc::new(StoredAnswer { answer, cost_usd });
        self.cache.store_answer(&journey.key, &stored, journey.terms.control);
        stored
    }

    /// Notes that a call failed.
    pub(crate) fn failed(&self, model: &Model, failure: Failure) -> Error {
        self.cache.refuse();
        tracing::warn!(model = &*model.name, failure = %failure, "the model did not answer");
        Error::Failed(failure)
    }

    /// Tells those who wait what came of the call.
    pub(crate) fn tell(
        &self,
        lead: Option<Lead<Arc<StoredAnswer>>>,
        asked: Result<Arc<StoredAnswer>, Error>,
    ) -> Result<Arc<StoredAnswer>, Error> {
        if let Some(lead) = lead {
            match &asked {
                // What was cut short under this caller's eyes is still the answer to the same question.
                Ok(stored) => lead.land(stored.clone()),
                Err(Error::Failed(failure)) => lead.fail(failure.clone()),
                // Its own limit: the next in line may have another.
                Err(_) => drop(lead),
            }
        }
        asked
    }
}

impl Journey<'_> {
    pub(crate) fn served(&self, by: By) -> Served {
        let mut served = Served::by(by, &self.model.name, self.phases);
        // The answer of another question has that question's name.
        served.answer_id = match &self.near {
            Some(near) if by == By::Semantic => near.answer.id(),
            _ => self.key.id(),
        };
        served.near.clone_from(&self.near);
        served
    }

    pub(crate) fn answered(&self, stored: &StoredAnswer) -> Generated {
        let mut served = self.served(By::Upstream);
        served.usage = stored.answer.usage;
        served.cost_usd = stored.cost_usd;
        if let Some(asked) = &self.asked {
            served.asked(asked);
        }
        Generated { answer: stored.answer.clone(), served }
    }

    fn joined(&self, stored: &StoredAnswer) -> Generated {
        let mut served = self.served(By::Coalesced);
        served.saved_usd = stored.cost_usd;
        Generated { answer: stored.answer.clone(), served }
    }

    fn found(&self, by: By, found: &Found<StoredAnswer>) -> Generated {
        debug_assert!(found.entry.answer.finish.is_complete(), "only complete answers are stored");
        let mut served = self.served(by);
        served.age = found.age;
        served.saved_usd = found.entry.cost_usd;
        Generated { answer: found.entry.answer.clone(), served }
    }
}

/// Gives back what was reserved for a call that failed before it was answered; an upstream may charge for what a caller's
/// deadline cut off.
pub(crate) fn forgo(reservation: Reservation, failure: &Failure) {
    if !failure.is_own() {
        reservation.release();
    }
}

/// Opens the span of builtin statistics: no attribute of a generative model, since it is none.
pub(crate) fn statistics_span() -> tracing::Span {
    tracing::info_span!("builtin/statistics")
}
