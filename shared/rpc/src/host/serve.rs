//! The life of a host: serve, and drain in a bounded time.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use clock::Clock;
use futures::{StreamExt as _, stream::BoxStream};
use telemetry::names;
use tracing::instrument::WithSubscriber as _;

use super::{Check, Host};
use crate::{Error, Health, accept::Connections, connection::Terms, door::Gate, limit::Limits, methods};

impl Host {
    /// Serves until `shutdown` is ready; then drains and returns within `drain_delay` and `drain_timeout`:
    ///
    /// 1. Health says NOT_SERVING, and [`Draining`] begins.
    /// 2. For `drain_delay` new calls are still served.
    /// 3. The listener is closed, and clients are told to go elsewhere (GOAWAY). Watches end with UNAVAILABLE; other calls
    ///    finish, and so do conversations that promised to ([`crate::Leaving`]).
    /// 4. Shortly before the end of `drain_timeout`, calls and streams that are still open end with UNAVAILABLE.
    ///
    /// Dropping the future ends everything at once.
    ///
    /// # Errors
    /// If a descriptor set cannot be read.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let dispatch = self.telemetry.dispatch();
        self.serve(shutdown).with_subscriber(dispatch).await
    }

    async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let limits = Arc::new(self.limits()?);
        let host = self.with_own_services(Arc::clone(&limits));
        let settings = &host.settings;
        let terms = Terms::new(host.tls, settings.handshake_timeout, settings.max_connection_age);
        let gate = Arc::new(Gate {
            histogram: host.telemetry.histogram(names::RPC_SERVER_DURATION),
            telemetry: host.telemetry.clone(),
            access: host.access,
            services: host.services,
            untraced: host.untraced,
            apis: host.apis,
            request_timeout: settings.request_timeout,
            limits: Arc::clone(&limits),
        });
        let room = usize::try_from(settings.max_connections).unwrap_or(usize::MAX);
        let mut connections = Connections::new(gate, host.router.with_state(()), host.address, terms, room);
        let checking = check_all(&host.checks, &host.health, &host.clock, settings.health_check_interval);
        let stop = async {
            shutdown.await;
            tracing::info!("draining");
            let served = host.health.drain();
            host.drain.send_replace(true);
            // Nobody sends calls to a host that serves nothing anyway.
            if served {
                tokio::time::sleep(settings.drain_delay).await;
            }
        };
        tracing::info!(address = %host.address, "serving");
        tokio::select! {
            () = connections.accept(&*host.listener, stop) => {}
            never = checking => match never {},
            never = follow_all(host.parts, &host.health) => match never {},
            never = report(&limits, settings.metrics_export_interval) => match never {},
        }
        drop(host.listener);
        let left = connections.finish(settings.drain_timeout).await;
        if left > 0 {
            tracing::warn!(connections = left, "drain ended before its calls did");
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// The limits of the methods of what was added, watches and administration left out.
    fn limits(&self) -> Result<Limits, Error> {
        let limited = self.services.difference(&self.spared).copied().collect();
        let mut paths = methods::bounded(&self.descriptors, &limited).map_err(Error::Descriptors)?;
        paths.extend(self.apis.iter().flat_map(|api| api.limited).map(|path| (*path).to_owned()));
        Ok(Limits::new(&self.settings, paths, &self.telemetry))
    }
}

async fn check_all(
    checks: &[(&'static str, Check)],
    health: &Health,
    clock: &Clock,
    interval: Duration,
) -> Infallible {
    loop {
        let outcomes = checks.iter().map(|(name, check)| async move {
            let fine = tokio::time::timeout(interval, check()).await.unwrap_or(false);
            if health.checked(name, fine) {
                tracing::warn!(service = name, fine, "outcome of the check changed");
            }
        });
        futures::future::join_all(outcomes).await;
        clock.sleep(interval).await;
    }
}

/// Tells health what is heard of each part.
async fn follow_all(parts: Vec<(String, BoxStream<'static, bool>)>, health: &Health) -> Infallible {
    let heard = parts.into_iter().map(|(name, states)| states.map(move |serving| (name.clone(), serving)));
    let mut heard = futures::stream::select_all(heard);
    while let Some((name, serving)) = heard.next().await {
        if health.set(&name, serving) {
            tracing::info!(part = name, serving, "state of a part changed");
        }
    }
    std::future::pending().await
}

/// Keeps the gauges of what is exported; a scrape sets them itself.
async fn report(limits: &Limits, interval: Duration) -> Infallible {
    loop {
        tokio::time::sleep(interval).await;
        limits.report();
    }
}
