//! `WriteStream`: takes writes as long as there is room, answers each, and says at the end how far it came.
//!
//! One state machine, run by whoever reads the answers: a client that reads none has no more taken of it than its credit.

use std::{pin::Pin, sync::Arc};

use contracts::storage as wire;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use rpc::{Caller, Code, Deadline, Fault, Leaving, limit::Permit};
use tonic::{Request, Status, Streaming};

use super::{Slot, WAY_BACK};
use crate::{
    accept::Receipt,
    convert,
    error::Error,
    stream::{Limits, Progress},
};

/// Most outcomes in one message.
const MOST_OUTCOMES: usize = 1_000;

/// The answers of one stream.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<wire::WriteStreamResponse, Status>> + Send>>;

/// One stream.
struct Session {
    slot: Slot,
    tenant: Arc<str>,
    limits: Limits,
    requests: Streaming<wire::WriteStreamRequest>,
    progress: Progress,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Ready when the stream must take no more, with the reason.
    leave: BoxFuture<'static, Fault>,
    stage: Stage,
    _permit: Permit,
}

/// How far a stream's life has come.
enum Stage {
    /// Its credit is to be told.
    New,
    /// It takes and answers.
    Open,
    /// It takes no more, and answers; with a fault, unless its client wanted that.
    Closing(Option<Fault>),
    /// All is answered and said.
    Ended(Option<Fault>),
}

/// A write that is decided.
struct Landed {
    number: u64,
    bytes: u64,
    outcome: Result<Receipt, Refused>,
}

/// Why it is not accepted.
struct Refused {
    fault: Fault,
    /// The round that it halts, if it may be accepted later.
    round: Option<u64>,
}

/// Serves a stream that was let in by `permit`.
pub(super) fn serve(
    slot: Slot,
    limits: Limits,
    permit: Permit,
    request: Request<Streaming<wire::WriteStreamRequest>>,
) -> Answers {
    let session = Session {
        slot,
        tenant: Caller::of(&request).tenant,
        limits,
        leave: leave(&request),
        requests: request.into_inner(),
        progress: Progress::new(limits),
        flights: FuturesUnordered::new(),
        stage: Stage::New,
        _permit: permit,
    };
    Box::pin(futures::stream::unfold(session, |mut session| async {
        let answer = session.next().await?;
        Some((answer, session))
    }))
}

/// Waits until the stream must end: a little before the deadline, or with its connection.
fn leave(request: &Request<Streaming<wire::WriteStreamRequest>>) -> BoxFuture<'static, Fault> {
    let leaving = Leaving::promise(request);
    let left = Deadline::current().map(|deadline| deadline.remaining());
    async move {
        let late = async {
            match left {
                Some(left) => tokio::time::sleep(left - (left / 10).min(WAY_BACK)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = leaving => Leaving::fault(),
            () = late => Fault::new(Code::DeadlineExceeded, "the deadline of the stream is near"),
        }
    }
    .boxed()
}

impl Session {
    /// Goes on until there is something to tell; `None` at the end.
    async fn next(&mut self) -> Option<Result<wire::WriteStreamResponse, Status>> {
        loop {
            match &mut self.stage {
                Stage::New => {
                    self.stage = Stage::Open;
                    return Some(Ok(convert::credit(self.limits)));
                }
                Stage::Open => {
                    if let Some(landed) = self.work().await {
                        return Some(Ok(self.answer(landed)));
                    }
                }
                Stage::Closing(fault) => {
                    if let Some(landed) = self.flights.next().await {
                        return Some(Ok(self.answer(landed)));
                    }
                    self.stage = Stage::Ended(fault.take());
                    return Some(Ok(convert::ended(self.progress.last())));
                }
                Stage::Ended(fault) => return fault.take().map(|fault| Err(fault.into())),
            }
        }
    }

    /// Does one thing of what can be done: takes a write, or returns one that is decided, or stops taking.
    async fn work(&mut self) -> Option<Landed> {
        tokio::select! {
            biased;
            Some(landed) = self.flights.next() => return Some(landed),
            fault = &mut self.leave => self.stage = Stage::Closing(Some(fault)),
            request = self.requests.message(), if self.progress.has_room() => match request {
                Ok(Some(request)) => {
                    if let Err(fault) = self.take(request).await {
                        self.stage = Stage::Closing(Some(fault));
                    }
                }
                Ok(None) => self.stage = Stage::Closing(None),
                Err(status) => self.stage = Stage::Closing(Some(unread(&status))),
            },
        }
        None
    }

    async fn take(&mut self, request: wire::WriteStreamRequest) -> Result<(), Fault> {
        let (number, bytes) = (request.number, request.encoded_len() as u64);
        let turn = self.progress.take(number, bytes).map_err(convert::out_of_order)?;
        let round = turn.round();
        let land = move |outcome| Landed { number, bytes, outcome };
        let (write, level) = match convert::streamed(&self.tenant, request) {
            Ok(checked) => checked,
            Err(fault) => {
                let refused = Refused { fault, round: None };
                self.flights.push(std::future::ready(land(Err(refused))).boxed());
                return Ok(());
            }
        };
        let batcher = self.slot.get().ok_or(Error::NotReady)?;
        let decided = batcher.submit(Arc::clone(&self.tenant), write, level, turn).await;
        let refused = move |error: Error| {
            let round = error.is_for_now().then_some(round);
            Refused { fault: convert::fault_of_one(error), round }
        };
        self.flights.push(decided.map(move |outcome| land(outcome.map_err(refused))).boxed());
        Ok(())
    }

    /// Tells what came of `first`, and of all else that is decided.
    fn answer(&mut self, first: Landed) -> wire::WriteStreamResponse {
        let mut answer = wire::WriteStreamResponse::default();
        let mut next = Some(first);
        while let Some(Landed { number, bytes, outcome }) = next {
            let refused_in = outcome.as_ref().err().and_then(|refused| refused.round);
            self.progress.answer(number, bytes, refused_in);
            answer.outcomes.push(match outcome {
                Ok(receipt) => {
                    answer.pending_documents = receipt.pending_documents;
                    convert::accepted(number, &receipt)
                }
                Err(Refused { fault, round }) => convert::refused(number, &fault, round.is_some()),
            });
            let is_full = answer.outcomes.len() >= MOST_OUTCOMES;
            next = if is_full { None } else { self.flights.next().now_or_never().flatten() };
        }
        answer
    }
}

/// Says what was wrong with what came: bytes that are no message are the caller's fault.
fn unread(status: &Status) -> Fault {
    match Fault::of(status) {
        (Code::Internal, message) => {
            let message = format!("the message cannot be read: {message}");
            Fault::new(Code::InvalidArgument, message).reason("UNREADABLE")
        }
        _ => status.into(),
    }
}
