//! How an answer came about, and the terms of the call that asked for it.

mod telling;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use self::telling::tell_all;
use crate::{
    cache::semantic::{Mode, Nearness},
    conversation::Usage,
    error::Error,
    pattern,
    route::Asked,
};

/// What answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A pattern template.
    Pattern,
    /// The exact cache.
    Exact,
    /// The semantic cache.
    Semantic,
    /// An identical call already in flight.
    Coalesced,
    /// A model call shared with other observations.
    Merged,
    /// A model call of its own.
    Upstream,
}

/// Wall time spent per phase; `None` where the phase did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Evaluating pattern templates.
    pub pattern: Option<Duration>,
    /// Building the key and looking it up.
    pub cache: Option<Duration>,
    /// Embedding the question and comparing it with others; asking the verifier.
    pub semantic: Option<Duration>,
    /// Waiting for an identical call in flight.
    pub coalesced_wait: Option<Duration>,
    /// Waiting for the model, retries included.
    pub upstream: Option<Duration>,
}

impl Phases {
    /// Returns every phase with its stable word, in the order in which they happen.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<Duration>); 5] {
        [
            ("pattern", self.pattern),
            ("cache", self.cache),
            ("semantic", self.semantic),
            ("coalesced_wait", self.coalesced_wait),
            ("upstream", self.upstream),
        ]
    }
}

impl std::ops::Add for Phases {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let sum = |one: Option<Duration>, two: Option<Duration>| match (one, two) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
        Self {
            pattern: sum(self.pattern, other.pattern),
            cache: sum(self.cache, other.cache),
            semantic: sum(self.semantic, other.semantic),
            coalesced_wait: sum(self.coalesced_wait, other.coalesced_wait),
            upstream: sum(self.upstream, other.upstream),
        }
    }
}

/// How an answer came about, what it cost and what it saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// What answered.
    pub by: By,
    /// The model that wrote the answer; empty for a pattern.
    pub model: Arc<str>,
    /// How old the answer is, on the agent clock.
    pub age: Duration,
    /// Tokens this call used.
    pub usage: Usage,
    /// What this call cost, in USD.
    pub cost_usd: f64,
    /// What the caller did not pay, in USD.
    pub saved_usd: f64,
    /// Wall time per phase.
    pub phases: Phases,
    /// The template that answered; empty unless a pattern did.
    pub pattern: String,
    /// The upstream that answered and its model, as `upstream/model`; empty unless one was asked.
    pub upstream: Arc<str>,
    /// Requests sent to upstreams until one answered.
    pub attempts: u32,
    /// The nearest question answered before, where questions were compared.
    pub near: Option<Nearness>,
    /// Names the stored answer; empty for one that is not stored.
    pub answer_id: String,
    /// Names the template's match, to report its outcome under.
    pub match_id: Option<pattern::Id>,
}

/// How a call may use the cache and the calls in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Whether a cached answer may be served.
    pub read: bool,
    /// Whether the answer may be stored.
    pub store: bool,
    /// Whether an identical call in flight may be joined.
    pub coalesce: bool,
    /// How old a cached answer may be; `None` leaves it to the cache's own limit.
    pub max_age: Option<Duration>,
    /// Whether answers to questions that ask the same serve; `None` leaves it to the model's route and the setting.
    pub semantic: Option<Mode>,
}

/// Who calls, and on what terms.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The caller's tenant: part of every key.
    pub tenant: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Use of the cache.
    pub control: Control,
    /// Most the call may cost, in USD, by estimate.
    pub max_cost_usd: Option<f64>,
}

impl Served {
    /// Makes the record of an answer that cost nothing yet.
    #[must_use]
    pub fn by(by: By, model: &Arc<str>, phases: Phases) -> Self {
        Self {
            by,
            model: model.clone(),
            age: Duration::ZERO,
            usage: Usage::default(),
            cost_usd: 0.0,
            saved_usd: 0.0,
            phases,
            pattern: String::new(),
            upstream: Arc::default(),
            attempts: 0,
            near: None,
            answer_id: String::new(),
            match_id: None,
        }
    }
}

impl Served {
    /// Notes which upstream answered.
    pub fn asked(&mut self, asked: &Asked) {
        self.upstream = asked.by.clone();
        self.attempts = asked.attempts;
    }
}

impl By {
    /// Everything that answers, the cheapest first.
    pub const ALL: [Self; 6] =
        [Self::Pattern, Self::Exact, Self::Semantic, Self::Coalesced, Self::Merged, Self::Upstream];

    /// Returns the stable word used as a metric attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Exact => "exact",
            Self::Semantic => "semantic",
            Self::Coalesced => "coalesced",
            Self::Merged => "merged",
            Self::Upstream => "upstream",
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { read: true, store: true, coalesce: true, max_age: None, semantic: None }
    }
}

impl Terms {
    /// Waits for `future` until the caller's deadline.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] when the deadline comes first.
    pub async fn bounded<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        match self.deadline {
            None => Ok(future.await),
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), future).await.map_err(|_| Error::DeadlineExceeded)
            }
        }
    }

    /// Checks an estimate against what the call may cost.
    ///
    /// # Errors
    /// [`Error::OverBudget`] when it would cost more.
    pub fn afford(&self, estimate_usd: f64) -> Result<(), Error> {
        match self.max_cost_usd {
            Some(limit_usd) if estimate_usd > limit_usd => Err(Error::OverBudget { estimate_usd, limit_usd }),
            _ => Ok(()),
        }
    }
}
