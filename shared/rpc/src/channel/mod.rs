//! Calls gRPC.

mod balancer;
mod dial;
mod endpoint;
mod options;
mod retry;
mod target;
mod tls;
mod watching;

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use bytes::Bytes;
use config::Secret;
use http::{HeaderName, HeaderValue, Request, Response, Uri, header::AUTHORIZATION, request};
use http_body_util::{BodyExt as _, Full};
use telemetry::{Histogram, Telemetry, names};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tracing::instrument::{Instrument as _, WithSubscriber as _};

pub use self::options::ChannelOptions;
use self::{
    balancer::{Balancer, Refusal},
    dial::Dialer,
    endpoint::Lease,
    retry::{Failed, Pushback, Retry},
    target::Target,
};
use crate::{
    Deadline, Error, Fault,
    body::Watched,
    budget::Budget,
    call::{self, Call, Ending as _},
    chance::Chance,
    context,
    deadline::{self, GRPC_TIMEOUT, earlier},
    failure, methods,
};

/// How often a call was made before, for the server (gRFC A6).
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The way to a server, or to several of the same service, for the generated clients:
/// `MemoryServiceClient::over(channel)`. Cheap to clone; clones share their connections.
///
/// Each call has a client span, carries the trace context, what is left of the deadline and the caller's token, is
/// measured, and repeated where that is safe. Of several servers it asks one that is connected, says that it serves and has
/// little to do.
#[derive(Clone)]
pub struct Channel {
    balancer: Arc<Balancer>,
    shared: Arc<Shared>,
}

struct Shared {
    telemetry: Telemetry,
    histogram: Histogram,
    /// The first of the servers stands for all in telemetry: addresses come and go.
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    retries: u32,
    budget: Budget,
    max_message_bytes: usize,
}

