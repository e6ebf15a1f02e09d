//! The whole mesh in one process: the same services, talking real gRPC over loopback, that a deployment runs apart.
//!
//! The monitor is bound first, since every service exports its telemetry there; then the services the orchestrator calls; then the
//! orchestrator with their addresses. They stop in reverse. `demo`, `up` and the end-to-end tests start the mesh through here, so what a
//! developer runs by hand and what the tests run cannot diverge.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clock::Clock;
use config::Sources;
use rpc::{Channel, ChannelOptions, HostSettings};
use telemetry::Telemetry;
use tokio::{sync::watch, task::JoinHandle};

use crate::{Service, data, reach::Reach};

/// Longest time a service may take from its start to its first SERVING.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a mesh is started.
#[derive(Debug)]
pub struct Options {
    /// The settings of all services.
    pub sources: Sources,
    /// The agent clock, shared by all services.
    pub clock: Clock,
    /// Pool days and gas prices to replay instead of the source the settings name.
    pub replay: Option<Replay>,
}

/// Recorded pools to replay.
#[derive(Debug)]
pub struct Replay(pub orchestrator::Sources);

impl Replay {
    /// Returns the bundled slice, a recorded day a cycle.
    ///
    /// # Errors
    ///
    /// Fails only if the files built into the program are damaged.
    pub fn bundled() -> Result<Self> {
        let pools = data::pools().context("the bundled pool days are damaged")?;
        let (history, least) = (data::HISTORY_DAYS, data::LEAST_POOLS);
        Ok(Self(orchestrator::source::replay::from_csv(&pools, data::gas(), history, least)?))
    }
}

/// A running mesh. Dropping it leaves its services running until the runtime ends: call [`Mesh::stop`].
pub struct Mesh {
    parts: Vec<Part>,
    /// Carries the command's own calls; it makes no spans, so a cycle's trace has its root in the orchestrator.
    caller: Telemetry,
    reach: Reach,
}

struct Part {
    service: Service,
    address: SocketAddr,
    telemetry: Telemetry,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Mesh {
    /// Starts the five services and waits until every one says that it serves.
    ///
    /// # Errors
    ///
    /// Fails with every fault of the settings at once, if a port is taken (naming the setting that chooses another), if a store cannot be
    /// opened, or if a service does not serve within 30 s.
    pub async fn start(options: Options) -> Result<Self> {
        let mut configs = Configs::load(&options.sources)?;
        let reach = Reach::of(&configs.monitor.host);
        let caller = Telemetry::untraced("athena");
        let mut mesh = Self { parts: Vec::new(), caller, reach: reach.clone() };
        configs.monitor.monitor_port = settle(configs.monitor.monitor_port)?;
        let collector = reach.url(SocketAddr::from((Ipv4Addr::LOCALHOST, configs.monitor.monitor_port)));
        let telemetry = |service: Service, host: &HostSettings| {
            let mut options = host.telemetry(service.name());
            options.otlp_endpoint.get_or_insert_with(|| collector.clone());
            Telemetry::new(options).with_context(|| format!("cannot set up the telemetry of {service}"))
        };
        let clock = &options.clock;

        let service = Service::Monitor;
        let own = telemetry(service, &configs.monitor.host)?;
        let bound = monitor::bind(configs.monitor, own.clone(), clock.clone()).await;
        let bound = bound.with_context(|| cannot_start(service))?;
        mesh.run(service, bound.local_addr(), own, |stopped| bound.run(stopped));

        let service = Service::LlmGateway;
        let own = telemetry(service, &configs.llm.host)?;
        let bound = llm_gateway::bind(configs.llm, own.clone(), clock.clone()).await;
        let bound = bound.with_context(|| cannot_start(service))?;
        mesh.run(service, bound.local_addr(), own, |stopped| bound.run(stopped));

        let service = Service::MemoryService;
        let own = telemetry(service, &configs.memory.host)?;
        let bound = memory_service::bind(configs.memory, own.clone(), clock.clone()).await;
        let bound = bound.with_context(|| cannot_start(service))?;
        mesh.run(service, bound.local_addr(), own, |stopped| bound.run(stopped));

        let service = Service::StorageBatcher;
        let own = telemetry(service, &configs.storage.host)?;
        let bound = storage_batcher::bind(configs.storage, own.clone(), clock.clone()).await;
        let bound = bound.with_context(|| cannot_start(service))?;
        mesh.run(service, bound.local_addr(), own, |stopped| bound.run(stopped));

        let service = Service::Orchestrator;
        let mut agent = configs.agent;
        agent.agent_monitor_url = mesh.url(Service::Monitor);
        agent.agent_llm_url = mesh.url(Service::LlmGateway);
        agent.agent_memory_url = mesh.url(Service::MemoryService);
        agent.agent_storage_url = mesh.url(Service::StorageBatcher);
        let own = telemetry(service, &agent.host)?;
        let bound = bind_orchestrator(agent, options.replay, own.clone(), clock.clone()).await;
        let bound = bound.with_context(|| cannot_start(service))?;
        mesh.run(service, bound.local_addr(), own, |stopped| bound.run(stopped));

        mesh.wait_until_serving().await?;
        Ok(mesh)
    }

    /// Returns where a service listens.
    #[must_use]
    pub fn address(&self, service: Service) -> SocketAddr {
        // Every service is started before a mesh is handed out.
        self.parts
            .iter()
            .find(|part| part.service == service)
            .map_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |part| part.address)
    }

