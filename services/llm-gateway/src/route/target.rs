//! A model as callers name it: the upstreams that can answer for it, and one call on its way through them.

use std::{sync::Arc, time::Instant};

use futures::Stream;

use super::{
    plan::{Candidate, Plan, Standing, Step, World},
    upstream::{Turn, Upstream},
};
use crate::{
    cache::semantic::Mode,
    conversation::{Answer, Conversation, Finish, Piece, Usage},
    price::Price,
    provider::Failure,
};

/// One upstream that can answer for a model.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The model as it names it.
    pub model: Arc<str>,
    /// Its share of the calls, among those of its stage; at least 1.
    pub weight: u32,
    /// 0 for those that share the calls; fallbacks follow.
    pub stage: usize,
    /// What it charges.
    pub price: Price,
}

/// The upstreams that can answer for a model, and how often they are asked again.
#[derive(Clone, Debug)]
pub struct Target {
    choices: Arc<[Choice]>,
    retries: u32,
    /// Whether answers to questions that ask the same serve, if its route says.
    semantic: Option<Mode>,
}

/// Who answered, after how many attempts and at what price.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The upstream and its model, as `upstream/model`.
    pub by: Arc<str>,
    /// Requests sent to upstreams until it answered.
    pub attempts: u32,
    /// What it charges.
    pub price: Price,
}

/// A piece of a streamed answer, or its end.
#[derive(Debug)]
pub enum Event {
    /// It begins: nobody else will be asked.
    Begin(Asked),
    /// The next piece.
    Piece(Piece),
    /// The answer is over.
    End {
        /// Why.
        finish: Finish,
        /// What it used, if the upstream said.
        usage: Option<Usage>,
    },
}

impl Target {
    /// Makes a target; the first stage is 0, and there is at least one choice.
    #[must_use]
    pub fn new(choices: Vec<Choice>, retries: u32) -> Self {
        Self { choices: choices.into(), retries, semantic: None }
    }

    /// Says whether answers to questions that ask the same serve.
    #[must_use]
    pub fn semantic(self, semantic: Option<Mode>) -> Self {
        Self { semantic, ..self }
    }

    /// Returns whether answers to questions that ask the same serve, if its route says.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.semantic
    }

    /// Returns the dearest of its prices: what a call may cost.
    #[must_use]
    pub fn dearest(&self) -> Price {
        self.choices.iter().fold(Price::default(), |dearest, choice| dearest.or_dearer(choice.price))
    }

    /// Returns what its first stage charges on average: what a call not made saves.
    #[must_use]
    pub fn expected(&self) -> Price {
        let first = || self.choices.iter().filter(|choice| choice.stage == 0);
        let whole: f64 = first().map(|choice| f64::from(choice.weight)).sum();
        let share = |choice: &Choice| f64::from(choice.weight) / whole.max(1.0);
        first().fold(Price::default(), |sum, choice| sum.plus(choice.price, share(choice)))
    }

    /// Asks for a whole answer.
    ///
    /// # Errors
    /// [`Failure`] of the last one asked, after all repetitions and fallbacks.
    pub async fn complete(
        &self,
        conversation: &Conversation,
        deadline: Option<Instant>,
    ) -> Result<(Answer, Asked), Failure> {
        let mut way = Way::new(self, deadline);
        loop {
            let (choice, turn) = way.next().await?;
            let asked = choice.upstream.endpoint().complete(&choice.model, conversation, deadline).await;
            turn.end(asked.as_ref().err());
            match asked {
                Ok(answer) => return Ok((answer, way.asked(choice))),
                Err(failure) => way.failed(failure),
            }
        }
    }

    /// Asks for an answer piece by piece. The first event is [`Event::Begin`], the last one of a stream that did not fail [`Event::End`]. Nobody else is asked once a piece
    /// was shown.
    pub fn stream<'a>(
        &'a self,
        conversation: &'a Conversation,
        deadline: Option<Instant>,
    ) -> impl Stream<Item = Result<Event, Failure>> + Send + 'a {
        async_stream::try_stream! {
            let mut way = Way::new(self, deadline);
            let (mut reading, turn, asked) = loop {
                let (choice, mut turn) = way.next().await?;
                match choice.upstream.endpoint().stream(&choice.model, conversation, deadline).await {
                    Ok(reading) => {
                        turn.begun();
                        break (reading, turn, way.asked(choice));
                    }
                    Err(failure) => {
                        turn.end(Some(&failure));
                        way.failed(failure);
                    }
                }
            };
            yield Event::Begin(asked);
            let end = loop {
                match reading.next().await {
                    Ok(Some(piece)) => yield Event::Piece(piece),
                    Ok(None) => break reading.end(),
                    Err(failure) => break Err(failure),
                }
            };
            turn.end(end.as_ref().err());
            let (finish, usage) = end?;
            yield Event::End { finish, usage };
        }
    }

    /// Returns why nobody was asked: every breaker is open.
    fn nobody(&self, now: Instant) -> Failure {
        let waits = self.choices.iter().filter_map(|choice| match choice.upstream.resting(now) {
            Failure::Resting { retry_after } => Some(retry_after),
            _ => None,
        });
        Failure::Resting { retry_after: waits.min().unwrap_or_default() }
    }
}

