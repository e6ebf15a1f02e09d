//! Any upstream that speaks OpenAI's chat completions, by URL and key.
//!
//! 1. An attempt is bounded by `llm_timeout` and by the caller's deadline, whichever is sooner; a stream is bounded between pieces.
//! 2. What may pass is tried again (no connection, 408, 425, 429, 5xx, timeout) at most `llm_max_retries` times, after a jittered wait or
//!    what `Retry-After` says; a wait that would outlast the deadline is not begun. A stream is never retried once a piece was shown.
//! 3. Neither key nor words are logged or traced; redirects are not followed, so that the key goes to no other host.

mod retry;
mod sse;
mod wire;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use reqwest::{Response, StatusCode, header};
use tokio::sync::watch;
use tracing::Instrument as _;

use self::retry::Backoff;
use super::Failure;
use crate::conversation::{Answer, Conversation, Finish, Piece, Usage};

/// Most bytes of an answer that is read: more is malformed.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How the upstream is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base address of the API: `/chat/completions` is added to it.
    pub url: String,
    /// The bearer key, if it wants one.
    pub key: Option<config::Secret>,
    /// Longest an attempt may take, and a stream may pause.
    pub timeout: Duration,
    /// Most repetitions after a first attempt.
    pub max_retries: u32,
}

/// A connection pool to one upstream.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

/// A piece of a streamed answer, or its end.
#[derive(Debug)]
pub enum Event {
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

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    url: reqwest::Url,
    key: Option<header::HeaderValue>,
    timeout: Duration,
    backoff: Backoff,
    /// Whether the upstream was of use when it was last asked; `None` before.
    answers: watch::Sender<Option<bool>>,
}

