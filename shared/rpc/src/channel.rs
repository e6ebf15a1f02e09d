//! Calls gRPC.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::Secret;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use telemetry::{Histogram, Telemetry, names};
use tonic::{
    Code, Status, TimeoutExpired,
    body::Body,
    transport::{ClientTlsConfig, Endpoint},
};
use tower::{Service as _, ServiceExt as _};
use tracing::instrument::{Instrument as _, WithSubscriber as _};

use crate::{
    Deadline, Error, Fault,
    body::Watched,
    call::{self, Call},
    context,
    deadline::{self, GRPC_TIMEOUT, earlier},
    methods,
    retry::{self, Retry},
};

/// Idle time after which the server is asked whether it lives, and the time it has to answer. Without this a channel stays
/// stuck after a partition.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// How a channel calls.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Deadline of a call for which no earlier one applies. A stream has only to begin by then. Default 10 s.
    pub timeout: Duration,
    /// Longest time to wait for a connection. Default 2 s.
    pub connect_timeout: Duration,
    /// Bearer token for calls that are made on nobody's behalf. Default none. While a call is served, the token of its
    /// caller is sent on instead.
    pub token: Option<Secret>,
    /// How often a call is repeated, if its contract allows that and the server is UNAVAILABLE. Default 2.
    pub retries: u32,
    /// Largest message, in and out, for clients made by [`crate::Client::over`]. Default 16 MiB.
    pub max_message_bytes: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            token: None,
            retries: 2,
            max_message_bytes: 16 << 20,
        }
    }
}

/// A connection to a server, for the generated clients: `MemoryServiceClient::over(channel)`. Cheap to clone; clones share
/// the connection.
///
/// Each call has a client span, carries the trace context, what is left of the deadline and the caller's token, is
/// measured, and repeated where that is safe.
#[derive(Clone)]
pub struct Channel {
    transport: tonic::transport::Channel,
    shared: Arc<Shared>,
}

struct Shared {
    telemetry: Telemetry,
    histogram: Histogram,
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    retries: u32,
    max_message_bytes: usize,
}

