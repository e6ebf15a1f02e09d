//! The processes of `memory.serve`, `memory.restart` and `memory.kills`; what is measured of them is said by the memory service's own
//! benchmarks.

use std::time::Duration;

use anyhow::Result;
use memory_service::bench::process::{self as bench, Story};
use tempfile::TempDir;
use testkit::{Instance as _, Round};

use super::{Outcome, Setup, running::Running};
use crate::Service;

/// Memories of a store that is large, and of a story of kills.
const LARGE: u64 = 1_000_000;
const WRITTEN: u64 = 100_000;
/// Kills that a story has at least.
const KILLS: u32 = 10;
/// When the first comes, and how much later each is than the one before.
const PAUSE: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_millis(331);

/// Recalls beside writes.
pub(super) async fn serve(setup: &Setup) -> Result<Round> {
    let (_folder, mut running) = empty(setup, &wide())?;
    let server = running.start().await?;
    let measured = bench::serve(&server).await;
    running.kill().await?;
    Ok(measured?)
}

/// The first recall of a process over a large store, which is filled once.
pub(super) async fn restart(setup: &Setup) -> Result<Outcome> {
    let (folder, mut running) = empty(setup, &wide())?;
    let filled = bench::fill(&mut running, folder.path(), setup.size.unwrap_or(LARGE)).await?;
    setup.rounds(async || Ok(bench::restart(&mut running, &filled).await?)).await
}

/// Writers at full speed, and kills; checkpoints as often as can be, so that these are met too.
pub(super) async fn kills(setup: &Setup) -> Result<Round> {
    let often = ["memory_checkpoint_interval=1s", "memory_checkpoint_min=1000"].map(str::to_owned);
    let (_folder, mut running) = empty(setup, &often)?;
    let memories = setup.size.unwrap_or(WRITTEN);
    let killed = bench::kills(&mut running, Story { memories, kills: KILLS, pause: PAUSE, later: LATER });
    Ok(killed.await?.into())
}

/// Settings for vectors as the load brings them; the embedder is never asked.
fn wide() -> [String; 2] {
    let values = bench::DIMENSIONS;
    [format!("memory_embedder=hashing-{values}"), format!("memory_dimensions={values}")]
}

/// Makes an empty store that nothing leaves but what is named; the user's settings are stronger than `settings`.
fn empty(setup: &Setup, settings: &[String]) -> Result<(TempDir, Running)> {
    let settings = [&["memory_max=0".to_owned()], settings, &setup.settings].concat();
    let folder = tempfile::tempdir()?;
    let running = Running::new(Service::MemoryService, folder.path(), settings);
    Ok((folder, running))
}
