//! The door of a host: what happens to every request before and after the service sees it.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    error::Error,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::AUTHORIZATION};
use telemetry::{Histogram, Telemetry};
use tonic::{Code, Status, transport::server::TcpConnectInfo};
use tower::ServiceExt as _;
use tracing::{
    Span,
    instrument::{Instrument as _, WithSubscriber as _},
};

use crate::{
    Caller, Deadline, Fault,
    access::{Access, unauthenticated},
    body::Watched,
    call::{self, Call},
    context::Context,
    deadline, garbled, methods,
};

/// The answer's trace, for whoever reports a problem.
const TRACE_ID: &str = "trace-id";
/// What a caller learns of a panic.
const FAILED: &str = "the service failed";
/// Probes of an orchestrator carry no token.
const HEALTH: &str = "grpc.health.v1.Health/";

/// What all doors of a host share.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) telemetry: Telemetry,
    pub(crate) histogram: Histogram,
    pub(crate) access: Access,
    /// Full names of the gRPC services.
    pub(crate) services: BTreeSet<&'static str>,
    /// Beginnings of paths, without the leading slash, that make no span.
    pub(crate) untraced: Vec<String>,
    pub(crate) request_timeout: Duration,
}

/// One connection's way to the services.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) gate: Arc<Gate>,
    pub(crate) router: axum::Router,
    pub(crate) peer: TcpConnectInfo,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<B> tower::Service<Request<B>> for Door
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let door = self.clone();
        let dispatch = door.gate.telemetry.dispatch();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(door.peer.clone());
        Box::pin(async move { Ok(door.answer(request).await) }.with_subscriber(dispatch))
    }
}

impl Door {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches('/');
        let known = path.split_once('/').is_some_and(|(service, _)| self.gate.services.contains(service));
        match (is_grpc(&request), known) {
            (true, _) => self.rpc(request, known).await,
            // Neither around its authentication nor from a page of the browser on this machine, which may send other content
            // types to any address without asking.
            (false, true) => StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
            (false, false) => self.http(request).await,
        }
    }

    async fn rpc(self, mut request: Request<Body>, known: bool) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let method = path.trim_start_matches('/');
        let peer = self.peer.remote_addr.map(|peer| peer.ip().to_string()).unwrap_or_default();
        let span = if self.gate.is_untraced(method) {
            Span::none()
        } else {
            call::server_span(&self.gate.telemetry, method, request.headers(), &peer)
        };
        let call = Call::answered(method, span.clone(), self.gate.histogram.clone());
        let dispatch = self.gate.telemetry.dispatch();
        let admitted = if known { self.gate.admit(&mut request, &path) } else { Err(unimplemented()) };
        let work = async move {
            let (context, whole, mut response) = match admitted {
                Ok(admitted) => {
                    let response = self.within(&admitted, request).await;
                    (admitted.context, admitted.whole, response)
                }
                Err(fault) => (Context::default(), None, refusal(fault)),
            };
            name_trace(&mut response);
            let (parts, body) = response.into_parts();
            let body = Watched::new(body, &parts.headers, call, whole, dispatch, context);
            Response::from_parts(parts, Body::new(body))
        };
        work.instrument(span).await
    }

    /// Lets the service answer, until the deadline.
    async fn within(self, admitted: &Admitted, request: Request<Body>) -> Response<Body> {
        let work = admitted.context.clone().scope(answer_of(self.router, request));
        match tokio::time::timeout_at(admitted.first.instant(), work).await {
            Ok(Some(response)) => garbled::blamed(response),
            Ok(None) => refusal(Fault::new(Code::Internal, FAILED)),
            Err(_) => refusal(deadline::exceeded()),
        }
    }

    async fn http(self, mut request: Request<Body>) -> Response<Body> {
        let caller = match self.gate.access.identify(request.headers()) {
            Ok(caller) => caller,
            Err(fault) => return (StatusCode::UNAUTHORIZED, format!("{fault}\n")).into_response(),
        };
        let deadline = Deadline::after(self.gate.request_timeout);
        let context =
            Context { deadline: Some(deadline), authorization: authorization(&request), serving: true };
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let span = self.gate.http_span(&request);
        let work = context.scope(answer_of(self.router, request));
        let work = async move {
            let mut response = match tokio::time::timeout_at(deadline.instant(), work).await {
                Ok(Some(response)) => response,
                Ok(None) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{FAILED}\n")).into_response(),
                Err(_) => {
                    (StatusCode::GATEWAY_TIMEOUT, format!("{}\n", deadline::exceeded())).into_response()
                }
            };
            let status = response.status();
            let span = Span::current();
            span.record("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.record("otel.status_code", "ERROR");
            }
            name_trace(&mut response);
            response
        };
        work.instrument(span).await
    }
}

/// What an rpc was let in with.
#[derive(Debug)]
struct Admitted {
    context: Context,
    /// Until when the answer must begin.
    first: Deadline,
    /// Until when it must be complete.
    whole: Option<Deadline>,
}

impl Gate {
    /// Authenticates an rpc and reads its deadline.
    fn admit(&self, request: &mut Request<Body>, path: &str) -> Result<Admitted, Fault> {
        if !path.trim_start_matches('/').starts_with(HEALTH) {
            let caller = self.access.identify(request.headers())?;
            let caller: Caller =
                caller.ok_or_else(|| unauthenticated("this service needs a bearer token"))?;
            request.extensions_mut().insert(caller);
        }
        let given = deadline::read(request.headers())?;
        let first = given.unwrap_or_else(|| Deadline::after(self.request_timeout));
        // A watch stays open for as long as its caller wants.
        let whole = if methods::is_streaming(path) { given } else { Some(first) };
        let context = Context { deadline: whole, authorization: authorization(request), serving: true };
        Ok(Admitted { context, first, whole })
    }

    fn is_untraced(&self, path: &str) -> bool {
        self.untraced.iter().any(|prefix| path.starts_with(prefix.as_str()))
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

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn authorization<B>(request: &Request<B>) -> Option<HeaderValue> {
    let mut value = request.headers().get(AUTHORIZATION).cloned()?;
    value.set_sensitive(true);
    Some(value)
}

/// Tells the caller in which trace to look; nothing if the request is untraced.
fn name_trace(response: &mut Response<Body>) {
    if let Some(id) = telemetry::trace_id().and_then(|id| HeaderValue::try_from(id).ok()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
}

fn unimplemented() -> Fault {
    Fault::new(Code::Unimplemented, "this host has no such service")
}

fn refusal(fault: Fault) -> Response<Body> {
    Status::from(fault).into_http()
}

/// Lets the service answer; `None` if it panicked. Uncaught, a panic would look to the caller like a broken connection,
/// which is worth another attempt.
async fn answer_of(router: axum::Router, request: Request<Body>) -> Option<Response<Body>> {
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => Some(response),
        Ok(Err(never)) => match never {},
        Err(_) => {
            // The panic's own message is on standard error already.
            tracing::error!("service panicked");
            None
        }
    }
}