impl Channel {
    /// Makes a channel to `url` (`http://…` or `https://…`) that connects with the first call and again after a break.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// If `url` is no http or https URL with a host, or the token has characters that no header can carry.
    pub fn lazy(url: &str, options: ChannelOptions, telemetry: Telemetry) -> Result<Self, Error> {
        let wrong = |source| Error::Url { url: url.to_owned(), source };
        let mut endpoint = Endpoint::from_shared(url.to_owned()).map_err(|source| wrong(Some(source)))?;
        let uri = endpoint.uri().clone();
        let default_port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(wrong(None)),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong(None))?.to_owned();
        endpoint = endpoint
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .keep_alive_while_idle(true);
        if default_port == 443 {
            let tls = ClientTlsConfig::new().with_webpki_roots();
            endpoint = endpoint.tls_config(tls).map_err(|source| wrong(Some(source)))?;
        }
        let authorization = match &options.token {
            Some(token) => Some(bearer(token).ok_or_else(|| Error::Token { url: url.to_owned() })?),
            None => None,
        };
        let shared = Shared {
            histogram: telemetry.histogram(names::RPC_CLIENT_DURATION),
            telemetry,
            host,
            port: uri.port_u16().unwrap_or(default_port),
            authorization,
            timeout: options.timeout,
            retries: options.retries,
            max_message_bytes: options.max_message_bytes,
        };
        Ok(Self { transport: endpoint.connect_lazy(), shared: Arc::new(shared) })
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        self.shared.max_message_bytes
    }

    async fn make(
        self,
        mut request: Request<Body>,
        mut call: Call,
        limits: Limits,
    ) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        self.equip(&mut request);
        let mut retry = Retry::of(&path, self.shared.retries);
        let sent = self.send(request, &mut retry, &limits).await;
        if retry.made() > 0 {
            call.span().record("rpc.retries", retry.made());
        }
        match sent {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let dispatch = self.shared.telemetry.dispatch();
                let context = context::Context::default();
                let body = Watched::new(body, &parts.headers, call, limits.whole, dispatch, context);
                Ok(Response::from_parts(parts, Body::new(body)))
            }
            Err(status) => {
                call.end(status.code());
                Err(status)
            }
        }
    }

    /// Adds what every attempt carries.
    fn equip(&self, request: &mut Request<Body>) {
        let headers = request.headers_mut();
        telemetry::inject(headers);
        // On behalf of a caller without a token nothing is asked with ours: that would lend it our tenant.
        let current = context::current();
        let token = if current.serving { current.authorization } else { self.shared.authorization.clone() };
        if let (Some(token), false) = (token, headers.contains_key(AUTHORIZATION)) {
            headers.insert(AUTHORIZATION, token);
        }
    }

    async fn send(
        &self,
        request: Request<Body>,
        retry: &mut Retry,
        limits: &Limits,
    ) -> Result<Response<Body>, Status> {
        if !retry.is_possible() {
            return self.attempt(request, limits).await;
        }
        let (parts, body) = request.into_parts();
        // A call that may be repeated is a small question, not a stream.
        let kept: Bytes = body.collect().await?.to_bytes();
        loop {
            let request = Request::from_parts(parts.clone(), Body::new(Full::new(kept.clone())));
            let outcome = self.attempt(request, limits).await;
            let (code, asked) = match &outcome {
                Ok(response) => {
                    let code = call::code_of(response.headers()).unwrap_or(Code::Ok);
                    let asked =
                        if code == Code::Unavailable { retry::asked(response.headers()) } else { None };
                    (code, asked)
                }
                Err(status) => (status.code(), None),
            };
            let Some(wait) = retry.next(code, limits.first.remaining(), asked) else { return outcome };
            tracing::debug!(attempt = retry.made(), wait_ms = wait.as_secs_f64() * 1e3, "call is repeated");
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes the call once.
    async fn attempt(&self, mut request: Request<Body>, limits: &Limits) -> Result<Response<Body>, Status> {
        if limits.first.is_over() {
            return Err(deadline::exceeded().into());
        }
        match limits.whole {
            Some(whole) => request.headers_mut().insert(GRPC_TIMEOUT, deadline::header(whole.remaining())),
            None => request.headers_mut().remove(GRPC_TIMEOUT),
        };
        let mut transport = self.transport.clone();
        let work = async move { transport.ready().await?.call(request).await };
        match tokio::time::timeout_at(limits.first.instant(), work).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(error.into(), limits.first.is_over())),
            Err(_) => Err(deadline::exceeded().into()),
        }
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Status>> {
        // Each attempt waits for the connection itself, inside its deadline.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        let limits = match Limits::of(&request, self.shared.timeout) {
            Ok(limits) => limits,
            Err(fault) => return Box::pin(std::future::ready(Err(fault.into()))),
        };
        let method = request.uri().path().trim_start_matches('/');
        let Shared { telemetry, histogram, host, port, .. } = &*self.shared;
        let span = call::client_span(telemetry, method, host, *port);
        let call = Call::made(method, host, span.clone(), histogram.clone());
        let dispatch = telemetry.dispatch();
        Box::pin(channel.make(request, call, limits).instrument(span).with_subscriber(dispatch))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Channel").field("host", &self.shared.host).field("port", &self.shared.port).finish()
    }
}

/// Until when a call may take.
#[derive(Debug)]
struct Limits {
    /// Until when the answer must begin.
    first: Deadline,
    /// Until when it must be complete; a stream that nobody bounds may stay open.
    whole: Option<Deadline>,
}

impl Limits {
    fn of<B>(request: &Request<B>, timeout: Duration) -> Result<Self, Fault> {
        let own = Deadline::after(timeout);
        let given = earlier(Deadline::current(), deadline::read(request.headers())?);
        let first = given.map_or(own, |given| given.min(own));
        let whole = if methods::is_streaming(request.uri().path()) { given } else { Some(first) };
        Ok(Self { first, whole })
    }
}

/// Makes the status of a call whose connection broke. tonic says UNKNOWN or CANCELLED for most of these (grpc-rust#628),
/// and CANCELLED for its own timer.
pub(crate) fn broken(error: Box<dyn StdError + Send + Sync>, over: bool) -> Status {
    if over || has_expired(error.as_ref()) {
        return deadline::exceeded().into();
    }
    let status = Status::from_error(error);
    match status.code() {
        // The server broke the protocol, or refused what it was sent: another attempt would not help.
        Code::Internal | Code::PermissionDenied | Code::OutOfRange => status,
        Code::Unavailable => status,
        _ => {
            let mut unavailable = Status::unavailable("the connection to the server broke");
            unavailable.set_source(Arc::new(status));
            unavailable
        }
    }
}

fn has_expired(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