    /// Returns a service's URL.
    #[must_use]
    pub fn url(&self, service: Service) -> String {
        self.reach.url(self.address(service))
    }

    /// Returns a channel to a service, for generated clients. Its calls are not traced.
    ///
    /// # Errors
    ///
    /// Fails if the service's address is no URL, which a bound address always is.
    pub fn channel(&self, service: Service) -> Result<Channel> {
        let options = ChannelOptions { timeout: Duration::from_secs(120), ..self.reach.options() };
        Ok(Channel::lazy(&self.url(service), options, self.caller.clone())?)
    }

    /// Sends the telemetry of every service that waits to the monitor.
    pub async fn flush_telemetry(&self) {
        futures::future::join_all(self.parts.iter().map(|part| part.telemetry.flush())).await;
    }

    /// Stops the services in reverse order of their start, each with its bounded drain.
    ///
    /// # Errors
    ///
    /// Fails with the first service that ended with an error; the others are stopped all the same.
    pub async fn stop(mut self) -> Result<()> {
        let mut first = Ok(());
        while let Some(part) = self.parts.pop() {
            // The monitor's own telemetry goes to itself: it must leave before nobody takes it.
            if part.service == Service::Monitor {
                part.telemetry.shutdown().await;
            }
            part.stop.send_replace(true);
            let ended = part.task.await.unwrap_or_else(|error| Err(anyhow!(error)));
            part.telemetry.shutdown().await;
            let ended = ended.with_context(|| format!("{} ended with an error", part.service));
            first = first.and(ended);
        }
        first
    }

    /// Waits until a service ends by itself, which only happens with an error.
    ///
    /// # Errors
    ///
    /// Always: names the service and why it ended.
    pub async fn failed(&mut self) -> Result<()> {
        let parts = self.parts.iter_mut().map(|part| {
            let service = part.service;
            Box::pin(async move { (service, (&mut part.task).await) })
        });
        let ((service, ended), _, _) = futures::future::select_all(parts).await;
        self.parts.retain(|part| part.service != service);
        let ended = ended.unwrap_or_else(|error| Err(anyhow!(error)));
        Err(ended.err().unwrap_or_else(|| anyhow!("it stopped")).context(format!("{service} ended")))
    }

    fn run<F, E>(
        &mut self,
        service: Service,
        address: SocketAddr,
        telemetry: Telemetry,
        run: impl FnOnce(Stopped) -> F,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let running = run(Box::pin(stopped_future(stopped)));
        let task = telemetry.spawn(async move { running.await.map_err(anyhow::Error::from) });
        self.parts.push(Part { service, address, telemetry, stop, task });
    }

    async fn wait_until_serving(&mut self) -> Result<()> {
        let waits = self
            .parts
            .iter()
            .map(|part| {
                let channel = self.channel(part.service)?;
                let name = part.service.health_name();
                Ok(async move { (part.service, rpc::until_serving(&channel, name).await) })
            })
            .collect::<Result<Vec<_>>>()?;
        let all = futures::future::join_all(waits);
        let Ok(results) = tokio::time::timeout(READY_WITHIN, all).await else {
            return Err(anyhow!("a service did not serve within {READY_WITHIN:?}"));
        };
        for (service, result) in results {
            if let Err(fault) = result {
                return Err(self.why_not_serving(service, &fault.to_string()).await);
            }
        }
        Ok(())
    }

    /// Returns the error with which a service ended before it served: it says more than that a call to it failed.
    async fn why_not_serving(&mut self, service: Service, seen: &str) -> anyhow::Error {
        let own = self.parts.iter_mut().find(|part| part.service == service);
        let ended = match own {
            Some(part) => tokio::time::timeout(Duration::from_secs(1), &mut part.task).await.ok(),
            None => None,
        };
        match ended.map(|ended| ended.unwrap_or_else(|error| Err(anyhow!(error)))) {
            Some(Err(error)) => error.context(cannot_start(service)),
            _ => anyhow!("{service} does not serve: {seen}"),
        }
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: BTreeMap<_, _> = self.parts.iter().map(|part| (part.service, part.address)).collect();
        f.debug_tuple("Mesh").field(&addresses).finish()
    }
}

