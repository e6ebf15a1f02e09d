//! Takes OpenTelemetry in and shows whether the mesh meets its targets.
//!
//! Design facts:
//! 1. Telemetry comes in through OpenTelemetry's own collector services, so any client in any language can send it. The
//!    monitor makes no spans of that.
//! 2. What arrives is stamped with the agent clock; windows, rates and retention run on it. Durations inside are wall
//!    time ([`series`]).
//! 3. A target has a threshold to reach and one never to pass, needs a number of samples, and says when it knows nothing
//!    ([`target`]).
//! 4. Everything is bounded: series, points, traces, spans. What does not fit is refused or dropped, counted and shown;
//!    nothing is lost in silence.
//! 5. All state is in memory. A restart begins a new run.
//! 6. The dashboard is one page without anything from elsewhere; what telemetry says is set as text, never as markup.

mod config;
mod convert;
mod dashboard;
mod error;
pub mod observer;
pub mod series;
mod server;
pub mod slow;
pub mod target;
pub mod trace;

use std::{net::SocketAddr, sync::Arc};

use ::clock::Clock;
use telemetry::Telemetry;

pub use crate::{config::Config, error::Error};

use crate::{
    observer::Observer,
    server::{Collector, Monitor},
};

/// A monitor with an open port that serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    host: rpc::Host,
}

/// Opens the port. The run, which windows are cut to, begins now on `clock`.
///
/// # Errors
/// [`Error::Host`] if the port is taken or a setting of the host is wrong.
pub async fn bind(config: Config, telemetry: Telemetry, clock: Clock) -> Result<Bound, Error> {
    let observer = Arc::new(Observer::new(&config, clock.clone()));
    let host = rpc::Host::bind(&config.host, config.monitor_port, telemetry, clock)?;
    let limit = config.host.message_limit();
    let monitor = Monitor::new(Arc::clone(&observer));
    let collector = Collector::new(Arc::clone(&observer));
    let host = host
        .add(monitor.into_service())
        .add_foreign(collector.traces(limit))
        .add_foreign(collector.metrics(limit))
        .add_foreign(collector.logs(limit))
        .untraced("/opentelemetry.proto.collector.")
        .descriptors(opentelemetry_proto::DESCRIPTORS)
        .route(dashboard::routes(observer));
    Ok(Bound { host })
}

impl Bound {
    /// Returns the address of the open port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.host.local_addr()
    }

    /// Serves until `shutdown` is ready, then drains.
    ///
    /// # Errors
    /// [`Error::Host`] if the host cannot serve.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        // There is nothing to recover: all state is of this run.
        self.host.health().serving();
        Ok(self.host.run(shutdown).await?)
    }
}
