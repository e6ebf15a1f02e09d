//! The processes of `storage.ack`; what is measured of them is said by the batcher's own benchmarks.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use storage_batcher::{Config, bench};
use telemetry::Telemetry;

use super::{
    Round, Setup,
    processes::{end, free_port, serve_with, sources, spawn, this_program, until_listening, until_serving},
};
use crate::{Service, ephemeral};

/// Acknowledged writes of a batcher with its embedded store, and of a bare file.
pub(super) async fn ack(setup: &Setup) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let (port, raw_port) = (free_port()?, free_port()?);
    let batcher =
        serve_with(Service::StorageBatcher, port, &folder.path().join("batcher"), setup.settings.clone())?;
    let mut command = this_program()?;
    command.args(["bench", "storage.ack", "--part", "raw"]);
    let settings = ephemeral(&folder.path().join("raw"));
    let raw = spawn(command, settings, &format!("storage_port={raw_port}"))?;
    until_serving(Service::StorageBatcher, port).await?;
    until_listening(raw_port).await?;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let measured = bench::ack(at(port), at(raw_port)).await;
    for child in [batcher, raw] {
        end(child).await?;
    }
    let bench::Round { value, details } = measured?;
    Ok(Round { value, details })
}

/// Serves the file in this process until a signal, with the settings of a batcher.
pub(super) async fn raw(settings: &[String]) -> Result<String> {
    let config = Config::load(&sources(settings))?;
    let telemetry = Telemetry::new(config.host.telemetry(Service::StorageBatcher.name()))?;
    bench::raw(&config, telemetry, clock::Clock::system(), rpc::shutdown_signal()).await?;
    Ok(String::new())
}
