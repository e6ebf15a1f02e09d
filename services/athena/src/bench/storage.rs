//! The processes of `storage.ack`, `storage.faults` and `storage.outage`, and the folder of `storage.documents`; what is measured of them is said by the
//! batcher's own benchmarks.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use storage_batcher::{
    Config,
    bench::{self, Emulator, Story},
};
use telemetry::Telemetry;
use testkit::{Instance as _, Round};

use super::{
    Setup,
    processes::{end, free_port, sources, spawn, this_program, until_listening},
    running::Running,
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

/// How long the rate of the ramp is measured after an outage.
const RAMP: Duration = Duration::from_secs(20);

/// Acknowledged writes of a batcher with its embedded store, and of a bare file.
pub(super) async fn ack(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let settings = setup.settings.clone();
    let mut batcher = Running::new(Service::StorageBatcher, &folder.path().join("batcher"), settings);
    let at = batcher.start().await?.address;
    let port = free_port()?;
    let mut command = this_program()?;
    command.args(["bench", "storage.ack", "--part", "raw"]);
    let raw = spawn(command, ephemeral(&folder.path().join("raw")), &format!("storage_port={port}"))?;
    until_listening(port).await?;
    let measured = bench::ack(at, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    end(raw).await?;
    batcher.kill().await?;
    Ok(measured?)
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
    let mut running = Running::new(Service::StorageBatcher, folder.path(), settings);
    Ok(bench::faults(&mut running, &emulator, story).await?)
}

/// A day of samples, written in five ways.
pub(super) async fn documents(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    Ok(bench::documents(folder.path(), &setup.data).await?)
}

/// A full journal while Firestore is away, and its return. What is left of a batch goes out soon, for nobody asks for it.
pub(super) async fn outage(setup: &Setup) -> Result<Round> {
    let (folder, firestore) = (tempfile::tempdir()?, testkit::port_nobody_listens_on());
    let url = format!("firestore_url={}", firestore.address());
    let mut settings =
        ["firestore_project=demo-athena", "firestore_flush_interval=1s", &url].map(str::to_owned).to_vec();
    settings.extend(setup.size.map(|writes| format!("journal_max_writes={writes}")));
    settings.extend(setup.settings.clone());
    let fast = [settings.clone(), vec!["firestore_ramp_start=100000".to_owned()]].concat();
    let mut running = Running::new(Service::StorageBatcher, folder.path(), settings);
    let mut unramped = Running::new(Service::StorageBatcher, folder.path(), fast);
    Ok(bench::outage(&mut running, &mut unramped, firestore, RAMP).await?)
}

/// Serves the file in this process until a signal, with the settings of a batcher.
pub(super) async fn raw(settings: &[String]) -> Result<String> {
    let config = Config::load(&sources(settings))?;
    let telemetry = Telemetry::new(config.host.telemetry(Service::StorageBatcher.name()))?;
    bench::raw(&config, telemetry, clock::Clock::system(), rpc::shutdown_signal()).await?;
    Ok(String::new())
}
