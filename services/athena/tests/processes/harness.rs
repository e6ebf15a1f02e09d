//! The five services as processes of their own, on free ports and with their stores in a folder that goes away.

use std::{
    collections::BTreeMap,
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use athena::Service;
use contracts::{
    agent::{Completeness, Cycle, RunCycleRequest, orchestrator_service_client::OrchestratorServiceClient},
    memory::{GetStatsRequest, memory_service_client::MemoryServiceClient},
};
use rpc::{Channel, ChannelOptions};
use telemetry::Telemetry;
use tempfile::TempDir;
use testkit::Server;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// Longest wait for a process or for something that has no end to wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Five processes. They are killed with this.
pub(crate) struct Processes {
    folder: TempDir,
    running: BTreeMap<Service, Process>,
    more: Vec<String>,
    pub(crate) caller: Telemetry,
}

/// One service as a process. It is killed with this.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Starts one and waits until it says where it listens.
    pub(crate) async fn start(service: Service, settings: &[String], caller: &Telemetry) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_athena"));
        command.args(["serve", service.name(), "--set", "log_format=json"]).env_clear();
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reading = async {
            let mut said = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(port) = port_in(&line) {
                    return port;
                }
                said.push(line);
            }
            panic!("{service} ended: {said:#?}");
        };
        let port = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        // A pipe that nobody reads would stop the service one day.
        caller.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns it as a benchmark wants it.
    pub(crate) fn server(&self) -> Server {
        let address = (std::net::Ipv4Addr::LOCALHOST, self.port).into();
        Server { address, process: testkit::Process::new(self.child.id().unwrap()) }
    }

    /// Ends it without a word to it.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to stop.
    pub(crate) async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    /// Waits until it has ended, which must be well.
    pub(crate) async fn ended(&mut self) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{ended}");
    }
}

impl Processes {
    /// Starts all five and waits until they serve.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts all five with these settings beside their own and waits until they serve.
    pub(crate) async fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pools.csv"), athena::data::pools().unwrap()).unwrap();
        fs::write(folder.path().join("gas.csv"), athena::data::gas()).unwrap();
        let more = more.iter().map(|&setting| setting.to_owned()).collect();
        let mut all = Self { folder, running: BTreeMap::new(), more, caller: Telemetry::silent("test") };
        // The orchestrator comes last and is told where the others are.
        for service in Service::ALL {
            all.spawn(service, 0).await;
        }
        all
    }

    /// Ends a process without a word to it.
    pub(crate) async fn kill(&mut self, service: Service) {
        self.running.get_mut(&service).unwrap().child.kill().await.unwrap();
    }

    /// Returns the process of a service.
    pub(crate) fn process(&mut self, service: Service) -> &mut Process {
        self.running.get_mut(&service).unwrap()
    }

    /// Starts a service that has ended again, on its port and its folder.
    pub(crate) async fn restart(&mut self, service: Service) {
        let port = self.running[&service].port;
        self.spawn(service, port).await;
    }

    pub(crate) fn client<C: rpc::Client>(&self, service: Service) -> C {
        C::over(self.channel(service))
    }

    /// Begins a cycle.
    pub(crate) fn begin(&self) -> JoinHandle<Cycle> {
        let mut orchestrator: OrchestratorServiceClient<_> = self.client(Service::Orchestrator);
        self.caller.spawn(async move {
            let response = orchestrator.run_cycle(RunCycleRequest::default()).await;
            response.unwrap().into_inner().cycle.unwrap()
        })
    }

    /// Begins a cycle and returns once it asks memory: it is then in its middle.
    pub(crate) async fn begin_and_reach_recall(&self) -> JoinHandle<Cycle> {
        let before = self.recalls().await;
        let cycle = self.begin();
        let begun = Instant::now();
        while self.recalls().await == before {
            assert!(!cycle.is_finished() && begun.elapsed() < PATIENCE, "the cycle asks memory nothing");
        }
        cycle
    }

    async fn recalls(&self) -> u64 {
        let mut memory: MemoryServiceClient<_> = self.client(Service::MemoryService);
        let stats = memory.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
        stats.cache_misses + stats.cache_hits
    }

    pub(crate) fn channel(&self, service: Service) -> Channel {
        let url = self.running[&service].url();
        let options = ChannelOptions { timeout: PATIENCE, retries: 0, ..ChannelOptions::default() };
        Channel::lazy(&url, options, self.caller.clone()).unwrap()
    }

    async fn spawn(&mut self, service: Service, port: u16) {
        let process = Process::start(service, &self.settings(service, port), &self.caller).await;
        self.running.insert(service, process);
        tokio::time::timeout(PATIENCE, until_serving(self.channel(service), service)).await.unwrap();
    }

    fn settings(&self, service: Service, port: u16) -> Vec<String> {
        let mut settings = athena::ephemeral(self.folder.path());
        settings.push(format!("{}={port}", service.port_setting()));
        settings.extend(self.more.clone());
        if service == Service::Orchestrator {
            let file = |name: &str| format!("replay:{}", self.folder.path().join(name).display());
            settings.push(format!("agent_source={}", file("pools.csv")));
            settings.push(format!("agent_gas_source={}", file("gas.csv")));
            settings.push("agent_min_pools=100".to_owned());
            let peers = [
                ("agent_llm_url", Service::LlmGateway),
                ("agent_memory_url", Service::MemoryService),
                ("agent_storage_url", Service::StorageBatcher),
                ("agent_monitor_url", Service::Monitor),
            ];
            let url = |(name, peer)| format!("{name}={}", self.running[&peer].url());
            settings.extend(peers.map(url));
        }
        settings
    }
}

/// Waits until a service says that it serves.
pub(crate) async fn until_serving(channel: Channel, service: Service) {
    rpc::until_serving(&channel, service.health_name()).await.unwrap();
}

/// Returns the port in the line that says where a service listens.
fn port_in(line: &str) -> Option<u16> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" {
        return None;
    }
    line["fields"]["address"].as_str()?.rsplit_once(':')?.1.parse().ok()
}

/// Fails unless the cycle ended inside its deadline and says of every lost branch what it was.
pub(crate) fn assert_labelled(cycle: &Cycle) {
    let length = |duration: Option<prost_types::Duration>| Duration::try_from(duration.unwrap()).unwrap();
    assert!(length(cycle.duration) <= length(cycle.deadline), "{cycle:#?}");
    let failures: Vec<_> = cycle.stages.iter().flat_map(|stage| &stage.failures).collect();
    match cycle.completeness() {
        Completeness::Complete => assert!(failures.is_empty(), "{failures:#?}"),
        Completeness::Partial => {
            assert!(!failures.is_empty(), "{:#?}", cycle.stages);
            assert!(
                failures.iter().all(|one| !one.branch.is_empty() && !one.code.is_empty()),
                "{failures:#?}"
            );
        }
        other => panic!("{other:?}: {:#?}", cycle.stages),
    }
}
