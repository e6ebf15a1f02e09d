//! The way of a question that may ask the same as one answered before.
//!
//! 1. Off unless a model's route, a request or the setting asks. Only the last turn of the user may differ, and only if it is text: tenant,
//!    model, system prompt, tools, format, parameters and the whole history are equal, or the questions are never compared.
//! 2. Who is nearest is found by embedding; whether its answer serves is decided by guards and a learned score ([`Decision`]), and where a
//!    verifier is named, by that model as well.
//! 3. Answers stay in the exact cache: what has expired there, or was removed, serves nobody.
//! 4. A shadow serves nothing: the model is asked, and whether it said the same is counted.
//! 5. What fails (an embedder that does not answer, a verifier) is a miss.

pub mod calibrated;
mod lookup;
mod shadow;
mod verify;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::RwLock;
use telemetry::{Counter, KeyValue, Telemetry, names};

pub use crate::cache::semantic::{Limits, Mode, Nearness};
use crate::cache::{
    Key, StoredAnswer,
    semantic::{Decision, Question, Store},
};

/// What the tier does where a request does not say, and how much it may keep.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it serves.
    pub mode: Mode,
    /// Who decides.
    pub decision: Decision,
    /// How many questions are kept.
    pub limits: Limits,
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
        let store = Store::new(options.limits);
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
        self.store.write().retain(|answer| !gone(answer));
    }

    fn count(&self, outcome: Outcome) {
        self.totals[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.outcomes.add(1, &[KeyValue::new(names::OUTCOME, outcome.as_str())]);
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
