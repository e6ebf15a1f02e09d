//! The way of a conversation: exact cache, then the semantic one where it is on, then an identical call in flight, then the model.

use std::{sync::Arc, time::Instant};

use crate::{
    cache::{Lead, Seat, StoredAnswer},
    conversation::{Answer, Conversation},
    error::Error,
    gateway::{Gateway, forgo},
    journey::{Generated, Journey, Spent, Stop},
    price::{self, Price},
    provider::{Failure, statistics},
    route::Kind,
    served::{By, Phases, Terms},
    tenant::Reservation,
};

impl Gateway {
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
            spent: Spent::default(),
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
        let Journey { terms, conversation, model, spent, .. } = journey;
        let reservation = self.reserve(terms, model, price::estimate(conversation), spent.usd)?;
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

    /// Stores an answer of a model if it may be.
    fn keep(&self, journey: &Journey<'_>, answer: Answer, cost_usd: f64) -> Arc<StoredAnswer> {
        let stored = Arc::new(StoredAnswer { answer, cost_usd });
        self.cache.store_answer(&journey.key, &stored, journey.terms.control);
        stored
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

/// Opens the span of builtin statistics: no attribute of a generative model, since it is none.
pub(crate) fn statistics_span() -> tracing::Span {
    tracing::info_span!("builtin/statistics")
}