/// One call on its way through the upstreams.
struct Way<'a> {
    target: &'a Target,
    deadline: Option<Instant>,
    plan: Plan,
    place: usize,
    attempts: u32,
    last: Option<Failure>,
}

impl<'a> Way<'a> {
    fn new(target: &'a Target, deadline: Option<Instant>) -> Self {
        let candidate = |choice: &Choice| Candidate { stage: choice.stage, weight: choice.weight };
        let plan = Plan::new(target.choices.iter().map(candidate), target.retries);
        Self { target, deadline, plan, place: 0, attempts: 0, last: None }
    }

    /// Returns whom to ask next, and the right to.
    async fn next(&mut self) -> Result<(&'a Choice, Turn), Failure> {
        let choices = &self.target.choices;
        loop {
            let now = Instant::now();
            match self.plan.next(now, self.deadline, &Now { choices, now }) {
                Step::GiveUp => return Err(self.last.take().unwrap_or_else(|| self.target.nobody(now))),
                Step::Wait(until) => tokio::time::sleep_until(until.into()).await,
                Step::Ask(place) => {
                    let Some(choice) = choices.get(place) else { return Err(self.target.nobody(now)) };
                    self.place = place;
                    if self.plan.is_first(place) {
                        choice.upstream.called();
                    }
                    match choice.upstream.enter(self.deadline).await {
                        Err(refused) => self.failed(refused),
                        Ok(turn) => {
                            self.attempts += 1;
                            return Ok((choice, turn));
                        }
                    }
                }
            }
        }
    }

    /// Takes why the one just asked did not answer.
    fn failed(&mut self, failure: Failure) {
        tracing::debug!(attempts = self.attempts, failure = %failure, "the upstream did not answer");
        self.plan.failed(self.place, &failure, Instant::now(), rand::random());
        self.last = Some(telling(self.last.take(), failure));
    }

    fn asked(&self, choice: &Choice) -> Asked {
        let by = format!("{}/{}", choice.upstream.name(), choice.model).into();
        Asked { by, attempts: self.attempts, price: choice.price }
    }
}

/// The upstreams as they stand now.
struct Now<'a> {
    choices: &'a [Choice],
    now: Instant,
}

impl World for Now<'_> {
    fn standing(&self, place: usize) -> Standing {
        self.choices.get(place).map_or(Standing::Open, |choice| choice.upstream.standing(self.now))
    }

    fn may_repeat(&self, place: usize) -> bool {
        self.choices.get(place).is_some_and(|choice| choice.upstream.may_repeat())
    }

    fn chance(&self) -> f64 {
        rand::random()
    }
}

/// Returns the failure to tell of two: that a place or a breaker kept a later attempt back says less than what an upstream said.
fn telling(earlier: Option<Failure>, later: Failure) -> Failure {
    match (earlier, &later) {
        (
            Some(earlier),
            Failure::Resting { .. } | Failure::Overloaded { .. } | Failure::Unsupported { .. },
        ) => earlier,
        _ => later,
    }
}
