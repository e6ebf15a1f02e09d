//! The door's way for HTTP: pages and scrapes, and APIs whose calls are limited as rpcs are.

use std::{
    pin::Pin,
    task::{Context as Task, Poll},
    time::Duration,
};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body::{Frame, SizeHint};
use tonic::Code;
use tracing::{Span, instrument::Instrument as _};

use crate::{
    Deadline, Fault, call,
    context::Context,
    deadline,
    door::{Door, FAILED, Gate, answer_of, authorization, name_trace, trace_of},
    draining::{self, Stage},
    limit::Permit,
};

/// Milliseconds to wait before the next attempt, for clients that know no fraction of a second otherwise.
const RETRY_AFTER_MS: &str = "retry-after-ms";
/// The content of an answer that goes on for as long as its stream.
const EVENTS: &[u8] = b"text/event-stream";

/// An API over HTTP whose calls do the work of rpcs.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// What its paths begin with.
    pub prefix: &'static str,
    /// The paths whose calls are limited, queued and shed as an rpc's, each for itself, and counted under it.
    pub limited: &'static [&'static str],
    /// Writes what a caller of it is told by the host: that it is unknown, late, or one too many.
    pub refuse: fn(&Fault) -> Response<Body>,
}

impl Door {
    pub(crate) async fn http(self, mut request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let limit = self.gate.limits.of(&path).cloned();
        if let Some(limit) = limit.as_ref().filter(|limit| limit.is_full()) {
            let mut response = self.gate.refusal(&path, &self.gate.limits.shed(&path, limit));
            name_trace(&mut response, &trace_of(request.headers()));
            return response;
        }
        let span = self.gate.http_span(&request);
        let work = async move {
            let trace = trace_of(request.headers());
            let admitted = match (self.gate.let_in(&mut request), &limit) {
                (Ok(deadline), Some(limit)) => match limit.enter(deadline).await {
                    Ok(permit) => Ok((deadline, Some(permit))),
                    Err(refused) => Err(refused.fault(&self.gate.limits, &path, limit)),
                },
                (admitted, _) => admitted.map(|deadline| (deadline, None)),
            };
            let mut response = match admitted {
                Ok((deadline, permit)) => holding(self.page(deadline, &path, request).await, permit),
                Err(fault) => self.gate.refusal(&path, &fault),
            };
            let status = response.status();
            let span = Span::current();
            span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
            name_trace(&mut response, &trace);
            response
        };
        work.instrument(span).await
    }

    /// Lets an HTTP route answer, until the deadline or the end of the host.
    async fn page(self, deadline: Deadline, path: &str, request: Request<Body>) -> Response<Body> {
        let context =
            Context { deadline: Some(deadline), authorization: authorization(&request), serving: true };
        let work = context.scope(answer_of(self.router, request));
        tokio::select! {
            done = tokio::time::timeout_at(deadline.instant(), work) => match done {
                Ok(Some(response)) => response,
                Ok(None) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{FAILED}\n")).into_response(),
                Err(_) => self.gate.refusal(path, &deadline::exceeded()),
            },
            () = self.closing.reached(Stage::Over) => self.gate.refusal(path, &draining::leaving()),
        }
    }
}

impl Gate {
    /// Authenticates a request for an HTTP route, which may do without, and returns its deadline: what the caller gives in
    /// `grpc-timeout`, or that of a call that gives none.
    fn let_in(&self, request: &mut Request<Body>) -> Result<Deadline, Fault> {
        if let Some(caller) = self.access.identify(request.headers())? {
            request.extensions_mut().insert(caller);
        }
        let given = deadline::read(request.headers())?;
        Ok(given.unwrap_or_else(|| Deadline::after(self.request_timeout)))
    }

    /// Answers with a failure, in the words of the API that was asked.
    fn refusal(&self, path: &str, fault: &Fault) -> Response<Body> {
        let api = self.apis.iter().find(|api| path.starts_with(api.prefix));
        api.map_or(refusal as fn(&Fault) -> Response<Body>, |api| api.refuse)(fault)
    }

    /// Pages and scrapes are asked for again and again; they make a span only for a caller that has a trace.
    fn http_span(&self, request: &Request<Body>) -> Span {
        let path = request.uri().path();
        let traced = request.headers().contains_key("traceparent")
            || !matches!(*request.method(), Method::GET | Method::HEAD);
        if !traced || self.is_untraced(path.trim_start_matches('/')) {
            return Span::none();
        }
        call::http_span(&self.telemetry, request.method(), path, request.headers())
    }
}

/// Answers with a failure: its message as text, and when to come back.
fn refusal(fault: &Fault) -> Response<Body> {
    let status = match fault.code() {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, format!("{fault}\n")).into_response();
    come_back(&mut response, fault.retry_delay());
    response
}

/// Tells an HTTP client after which time the same request may succeed: `Retry-After` in whole seconds, rounded up, and
/// `retry-after-ms`.
pub fn come_back<B>(response: &mut Response<B>, delay: Option<Duration>) {
    let Some(delay) = delay else { return };
    let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    response.headers_mut().insert(RETRY_AFTER_MS, HeaderValue::from(millis));
}

/// Holds the right to run for as long as a stream of events; whoever reads another answer slowly takes nobody's room.
fn holding(response: Response<Body>, permit: Option<Permit>) -> Response<Body> {
    let streams =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(EVENTS));
    match permit {
        Some(permit) if streams => response.map(|inner| Body::new(Held { inner, _permit: permit })),
        _ => response,
    }
}

struct Held {
    inner: Body,
    _permit: Permit,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
