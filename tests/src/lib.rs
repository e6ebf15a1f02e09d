//! Stories over the whole mesh, the contracts, and the rules of the house.
//!
//! This library is what the stories share: a [`House`], which is a mesh of its own on free ports, in a folder that goes away, on a
//! clock that only the story moves.

mod encoded;
pub mod inputs;
pub mod storm;
pub mod wire;

pub use crate::encoded::encoded;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use athena::{Mesh, Options, Replay, Service};
use clock::{Clock, Hand};
use contracts::{
    agent::{self, orchestrator_service_client::OrchestratorServiceClient},
    monitor::{self, monitor_service_client::MonitorServiceClient},
};
use rpc::Channel;
use tempfile::TempDir;

/// Where the agent clock of every story starts: the first replayed day, 2025-07-19.
pub const START: Duration = Duration::from_secs(1_752_883_200);

/// Longest wait for what has no end to wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running mesh that replays recorded days.
#[derive(Debug)]
pub struct House {
    /// The mesh.
    pub mesh: Mesh,
    /// The agent clock of all services.
    pub clock: Clock,
    /// Moves the agent clock.
    pub hand: Hand,
    folder: TempDir,
}

impl House {
    /// Starts a mesh with the default settings.
    ///
    /// # Errors
    ///
    /// Fails if the mesh does not start.
    pub async fn open() -> Result<Self> {
        Self::with([]).await
    }

    /// Starts a mesh with these settings.
    ///
    /// # Errors
    ///
    /// Fails if the mesh does not start.
    pub async fn with(settings: impl IntoIterator<Item = (&str, String)>) -> Result<Self> {
        Self::replaying(Replay::bundled()?, settings).await
    }

    /// Starts a mesh that replays other days, with these settings.
    ///
    /// # Errors
    ///
    /// Fails if the mesh does not start.
    pub async fn replaying(
        replay: Replay,
        settings: impl IntoIterator<Item = (&str, String)>,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut flags: BTreeMap<String, String> = athena::ephemeral(folder.path())
            .iter()
            .filter_map(|setting| setting.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        flags.insert("log_filter".to_owned(), "error".to_owned());
        flags.extend(settings.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH + START);
        let sources = config::Sources::none().with_flags(flags);
        let options = Options { sources, clock: clock.clone(), replay: Some(replay) };
        let mesh = Mesh::start(options).await?;
        Ok(Self { mesh, clock, hand, folder })
    }

    /// Returns a folder that goes away with the house.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a client of a service: `house.client::<MemoryServiceClient<_>>(Service::MemoryService)`.
    ///
    /// # Errors
    ///
    /// Fails if the service's address is no URL, which a bound address always is.
    pub fn client<C: rpc::Client>(&self, service: Service) -> Result<C> {
        Ok(C::over(self.mesh.channel(service)?))
    }

    /// Runs a cycle.
    ///
    /// # Errors
    ///
    /// Fails if the call does; a partial cycle is no error.
    pub async fn cycle(&self) -> Result<agent::Cycle> {
        let mut orchestrator: OrchestratorServiceClient<_> = self.client(Service::Orchestrator)?;
        let response = orchestrator.run_cycle(agent::RunCycleRequest::default()).await?;
        response.into_inner().cycle.context("the answer carries no cycle")
    }

    /// Returns a trace from the monitor once its root is there. A server's span ends a moment after its caller has the answer, and
    /// nothing tells when.
    ///
    /// # Errors
    ///
    /// Fails if the root does not come within 20 s.
    pub async fn trace(&self, trace_id: &str) -> Result<monitor::GetTraceResponse> {
        let mut client: MonitorServiceClient<_> = self.client(Service::Monitor)?;
        let begun = Instant::now();
        loop {
            self.mesh.flush_telemetry().await;
            let request = monitor::GetTraceRequest { trace_id: trace_id.to_owned() };
            let outcome = client.get_trace(request).await;
            match outcome.map(tonic::Response::into_inner) {
                Ok(trace) if trace.spans.iter().any(|span| span.parent_span_id.is_empty()) => {
                    return Ok(trace);
                }
                outcome if begun.elapsed() > PATIENCE => bail!("the trace has no root: {outcome:?}"),
                _ => tokio::task::yield_now().await,
            }
        }
    }

    /// Waits until the orchestrator's health says that a part of it, `service/part`, serves.
    ///
    /// # Errors
    ///
    /// Fails if nothing answers, or it says something else for 20 s.
    pub async fn until_serving(&self, part: &str) -> Result<()> {
        let channel = self.mesh.channel(Service::Orchestrator)?;
        let serving = rpc::until_serving(&channel, part);
        Ok(tokio::time::timeout(PATIENCE, serving).await.context("it does not serve")??)
    }

    /// Stops the mesh.
    ///
    /// # Errors
    ///
    /// Fails if a service ended with an error.
    pub async fn close(self) -> Result<()> {
        self.mesh.stop().await
    }
}

/// Waits until a service says that it serves, by its own stream of health.
///
/// # Errors
///
/// Fails if nothing answers, or the stream ends before.
pub async fn until_serving(channel: Channel, service: Service) -> Result<()> {
    Ok(rpc::until_serving(&channel, service.health_name()).await?)
}
