//! One upstream, and what holds calls to it back: a queue, a breaker, a budget of repetitions, its own wish for rest.
//!
//! Whose fault a failure is: the upstream's if it cannot be reached, times out, breaks off or answers what is no answer. Not its fault
//! are requests it refuses, our key, a caller that leaves or whose deadline passes; throttling is load.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rpc::{
    BreakerOptions, Deadline,
    breaker::{Breaker, Outcome, Pass},
    budget::Budget,
    chance::Chance,
    limit::{self, Bounds, Limit, Permit, Refused},
};
use telemetry::{Counter, Gauge, KeyValue, Telemetry, names};
use tokio::sync::watch;

use super::plan::Standing;
use crate::provider::{Endpoint, Failure};

/// Repetitions a second that are allowed whatever the number of calls.
const REPETITIONS_PER_SECOND: u32 = 1;

/// What holds calls to an upstream back.
#[derive(Clone, Debug)]
pub struct Bounding {
    /// Calls at a time, and those that wait for one of them to end.
    pub bounds: Bounds,
    /// Share of the calls that may be repeated, in percent.
    pub retry_percent: u32,
    /// When it is left alone.
    pub breaker: BreakerOptions,
}

/// One upstream.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    endpoint: Endpoint,
    limit: Arc<Limit>,
    wait: Duration,
    budget: Budget,
    breaker: Mutex<Breaker>,
    chance: Chance,
    rests_until: Mutex<Option<Instant>>,
    /// Whether it was of use when it was last asked; `None` before.
    answers: watch::Sender<Option<bool>>,
    instruments: Instruments,
}

#[derive(Debug)]
struct Instruments {
    attempts: Counter,
    openings: Counter,
    shed: Counter,
    running: Gauge,
    queued: Gauge,
}

/// A call to an upstream under way. Dropped without an end it says nothing about the upstream: its caller left.
#[derive(Debug)]
pub(super) struct Turn {
    upstream: Arc<Upstream>,
    pass: Option<Pass>,
    permit: Option<Permit>,
}

