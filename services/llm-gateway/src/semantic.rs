//! The way of a question that may ask the same as one answered before.
//!
//! 1. Off unless a model's route, a request or the setting asks. Only the last turn of the user may differ, and only if it is text: tenant,
//!    model, system prompt, tools, format, parameters and the whole history are equal, or the questions are never compared.
//! 2. Who is nearest is found by embedding; whether its answer serves is decided by guards and a learned score ([`Decision`]), and where a
//!    verifier is named, by that model as well.
//! 3. Answers stay in the exact cache: what has expired there, or was removed, serves nobody.
//! 4. A shadow serves nothing: the model is asked, and whether it said the same is counted.
//! 5. What fails (an embedder that does not answer, a verifier) is a miss.

mod calibrated;
mod shadow;
mod verify;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::RwLock;
use telemetry::{Counter, KeyValue, Telemetry, names};

pub use self::calibrated::{Calibration, Pair};
pub use crate::cache::semantic::{Mode, Nearness};
use crate::{
    cache::{
        Found, Key, StoredAnswer,
        semantic::{CANDIDATES, Decision, Lookup, Question, Store},
    },
    error::Error,
    gateway::{Gateway, Journey},
};

/// Longest text that is compared, in bytes: what is longer is hardly a question, and never asked twice in other words.
const LONGEST: usize = 4 << 10;

/// What the tier does where a request does not say, and how much it may keep.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it serves.
    pub mode: Mode,
    /// Who decides.
    pub decision: Decision,
    /// Most questions kept.
    pub questions: usize,
    /// Most of them in one partition: all are read at each lookup.
    pub partition: usize,
    /// The model that is asked as well before an answer serves; empty: none.
    pub verifier: String,
}

/// The questions answered before.
#[derive(Debug)]
pub struct Semantic {
    options: Options,
    store: RwLock<Store<Key, Key>>,
    outcomes: Counter,
    totals: [AtomicU64; Outcome::ALL.len()],
}

/// What came of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was near.
    Empty,
    /// A question was near, and its answer does not serve.
    Refused,
    /// An answer served.
    Served,
    /// An answer would have served, and the model said the same.
    Agreed,
    /// An answer would have served, and the model said something else.
    Disagreed,
    /// The embedder or the verifier failed.
    Failed,
}

/// A question on its way: where it belongs, what it asks, and what a shadow would have served.
#[derive(Debug)]
pub(crate) struct Asked {
    partition: Key,
    question: Question,
    shadow: Option<Arc<StoredAnswer>>,
}

impl Semantic {
    /// Makes an empty tier.
    #[must_use]
    pub fn new(options: Options, telemetry: &Telemetry) -> Self {
        let store = Store::new(options.questions, options.partition);
        Self {
            options,
            store: RwLock::new(store),
            outcomes: telemetry.counter(names::LLM_SEMANTIC),
            totals: Default::default(),
        }
    }

    /// Returns who decides.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.options.decision
    }

    /// Returns how many questions are kept.
    #[must_use]
    pub fn questions(&self) -> usize {
        self.store.read().len()
    }

    /// Returns how often this came of a lookup.
    #[must_use]
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.totals[outcome as usize].load(Ordering::Relaxed)
    }

    /// Forgets the questions whose answers are `gone`.
    pub fn forget(&self, gone: impl Fn(&Key) -> bool) {
        self.store.write().retain(|_, answer| !gone(answer));
    }

    fn count(&self, outcome: Outcome) {
        self.totals[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.outcomes.add(1, &[KeyValue::new(names::OUTCOME, outcome.as_str())]);
    }
}

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
        if mode == Mode::Off || journey.model.is_free() {
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
            Some(found)
                if self.verified(journey, &candidate.text, question.text.as_str(), &mut near).await? =>
            {
                Some(found)
            }
            _ => {
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
            self.semantic.store.write().insert(asked.partition, asked.question, key.clone());
        }
    }
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 6] =
        [Self::Empty, Self::Refused, Self::Served, Self::Agreed, Self::Disagreed, Self::Failed];

    /// Returns the stable word used as a metric attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Refused => "refused",
            Self::Served => "served",
            Self::Agreed => "agreed",
            Self::Disagreed => "disagreed",
            Self::Failed => "failed",
        }
    }
}
