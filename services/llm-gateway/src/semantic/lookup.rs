//! The way of a question through the tier.

use std::{sync::Arc, time::Instant};

use super::{Asked, Outcome, shadow};
use crate::{
    cache::{
        Found, Key, StoredAnswer,
        semantic::{CANDIDATES, Lookup, Mode, Nearness, Question},
    },
    error::Error,
    gateway::Gateway,
    journey::Journey,
};

/// Longest text that is compared, in bytes: what is longer is hardly a question, and never asked twice in other words.
const LONGEST: usize = 4 << 10;

impl Gateway {
    /// Looks for a question that asks the same; leaves in `journey` what is needed to store this one's own answer.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] only: what else fails is a miss.
    pub(crate) async fn similar(
        &self,
        journey: &mut Journey<'_>,
    ) -> Result<Option<Found<StoredAnswer>>, Error> {
        let control = journey.terms.control;
        let mode = control.semantic.or(journey.model.semantic()).unwrap_or(self.semantic.options.mode);
        if mode == Mode::Off || journey.model.is_free() || self.cache.is_off() {
            return Ok(None);
        }
        let looking = Instant::now();
        // Kept apart, as an exact hit would otherwise carry room for it from hand to hand.
        let found = Box::pin(self.nearest(journey, mode)).await;
        journey.phases.semantic = Some(looking.elapsed());
        found
    }

    async fn nearest(
        &self,
        journey: &mut Journey<'_>,
        mode: Mode,
    ) -> Result<Option<Found<StoredAnswer>>, Error> {
        let Journey { terms, conversation, model, .. } = journey;
        let Some(text) = conversation.last_words().filter(|text| text.len() <= LONGEST) else {
            return Ok(None);
        };
        let Some(partition) = self.keys.partition(&terms.tenant, &model.name, conversation) else {
            return Ok(None);
        };
        let vector = match terms.bounded(self.embedder.embed_one(text)).await? {
            Ok(vector) => vector,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the embedder failed: asking the model"
                );
                self.semantic.count(Outcome::Failed);
                return Ok(None);
            }
        };
        let question = Question::new(text, vector);
        let found =
            if terms.control.read { self.judged(journey, &partition, &question).await? } else { None };
        let shadow = found.as_ref().filter(|_| mode == Mode::Shadow).map(|found| found.entry.clone());
        let serves = mode == Mode::On && found.is_some();
        if let Some(near) = journey.near.as_mut() {
            near.served = serves;
        }
        if serves {
            self.semantic.count(Outcome::Served);
            return Ok(found);
        }
        journey.question = Some(Asked { partition, question, shadow });
        Ok(None)
    }

    /// Returns the answer to the nearest question if it may serve; notes why it does not.
    async fn judged(
        &self,
        journey: &mut Journey<'_>,
        partition: &Key,
        question: &Question,
    ) -> Result<Option<Found<StoredAnswer>>, Error> {
        let lookup =
            self.semantic.store.read().lookup(partition, question, self.semantic.decision(), CANDIDATES);
        let (candidate, may_serve) = match lookup {
            Lookup::Empty => {
                self.semantic.count(Outcome::Empty);
                return Ok(None);
            }
            Lookup::Near(candidate) => (candidate, false),
            Lookup::Served(candidate) => (candidate, true),
        };
        let found = self.cache.answer_again(&candidate.value, journey.terms.control);
        if found.is_none() && self.cache.is_gone(&candidate.value) {
            self.semantic.store.write().remove(partition, &candidate.value);
        }
        let mut near = Nearness {
            served: false,
            verdict: candidate.verdict,
            refused_by_verifier: false,
            answer: candidate.value,
        };
        let found = match found.filter(|_| may_serve) {
            Some(found) => {
                let asked = question.text.as_str();
                self.verified(journey, &candidate.text, asked, &mut near).await?.then_some(found)
            }
            None => {
                self.semantic.count(Outcome::Refused);
                None
            }
        };
        journey.near = Some(near);
        Ok(found)
    }

    /// Keeps a question whose answer was stored under `key`, and sees whether it says what a shadow would have served.
    pub(crate) fn answered_question(&self, asked: Option<Asked>, stored: &Arc<StoredAnswer>, key: &Key) {
        let Some(asked) = asked else { return };
        if let Some(shadow) = asked.shadow {
            let (semantic, embedder, stored) = (self.semantic.clone(), self.embedder.clone(), stored.clone());
            // Apart: the caller has its answer.
            self.telemetry.spawn(async move {
                let same = shadow::agree(&*embedder, &shadow.answer, &stored.answer).await;
                semantic.count(match same {
                    Some(true) => Outcome::Agreed,
                    Some(false) => Outcome::Disagreed,
                    None => Outcome::Failed,
                });
            });
        }
        if !self.cache.is_gone(key) {
            let bytes = asked.partition.bytes() + key.bytes();
            self.semantic.store.write().insert(asked.partition, asked.question, key.clone(), bytes);
        }
    }
}
