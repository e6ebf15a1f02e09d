//! A conversation answered piece by piece.
//!
//! 1. The pieces flow through a task of their own: a caller that reads slowly does not hold up those who wait for the same answer.
//! 2. When the caller goes away the task ends and with it the upstream call; whoever waits takes over.
//! 3. A cached answer, and one that another caller asked for, is replayed: in pieces of some words, its tool calls whole.

use std::{sync::Arc, time::Instant};

use futures::StreamExt as _;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::{
    cache::StoredAnswer,
    conversation::{Answer, Conversation, Finish, Gathered, Piece, Usage},
    error::Error,
    gateway::Gateway,
    generate::statistics_span,
    journey::{Generated, Journey, Stop},
    price,
    provider::{self, Failure, statistics},
    route::{Asked, Event, Kind},
    served::{By, Served, Terms},
};

/// A piece of an answer, or its end.
#[derive(Debug)]
pub enum Part {
    /// The first part of a stream that did not fail before: what answers, as far as it is known yet.
    Begin(Box<Served>),
    /// The next piece.
    Piece(Piece),
    /// The last piece of a stream that did not fail.
    End {
        /// Why the model stopped.
        finish: Finish,
        /// Tokens the answer took when it was made.
        usage: Usage,
        /// How the answer came about.
        served: Box<Served>,
    },
}

type Sender = UnboundedSender<Result<Part, Error>>;

impl Gateway {
    /// Answers one conversation piece by piece; an error is the last item.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] for a model nobody serves; everything else comes through the stream.
    pub fn generate_stream(
        self: &Arc<Self>,
        terms: Terms,
        conversation: Conversation,
    ) -> Result<UnboundedReceiver<Result<Part, Error>>, Error> {
        self.models.resolve(&conversation.model)?;
        // Not bounded: an answer is, and a bound would let a slow reader hold up those who wait for the same answer.
        let (sender, receiver) = mpsc::unbounded_channel();
        let gateway = self.clone();
        self.telemetry.spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                outcome = gateway.pump(&sender, &terms, &conversation) => {
                    let last = outcome.map(|generated| Part::End {
                        finish: generated.answer.finish,
                        usage: generated.answer.usage,
                        served: Box::new(generated.served),
                    });
                    // Nobody listens any more: nothing to tell.
                    let _ = sender.send(last);
                }
            }
        });
        Ok(receiver)
    }

    async fn pump(
        &self,
        sender: &Sender,
        terms: &Terms,
        conversation: &Conversation,
    ) -> Result<Generated, Error> {
        let mut journey = self.depart(terms, conversation)?;
        let generated = match self.cheaply(&mut journey).await? {
            Stop::Answered(generated) => {
                begin(sender, generated.served.clone());
                replay(sender, &generated.answer);
                *generated
            }
            Stop::Ask(lead) => {
                let asked = self.ask_streaming(sender, &mut journey).await;
                let stored = self.tell(lead, asked)?;
                self.answered_question(journey.question.take(), &stored, &journey.key);
                journey.answered(&stored)
            }
        };
        self.account(&generated.served, journey.begun);
        Ok(generated)
    }

    async fn ask_streaming(
        &self,
        sender: &Sender,
        journey: &mut Journey<'_>,
    ) -> Result<Arc<StoredAnswer>, Error> {
        let likely = price::estimate(journey.conversation);
        let reservation = self.reserve(journey.terms, &journey.model, likely, journey.spent.usd)?;
        let asking = self.meter.asking(&journey.model.name, journey.begun);
        asking.sent();
        let sent = Instant::now();
        let mut asked = None;
        let answer = relay(sender, journey, &mut asked).await;
        journey.asked = asked;
        journey.phases.upstream = Some(sent.elapsed());
        self.settle(journey, reservation, answer)
    }
}

/// Hands the pieces on and gathers them, and says who answers as soon as that is known.
async fn relay(sender: &Sender, journey: &Journey<'_>, asked: &mut Option<Asked>) -> Result<Answer, Failure> {
    let conversation = journey.conversation;
    let target = match &journey.model.kind {
        Kind::Target(target) => target,
        Kind::Statistics => {
            let answer = statistics_span().in_scope(|| statistics::answer(conversation));
            begin(sender, journey.served(By::Upstream));
            replay(sender, &answer);
            return Ok(answer);
        }
    };
    let mut events = std::pin::pin!(target.stream(conversation, journey.terms.deadline));
    let mut gathered = Gathered::default();
    while let Some(event) = events.next().await {
        match event? {
            Event::Begin(by) => {
                let mut served = journey.served(By::Upstream);
                served.asked(&by);
                begin(sender, served);
                *asked = Some(by);
            }
            Event::Piece(piece) => {
                gathered.take(&piece).map_err(|_| Failure::Malformed)?;
                send(sender, piece);
            }
            Event::End { finish, usage } => {
                let usage = usage.unwrap_or_else(|| provider::estimated(conversation, gathered.text()));
                return Ok(gathered.answer(finish, usage));
            }
        }
    }
    Err(Failure::Malformed)
}

fn begin(sender: &Sender, served: Served) {
    // A reader that left ends the task by itself.
    let _ = sender.send(Ok(Part::Begin(Box::new(served))));
}

fn replay(sender: &Sender, answer: &Answer) {
    answer.pieces().for_each(|piece| send(sender, piece));
}

fn send(sender: &Sender, piece: Piece) {
    // A reader that left ends the task by itself.
    let _ = sender.send(Ok(Part::Piece(piece)));
}
