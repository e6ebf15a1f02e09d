//! The gRPC adapter: convert, call, convert back.

use std::sync::{Arc, OnceLock};

use contracts::agent::{
    self as wire,
    orchestrator_service_server::{OrchestratorService, OrchestratorServiceServer},
};
use futures::{Stream, StreamExt as _};
use rpc::{Caller, Fault};
use telemetry::Telemetry;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tonic::{Request, Response, Status};

use crate::{convert, cycle::Cycle, error::Error, run::Runner};

/// Where the runner is put when its journal is open.
pub(crate) type Slot = Arc<OnceLock<Arc<Runner>>>;

type Watch = std::pin::Pin<Box<dyn Stream<Item = Result<wire::WatchCyclesResponse, Status>> + Send>>;

/// Answers the contract's calls.
#[derive(Debug)]
pub(crate) struct Adapter {
    runner: Slot,
    default_agent: String,
    telemetry: Telemetry,
}

impl Adapter {
    pub(crate) fn new(runner: Slot, default_agent: String, telemetry: Telemetry) -> Self {
        Self { runner, default_agent, telemetry }
    }

    pub(crate) fn into_service(self) -> OrchestratorServiceServer<Self> {
        OrchestratorServiceServer::new(self)
    }

    fn runner(&self) -> Result<Arc<Runner>, Fault> {
        self.runner.get().cloned().ok_or_else(|| Error::NotReady.into())
    }

    /// Reads the journal off the async workers.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Runner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let runner = self.runner()?;
        let done = self.telemetry.spawn_blocking(move || read(&runner)).await;
        done.map_err(Error::Task).and_then(|read| read).map_err(Fault::from)
    }
}

#[tonic::async_trait]
impl OrchestratorService for Adapter {
    async fn run_cycle(
        &self,
        request: Request<wire::RunCycleRequest>,
    ) -> Result<Response<wire::RunCycleResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (agent, deadline) = convert::run(request.into_inner())?;
        let agent = agent.unwrap_or_else(|| self.default_agent.clone());
        let cycle = self.runner()?.run(tenant, agent, deadline).await.map_err(Fault::from)?;
        Ok(Response::new(wire::RunCycleResponse { cycle: Some(convert::cycle(&cycle)) }))
    }

    type WatchCyclesStream = Watch;

    async fn watch_cycles(
        &self,
        request: Request<wire::WatchCyclesRequest>,
    ) -> Result<Response<Self::WatchCyclesStream>, Status> {
        let tenant = Caller::of(&request).tenant;
        let agent = convert::watch(request.into_inner())?;
        let cycles = BroadcastStream::new(self.runner()?.watch(&tenant));
        Ok(Response::new(Box::pin(watched(cycles, agent))))
    }

    async fn get_cycle(
        &self,
        request: Request<wire::GetCycleRequest>,
    ) -> Result<Response<wire::GetCycleResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let id = convert::wanted_id(request.into_inner())?;
        let cycle = self.read(move |runner| runner.journal().cycle(&tenant, &id)).await?;
        Ok(Response::new(wire::GetCycleResponse { cycle: Some(convert::cycle(&cycle)) }))
    }

    async fn list_cycles(
        &self,
        request: Request<wire::ListCyclesRequest>,
    ) -> Result<Response<wire::ListCyclesResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (agent, limit) = convert::list(request.into_inner())?;
        let read = move |runner: &Runner| runner.journal().cycles(&tenant, agent.as_deref(), limit);
        let cycles = self.read(read).await?.iter().map(convert::cycle).collect();
        Ok(Response::new(wire::ListCyclesResponse { cycles }))
    }
}

/// Turns ended cycles into messages; a watcher that fell behind is told by how much with the next one.
fn watched(
    cycles: impl Stream<Item = Result<Arc<Cycle>, BroadcastStreamRecvError>> + Send,
    agent: Option<String>,
) -> impl Stream<Item = Result<wire::WatchCyclesResponse, Status>> + Send {
    let mut missed = 0;
    cycles.filter_map(move |next| {
        let message = match next {
            Ok(cycle) if agent.as_ref().is_none_or(|agent| *agent == cycle.agent) => {
                let missed = std::mem::take(&mut missed);
                Some(Ok(wire::WatchCyclesResponse { cycle: Some(convert::cycle(&cycle)), missed }))
            }
            Ok(_) => None,
            Err(BroadcastStreamRecvError::Lagged(count)) => {
                missed += count;
                None
            }
        };
        std::future::ready(message)
    })
}
