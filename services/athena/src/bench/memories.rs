//! The processes of `memory.serve`, `memory.restart` and `memory.kills`; what is measured of them is said by the memory service's own
//! benchmarks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use memory_service::bench::process::{self as bench, Instance, Server, Story};
use tempfile::TempDir;
use testkit::Process;
use tokio::process::Child;

use super::{
    Outcome, Round, Setup,
    processes::{end, free_port, serve_with, until_serving},
};
use crate::Service;

/// Memories of a store that is large, and of a story of kills.
const LARGE: u64 = 1_000_000;
const WRITTEN: u64 = 100_000;
/// Kills that a story has at least.
const KILLS: u32 = 10;
/// When the first comes, and how much later each is than the one before.
const PAUSE: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_millis(331);

/// A memory service as a process over a store in a folder that goes away; killed when this is dropped.
struct Running {
    folder: TempDir,
    settings: Vec<String>,
    child: Option<Child>,
}

/// Recalls beside writes.
pub(super) async fn serve(setup: &Setup) -> Result<Round> {
    let mut running = Running::new(setup, &wide())?;
    let server = running.start().await?;
    let measured = bench::serve(&server).await;
    running.kill().await?;
    Ok(measured?.into())
}

/// The first recall of a process over a large store, which is filled once.
pub(super) async fn restart(setup: &Setup) -> Result<Outcome> {
    let mut running = Running::new(setup, &wide())?;
    let folder = running.folder.path().to_owned();
    let filled = bench::fill(&mut running, &folder, setup.size.unwrap_or(LARGE)).await?;
    setup.rounds(async || Ok(bench::restart(&mut running, &filled).await?.into())).await
}

/// Writers at full speed, and kills; checkpoints as often as can be, so that these are met too.
pub(super) async fn kills(setup: &Setup) -> Result<Round> {
    let often = ["memory_checkpoint_interval=1s", "memory_checkpoint_min=1000"].map(str::to_owned);
    let mut running = Running::new(setup, &often)?;
    let memories = setup.size.unwrap_or(WRITTEN);
    let killed = bench::kills(&mut running, Story { memories, kills: KILLS, pause: PAUSE, later: LATER });
    Ok(bench::Round::from(killed.await?).into())
}

/// Settings for vectors as the load brings them; the embedder is never asked.
fn wide() -> [String; 2] {
    let values = bench::DIMENSIONS;
    [format!("memory_embedder=hashing-{values}"), format!("memory_dimensions={values}")]
}

impl Running {
    /// Makes an empty store that nothing leaves but what is named; the user's settings are stronger than `settings`.
    fn new(setup: &Setup, settings: &[String]) -> Result<Self> {
        let settings = [&["memory_max=0".to_owned()], settings, &setup.settings].concat();
        Ok(Self { folder: tempfile::tempdir()?, settings, child: None })
    }

    async fn spawn(&mut self) -> Result<Server> {
        let port = free_port()?;
        let child = serve_with(Service::MemoryService, port, self.folder.path(), self.settings.clone())?;
        let child = self.child.insert(child);
        until_serving(Service::MemoryService, port).await?;
        let id = child.id().context("a measured process ended")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { address, process: Process::new(id) })
    }

    async fn terminate(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let id = child.id().context("a measured process ended")?;
        Process::new(id).terminate()?;
        let ended = child.wait().await?;
        ensure!(ended.success(), "a measured process did not stop well: {ended}");
        Ok(())
    }
}

impl Instance for Running {
    async fn start(&mut self) -> Result<Server, bench::Error> {
        self.spawn().await.map_err(failed)
    }

    async fn stop(&mut self) -> Result<(), bench::Error> {
        self.terminate().await.map_err(failed)
    }

    async fn kill(&mut self) -> Result<(), bench::Error> {
        match self.child.take() {
            Some(child) => end(child).await.map_err(failed),
            None => Ok(()),
        }
    }
}

fn failed(error: anyhow::Error) -> bench::Error {
    bench::Error::Process(error.into())
}

impl From<bench::Round> for Round {
    fn from(round: bench::Round) -> Self {
        Self { value: round.value, details: round.details }
    }
}
