//! The processes of `gateway.exact_hit`, `gateway.overhead`, `gateway.memory` and `gateway.single_flight`; what is measured of them
//! is said by the gateway's own benchmarks.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use llm_gateway::{Config, bench::process as bench};
use serde_json::json;
use telemetry::Telemetry;
use testkit::{Mock, Process, Round, Server};
use tokio::process::{Child, Command};

use super::processes::{
    end, free_port, serve_with, sources, spawn, this_program, until_listening, until_serving,
};
use crate::Service;

/// Envoy's program where it is on the PATH.
const ENVOY: &str = "envoy";

/// A measured process; killed when this is dropped.
struct Running {
    child: Child,
    server: Server,
}

/// CPU, rate and times of an exact hit.
pub(super) async fn exact_hit() -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mock = Mock::start(0, Duration::ZERO)?;
    let gateway = Running::gateway(None, &mock, folder.path(), &[]).await?;
    let echo = Running::part("echo").await?;
    let bare = Running::part("bare-echo").await?;
    let measured = bench::exact_hit(&gateway.server, &echo.server, &bare.server).await;
    for running in [gateway, echo, bare] {
        end(running.child).await?;
    }
    Ok(measured?)
}

/// What a miss costs on its way, and on its way through Envoy: the program named, the one on the PATH, or none. The gateway is the
/// `program` named, or this one.
pub(super) async fn overhead(program: Option<&Path>, envoy: Option<&Path>) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mock = Mock::start(0, Duration::ZERO)?;
    let gateway = Running::gateway(program, &mock, folder.path(), &[]).await?;
    let envoy = match envoy {
        Some(program) => Some(Running::envoy(program, mock.address()).await?),
        None if is_on_path(ENVOY) => Some(Running::envoy(ENVOY.as_ref(), mock.address()).await?),
        None => None,
    };
    let beside = envoy.as_ref().map(|envoy| &envoy.server);
    let measured = bench::overhead(&mock, &gateway.server, beside).await;
    for running in [Some(gateway), envoy].into_iter().flatten() {
        end(running.child).await?;
    }
    Ok(named(measured?, program))
}

/// Resident memory with the response cache off, of the `program` named, or of this one.
pub(super) async fn memory(program: Option<&Path>) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mock = Mock::start(0, Duration::ZERO)?;
    let gateway = Running::gateway(program, &mock, folder.path(), &["llm_cache_size=0"]).await?;
    let measured = bench::memory(&gateway.server).await;
    end(gateway.child).await?;
    Ok(named(measured?, program))
}

/// Says which program served the gateway.
fn named(mut round: Round, program: Option<&Path>) -> Round {
    let name = program.and_then(Path::file_name).map_or("athena".into(), |name| name.to_string_lossy());
    round.details["program"] = json!(name);
    round
}

/// Upstream calls for identical calls at once.
pub(super) async fn single_flight() -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mock = Mock::start(0, bench::SINGLE_FLIGHT_DELAY)?;
    let gateway = Running::gateway(None, &mock, folder.path(), &[]).await?;
    let measured = bench::single_flight(&mock, &gateway.server).await;
    end(gateway.child).await?;
    Ok(measured?)
}

/// Serves the echo behind our own host in this process until a signal, with the settings of a gateway.
pub(super) async fn echo(settings: &[String]) -> Result<String> {
    let config = Config::load(&sources(settings))?;
    let telemetry = Telemetry::new(config.host.telemetry(Service::LlmGateway.name()))?;
    bench::echo(&config, telemetry, clock::Clock::system(), rpc::shutdown_signal()).await?;
    Ok(String::new())
}

/// Serves the echo behind tonic's server so.
pub(super) async fn bare_echo(settings: &[String]) -> Result<String> {
    let config = Config::load(&sources(settings))?;
    bench::bare_echo(&config, rpc::shutdown_signal()).await?;
    Ok(String::new())
}

impl Running {
    /// Starts a gateway in front of `mock`: the `program` named, or this one that serves it.
    async fn gateway(program: Option<&Path>, mock: &Mock, folder: &Path, extra: &[&str]) -> Result<Self> {
        let mut settings = vec![
            format!("llm_upstream_url={}", mock.url()),
            format!("llm_model={}", bench::MODEL),
            "llm_max_retries=0".to_owned(),
        ];
        settings.extend(extra.iter().map(|setting| (*setting).to_owned()));
        let port = free_port()?;
        let child = match program {
            Some(program) => {
                let last = format!("{}={port}", Service::LlmGateway.port_setting());
                spawn(Command::new(program), settings, &last)?
            }
            None => serve_with(Service::LlmGateway, port, folder, settings)?,
        };
        until_serving(Service::LlmGateway, port).await?;
        Self::of(child, port)
    }

    /// Starts this program as one of the parts of `gateway.exact_hit`.
    async fn part(name: &str) -> Result<Self> {
        let port = free_port()?;
        let mut command = this_program()?;
        command.args(["bench", "gateway.exact_hit", "--part", name]);
        let child = spawn(command, Vec::new(), &format!("llm_port={port}"))?;
        until_listening(port).await?;
        Self::of(child, port)
    }

    /// Starts an Envoy that forwards everything to `upstream`, as it comes but for that: one worker a core, no log.
    async fn envoy(program: &Path, upstream: SocketAddr) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--use-dynamic-base-id", "--log-level", "error", "--config-yaml"]);
        command.arg(envoy_config(port, upstream).to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        until_listening(port).await?;
        Self::of(child, port)
    }

    fn of(child: Child, port: u16) -> Result<Self> {
        let id = child.id().context("a measured process ended")?;
        let address = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        Ok(Self { child, server: Server { address, process: Process::new(id) } })
    }
}

fn is_on_path(program: &str) -> bool {
    let tried = std::process::Command::new(program).arg("--version").stdout(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// One HTTP listener, one route, one cluster of one address.
fn envoy_config(port: u16, upstream: SocketAddr) -> serde_json::Value {
    let http = "type.googleapis.com/envoy.extensions.filters";
    let at = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "mock" } });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{http}.http.router.v3.Router") },
    });
    let manager = json!({
        "@type": format!("{http}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "mock",
        "route_config": { "virtual_hosts": [{ "name": "mock", "domains": ["*"], "routes": [route] }] },
        "http_filters": [router],
    });
    let filter = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": at(upstream.port()) } }] }]);
    json!({
        "static_resources": {
            "listeners": [{ "address": at(port), "filter_chains": [{ "filters": [filter] }] }],
            "clusters": [{
                "name": "mock",
                "type": "STATIC",
                "load_assignment": { "cluster_name": "mock", "endpoints": endpoints },
            }],
        }
    })
}
