//! Opens one HTTP/2 connection.

use std::{error::Error as StdError, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, pki_types::ServerName};
use telemetry::Telemetry;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::target::Target;
use crate::net::{Io, Network};

/// Calls that were left and are remembered, so that their late answers are passed over.
const LEFT: usize = 1024;

/// What every connection of a channel is opened with.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) network: Arc<dyn Network>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// For the whole of it: TCP, TLS and HTTP/2.
    pub(super) timeout: Duration,
    /// Idle time after which the server is asked whether it lives, and the time it has to answer. Without this a connection
    /// stays stuck after a partition.
    pub(super) keepalive: (Duration, Duration),
    pub(super) telemetry: Telemetry,
}

type Cause = Box<dyn StdError + Send + Sync>;

impl Dialer {
    /// Connects, and calls `lost` when the connection has ended.
    pub(super) async fn dial(
        &self,
        target: &Target,
        address: SocketAddr,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<SendRequest<Body>, Cause> {
        let dialled = tokio::time::timeout(self.timeout, self.open(target, address)).await;
        let io = dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.keepalive.0)
            .keep_alive_timeout(self.keepalive.1)
            .keep_alive_while_idle(true)
            // Answers to calls that were left come in late. Counted as faults of the server they would end the connection
            // after 1,024 of them, and innocent calls with it.
            .max_concurrent_reset_streams(LEFT)
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(io))
            .await?;
        self.telemetry.spawn_apart(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, error = &error as &dyn StdError, "connection broke");
            }
            lost();
        });
        Ok(sender)
    }

    async fn open(&self, target: &Target, address: SocketAddr) -> Result<Box<dyn Io>, Cause> {
        let io = self.network.connect(address).await?;
        let Some(tls) = self.tls.clone().filter(|_| target.tls) else { return Ok(io) };
        let name = ServerName::try_from(target.host.clone())?;
        let stream = TlsConnector::from(tls).connect(name, io).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2".into());
        }
        Ok(Box::new(stream))
    }
}
