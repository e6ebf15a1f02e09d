//! The processes of `storage.ack` and `storage.faults`, and the folder of `storage.documents`; what is measured of them is said by the batcher's own benchmarks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use storage_batcher::{
    Config,
    bench::{self, Emulator, Instance, Story},
};
use telemetry::Telemetry;
use testkit::Process;
use tokio::process::Child;

use super::{
    Round, Setup,
    processes::{end, free_port, serve_with, sources, spawn, this_program, until_listening, until_serving},
};
use crate::{Service, ephemeral};

/// How a story of faults goes: every request is a batch of few writes, and pauses are short, so that much happens in little time.
const OFTEN: [&str; 6] = [
    "firestore_project=demo-athena",
    "firestore_batch_size=2",
    "firestore_flush_interval=1s",
    "firestore_retry_backoff=1ms",
    "firestore_max_concurrent_writes=10",
    "storage_drain_timeout=1m",
];
const STORY: Story = Story { writes: 100_000, kills: 200, injected: 100_000, seed: 20_261_126 };

/// A batcher as a process over a journal that stays; killed when this is dropped.
struct Running {
    folder: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
}

/// Acknowledged writes of a batcher with its embedded store, and of a bare file.
pub(super) async fn ack(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mut batcher = Running::new(&folder.path().join("batcher"), setup.settings.clone());
    let at = batcher.spawn().await?;
    let port = free_port()?;
    let mut command = this_program()?;
    command.args(["bench", "storage.ack", "--part", "raw"]);
    let raw = spawn(command, ephemeral(&folder.path().join("raw")), &format!("storage_port={port}"))?;
    until_listening(port).await?;
    let measured = bench::ack(at, local(port)).await;
    end(raw).await?;
    batcher.kill().await?;
    Ok(measured?.into())
}

/// Writers, kills and a Firestore that fails.
pub(super) async fn faults(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let emulator = Emulator::start(STORY.seed).await?;
    let mut settings: Vec<String> = OFTEN.map(str::to_owned).into();
    settings.push(format!("firestore_url={}", emulator.address()));
    settings.extend(setup.settings.clone());
    let writes = setup.size.unwrap_or(STORY.writes);
    let share = |of: u64| (of * writes).div_ceil(STORY.writes);
    let kills = u32::try_from(share(STORY.kills.into())).unwrap_or(u32::MAX);
    let story = Story { writes, kills, injected: share(STORY.injected), ..STORY };
    Ok(bench::faults(&mut Running::new(folder.path(), settings), &emulator, story).await?.into())
}

/// A day of samples, written in five ways.
pub(super) async fn documents(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    Ok(bench::documents(folder.path(), &setup.data).await?.into())
}

/// Serves the file in this process until a signal, with the settings of a batcher.
pub(super) async fn raw(settings: &[String]) -> Result<String> {
    let config = Config::load(&sources(settings))?;
    let telemetry = Telemetry::new(config.host.telemetry(Service::StorageBatcher.name()))?;
    bench::raw(&config, telemetry, clock::Clock::system(), rpc::shutdown_signal()).await?;
    Ok(String::new())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Running {
    fn new(folder: &Path, settings: Vec<String>) -> Self {
        Self { folder: folder.to_owned(), settings, child: None }
    }

    async fn spawn(&mut self) -> Result<SocketAddr> {
        let port = free_port()?;
        let child = serve_with(Service::StorageBatcher, port, &self.folder, self.settings.clone())?;
        self.child = Some(child);
        until_serving(Service::StorageBatcher, port).await?;
        Ok(local(port))
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
    async fn start(&mut self) -> Result<SocketAddr, bench::Error> {
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