/// Resolves when a service is told to stop.
pub(crate) type Stopped = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The settings of the five services.
struct Configs {
    monitor: monitor::Config,
    llm: llm_gateway::Config,
    memory: memory_service::Config,
    storage: storage_batcher::Config,
    agent: orchestrator::Config,
}

impl Configs {
    fn load(sources: &Sources) -> Result<Self> {
        let mut faults = sources.unknown(&declared());
        let mut note = |found: config::Faults| faults.merge(found);
        let monitor = monitor::Config::load(sources).map_err(&mut note).ok();
        let llm = llm_gateway::Config::load(sources).map_err(&mut note).ok();
        let memory = memory_service::Config::load(sources).map_err(&mut note).ok();
        let storage = storage_batcher::Config::load(sources).map_err(&mut note).ok();
        let agent = orchestrator::Config::load(sources).map_err(&mut note).ok();
        match (monitor, llm, memory, storage, agent) {
            (Some(monitor), Some(llm), Some(memory), Some(storage), Some(agent)) if faults.is_empty() => {
                Ok(Self { monitor, llm, memory, storage, agent })
            }
            _ => Err(faults.into()),
        }
    }
}

/// Returns the settings of a mesh that leaves nothing behind: any free port, all stores below `folder`.
#[must_use]
pub fn ephemeral(folder: &Path) -> Vec<String> {
    let mut settings: Vec<String> =
        Service::ALL.iter().map(|service| format!("{}=0", service.port_setting())).collect();
    for (setting, name) in [("memory_dir", "memory"), ("storage_dir", "storage"), ("agent_dir", "agent")] {
        settings.push(format!("{setting}={}", folder.join(name).display()));
    }
    settings
}

/// Returns every setting of every service, each once.
#[must_use]
pub fn declared() -> Vec<&'static config::Setting> {
    use config::Settings as _;
    let mut settings: Vec<&'static config::Setting> = Vec::new();
    settings.extend(orchestrator::Config::declared());
    settings.extend(llm_gateway::Config::declared());
    settings.extend(memory_service::Config::declared());
    settings.extend(storage_batcher::Config::declared());
    settings.extend(monitor::Config::declared());
    let mut seen = std::collections::BTreeSet::new();
    settings.retain(|setting| seen.insert(setting.name));
    settings
}

/// Returns the configured port of every service, and how it is reached.
///
/// # Errors
///
/// Fails with every fault of the settings at once.
pub(crate) fn ports(sources: &Sources) -> Result<(Vec<(Service, u16)>, Reach)> {
    let configs = Configs::load(sources)?;
    let port = |service| match service {
        Service::Monitor => configs.monitor.monitor_port,
        Service::LlmGateway => configs.llm.llm_port,
        Service::MemoryService => configs.memory.memory_port,
        Service::StorageBatcher => configs.storage.storage_port,
        Service::Orchestrator => configs.agent.agent_port,
    };
    let ports = Service::ALL.iter().rev().map(|&service| (service, port(service))).collect();
    Ok((ports, Reach::of(&configs.monitor.host)))
}

async fn bind_orchestrator(
    config: orchestrator::Config,
    replay: Option<Replay>,
    telemetry: Telemetry,
    clock: Clock,
) -> Result<orchestrator::Bound> {
    Ok(match replay {
        Some(Replay(source)) => orchestrator::bind_with_source(config, source, telemetry, clock).await?,
        None => orchestrator::bind(config, telemetry, clock).await?,
    })
}

/// Returns `port`, or for 0 a port that was free a moment ago.
///
/// The monitor's own telemetry goes to the monitor, so its port must be known before it is bound. Nothing else on the machine is
/// likely to take the port in between; if something does, binding fails and names it.
fn settle(port: u16) -> Result<u16> {
    if port != 0 {
        return Ok(port);
    }
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free on the loopback address")?;
    Ok(listener.local_addr()?.port())
}

fn cannot_start(service: Service) -> String {
    let setting = service.port_setting();
    format!(
        "cannot start {service} (if its port is taken, choose another with --set {setting}=PORT, 0 for any)"
    )
}

async fn stopped_future(mut stopped: watch::Receiver<bool>) {
    // A mesh that is gone without stopping wants its services to go too.
    drop(stopped.wait_for(|stop| *stop).await);
}
