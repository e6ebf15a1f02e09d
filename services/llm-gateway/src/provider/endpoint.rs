//! One upstream over HTTP: a request, and what came of it. Whether it is made again is for others to say.
//!
//! 1. An answer is bounded by the timeout and by the caller's deadline, whichever is sooner; a stream is bounded until its headers and
//!    between what it sends, and while it sends no pieces but says that it lives, by ten timeouts.
//! 2. Neither key nor words are logged, nor is the key traced; what is traced is said by [`Telling`]. Redirects are not followed, so that the key goes to no other host.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use telemetry::Telemetry;
use tracing::Instrument as _;

use super::{
    Dialect, Failure, MAX_ANSWER_BYTES, Reading, SetupError, Telling,
    telling::{Teller, Told},
    transport::{self, Body, Outside, Reply, Transport},
};
use crate::conversation::{Answer, Conversation};

/// Longest time a connection may take, whatever the timeout.
const MAX_CONNECT: Duration = Duration::from_secs(10);

/// Anthropic's own status for "overloaded".
const OVERLOADED: u16 = 529;

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it speaks.
    pub dialect: Dialect,
    /// Base address of the API, such as `https://api.openai.com/v1`.
    pub url: String,
    /// The key, if it wants one.
    pub key: Option<config::Secret>,
    /// Longest an answer may take, and a stream may pause.
    pub timeout: Duration,
    /// Most tokens of an answer where the dialect demands a limit and the caller sets none.
    pub max_output_tokens: u32,
}

/// A connection pool to one upstream.
#[derive(Debug)]
pub struct Endpoint {
    transport: Transport,
    dialect: Dialect,
    timeout: Duration,
    max_output_tokens: u32,
    teller: Teller,
}

/// How long an upstream is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Endpoint {
    /// Prepares a connection pool to the upstream called `name`; connects to nothing yet.
    ///
    /// # Errors
    /// [`SetupError`] says what is wrong.
    pub fn new(
        name: &str,
        options: &Options,
        telling: &Telling,
        telemetry: &Telemetry,
    ) -> Result<Self, SetupError> {
        let Options { dialect, timeout, max_output_tokens, .. } = *options;
        let address = format!("{}{}", options.url.trim().trim_end_matches('/'), dialect.path());
        let address = transport::address(&address)?;
        let key = options.key.as_ref().map(config::Secret::expose);
        let headers = dialect.headers(key).map_err(|_| SetupError::Key)?;
        let teller = telling.of(name, dialect, &address);
        let connect_timeout = timeout.min(MAX_CONNECT);
        let transport =
            Transport::new(address, headers, &Outside::of_environment(), connect_timeout, telemetry)?;
        Ok(Self { transport, dialect, timeout, max_output_tokens, teller })
    }

    /// Asks `model` once for a whole answer.
    ///
    /// # Errors
    /// [`Failure`] of this one attempt.
    pub async fn complete(
        &self,
        model: &str,
        conversation: &Conversation,
        deadline: Option<Instant>,
    ) -> Result<Answer, Failure> {
        let body = self.dialect.body(model, conversation, false, self.max_output_tokens)?;
        let mut told = self.teller.begin(model, conversation, false);
        let read = async { whole(self.send(&body).await?).await };
        let body = self.patience(deadline).bound(read).instrument(told.span()).await;
        let body = told.checked(body)?;
        told.received(&body);
        let answer = told.checked(self.dialect.answer(&body, conversation))?;
        told.answered(&answer);
        Ok(answer)
    }

    /// Asks `model` once for an answer piece by piece, and waits for its first piece.
    ///
    /// # Errors
    /// [`Failure`] of this one attempt: nothing was shown to anybody then.
    pub async fn stream(
        &self,
        model: &str,
        conversation: &Conversation,
        deadline: Option<Instant>,
    ) -> Result<Reading, Failure> {
        let body = self.dialect.body(model, conversation, true, self.max_output_tokens)?;
        let told = self.teller.begin(model, conversation, true);
        let span = told.span();
        self.open(body, told, self.patience(deadline)).instrument(span).await
    }

    async fn open(&self, body: Bytes, mut told: Told, patience: Patience) -> Result<Reading, Failure> {
        let arriving = told.checked(patience.bound(self.send(&body)).await)?;
        let mut reading = Reading::new(arriving, self.dialect.reader(), patience, told);
        reading.begin().await?;
        Ok(reading)
    }

    fn patience(&self, deadline: Option<Instant>) -> Patience {
        Patience { timeout: self.timeout, deadline }
    }

    async fn send(&self, body: &Bytes) -> Result<Body, Failure> {
        let sent = self.transport.post(body).await;
        let Reply { status, headers, body } = sent.map_err(|error| {
            tracing::debug!(error = &error as &dyn Error, "upstream not reached");
            Failure::Unreachable
        })?;
        let retry_after = retry_after(&headers);
        match status {
            _ if status.is_success() => Ok(body),
            StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => {
                Err(Failure::Credentials)
            }
            // Who says when to come back is busy, not broken.
            StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => {
                Err(Failure::Throttled { retry_after })
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Failure::Throttled { retry_after }),
            _ if status.as_u16() == OVERLOADED => Err(Failure::Throttled { retry_after }),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(Failure::Unreachable),
            _ if status.is_client_error() => {
                Err(self.dialect.refused(status, &whole(body).await.unwrap_or_default()))
            }
            _ => Err(Failure::Unreachable),
        }
    }
}

impl Patience {
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for `future` as long as there is patience.
    ///
    /// # Errors
    /// [`Failure::Deadline`] if it was the caller's that ended, [`Failure::Unreachable`] if it was ours.
    pub(super) async fn bound<T>(
        &self,
        future: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let (patience, late) = match left {
            Some(left) if left.is_zero() => return Err(Failure::Deadline),
            Some(left) if left <= self.timeout => (left, Failure::Deadline),
            _ => (self.timeout, Failure::Unreachable),
        };
        tokio::time::timeout(patience, future).await.unwrap_or(Err(late))
    }
}

async fn whole(mut arriving: Body) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = arriving.chunk().await.map_err(|_| Failure::Unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Malformed);
        }
        if body.is_empty() {
            // Nearly always all of it.
            body = chunk.into();
        } else {
            body.extend_from_slice(&chunk);
        }
    }
    Ok(body.freeze())
}

/// Reads when the upstream wants to be asked again: `retry-after-ms`, or `Retry-After` in seconds. A date is not read: the upstream's
/// clock may differ from ours, and the backoff waits as it would without.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1e3).or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::retry_after;

    #[test]
    fn a_wish_is_read_in_seconds_or_milliseconds_and_nonsense_is_none() {
        let wish = |name: &'static str, value: &str| {
            retry_after(&HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]))
        };
        assert_eq!(wish("retry-after", "2"), Some(Duration::from_secs(2)));
        assert_eq!(wish("retry-after-ms", "1500"), Some(Duration::from_millis(1_500)));
        assert_eq!(wish("retry-after", "-1"), None);
        assert_eq!(wish("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
