//! Benchmarks of whole processes: how fast a service starts, and how much memory it keeps.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use config::Sources;
use rpc::{Channel, ChannelOptions};
use serde_json::{Map, Value, json};
use telemetry::Telemetry;
use testkit::{Process, Round};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{Service, ephemeral};

/// Time between SERVING and the reading of memory.
const SETTLE: Duration = Duration::from_secs(60);

/// Longest time a process may take to listen, and then to serve: a large store is read before.
const PATIENCE: Duration = Duration::from_secs(30);
const READING: Duration = Duration::from_secs(600);

/// Measures every service's time from process start to SERVING; the value is the slowest.
pub(super) async fn start() -> Result<Round> {
    let mut details = Map::new();
    let mut slowest = 0.0_f64;
    for service in Service::ALL {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let begun = Instant::now();
        let child = serve(service, port, folder.path())?;
        until_serving(service, port).await?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        end(child).await?;
        slowest = slowest.max(took);
        details.insert(service.name().to_owned(), json!(took));
    }
    Ok(Round { value: slowest, details: Value::Object(details) })
}

/// Measures resident memory of the whole mesh in one process, and of each service as its own.
pub(super) async fn memory() -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let mut running = Vec::new();
    for service in Service::ALL {
        let port = free_port()?;
        running.push((service, port, serve(service, port, &folder.path().join(service.name()))?));
    }
    let monitor = free_port()?;
    let mesh = up(monitor, &folder.path().join("mesh"))?;
    for (service, port, _) in &running {
        until_serving(*service, *port).await?;
    }
    until_serving(Service::Monitor, monitor).await?;
    tokio::time::sleep(SETTLE).await;
    let value = resident(&mesh)?;
    let mut details = Map::new();
    for (service, _, child) in &running {
        details.insert(service.name().to_owned(), json!(resident(child)?));
    }
    end(mesh).await?;
    for (_, _, child) in running {
        end(child).await?;
    }
    #[expect(clippy::cast_precision_loss, reason = "resident bytes are far below 2^52")]
    let value = value as f64;
    Ok(Round { value, details: Value::Object(details) })
}

pub(super) fn serve(service: Service, port: u16, folder: &Path) -> Result<Child> {
    serve_with(service, port, folder, Vec::new())
}

/// Starts a service with further settings.
pub(super) fn serve_with(service: Service, port: u16, folder: &Path, extra: Vec<String>) -> Result<Child> {
    let mut command = this_program()?;
    command.args(["serve", service.name()]);
    let mut settings = ephemeral(folder);
    settings.extend(extra);
    spawn(command, settings, &format!("{}={port}", service.port_setting()))
}

fn up(monitor_port: u16, folder: &Path) -> Result<Child> {
    let mut command = this_program()?;
    command.args(["up"]);
    let mut settings = ephemeral(folder);
    settings.push("agent_interval=0".to_owned());
    spawn(command, settings, &format!("monitor_port={monitor_port}"))
}

pub(super) fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program's own file")?))
}

pub(super) fn spawn(mut command: Command, settings: Vec<String>, last: &str) -> Result<Child> {
    for setting in settings.iter().map(String::as_str).chain([last, "log_filter=error"]) {
        command.args(["--set", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().context("cannot start this program again")
}

/// Waits for the port, since before that there is nothing to ask, and a channel would pause between its attempts; then for
/// the service's word.
pub(super) async fn until_serving(service: Service, port: u16) -> Result<()> {
    until_listening(port).await.with_context(|| service.to_string())?;
    let options = ChannelOptions { timeout: READING, retries: 0, ..ChannelOptions::default() };
    let channel = Channel::lazy(&format!("http://127.0.0.1:{port}"), options, Telemetry::silent("athena"))?;
    let serving = rpc::until_serving(&channel, service.health_name()).await;
    serving.map_err(|fault| anyhow!("{service} does not serve: {fault}"))
}

/// Waits until something listens on the port.
pub(super) async fn until_listening(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if begun.elapsed() > PATIENCE {
            return Err(anyhow!("nothing listens on port {port}"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns the settings of a process that this program started itself as.
pub(super) fn sources(settings: &[String]) -> Sources {
    let flags = settings.iter().filter_map(|setting| setting.split_once('='));
    Sources::none().with_flags(flags.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

fn resident(child: &Child) -> Result<u64> {
    let id = child.id().context("a measured process ended")?;
    Ok(Process::new(id).resident()?)
}

pub(super) async fn end(mut child: Child) -> Result<()> {
    child.kill().await.context("cannot end a measured process")
}
