//! Benchmarks of a cycle over a whole mesh in this process; what is measured is said by the orchestrator's own benchmarks.

use std::path::Path;

use anyhow::Result;
use clock::Clock;
use config::Sources;
use orchestrator::bench::{self, Measured};

use super::{Outcome, Setup};
use crate::{Mesh, Options, Replay, Service, ephemeral};

/// Cycles of a round.
const CYCLES: u32 = 40;

/// What a cycle adds to its slowest branches and one fsync.
pub(super) async fn overhead(setup: &Setup) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let most = format!("agent_max_interesting={}", bench::OVERHEAD_POOLS);
    let mesh = start(setup, folder.path(), bench::overhead_sources()?, &[most]).await?;
    let measured =
        bench::overhead(&mesh.url(Service::Orchestrator), folder.path(), setup.rounds, CYCLES).await;
    mesh.stop().await?;
    Ok(measured?.into())
}

/// A replayed cycle of 300 pools.
pub(super) async fn replay(setup: &Setup) -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let source = orchestrator::source::replay::from_rows(&setup.data, &[], bench::REPLAY_POOLS)?;
    let mesh = start(setup, folder.path(), source, &[]).await?;
    let measured = bench::replay(&mesh.url(Service::Orchestrator), setup.rounds, CYCLES).await;
    mesh.stop().await?;
    Ok(measured?.into())
}

async fn start(
    setup: &Setup,
    folder: &Path,
    source: orchestrator::Sources,
    extra: &[String],
) -> Result<Mesh> {
    let mut settings = ephemeral(folder);
    settings.push("log_filter=error".to_owned());
    settings.push(format!("memory_embedder={}", setup.embedder));
    settings.push(format!("memory_dimensions={}", setup.dimensions().await?));
    settings.extend_from_slice(extra);
    settings.extend_from_slice(&setup.settings);
    let flags = settings.iter().filter_map(|setting| setting.split_once('='));
    let sources = Sources::none().with_flags(flags.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Mesh::start(Options { sources, clock: Clock::system(), replay: Some(Replay(source)) }).await
}

impl From<Measured> for Outcome {
    fn from(measured: Measured) -> Self {
        let Measured { value, min, max, details, .. } = measured;
        Self { value, min, max, details }
    }
}
