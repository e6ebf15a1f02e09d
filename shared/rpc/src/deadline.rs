//! The moment until which a caller waits, carried over every hop.

use std::{future::Future, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::Code;

use crate::{Fault, context};

/// The header of the gRPC specification: a number of at most 8 digits and a unit.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A wait that is as good as for ever, and that every timer can carry.
const FOREVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The moment until which someone waits for an answer.
///
/// The host scopes the caller's deadline around a handler, a channel sends what is left of it to the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// Makes a deadline `duration` from now.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        Self(now + duration.min(FOREVER))
    }

    /// Returns the deadline of the call that is being served here; `None` outside of a call, or if it may take for ever.
    #[must_use]
    pub fn current() -> Option<Self> {
        context::current().deadline
    }

    /// Returns the time left; zero if it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Returns whether the time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0 <= Instant::now()
    }

    /// Runs `future` so that the earlier of this deadline and the current one applies to the calls made inside. It does
    /// not end the future: see [`Deadline::run`].
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut context = context::current();
        context.deadline = earlier(context.deadline, Some(self));
        context.scope(future).await
    }

    /// Runs `future` in the [`scope`](Deadline::scope) of this deadline and drops it when the time is over.
    ///
    /// # Errors
    /// DEADLINE_EXCEEDED if the time was over first.
    pub async fn run<F: Future>(self, future: F) -> Result<F::Output, Fault> {
        let end = earlier(Self::current(), Some(self)).unwrap_or(self);
        tokio::time::timeout_at(end.0, self.scope(future)).await.map_err(|_| exceeded())
    }

    pub(crate) fn instant(self) -> Instant {
        self.0
    }
}

/// Returns the earlier of two deadlines, of which either may be missing.
pub(crate) fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The fault of a call whose time is over.
pub(crate) fn exceeded() -> Fault {
    Fault::new(Code::DeadlineExceeded, "the deadline of the call is over")
}

/// Reads `grpc-timeout`; `None` if there is none. A call whose time is over already is refused before it does anything.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Deadline>, Fault> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let Some(timeout) = value.to_str().ok().and_then(parse) else {
        return Err(Fault::invalid("grpc-timeout", "must be at most 8 digits and one of H, M, S, m, u, n"));
    };
    let deadline = Deadline::after(timeout);
    if deadline.is_over() { Err(exceeded()) } else { Ok(Some(deadline)) }
}

/// Writes `timeout` for `grpc-timeout`, rounded down to the finest unit that 8 digits can carry.
pub(crate) fn header(timeout: Duration) -> HeaderValue {
    const LIMIT: u128 = 100_000_000;
    let (number, unit) = if timeout.as_micros() < LIMIT {
        (timeout.as_micros(), 'u')
    } else if timeout.as_millis() < LIMIT {
        (timeout.as_millis(), 'm')
    } else {
        (u128::from(timeout.as_secs()).min(LIMIT - 1), 'S')
    };
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("0u"))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_specification_are_read() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "1", "123456789S", "1x", "-1S", "+1S", "1é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_written_timeout_is_never_longer() {
        for timeout in [
            Duration::ZERO,
            Duration::from_nanos(1999),
            Duration::from_millis(99_999),
            Duration::from_secs(100),
            Duration::from_secs(86_400 * 30),
            Duration::MAX,
        ] {
            let value = header(timeout);
            let read = parse(value.to_str().unwrap()).unwrap();
            assert!(read <= timeout, "{timeout:?} {value:?}");
        }
        assert_eq!(header(Duration::from_millis(1500)), "1500000u");
    }

    #[tokio::test]
    async fn the_earlier_deadline_applies_inside() {
        let near = Deadline::after(Duration::from_secs(1));
        let far = Deadline::after(Duration::from_secs(60));
        assert_eq!(near.scope(far.scope(async { Deadline::current() })).await, Some(near));
        assert_eq!(far.scope(near.scope(async { Deadline::current() })).await, Some(near));
        assert_eq!(Deadline::current(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_ends_with_the_outer_deadline() {
        let outer = Deadline::after(Duration::from_secs(1));
        let run = outer.scope(Deadline::after(Duration::from_secs(60)).run(std::future::pending::<()>()));
        assert_eq!(run.await.unwrap_err().code(), Code::DeadlineExceeded);
        assert!(outer.is_over());
    }
}
