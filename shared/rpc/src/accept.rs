//! Accepts connections, serves them and lets them finish in a bounded time.

use std::{future::Future, net::SocketAddr, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::task::JoinSet;
use tonic::transport::server::TcpConnectInfo;

use crate::{
    door::{Door, Gate},
    net::{AnyListener, Io},
};

/// Streams that were reset before they were accepted, per connection. With hyper's default a burst of cancelled calls ends
/// the whole connection, and innocent calls with it (qdrant#1907).
const PENDING_RESETS: usize = 1024;
/// Calls at a time on one connection.
const STREAMS: u32 = 1024;
/// Idle time after which a connection is asked whether it lives, and the time it has to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Pause after an accept failed, as it does when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves connections until they are told to finish.
pub(crate) struct Connections {
    gate: std::sync::Arc<Gate>,
    router: axum::Router,
    address: SocketAddr,
    builder: Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    pub(crate) fn new(gate: std::sync::Arc<Gate>, router: axum::Router, address: SocketAddr) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        Self { gate, router, address, builder, graceful: GracefulShutdown::new(), tasks: JoinSet::new() }
    }

    /// Accepts until `stop` is ready.
    pub(crate) async fn accept(&mut self, listener: &dyn AnyListener, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(_) = self.tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "connection not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn serve(&mut self, stream: Box<dyn Io>, peer: SocketAddr) {
        let peer = TcpConnectInfo { local_addr: Some(self.address), remote_addr: Some(peer) };
        let door = Door { gate: self.gate.clone(), router: self.router.clone(), peer };
        let service = TowerToHyperService::new(door);
        let connection =
            self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = self.graceful.watch(connection);
        self.tasks.spawn(async move {
            // How a connection ends is the client's matter; every call on it was measured.
            let _ = connection.await;
        });
    }

    /// Lets the connections finish their calls and ends what is left after `limit`. Returns how many were left.
    pub(crate) async fn finish(mut self, limit: Duration) -> usize {
        let finished = tokio::time::timeout(limit, self.graceful.shutdown()).await.is_ok();
        while self.tasks.try_join_next().is_some() {}
        let left = if finished { 0 } else { self.tasks.len() };
        self.tasks.shutdown().await;
        left
    }
}