/// Why an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error("`llm_upstream_url` must be an http or https address")]
    Url,
    /// The key cannot be sent.
    #[error("`llm_api_key` must be visible ASCII")]
    Key,
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl Upstream {
    /// Prepares a connection pool; connects to nothing yet.
    ///
    /// # Errors
    /// [`SetupError`] names the setting that is wrong.
    pub fn new(options: &Options) -> Result<Self, SetupError> {
        let url = format!("{}/chat/completions", options.url.trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|_| SetupError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SetupError::Url);
        }
        let key = options.key.as_ref().map(|key| {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .map_err(|_| SetupError::Key)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.timeout.min(Duration::from_secs(10)))
            .tcp_nodelay(true)
            .build()
            .map_err(SetupError::Client)?;
        Ok(Self(Arc::new(Inner {
            client,
            url,
            key: key.transpose()?,
            timeout: options.timeout,
            backoff: Backoff::new(options.max_retries),
            answers: watch::Sender::new(None),
        })))
    }

    /// Returns whether the upstream answered, and took our key, when it was last asked; `None` before the first time.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<Option<bool>> {
        self.0.answers.subscribe()
    }

    /// Asks `model` for a whole answer.
    ///
    /// # Errors
    /// [`Failure`] after all retries.
    pub async fn complete(
        &self,
        model: &str,
        conversation: &Conversation,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        let body = wire::body(model, conversation, false)?;
        let ask = async {
            let read = |response| async { wire::answer(&whole(response).await?, conversation) };
            let answer = self.attempt(&body, deadline, read).await?;
            record(&tracing::Span::current(), answer.usage, answer.finish);
            Ok(answer)
        };
        ask.instrument(span(model)).await
    }

    /// Asks `model` for an answer piece by piece. The last event of a stream that did not fail is [`Event::End`].
    pub fn stream<'a>(
        &'a self,
        model: &'a str,
        conversation: &'a Conversation,
        deadline: Option<Instant>,
    ) -> impl Stream<Item = Result<Event, Failure>> + Send + 'a {
        async_stream::try_stream! {
            let span = span(model);
            let body = wire::body(model, conversation, true)?;
            let open = |response: Response| std::future::ready(Ok(response));
            let response = self.attempt(&body, deadline, open).instrument(span.clone()).await?;
            let mut chunks = response.bytes_stream();
            let mut lines = sse::Lines::default();
            let (mut finish, mut usage, mut done) = (None, None, false);
            while !done {
                let (pause, failure) = self.patience(deadline)?;
                let Some(chunk) = tokio::time::timeout(pause, chunks.next()).await.map_err(|_| failure)? else { break };
                for data in lines.feed(&chunk.map_err(|_| Failure::Unreachable)?)? {
                    if data == "[DONE]" {
                        done = true;
                        break;
                    }
                    let delta = wire::delta(&data)?;
                    finish = delta.finish.or(finish);
                    usage = delta.usage.or(usage);
                    for piece in delta.pieces {
                        yield Event::Piece(piece);
                    }
                }
            }
            // A stream that ends without saying why was cut.
            let finish = finish.ok_or(Failure::Malformed)?;
            record(&span, usage.unwrap_or_default(), finish);
            yield Event::End { finish, usage };
        }
    }

    /// Sends `body` until `read` makes something of a response, retries included.
    async fn attempt<T, F>(
        &self,
        body: &Bytes,
        deadline: Option<Instant>,
        read: impl Fn(Response) -> F + Sync,
    ) -> Result<T, Failure>
    where
        T: Send,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut attempts = 0;
        loop {
            let (patience, late) = self.patience(deadline)?;
            let once = async { read(self.send(body).await?).await };
            let outcome = tokio::time::timeout(patience, once).await.unwrap_or(Err(late));
            self.note(outcome.as_ref().err());
            let failure = match outcome {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let wait = self.0.backoff.wait(attempts, &failure, rand::random()).filter(|wait| {
                // A wait that outlasts the caller helps nobody.
                deadline.is_none_or(|deadline| Instant::now() + *wait < deadline)
            });
            let Some(wait) = wait else { return Err(failure) };
            attempts += 1;
            tracing::debug!(attempts, wait_ms = wait.as_millis(), failure = %failure, "asking the upstream again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Notes what an attempt says of the upstream as a whole.
    fn note(&self, failure: Option<&Failure>) {
        let answers = match failure {
            // One that is busy may be fine for the next, and our caller's haste is not its fault.
            Some(Failure::Throttled { .. } | Failure::Deadline) => return,
            Some(Failure::Unreachable | Failure::Credentials) => false,
            Some(Failure::Refused { .. } | Failure::Malformed) | None => true,
        };
        self.0.answers.send_if_modified(|last| last.replace(answers) != Some(answers));
    }

    async fn send(&self, body: &Bytes) -> Result<Response, Failure> {
        let mut request =
            self.0.client.post(self.0.url.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.0.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        let response = request.body(body.clone()).send().await.map_err(|_| Failure::Unreachable)?;
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Credentials),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Throttled { retry_after: retry::retry_after(response.headers()) })
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(Failure::Unreachable),
            _ if status.is_client_error() => {
                let field = wire::refused_field(status, &whole(response).await.unwrap_or_default());
                Err(Failure::Refused { status: status.as_u16(), field })
            }
            _ => Err(Failure::Unreachable),
        }
    }

    /// Returns how long to wait now, and what it means if nothing came.
    fn patience(&self, deadline: Option<Instant>) -> Result<(Duration, Failure), Failure> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if left.is_zero() => Err(Failure::Deadline),
            Some(left) if left <= self.0.timeout => Ok((left, Failure::Deadline)),
            _ => Ok((self.0.timeout, Failure::Unreachable)),
        }
    }
}

async fn whole(mut response: Response) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Failure::Unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Malformed);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Opens the span of one upstream call, by OpenTelemetry's conventions for generative models; words stay out of it.
fn span(model: &str) -> tracing::Span {
    tracing::info_span!(
        "chat",
        otel.name = format!("chat {model}"),
        otel.kind = "client",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = "openai",
        gen_ai.request.model = model,
        gen_ai.usage.input_tokens = tracing::field::Empty,
        gen_ai.usage.output_tokens = tracing::field::Empty,
        gen_ai.response.finish_reasons = tracing::field::Empty,
    )
}

fn record(span: &tracing::Span, usage: Usage, finish: Finish) {
    span.record("gen_ai.usage.input_tokens", usage.input);
    span.record("gen_ai.usage.output_tokens", usage.output);
    span.record("gen_ai.response.finish_reasons", finish.as_str());
}

/// Estimates what a call used where the upstream did not say.
#[must_use]
pub fn estimated(conversation: &Conversation, text: &str) -> Usage {
    wire::estimated(conversation, text)
}
