//! `WriteStream`: takes writes as long as there is room, answers each, and says at the end how far it came.
//!
//! One state machine, run by whoever reads the answers: a client that reads none has no more taken of it than its credit.

use std::{pin::Pin, sync::Arc, time::Duration};

use contracts::storage as wire;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use rpc::{Caller, Code, Deadline, Fault, Leaving, limit::Permit};
use tokio::{sync::watch, time::Sleep};
use tonic::{Request, Status, Streaming};

use super::{Slot, WAY_BACK};
use crate::{
    convert,
    error::Error,
    stream::{Limits, Progress},
    write::Receipt,
};

/// How long a stream whose connection ends waits for the sink. What that has not taken by then is told to be durable.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Most outcomes in one message.
const MOST_OUTCOMES: usize = 1_000;

/// The answers of one stream.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<wire::WriteStreamResponse, Status>> + Send>>;

/// One stream.
struct Session {
    slot: Slot,
    caller: Caller,
    limits: Limits,
    requests: Streaming<wire::WriteStreamRequest>,
    progress: Progress,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    stage: Stage,
    /// Why it fails, where it does.
    fault: Option<Fault>,
    /// Ready when the stream has to end, with the reason and how long the sink is waited for.
    leave: Option<BoxFuture<'static, (Fault, Duration)>>,
    /// Ready when the sink is waited for no longer.
    patience: Option<Pin<Box<Sleep>>>,
    /// Tells that to the writes that wait for it.
    hurry: watch::Sender<bool>,
    _permit: Permit,
}

/// How far a stream's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its credit is to be told.
    New,
    /// It takes and answers.
    Open,
    /// It takes no more, and answers.
    Closing,
    /// All is answered and said, but for its fault.
    Ended,
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
        caller: Caller::of(&request),
        limits,
        leave: Some(leave(&request)),
        requests: request.into_inner(),
        progress: Progress::new(limits),
        flights: FuturesUnordered::new(),
        stage: Stage::New,
        fault: None,
        patience: None,
        hurry: watch::Sender::new(false),
        _permit: permit,
    };
    Box::pin(futures::stream::unfold(session, |mut session| async {
        let answer = session.next().await?;
        Some((answer, session))
    }))
}

/// Waits until the stream has to end: with its connection, or a little before its deadline.
fn leave(request: &Request<Streaming<wire::WriteStreamRequest>>) -> BoxFuture<'static, (Fault, Duration)> {
    let leaving = Leaving::promise(request);
    let left = Deadline::current().map(|deadline| deadline.remaining());
    async move {
        tokio::select! {
            () = leaving => (Leaving::fault(), LAST_WAIT),
            () = before(left) => {
                let fault = Fault::new(Code::DeadlineExceeded, "the deadline of the stream is near");
                (fault, Duration::ZERO)
            }
        }
    }
    .boxed()
}

/// Waits until the answers that are ready still reach their caller; for ever, if there is no deadline.
async fn before(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left - (left / 10).min(WAY_BACK)).await,
        None => std::future::pending().await,
    }
}

impl Session {
    /// Goes on until there is something to tell; `None` at the end.
    async fn next(&mut self) -> Option<Result<wire::WriteStreamResponse, Status>> {
        loop {
            match self.stage {
                Stage::New => {
                    self.stage = Stage::Open;
                    return Some(Ok(convert::credit(self.limits)));
                }
                Stage::Closing if self.flights.is_empty() => {
                    self.stage = Stage::Ended;
                    return Some(Ok(convert::ended(self.progress.last())));
                }
                Stage::Open | Stage::Closing => {
                    if let Some(landed) = self.work().await {
                        return Some(Ok(self.answer(landed)));
                    }
                }
                Stage::Ended => return self.fault.take().map(|fault| Err(fault.into())),
            }
        }
    }

    /// Does one thing of what can be done: takes a write, or returns one that is decided, or sees that the end has come.
    async fn work(&mut self) -> Option<Landed> {
        let takes = self.stage == Stage::Open && self.progress.has_room();
        tokio::select! {
            biased;
            Some(landed) = self.flights.next() => return Some(landed),
            (fault, patience) = ready(self.leave.as_mut()) => {
                self.leave = None;
                self.patience = Some(Box::pin(tokio::time::sleep(patience)));
                // Whoever sends no more misses nothing.
                if self.stage == Stage::Open {
                    self.close(Some(fault));
                }
            }
            () = ready(self.patience.as_mut()) => {
                self.patience = None;
                self.hurry.send_replace(true);
            }
            request = self.requests.message(), if takes => match request {
                Ok(Some(request)) => if let Err(fault) = self.take(request).await {
                    self.close(Some(fault));
                },
                Ok(None) => self.close(None),
                Err(status) => self.close(Some(unread(&status))),
            },
        }
        None
    }

    /// Takes no more.
    fn close(&mut self, fault: Option<Fault>) {
        self.stage = Stage::Closing;
        self.fault = fault;
    }

    async fn take(&mut self, request: wire::WriteStreamRequest) -> Result<(), Fault> {
        let batcher = self.slot.get().ok_or(Error::NotReady)?;
        let (number, bytes) = (request.number, request.encoded_len() as u64);
        let turn = self.progress.take(number, bytes).map_err(convert::out_of_order)?;
        let round = turn.round();
        let land = move |outcome| Landed { number, bytes, outcome };
        let (write, level) = match convert::streamed(&self.caller, request) {
            Ok(checked) => checked,
            Err(fault) => {
                let refused = Refused { fault, round: None };
                self.flights.push(std::future::ready(land(Err(refused))).boxed());
                return Ok(());
            }
        };
        let tenant = Arc::clone(&self.caller.tenant);
        let decided = batcher.submit(tenant, write, level, turn, self.hurry.subscribe()).await;
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

/// Waits for what there is to wait for; for ever, if there is nothing.
async fn ready<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
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
