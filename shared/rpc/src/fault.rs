//! Failures as a caller sees them: a code, a safe message, the field that was wrong, whether a retry helps.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::garbled;

/// `domain` of the `google.rpc.ErrorInfo` that carries a reason.
const DOMAIN: &str = "athena";

/// A failure for the caller, and its cause for the log.
///
/// It becomes a `tonic::Status` by `From`, with `google.rpc` details: `BadRequest` for wrong fields, `ErrorInfo` for a
/// reason, `RetryInfo` for a delay. The cause is logged in that moment, once, and never sent.
///
/// ```
/// let fault = rpc::Fault::invalid("limit", "must be at most 1000").and("query", "must not be empty");
/// assert_eq!(fault.code(), rpc::Code::InvalidArgument);
/// assert_eq!(fault.to_string(), "limit must be at most 1000; query must not be empty");
/// ```
#[derive(Clone)]
pub struct Fault(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    violations: Vec<Violation>,
    reason: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// A field of a request that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, `filter.time.from` or `memories[3].text`.
    pub field: String,
    /// What it must be: "must be at most 1000".
    pub must: String,
}

impl Fault {
    /// Makes an INVALID_ARGUMENT fault for one wrong field; `must` follows the field's name in the message.
    #[must_use]
    pub fn invalid(field: impl Into<String>, must: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "").and(field, must)
    }

    /// Makes a fault with a message that the caller may see: no paths, no keys, nothing of other tenants.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            code,
            message,
            violations: Vec::new(),
            reason: None,
            retry_after: None,
            cause: None,
        }))
    }

    /// Adds another wrong field.
    #[must_use]
    pub fn and(mut self, field: impl Into<String>, must: impl Into<String>) -> Self {
        self.0.violations.push(Violation { field: field.into(), must: must.into() });
        self
    }

    /// Adds a stable word in capitals that a program can compare, such as `QUOTA_USED_UP`.
    #[must_use]
    pub fn reason(mut self, word: impl Into<Cow<'static, str>>) -> Self {
        self.0.reason = Some(word.into());
        self
    }

    /// Tells the caller that the same call may succeed after `delay`.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// Returns code and message of a status, for a caller that only reports them.
    #[must_use]
    pub fn of(status: &Status) -> (Code, &str) {
        (status.code(), status.message())
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the wrong fields.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// Returns the reason.
    #[must_use]
    pub fn reason_word(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Returns after which time the same call may succeed.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    fn details(&self) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        for violation in &self.0.violations {
            details.add_bad_request_violation(&violation.field, &violation.must);
        }
        if let Some(reason) = &self.0.reason {
            details.set_error_info(reason.as_ref(), DOMAIN, std::collections::HashMap::new());
        }
        if self.0.retry_after.is_some() {
            details.set_retry_info(self.0.retry_after);
        }
        details
    }

    fn log(&self) {
        let Some(cause) = &self.0.cause else { return };
        let code = code_name(self.0.code);
        let error: &(dyn Error + 'static) = cause.as_ref();
        match self.0.code {
            Code::Internal | Code::Unknown | Code::DataLoss => tracing::error!(code, error, "call failed"),
            Code::Unavailable | Code::ResourceExhausted | Code::Aborted => {
                tracing::warn!(code, error, "call failed")
            }
            _ => tracing::debug!(code, error, "call failed"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.message)?;
        for (index, violation) in self.0.violations.iter().enumerate() {
            if index > 0 || !self.0.message.is_empty() {
                out.write_str("; ")?;
            }
            write!(out, "{} {}", violation.field, violation.must)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Fault")
            .field("code", &self.0.code)
            .field("message", &self.to_string())
            .field("reason", &self.0.reason)
            .field("retry_after", &self.0.retry_after)
            .field("cause", &self.0.cause)
            .finish()
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.log();
        let details = fault.details();
        let plain =
            fault.0.violations.is_empty() && fault.0.reason.is_none() && fault.0.retry_after.is_none();
        garbled::marked(if plain {
            Self::new(fault.0.code, fault.to_string())
        } else {
            Self::with_error_details(fault.0.code, fault.to_string(), details)
        })
    }
}

impl From<&Status> for Fault {
    /// Reads what a server answered, details included. The message already names the wrong fields, so it is kept as the
    /// whole message only where there are none.
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let violations: Vec<_> = details
            .bad_request()
            .map(|bad| &bad.field_violations[..])
            .unwrap_or_default()
            .iter()
            .map(|it| Violation { field: it.field.clone(), must: it.description.clone() })
            .collect();
        let message = if violations.is_empty() { status.message().to_owned() } else { String::new() };
        let mut fault = Self::new(status.code(), message);
        fault.0.violations = violations;
        fault.0.reason = details.error_info().map(|info| info.reason.clone().into());
        fault.0.retry_after = details.retry_info().and_then(|info| info.retry_delay);
        fault
    }
}

/// Returns a code as a word, as it stands in metrics and in the gRPC specification: `DEADLINE_EXCEEDED`.
#[must_use]
pub const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_fields_travel_as_bad_request() {
        let fault = Fault::invalid("limit", "must be at most 1000").and("query", "must not be empty");
        let status = Status::from(fault);
        assert_eq!(status.code(), Code::InvalidArgument);
        let bad = status.get_error_details().bad_request().cloned().unwrap();
        assert_eq!(bad.field_violations[1].field, "query");
        assert_eq!(bad.field_violations[1].description, "must not be empty");
    }

    #[test]
    fn a_fault_survives_the_wire() {
        let sent = Fault::new(Code::ResourceExhausted, "quota used up")
            .reason("QUOTA_USED_UP")
            .retry_after(Duration::from_millis(1500));
        let fault = Fault::from(&Status::from(sent));
        assert_eq!(fault.to_string(), "quota used up");
        assert_eq!(fault.reason_word(), Some("QUOTA_USED_UP"));
        assert_eq!(fault.retry_delay(), Some(Duration::from_millis(1500)));

        let invalid = Fault::from(&Status::from(Fault::invalid("id", "must be a ULID")));
        assert_eq!(invalid.to_string(), "id must be a ULID");
        assert_eq!(invalid.violations(), [Violation { field: "id".into(), must: "must be a ULID".into() }]);
    }

    #[test]
    fn the_cause_is_logged_once_and_not_sent() {
        let (telemetry, captured) = telemetry::Telemetry::captured("test");
        let cause = std::io::Error::other("disk /var/secret is gone");
        let status =
            telemetry.in_scope(|| Status::from(Fault::new(Code::Internal, "cannot store").caused_by(cause)));
        assert_eq!(status.message(), "cannot store");
        assert!(status.details().is_empty());
        let lines = captured.log_lines();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("disk /var/secret is gone"), "{}", lines[0]);
    }
}
