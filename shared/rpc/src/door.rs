//! The door of a host: what happens to every request before and after the service sees it.

use std::{
    borrow::Cow,
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
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use telemetry::{Histogram, Telemetry};
use tonic::{Code, Status, transport::server::TcpConnectInfo};
use tower::ServiceExt as _;
use tracing::{
    Span,
    instrument::{Instrument as _, WithSubscriber as _},
};

use crate::{
    Api, Caller, Deadline, Fault, Leaving,
    access::{Access, unauthenticated},
    body::{Hold, Scope, Watched},
    call::{self, Call},
    context::Context,
    deadline,
    draining::{self, Closing, Stage},
    garbled,
    limit::{Limit, Limits, Permit},
    methods::{self, Method},
};

/// The answer's trace, for whoever reports a problem.
const TRACE_ID: &str = "trace-id";
/// Milliseconds to wait before the next attempt.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// What a caller learns of a panic.
pub(crate) const FAILED: &str = "the service failed";
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
    pub(crate) apis: Vec<Api>,
    pub(crate) request_timeout: Duration,
    pub(crate) limits: Arc<Limits>,
}

/// One connection's way to the services.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) gate: Arc<Gate>,
    pub(crate) router: axum::Router,
    pub(crate) peer: TcpConnectInfo,
    /// Address of the other side, as spans tell it.
    pub(crate) caller: Arc<str>,
    pub(crate) closing: Closing,
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
            (false, true) => {
                let mut response = StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
                name_trace(&mut response, &trace_of(request.headers()));
                response
            }
            (false, false) => self.http(request).await,
        }
    }

    async fn rpc(self, request: Request<Body>, known: bool) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let method = methods::of(&path);
        let limit = self.gate.limits.of(&path).cloned();
        if let Some(limit) = limit.as_ref().filter(|limit| limit.is_full()) {
            return self.gate.turn_away(&path, method, limit, &request);
        }
        let name = name_of(method, &path);
        let span = if self.gate.is_untraced(&name) {
            Span::none()
        } else {
            call::server_span(&self.gate.telemetry, &name, request.headers(), &self.caller)
        };
        let call = Call::answered(name, span.clone(), self.gate.histogram.clone());
        let asked = Asked { known, path, method, limit };
        self.work(request, asked, call).instrument(span).await
    }

    /// Lets an rpc in, and the service answer it.
    async fn work(
        self,
        mut request: Request<Body>,
        Asked { known, path, method, limit }: Asked,
        call: Call,
    ) -> Response<Body> {
        let streams = method.is_some_and(|method| method.streaming);
        let trace = trace_of(request.headers());
        let gate = Arc::clone(&self.gate);
        let admitted = if known { gate.admit(&mut request, &path, streams) } else { Err(unimplemented()) };
        let admitted = match (admitted, &limit) {
            (Ok(mut admitted), Some(limit)) => match limit.enter(admitted.first).await {
                Ok(permit) => {
                    admitted.permit = Some(permit);
                    Ok(admitted)
                }
                Err(refused) => Err(refused.fault(&gate.limits, &path, limit)),
            },
            (admitted, _) => admitted,
        };
        let closing = self.closing.clone();
        let leaving = method.is_some_and(|method| method.endless).then(|| Leaving::new(closing.clone()));
        if let Some(leaving) = &leaving {
            request.extensions_mut().insert(leaving.clone());
        }
        let (mut admitted, mut response) = match admitted {
            Ok(admitted) => {
                let response = self.within(&admitted, request).await;
                (admitted, response)
            }
            Err(fault) => (Admitted::nothing(), refusal(fault)),
        };
        name_trace(&mut response, &trace);
        let (parts, body) = response.into_parts();
        let (hold, scope) = if streams {
            // What has no end of its own has none to wait for, unless it makes one.
            let last = leaving.map_or(Stage::Over, |leaving| leaving.last());
            let hold = Hold { end: Some(Box::pin(closing.reached(last))), permit: admitted.permit.take() };
            let dispatch = gate.telemetry.dispatch();
            (hold, Some(Scope { dispatch, context: admitted.context }))
        } else {
            // The work is done: whoever reads its answer slowly takes nobody's room.
            (Hold::default(), None)
        };
        let body = Watched::new(body, &parts.headers, call, admitted.whole, scope);
        Response::from_parts(parts, Body::new(body.holding(hold)))
    }

    /// Lets the service answer, until the deadline or the end of the host.
    async fn within(self, admitted: &Admitted, request: Request<Body>) -> Response<Body> {
        let work = admitted.context.clone().scope(answer_of(self.router, request));
        let work = tokio::time::timeout_at(admitted.first.instant(), work);
        tokio::select! {
            done = work => match done {
                Ok(Some(response)) => garbled::blamed(response),
                Ok(None) => refusal(Fault::new(Code::Internal, FAILED)),
                Err(_) => refusal(deadline::exceeded()),
            },
            () = self.closing.reached(Stage::Over) => refusal(draining::leaving()),
        }
    }
}