impl Channel {
    /// Makes a channel to `urls` (`http://…` or `https://…`, several with commas between) that connects with the first call
    /// and again after a break. A name that stands for several addresses, as a headless Service of Kubernetes does, is as
    /// good as several URLs. Needs a tokio runtime.
    ///
    /// # Errors
    /// If `urls` are no http or https URLs of one scheme with a host and without a path, the token has characters that no
    /// header can carry, or the file of authorities cannot be read.
    pub fn lazy(urls: &str, options: ChannelOptions, telemetry: Telemetry) -> Result<Self, Error> {
        let targets = Target::several(urls)?;
        let first = targets.first().cloned().ok_or_else(|| Error::Url { url: urls.to_owned() })?;
        let authorization = match &options.token {
            Some(token) => Some(bearer(token).ok_or_else(|| Error::Token { url: urls.to_owned() })?),
            None => None,
        };
        let tls = if first.tls { Some(tls::client(options.tls_ca.as_deref())?) } else { None };
        let dialer = Dialer {
            network: options.network,
            tls,
            timeout: options.connect_timeout,
            keepalive: (options.keepalive_interval, options.keepalive_timeout),
            telemetry: telemetry.clone(),
        };
        let chance = Arc::new(options.seed.map_or_else(Chance::new, Chance::seeded));
        let shared = Shared {
            histogram: telemetry.histogram(names::RPC_CLIENT_DURATION),
            telemetry,
            host: first.host.clone(),
            port: first.port,
            authorization,
            timeout: options.timeout,
            retries: options.retries,
            budget: Budget::new(options.retry_percent, options.retries_per_second),
            max_message_bytes: options.max_message_bytes,
        };
        let balancer = Balancer::new(targets, dialer, options.breaker, options.resolve_interval, chance);
        Ok(Self { balancer, shared: Arc::new(shared) })
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
        self.equip(&mut request);
        self.shared.budget.called();
        match self.send(request, &call, &limits).await {
            Ok((response, lease)) => {
                call.hold(Box::new(lease));
                let (parts, body) = response.into_parts();
                let body = Watched::new(body, &parts.headers, call, limits.whole, None);
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

    /// Makes the call, again where that is safe and worth it.
    async fn send(
        &self,
        request: Request<Body>,
        call: &Call,
        limits: &Limits,
    ) -> Result<(Response<Body>, Lease), Status> {
        let mut retry = Retry::of(request.uri().path(), self.shared.retries);
        let (parts, mut message) = Message::of(request).await?;
        let mut avoided = Vec::new();
        loop {
            let attempt = self.attempt(parts.clone(), message.take(), limits, &mut avoided).await;
            let failed = match &attempt {
                Attempt::Answered(response, _) => answered(response),
                Attempt::Broken(status) => Failed::Seen(status.code(), Pushback::None),
                Attempt::Unseen(_, worth_it) => Failed::Unseen(*worth_it),
            };
            let remaining = limits.first.remaining();
            let next = if message.is_kept() {
                retry.next(failed, remaining, &self.shared.budget, &self.balancer.chance)
            } else {
                None
            };
            let Some(wait) = next else {
                if retry.made() > 0 {
                    call.span().record("rpc.retries", retry.made());
                }
                return attempt.settled();
            };
            attempt.given_up();
            message.count(retry.made());
            tracing::debug!(attempt = retry.made(), wait_ms = wait.as_secs_f64() * 1e3, "call is repeated");
            tokio::time::sleep(wait).await;
        }
    }

    /// Makes the call once.
    async fn attempt(
        &self,
        mut parts: request::Parts,
        (body, made): (Body, u32),
        limits: &Limits,
        avoided: &mut Vec<SocketAddr>,
    ) -> Attempt {
        if limits.first.is_over() {
            return Attempt::Broken(deadline::exceeded().into());
        }
        let leasing = tokio::time::timeout_at(limits.first.instant(), self.balancer.lease(avoided)).await;
        let mut lease = match leasing {
            Ok(Ok(lease)) => lease,
            Ok(Err(refusal)) => return Attempt::refused(refusal),
            Err(_) => return Attempt::Broken(deadline::exceeded().into()),
        };
        avoided.push(lease.address());
        match limits.whole {
            Some(whole) => parts.headers.insert(GRPC_TIMEOUT, deadline::header(whole.remaining())),
            None => parts.headers.remove(GRPC_TIMEOUT),
        };
        if made > 0 {
            parts.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(made));
        }
        parts.uri = located(&parts.uri, lease.target());
        let work = lease.sender.try_send_request(Request::from_parts(parts, body));
        match tokio::time::timeout_at(limits.first.instant(), work).await {
            Ok(Ok(response)) => {
                lease.heard();
                Attempt::Answered(response.map(Body::new), lease)
            }
            Ok(Err(mut error)) => {
                let is_unseen = error.take_message().is_some() || failure::is_untouched(error.error());
                let status = failure::broken(error.into_error().into(), limits.first.is_over());
                if is_unseen { Attempt::Unseen(status, None) } else { Attempt::Broken(status) }
            }
            Err(_) => {
                Box::new(lease).end(Code::DeadlineExceeded);
                Attempt::Broken(deadline::exceeded().into())
            }
        }
    }
}

/// What came of one attempt.
enum Attempt {
    /// The server began to answer.
    Answered(Response<Body>, Lease),
    /// The connection broke, or the time was over.
    Broken(Status),
    /// No server has seen the call; `Some` after which time another attempt is worth it, none: at once.
    Unseen(Status, Option<Duration>),
}

impl Attempt {
    fn refused(refusal: Refusal) -> Self {
        let status = refusal.fault().into();
        match refusal {
            Refusal::Down(until) => {
                Self::Unseen(status, Some(until.saturating_duration_since(Instant::now())))
            }
            // To fail at once is what an open breaker is for.
            Refusal::Open(_) | Refusal::Unknown => Self::Broken(status),
        }
    }

    fn settled(self) -> Result<(Response<Body>, Lease), Status> {
        match self {
            Self::Answered(response, lease) => Ok((response, lease)),
            Self::Broken(status) | Self::Unseen(status, _) => Err(status),
        }
    }

    /// Tells the breaker of an answer that is not passed on.
    fn given_up(self) {
        if let Self::Answered(response, mut lease) = self {
            lease.told(response.headers());
            Box::new(lease).end(call::code_of(response.headers()).unwrap_or(Code::Unknown));
        }
    }
}

fn answered(response: &Response<Body>) -> Failed {
    let code = call::code_of(response.headers()).unwrap_or(Code::Ok);
    let pushback =
        if code == Code::Unavailable { retry::pushback(response.headers()) } else { Pushback::None };
    Failed::Seen(code, pushback)
}

/// The body of a request, kept where it can be sent again.
enum Message {
    Kept { bytes: Bytes, made: u32 },
    Once(Option<Body>),
}

impl Message {
    /// Reads the message of a call that sends one; a stream, and what nobody here knows, is passed on as it comes.
    async fn of(request: Request<Body>) -> Result<(request::Parts, Self), Status> {
        let (parts, body) = request.into_parts();
        let message = if methods::sends_one(parts.uri.path()) {
            Self::Kept { bytes: body.collect().await?.to_bytes(), made: 0 }
        } else {
            Self::Once(Some(body))
        };
        Ok((parts, message))
    }

    fn is_kept(&self) -> bool {
        matches!(self, Self::Kept { .. })
    }

    /// Notes how often the call was made before.
    fn count(&mut self, times: u32) {
        if let Self::Kept { made, .. } = self {
            *made = times;
        }
    }

    fn take(&mut self) -> (Body, u32) {
        match self {
            Self::Kept { bytes, made } => (Body::new(Full::new(bytes.clone())), *made),
            Self::Once(body) => (body.take().unwrap_or_default(), 0),
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

/// Returns the address of an rpc at a server.
fn located(path: &Uri, target: &Target) -> Uri {
    let path_and_query = path.path_and_query().map_or("/", |path| path.as_str());
    let built = Uri::builder().scheme(target.scheme()).authority(target.authority.clone());
    // Its parts were parsed before.
    built.path_and_query(path_and_query).build().unwrap_or_default()
}

fn bearer(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
