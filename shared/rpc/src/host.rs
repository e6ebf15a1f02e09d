//! Serves gRPC and HTTP/1.1 on one port.

mod opening;
mod serve;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fmt,
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::Pin,
    sync::Arc,
};

use axum::{
    extract::DefaultBodyLimit,
    response::{IntoResponse, Response},
    routing::get,
};
use clock::Clock;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::{Request, header::CONTENT_TYPE};
use telemetry::Telemetry;
use tokio::{net::TcpListener, sync::watch};
use tonic::server::NamedService;
use tower::ServiceExt as _;

use crate::{
    Api, Draining, Error, Health, HostSettings, Listener, Service,
    access::Access,
    health::Answers,
    limit::Limits,
    listing,
    net::AnyListener,
    reflection::{self, Told},
    tls::Tls,
};

/// Format of Prometheus text.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A server: gRPC services and HTTP routes on one open port.
///
/// Health and reflection (v1 and v1alpha) are always there, and `/metrics` over HTTP. The services begin as NOT_SERVING.
pub struct Host {
    settings: HostSettings,
    telemetry: Telemetry,
    clock: Clock,
    tls: Option<Arc<Tls>>,
    listener: Box<dyn AnyListener>,
    address: SocketAddr,
    access: Access,
    health: Health,
    drain: watch::Sender<bool>,
    draining: Draining,
    router: axum::Router,
    services: BTreeSet<&'static str>,
    /// Services whose calls are never shed.
    spared: BTreeSet<&'static str>,
    apis: Vec<Api>,
    untraced: Vec<String>,
    descriptors: Vec<&'static [u8]>,
    checks: Vec<(&'static str, Check)>,
    parts: Vec<(String, BoxStream<'static, bool>)>,
}

impl Host {
    /// Opens the port, 0 for any free one; nothing is served yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the port cannot be opened, a token is malformed, the certificate cannot be used, or the address is reachable from
    /// other machines and neither tokens nor `allow_anonymous` are set.
    pub fn bind(
        settings: &HostSettings,
        port: u16,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Self, Error> {
        let address = SocketAddr::new(settings.bind_address, port);
        // Before the port is opened: an unprotected one must not exist for a moment.
        Access::of(settings, address)?;
        let listener = open(address).map_err(|source| Error::Bind { address, source })?;
        Self::over(listener, settings, telemetry, clock)
    }

    /// Makes a host that serves what `listener` takes, such as the one of a simulated network; otherwise as [`Host::bind`].
    ///
    /// # Errors
    /// If the listener has no address; otherwise as [`Host::bind`].
    pub fn over(
        listener: impl Listener,
        settings: &HostSettings,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Self, Error> {
        let asked = SocketAddr::new(settings.bind_address, 0);
        let address = listener.local_addr().map_err(|source| Error::Bind { address: asked, source })?;
        let access = Access::of(settings, address)?;
        let tls = Tls::of(settings)?;
        let (drain, draining) = Draining::new();
        let own = ["grpc.health.", "grpc.reflection."];
        Ok(Self {
            settings: settings.clone(),
            telemetry,
            clock,
            tls,
            listener: Box::new(listener),
            address,
            access,
            health: Health::new(),
            drain,
            draining,
            router: axum::Router::new(),
            services: BTreeSet::new(),
            spared: BTreeSet::new(),
            apis: Vec::new(),
            untraced: own.map(str::to_owned).into(),
            descriptors: vec![contracts::DESCRIPTOR_SET],
            checks: Vec::new(),
            parts: Vec::new(),
        })
    }

    /// Returns the address that is listened on, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Adds a service of our contracts, with the message limit of the settings. It is NOT_SERVING until
    /// [`Host::health`] says otherwise.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "a service is added to a host; there is no sum of the two"
    )]
    pub fn add<S: Service>(self, service: S) -> Self {
        let limit = self.settings.message_limit();
        self.add_foreign(service.limited(limit))
    }

    /// Adds a service of our contracts by which the host is administered: as [`Host::add`], but its calls are never shed.
    #[must_use]
    pub fn add_admin<S: Service>(mut self, service: S) -> Self {
        self.spared.insert(S::NAME);
        self.add(service)
    }

    /// Adds a service of another contract, such as OpenTelemetry's. It sets its own message limits
    /// ([`HostSettings::message_limit`]) and brings its own [`Host::descriptors`].
    #[must_use]
    pub fn add_foreign<S>(self, service: S) -> Self
    where
        S: tower::Service<Request<tonic::body::Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.health.register(S::NAME);
        self.mount(service)
    }

    /// Adds HTTP routes beside gRPC. `/metrics` is there already, and a path must not be added twice.
    #[must_use]
    pub fn route(mut self, routes: axum::Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Adds HTTP routes that do the work of rpcs.
    #[must_use]
    pub fn api(mut self, api: Api, routes: axum::Router) -> Self {
        self.apis.push(api);
        self.route(routes)
    }

    /// Makes no spans for paths that begin with `prefix`, such as `/opentelemetry.proto.collector.`.
    #[must_use]
    pub fn untraced(mut self, prefix: &str) -> Self {
        self.untraced.push(prefix.trim_start_matches('/').to_owned());
        self
    }

    /// Adds an encoded descriptor set to reflection. Those of our contracts and of health are there already.
    #[must_use]
    pub fn descriptors(mut self, set: &'static [u8]) -> Self {
        self.descriptors.push(set);
        self
    }

    /// Adds a part of a service to health, by the name `package.Service/part`: a peer or an upstream whose loss the service
    /// survives. While the host serves, its state is what `states` said last; UNKNOWN before.
    #[must_use]
    pub fn part(mut self, name: &str, states: impl Stream<Item = bool> + Send + 'static) -> Self {
        self.health.register_part(name);
        self.parts.push((name.to_owned(), states.boxed()));
        self
    }

    /// Checks a service at the start and every `health_check_interval` on the agent clock; while the check fails it is
    /// NOT_SERVING. A check that takes longer than the interval has failed.
    #[must_use]
    pub fn check<F>(mut self, service: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.checks.push((service, Arc::new(move || Box::pin(check()))));
        self
    }

    /// Returns the handle that sets which services are serving.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Returns the handle that tells when this host drains.
    #[must_use]
    pub fn draining(&self) -> Draining {
        self.draining.clone()
    }

    fn with_own_services(mut self, limits: Arc<Limits>) -> Self {
        let told = Arc::new(Told { sets: self.descriptors.clone(), served: self.services.clone() });
        let telemetry = self.telemetry.clone();
        let metrics = get(move || async move {
            limits.report();
            ([(CONTENT_TYPE, PROMETHEUS)], telemetry.prometheus_text())
        });
        let limit = self.settings.message_limit();
        self.router = self.router.route("/metrics", metrics).layer(DefaultBodyLimit::max(limit));
        self.router = self.router.merge(listing::route(self.health.clone()));
        let answers = Answers(self.health.clone());
        self = self.mount(tonic_health::pb::health_server::HealthServer::new(answers));
        self.mount(reflection::v1(Arc::clone(&told))).mount(reflection::v1alpha(told))
    }

    fn mount<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<tonic::body::Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.insert(S::NAME);
        let service = service
            .map_request(|request: Request<axum::body::Body>| request.map(tonic::body::Body::new))
            .map_response(|response: S::Response| -> Response { response.into_response() });
        self.router = self.router.route_service(&format!("/{}/{{*method}}", S::NAME), service);
        self
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Host")
            .field("service", &self.telemetry.service())
            .field("address", &self.address)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