/// Which rpc is asked for.
struct Asked {
    /// Whether its service is served here.
    known: bool,
    path: String,
    method: Option<&'static Method>,
    limit: Option<Arc<Limit>>,
}

/// What an rpc was let in with.
#[derive(Debug)]
struct Admitted {
    context: Context,
    /// Until when the answer must begin.
    first: Deadline,
    /// Until when it must be complete.
    whole: Option<Deadline>,
    /// The right to run, where the method is limited.
    permit: Option<Permit>,
}

impl Admitted {
    /// What goes with a refusal.
    fn nothing() -> Self {
        let first = Deadline::after(Duration::ZERO);
        Self { context: Context::default(), first, whole: None, permit: None }
    }
}

impl Gate {
    /// Authenticates an rpc and reads its deadline.
    fn admit(&self, request: &mut Request<Body>, path: &str, streams: bool) -> Result<Admitted, Fault> {
        if !path.trim_start_matches('/').starts_with(HEALTH) {
            let caller = self.access.identify(request.headers())?;
            let caller: Caller =
                caller.ok_or_else(|| unauthenticated("this service needs a bearer token"))?;
            request.extensions_mut().insert(caller);
        }
        let given = deadline::read(request.headers())?;
        if given.is_some_and(|given| given.is_over()) {
            return Err(deadline::exceeded());
        }
        let first = given.unwrap_or_else(|| Deadline::after(self.request_timeout));
        // A watch stays open for as long as its caller wants.
        let whole = if streams { given } else { Some(first) };
        let context = Context { deadline: whole, authorization: authorization(request), serving: true };
        Ok(Admitted { context, first, whole, permit: None })
    }

    /// Refuses an rpc for which there is no room before anything else is done for it: no span, no look at its token.
    fn turn_away(
        &self,
        path: &str,
        method: Option<&'static Method>,
        limit: &Limit,
        request: &Request<Body>,
    ) -> Response<Body> {
        let mut call = Call::answered(name_of(method, path), Span::none(), self.histogram.clone());
        let mut response = refusal(self.limits.shed(path, limit));
        name_trace(&mut response, &trace_of(request.headers()));
        call.end(Code::ResourceExhausted);
        response
    }

    pub(crate) fn is_untraced(&self, path: &str) -> bool {
        self.untraced.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }
}

/// Returns the full name of an rpc.
fn name_of(method: Option<&'static Method>, path: &str) -> Cow<'static, str> {
    method.map_or_else(|| path.trim_start_matches('/').to_owned().into(), |method| method.name().into())
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pub(crate) fn authorization<B>(request: &Request<B>) -> Option<HeaderValue> {
    let mut value = request.headers().get(AUTHORIZATION).cloned()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the trace of the current span; where there is none, that of the request, or a new one.
pub(crate) fn trace_of(headers: &HeaderMap) -> String {
    telemetry::trace_id().unwrap_or_else(|| telemetry::trace_id_for(headers))
}

/// Tells the caller in which trace to look.
pub(crate) fn name_trace(response: &mut Response<Body>, id: &str) {
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(TRACE_ID, id);
    }
}

fn unimplemented() -> Fault {
    Fault::new(Code::Unimplemented, "this host has no such service")
}

/// Answers with a failure. A wait that the caller is asked for is told in grpc's own header as well (gRFC A6): a client
/// need not know the details of an error to honour it.
fn refusal(fault: Fault) -> Response<Body> {
    let pushback = fault
        .retry_delay()
        .map(|delay| HeaderValue::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
    let mut response: Response<Body> = Status::from(fault).into_http();
    if let Some(pushback) = pushback {
        response.headers_mut().insert(PUSHBACK, pushback);
    }
    response
}

/// Lets the service answer; `None` if it panicked. Uncaught, a panic would look to the caller like a broken connection,
/// which is worth another attempt.
pub(crate) async fn answer_of(router: axum::Router, request: Request<Body>) -> Option<Response<Body>> {
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