impl Upstream {
    /// Prepares an upstream; connects to nothing yet.
    #[must_use]
    pub fn new(name: &str, endpoint: Endpoint, bounding: Bounding, telemetry: &Telemetry) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            endpoint,
            limit: Limit::new(bounding.bounds),
            wait: bounding.bounds.wait,
            budget: Budget::new(bounding.retry_percent, REPETITIONS_PER_SECOND),
            breaker: Mutex::new(Breaker::new(bounding.breaker, Instant::now().into())),
            chance: Chance::new(),
            rests_until: Mutex::default(),
            answers: watch::Sender::new(None),
            instruments: Instruments {
                attempts: telemetry.counter(names::LLM_ATTEMPTS),
                openings: telemetry.counter(names::LLM_BREAKER_OPENINGS),
                shed: telemetry.counter(names::LLM_SHED),
                running: telemetry.gauge(names::LLM_RUNNING),
                queued: telemetry.gauge(names::LLM_QUEUED),
            },
        })
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns whether it answered, and took our key, when it was last asked; `None` before the first time.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<Option<bool>> {
        self.answers.subscribe()
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        if self.breaker.lock().blocked(now.into()).is_some() {
            return Standing::Open;
        }
        match *self.rests_until.lock() {
            Some(until) if now < until => Standing::Resting(until),
            _ => Standing::Ready,
        }
    }

    /// Returns the failure of a call that finds its breaker open.
    pub(super) fn resting(&self, now: Instant) -> Failure {
        let until = self.breaker.lock().blocked(now.into());
        let retry_after = until.map(|until| until.saturating_duration_since(now.into())).unwrap_or_default();
        Failure::Resting { retry_after }
    }

    /// Counts a call, for the share of them that may be repeated.
    pub(super) fn called(&self) {
        self.budget.called();
    }

    /// Takes a repetition out of the budget; returns whether there was one.
    pub(super) fn may_repeat(&self) -> bool {
        self.budget.allows()
    }

    /// Waits for a place, then passes the breaker.
    pub(super) async fn enter(self: &Arc<Self>, deadline: Option<Instant>) -> Result<Turn, Failure> {
        let until = deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let mut entering = std::pin::pin!(self.limit.enter(Deadline::after(until)));
        // The gauge is set once the call has lined up, not before.
        let first = futures::poll!(entering.as_mut());
        self.show();
        let entered = match first {
            std::task::Poll::Ready(entered) => entered,
            std::task::Poll::Pending => entering.await,
        };
        let permit = entered.map_err(|refused| match refused {
            Refused::Late => Failure::Deadline,
            Refused::Overloaded => {
                self.instruments.shed.add(1, &self.attributes());
                Failure::Overloaded { retry_after: limit::come_back(self.wait) }
            }
        })?;
        let now = Instant::now();
        let pass = self.breaker.lock().pass(now.into());
        let pass = pass.ok_or_else(|| self.resting(now))?;
        Ok(Turn { upstream: self.clone(), pass: Some(pass), permit: Some(permit) })
    }

    fn attributes(&self) -> [KeyValue; 1] {
        [KeyValue::new(names::UPSTREAM, self.name.clone())]
    }

    fn show(&self) {
        let (running, queued) = self.limit.counts();
        let attributes = self.attributes();
        self.instruments.running.set(running as f64, &attributes);
        self.instruments.queued.set(queued as f64, &attributes);
    }

    fn end(&self, pass: Pass, outcome: Outcome) {
        let opened = self.breaker.lock().end(pass, outcome, Instant::now().into(), &self.chance);
        if opened {
            self.instruments.openings.add(1, &self.attributes());
            tracing::warn!(
                upstream = &*self.name,
                "the upstream failed too often and is left alone for a moment"
            );
        }
    }

    /// Notes what an attempt says of the upstream as a whole.
    fn note(&self, failure: Option<&Failure>) {
        if let Some(Failure::Throttled { retry_after: Some(wait) }) = failure {
            *self.rests_until.lock() = Instant::now().checked_add(*wait);
        }
        let word = failure.map_or("answered", Failure::as_str);
        let [upstream] = self.attributes();
        self.instruments.attempts.add(1, &[upstream, KeyValue::new(names::OUTCOME, word)]);
        let answers = match failure {
            Some(Failure::Unreachable | Failure::Credentials) => false,
            Some(Failure::Refused { .. } | Failure::Malformed) | None => true,
            // One that is busy may be fine for the next, and our caller's haste is not its fault.
            Some(_) => return,
        };
        self.answers.send_if_modified(|last| last.replace(answers) != Some(answers));
    }
}

impl Turn {
    /// Says that an answer has begun: an upstream that is tried is well again, however long the answer takes.
    pub(super) fn begun(&mut self) {
        if self.pass == Some(Pass::Probe) {
            self.upstream.end(Pass::Probe, Outcome::Success);
            self.pass = Some(Pass::Ordinary);
        }
    }

    /// Says what came of the call.
    pub(super) fn end(mut self, failure: Option<&Failure>) {
        self.upstream.note(failure);
        if let Some(pass) = self.pass.take() {
            self.upstream.end(pass, outcome(failure));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.upstream.end(pass, Outcome::Unknown);
        }
        drop(self.permit.take());
        self.upstream.show();
    }
}

/// Says whose fault a failure is.
fn outcome(failure: Option<&Failure>) -> Outcome {
    match failure {
        Some(Failure::Unreachable | Failure::Malformed) => Outcome::Failure,
        None | Some(Failure::Refused { .. } | Failure::Credentials | Failure::Throttled { .. }) => {
            Outcome::Success
        }
        Some(
            Failure::Unsupported { .. }
            | Failure::Resting { .. }
            | Failure::Overloaded { .. }
            | Failure::Limited(_)
            | Failure::Deadline,
        ) => Outcome::Unknown,
    }
}
