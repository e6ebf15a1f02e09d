//! The task of a writer: makes the stream, sends what there is, hears what came of it, and begins anew when it breaks.

use std::{pin::pin, sync::Arc, time::Duration};

use contracts::storage::{
    StreamCredit, WriteOutcome, WriteRefusal, WriteStreamRequest, WriteStreamResponse,
    storage_batcher_service_client::StorageBatcherServiceClient,
};
use rpc::{Channel, Code, Fault, chance::Chance, code_name};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::{Status, Streaming};

use super::{Shared, State};
use crate::client::{
    Error,
    window::{Answered, Credit},
};

/// Requests between this task and the connection.
const QUEUED: usize = 64;

/// The reason of a write that is on disk and not yet at the sink: it is asked for again on the next stream.
const DURABLE: &str = "DURABLE";

/// The reason of a write that is refused for now since an earlier one is.
const BEHIND: &str = "BEHIND";

/// What the task owns.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) client: StorageBatcherServiceClient<Channel>,
    pub(super) chance: Chance,
    /// The first pause and the longest.
    pub(super) pauses: (Duration, Duration),
    /// Streams that broke, and refusals for now, since the last good answer.
    pub(super) failures: u32,
}

/// How a stream ended.
enum End {
    /// All is answered, and the writer is closed.
    Done,
    /// Another one will end as this did.
    Refused(Fault),
    /// It broke, or its server is leaving; `Some` if it may be asked for again only after that time.
    Broken(Option<Duration>),
}

impl Link {
    /// Runs until the writer is closed and all is answered, or no stream can be had.
    pub(super) async fn run(mut self) {
        while self.wanted().await {
            match self.stream().await {
                End::Done => break,
                End::Refused(fault) => {
                    tracing::warn!(error = %fault, "the storage batcher refuses the stream");
                    self.shared.fail(&fault);
                    break;
                }
                End::Broken(asked) => {
                    let pause = self.pause(asked);
                    tracing::debug!(
                        pause_ms = pause.as_secs_f64() * 1e3,
                        "write stream ended, another one is made"
                    );
                    sleep(pause).await;
                }
            }
        }
        self.shared.end();
    }

    /// Waits until there is something to send; `false` if there never will be.
    async fn wanted(&self) -> bool {
        loop {
            {
                let state = self.shared.state.lock();
                if !state.window.is_empty() {
                    return true;
                }
                if state.closing {
                    return false;
                }
            }
            self.shared.work.notified().await;
        }
    }

    /// Returns how long to wait before the next try.
    fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let (first, longest) = self.pauses;
        let own = self.chance.backoff(first, longest, self.failures);
        self.failures = self.failures.saturating_add(1);
        asked.map_or(own, |asked| own.max(asked.min(longest)))
    }

    /// Makes a stream and works on it to its end.
    async fn stream(&mut self) -> End {
        let (outgoing, mut queued) = mpsc::channel(QUEUED);
        let requests = futures::stream::poll_fn(move |context| queued.poll_recv(context));
        self.shared.state.lock().window.begin();
        match self.client.write_stream(requests).await {
            Ok(answers) => self.work(outgoing, answers.into_inner()).await,
            Err(status) => end_of(&status),
        }
    }

    async fn work(
        &mut self,
        outgoing: mpsc::Sender<WriteStreamRequest>,
        mut answers: Streaming<WriteStreamResponse>,
    ) -> End {
        let shared = Arc::clone(&self.shared);
        // Without it the server knows that nothing follows.
        let (mut outgoing, mut takes) = (Some(outgoing), true);
        let mut resume = pin!(sleep(Duration::ZERO));
        loop {
            let (is_done, can_send, can_go_back) = {
                let State { window, closing, .. } = &*shared.state.lock();
                (*closing && window.is_empty(), window.can_send(), window.can_go_back())
            };
            if is_done {
                outgoing = None;
            }
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => if let Some(pause) = self.hear(answer) {
                        resume.as_mut().reset(Instant::now() + pause);
                    },
                    Ok(None) if is_done => return End::Done,
                    Ok(None) => return End::Broken(None),
                    Err(status) => return end_of(&status),
                },
                ready = reserve(outgoing.as_ref()), if can_send && takes => match ready {
                    Some(permit) => if let Some((_, promise)) = shared.state.lock().window.send() {
                        permit.send(promise.request.clone());
                    },
                    // The server takes no more; it says what it took.
                    None => takes = false,
                },
                () = resume.as_mut(), if can_go_back => shared.state.lock().window.go_back(),
                () = shared.work.notified() => {}
            }
        }
    }

    /// Hears an answer; returns how long to wait before going back, if something was refused for now.
    fn hear(&mut self, answer: WriteStreamResponse) -> Option<Duration> {
        let (mut decided, mut asked) = (Vec::new(), None);
        let first = {
            let window = &mut self.shared.state.lock().window;
            if let Some(StreamCredit { max_unanswered_writes: writes, max_unanswered_bytes: bytes }) =
                answer.credit
            {
                window.allow(Credit { writes, bytes });
            }
            for WriteOutcome { number, sequence, refusal } in answer.outcomes {
                match &refusal {
                    Some(refusal) if refusal.reason == DURABLE => continue,
                    // What is behind comes with what it is behind of.
                    Some(refusal) if refusal.for_now && refusal.reason != BEHIND => {
                        asked = asked.max(Some(delay(refusal)));
                    }
                    _ => {}
                }
                let for_now = refusal.as_ref().is_some_and(|refusal| refusal.for_now);
                if let Answered::Decided(promise) = window.answer(number, for_now) {
                    decided.push((promise, refusal.map_or(Ok(sequence), Err)));
                }
            }
            window.first_unanswered()
        };
        if !decided.is_empty() {
            self.failures = 0;
        }
        for (promise, outcome) in decided {
            // Who left does not need the answer.
            drop(promise.ack.send(outcome.map_err(|refusal| Error::Refused(fault_of(refusal)))));
        }
        self.shared
            .progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.first, first) != first);
        asked.map(|asked| self.pause(asked))
    }
}

fn delay(refusal: &WriteRefusal) -> Option<Duration> {
    refusal.retry_delay.and_then(|delay| delay.try_into().ok())
}

async fn reserve(
    outgoing: Option<&mpsc::Sender<WriteStreamRequest>>,
) -> Option<mpsc::Permit<'_, WriteStreamRequest>> {
    match outgoing {
        Some(outgoing) => outgoing.reserve().await.ok(),
        None => std::future::pending().await,
    }
}

/// Says what the end of a stream means for the next one.
fn end_of(status: &Status) -> End {
    let fault = Fault::from(status);
    match fault.code() {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => End::Refused(fault),
        _ => End::Broken(fault.retry_delay()),
    }
}

/// Returns a refusal as the status of a single write would say it.
fn fault_of(refusal: WriteRefusal) -> Fault {
    let delay = delay(&refusal);
    let code = (0..=16).map(Code::from).find(|code| code_name(*code) == refusal.code);
    let message = if refusal.fields.is_empty() { refusal.message } else { String::new() };
    let mut fault = Fault::new(code.unwrap_or(Code::Unknown), message);
    for wrong in refusal.fields {
        fault = fault.and(wrong.field, wrong.must);
    }
    if !refusal.reason.is_empty() {
        fault = fault.reason(refusal.reason);
    }
    match delay {
        Some(delay) => fault.retry_after(delay),
        None => fault,
    }
}
