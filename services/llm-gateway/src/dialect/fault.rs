//! An error as OpenAI's clients read it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode};
use rpc::{Code, Fault};
use serde_json::{Value, json};

use crate::error::Error;

/// Tells a client of OpenAI's whether to repeat a request on its own.
const SHOULD_RETRY: &str = "x-should-retry";

const INVALID_KEY: &str = "invalid_api_key";

/// Why a request is not answered: a status, a kind, a message, the field that was wrong, a stable word.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<String>,
    retry_after: Option<std::time::Duration>,
    /// Whether the same request may succeed.
    may_pass: bool,
}

impl Refusal {
    pub(super) fn of(fault: &Fault) -> Self {
        let reason = fault.reason_word();
        let status = match (fault.code(), reason) {
            (Code::InvalidArgument, Some("MODEL_NOT_FOUND")) => StatusCode::NOT_FOUND,
            (Code::InvalidArgument, _) => StatusCode::BAD_REQUEST,
            (Code::OutOfRange, _) => StatusCode::PAYLOAD_TOO_LARGE,
            (Code::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
            (Code::PermissionDenied, _) => StatusCode::FORBIDDEN,
            (Code::NotFound, _) => StatusCode::NOT_FOUND,
            (Code::ResourceExhausted, _) => StatusCode::TOO_MANY_REQUESTS,
            (Code::FailedPrecondition, Some("MAX_COST_EXCEEDED")) => StatusCode::PAYMENT_REQUIRED,
            (Code::FailedPrecondition, _) | (Code::Internal, Some("UPSTREAM_MALFORMED")) => {
                StatusCode::BAD_GATEWAY
            }
            (Code::Unavailable, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Code::DeadlineExceeded, _) => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            status,
            message: fault.to_string(),
            param: fault.violations().first().map(|violation| violation.field.clone()),
            code: match fault.code() {
                // As OpenAI calls it.
                Code::Unauthenticated => Some(INVALID_KEY.to_owned()),
                _ => reason.map(str::to_ascii_lowercase),
            },
            retry_after: fault.retry_delay(),
            // A day of money does not come back within the patience of a client.
            may_pass: matches!(fault.code(), Code::ResourceExhausted | Code::Unavailable)
                && reason != Some("BUDGET_EXHAUSTED"),
        }
    }

    pub(super) fn unauthenticated() -> Self {
        let message = "this service needs a bearer token: send it as the API key";
        Self::new(StatusCode::UNAUTHORIZED, message, None, Some(INVALID_KEY))
    }

    pub(super) fn content_type() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json", None, None)
    }

    pub(super) fn json(error: &serde_json::Error) -> Self {
        // Line and column; serde_json's own message may repeat words of the request.
        let at = format!("line {} column {}", error.line(), error.column());
        Self::new(StatusCode::BAD_REQUEST, format!("the body is not the JSON of an object: {at}"), None, None)
    }

    pub(super) fn body(status: StatusCode) -> Self {
        let message = match status {
            StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than `max_message_bytes`",
            _ => "the body could not be read",
        };
        Self::new(status, message, None, None)
    }

    pub(super) fn path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "nothing is served under this path", None, Some("unknown_url"))
    }

    pub(super) fn model(status: StatusCode) -> Self {
        Self::new(status, "no such model is served here", Some("model"), Some("model_not_found"))
    }

    fn new(status: StatusCode, message: impl Into<String>, param: Option<&str>, code: Option<&str>) -> Self {
        Self {
            status,
            message: message.into(),
            param: param.map(str::to_owned),
            code: code.map(str::to_owned),
            retry_after: None,
            may_pass: false,
        }
    }

    /// Returns the error as JSON, as it also stands in a stream.
    pub(super) fn body_json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            402 => "insufficient_quota",
            400..500 => "invalid_request_error",
            _ => "server_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }

    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::NoUpstream(_) => Self::model(StatusCode::NOT_FOUND),
            other => Self::of(&Fault::from(other)),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body_json())).into_response();
        rpc::come_back(&mut response, self.retry_after);
        if self.status.is_server_error() && !self.may_pass {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse as _;

    use super::Refusal;
    use crate::{error::Error, provider::Failure, route::NoUpstream};

    #[test]
    fn a_throttling_upstream_is_told_with_its_wait() {
        let failure = Failure::Throttled { retry_after: Some(Duration::from_millis(1_500)) };
        let refusal = Refusal::from(Error::Failed(failure));
        assert_eq!(refusal.body_json()["error"]["code"], "upstream_throttled");
        let response = refusal.into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(
            (&response.headers()["retry-after"], &response.headers()["retry-after-ms"]),
            (&"2".parse().unwrap(), &"1500".parse().unwrap())
        );
    }

    #[test]
    fn what_would_be_paid_for_again_is_not_to_be_repeated() {
        let response = Refusal::from(Error::Failed(Failure::Malformed)).into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-should-retry"]),
            (502, &"false".parse().unwrap())
        );
        let response = Refusal::from(Error::Failed(Failure::Unreachable)).into_response();
        assert!(response.status() == 503 && !response.headers().contains_key("x-should-retry"));
    }

    #[test]
    fn a_refused_field_is_named() {
        let refused = Failure::Refused { status: 400, field: Some("tools[0]".into()), too_long: false };
        let refusal = Refusal::from(Error::Failed(refused));
        assert_eq!((refusal.status(), &refusal.body_json()["error"]["param"]), (400, &"tools[0]".into()));
        assert_eq!(Refusal::from(Error::from(NoUpstream)).status(), 404);
        let told = |status, too_long| {
            let refused = Failure::Refused { status, field: None, too_long };
            let refusal = Refusal::from(Error::Failed(refused));
            (refusal.status(), refusal.body_json()["error"]["code"].clone())
        };
        assert_eq!(told(400, true), (400, "context_length_exceeded".into()));
        assert_eq!(told(404, false), (404, "model_not_found".into()));
    }
}
