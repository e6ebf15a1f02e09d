//! How a connection is made: directly or through the proxy that the environment names, over TLS where the address says so.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use http::{HeaderValue, Uri, uri::Scheme};
use hyper::client::conn::{http1, http2};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::{
        legacy::connect::{Connection as _, HttpConnector, proxy::Tunnel},
        proxy::matcher::{Intercept, Matcher},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::CertificateDer};
use rustls_platform_verifier::Verifier;
use telemetry::Telemetry;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    Connection, Error,
    connection::{Io, Own},
};

/// Idle time of a connection of HTTP/2 with requests on their way after which the upstream is asked whether it lives, and the time it has to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Time after which a silent connection of TCP is asked whether it lives, and how often: a network between forgets what is silent for long, and a model may think so long.
const PROBE: Duration = Duration::from_secs(15);
const PROBES: u32 = 3;
/// Longest time that what was sent may stay unconfirmed.
#[cfg(target_os = "linux")]
const UNHEARD: Duration = Duration::from_secs(30);

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// Why an upstream cannot be reached as it is set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error("the address must begin with http:// or https://, be ASCII, and hold neither user nor password")]
    Url,
    /// The key cannot be sent.
    #[error("the key must be visible ASCII")]
    Key,
    /// The environment names a proxy of another kind.
    #[error("the proxy that the environment names must begin with http:// or https://")]
    Proxy,
    /// The authorities of the system cannot be read.
    #[error("the system's certificate authorities cannot be used")]
    Authorities(#[source] rustls::Error),
}

/// What stands between the gateway and all upstreams.
#[derive(Debug)]
pub(in super::super) struct Outside {
    /// Which proxy is asked for which address.
    pub(super) proxies: Matcher,
    /// Authorities that are believed beside the system's.
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

/// Makes connections to one upstream.
#[derive(Debug)]
pub(super) struct Connector {
    way: Way,
    /// Whom it connects to: the upstream, or the proxy that forwards to it.
    to: Uri,
    /// For the whole of it: TCP, a proxy, TLS and HTTP/2.
    timeout: Duration,
    telemetry: Telemetry,
}

/// Opens what bytes go over.
type Way = BoxCloneSyncService<Uri, Box<dyn Io>, Cause>;
type Cause = Box<dyn StdError + Send + Sync>;

impl Outside {
    /// Reads the proxies of the environment, as curl does: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    pub(in super::super) fn of_environment() -> Self {
        Self { proxies: Matcher::from_env(), authorities: Vec::new() }
    }

    /// Puts TLS over `inner` where `address` asks for it, and offers `protocols`.
    fn secured(&self, inner: Way, address: &Uri, protocols: &[&[u8]]) -> Result<Way, SetupError> {
        if !is_secure(address)? {
            return Ok(inner);
        }
        // Given here and not as the process's default: a library sets nothing for others.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(self.authorities.clone(), provider.clone());
        let verifier = verifier.map_err(SetupError::Authorities)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SetupError::Authorities)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols.extend(protocols.iter().map(|name| name.to_vec()));
        Ok(way(HttpsConnector::from((inner, config))))
    }
}

impl Connector {
    /// Prepares to connect to `address`, through `proxy` if there is one.
    pub(super) fn new(
        address: &Uri,
        proxy: Option<&Intercept>,
        outside: &Outside,
        timeout: Duration,
        telemetry: &Telemetry,
    ) -> Result<Self, SetupError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(PROBE));
        tcp.set_keepalive_interval(Some(PROBE));
        tcp.set_keepalive_retries(Some(PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNHEARD));
        let direct = way(tcp);
        let (way, to) = match proxy {
            None => (outside.secured(direct, address, &[HTTP2, HTTP1])?, address),
            Some(proxy) => {
                is_secure(proxy.uri()).map_err(|_| SetupError::Proxy)?;
                let to_proxy = outside.secured(direct, proxy.uri(), &[HTTP1])?;
                match is_secure(address)? {
                    false => (to_proxy, proxy.uri()),
                    true => (outside.secured(tunnel(proxy, to_proxy), address, &[HTTP2, HTTP1])?, address),
                }
            }
        };
        Ok(Self { way, to: to.clone(), timeout, telemetry: telemetry.clone() })
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// [`Error::Connect`] if there is none in time.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        let made = tokio::time::timeout(self.timeout, self.open()).await;
        made.unwrap_or_else(|late| Err(late.into())).map_err(Error::Connect)
    }

    async fn open(&self) -> Result<Connection, Cause> {
        let io = self.way.clone().oneshot(self.to.clone()).await?;
        if !io.connected().is_negotiated_h2() {
            let (sender, driver) = http1::handshake(io).await?;
            return Ok(Connection::Own(Box::new(Own::new(sender, driver))));
        }
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1)
            .handshake(io)
            .await?;
        self.telemetry.spawn_apart(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = &error as &dyn StdError, "connection to an upstream broke");
            }
        });
        Ok(Connection::Shared(sender))
    }
}

/// Reads the address of an upstream.
///
/// # Errors
/// [`SetupError::Url`] if nothing can be asked there.
pub fn address(text: &str) -> Result<Uri, SetupError> {
    let address: Uri = text.trim().parse().map_err(|_| SetupError::Url)?;
    host(&address)?;
    if text.is_ascii() { Ok(address) } else { Err(SetupError::Url) }
}

/// Returns what a request of HTTP/1.1 calls the host of `address`.
pub(super) fn host(address: &Uri) -> Result<HeaderValue, SetupError> {
    is_secure(address)?;
    let authority = address.authority().ok_or(SetupError::Url)?;
    let (host, port) = (authority.host(), authority.port_u16());
    let named = match port {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    // A port that is none would be passed over, and a user is sent nowhere.
    if host.is_empty() || authority.as_str() != named {
        return Err(SetupError::Url);
    }
    let host = if port == Some(usual_port(address)) { host } else { &named };
    HeaderValue::from_str(host).map_err(|_| SetupError::Url)
}

/// Returns the port that an address means where it names none.
pub(in super::super) fn usual_port(address: &Uri) -> u16 {
    if address.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 }
}

fn is_secure(address: &Uri) -> Result<bool, SetupError> {
    match address.scheme_str() {
        Some("https") => Ok(true),
        Some("http") => Ok(false),
        _ => Err(SetupError::Url),
    }
}

fn way<S, T>(connector: S) -> Way
where
    S: Service<Uri, Response = T> + Clone + Send + Sync + 'static,
    S::Error: Into<Cause>,
    S::Future: Send + 'static,
    T: Io + 'static,
{
    Way::new(connector.map_response(|io| Box::new(io) as Box<dyn Io>).map_err(Into::into))
}

fn tunnel(proxy: &Intercept, to_proxy: Way) -> Way {
    let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
    way(match proxy.basic_auth() {
        Some(shown) => tunnel.with_auth(shown.clone()),
        None => tunnel,
    })
}
