//! Calls to the other four services, with plain words in and out.

use std::time::SystemTime;

#[cfg(feature = "bench")]
use contracts::agent::{RunCycleRequest, orchestrator_service_client::OrchestratorServiceClient};
use contracts::{
    llm::llm_gateway_service_client::LlmGatewayServiceClient,
    memory::memory_service_client::MemoryServiceClient,
    monitor::monitor_service_client::MonitorServiceClient,
    storage::storage_batcher_service_client::StorageBatcherServiceClient,
};
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::Telemetry;

use crate::{
    branch::Problem,
    config::Config,
    convert,
    peers::{Analysed, Document, Memory, Observation, Question, Sample},
};

/// A client of a running orchestrator.
#[cfg(feature = "bench")]
#[derive(Clone, Debug)]
pub(crate) struct Orchestrator(OrchestratorServiceClient<Channel>);

/// What is asked of the gateway with every analysis; part of its exact key, so it never changes from cycle to cycle.
const QUESTION: &str = "Which of these pools deserve attention today, and is this a moment to pay for gas?";

/// The names under which health tells which peers serve, and the services that are followed for it.
const PARTS: [(&str, &str); 4] = [
    ("athena.agent.v1.OrchestratorService/llm-gateway", "athena.llm.v1.LlmGatewayService"),
    ("athena.agent.v1.OrchestratorService/memory-service", "athena.memory.v1.MemoryService"),
    ("athena.agent.v1.OrchestratorService/storage-batcher", "athena.storage.v1.StorageBatcherService"),
    ("athena.agent.v1.OrchestratorService/monitor", "athena.monitor.v1.MonitorService"),
];

/// Makes `host` tell which peers serve: each is followed by its own health, on a connection that no call depends on.
///
/// # Errors
///
/// Fails if an address is none.
pub(crate) fn follow(mut host: rpc::Host, config: &Config) -> Result<rpc::Host, rpc::Error> {
    let urls = [
        &config.agent_llm_url,
        &config.agent_memory_url,
        &config.agent_storage_url,
        &config.agent_monitor_url,
    ];
    for ((part, service), url) in PARTS.into_iter().zip(urls) {
        // No traces of its own: these are no calls of any cycle.
        let untraced = Telemetry::untraced("orchestrator");
        let options =
            ChannelOptions { retries: 0, tls_ca: config.host.tls_ca.clone(), ..config.peer.channel() };
        host = host.part(part, rpc::follow(Channel::lazy(url, options, untraced)?, service));
    }
    Ok(host)
}

/// The other four services. Connections are made when first needed.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    llm: LlmGatewayServiceClient<Channel>,
    memory: MemoryServiceClient<Channel>,
    storage: StorageBatcherServiceClient<Channel>,
    monitor: MonitorServiceClient<Channel>,
    /// How far figures may lie apart that share an answer of the gateway.
    band_tolerance: f64,
}

impl Peers {
    /// Makes clients for the addresses in `config`.
    ///
    /// # Errors
    ///
    /// Fails if an address is none.
    pub(crate) fn new(config: &Config, telemetry: &Telemetry) -> Result<Self, rpc::Error> {
        let options = || ChannelOptions {
            timeout: config.agent_cycle_deadline,
            token: config.agent_token.clone(),
            max_message_bytes: config.host.message_limit(),
            tls_ca: config.host.tls_ca.clone(),
            ..config.peer.channel()
        };
        let channel = |url: &str| Channel::lazy(url, options(), telemetry.clone());
        // The gateway asks its upstream again by itself: repetitions here would multiply with those, each a call that is paid for.
        let once = ChannelOptions { retries: 0, ..options() };
        Ok(Self {
            llm: LlmGatewayServiceClient::over(Channel::lazy(
                &config.agent_llm_url,
                once,
                telemetry.clone(),
            )?),
            memory: MemoryServiceClient::over(channel(&config.agent_memory_url)?),
            storage: StorageBatcherServiceClient::over(channel(&config.agent_storage_url)?),
            monitor: MonitorServiceClient::over(channel(&config.agent_monitor_url)?),
            band_tolerance: config.agent_band_tolerance,
        })
    }

    /// Asks memory one question.
    ///
    /// # Errors
    ///
    /// Fails with the code and the message of the service or of the way to it.
    pub(crate) async fn recall(&self, question: &Question) -> Result<Vec<Memory>, Problem> {
        let answer = self.memory.clone().recall(convert::recall_request(question)).await;
        Ok(convert::memories(answer.map_err(|status| convert::problem(&status))?.into_inner()))
    }

    /// Remembers what was learned, in one commit.
    ///
    /// # Errors
    ///
    /// As [`Peers::recall`].
    pub(crate) async fn remember(&self, lessons: Vec<Memory>) -> Result<(), Problem> {
        let answer = self.memory.clone().remember_batch(convert::remember_request(lessons)).await;
        answer.map(drop).map_err(|status| convert::problem(&status))
    }

    /// Asks the gateway about every observation in one call.
    ///
    /// # Errors
    ///
    /// As [`Peers::recall`].
    pub(crate) async fn analyse(&self, observations: Vec<Observation>) -> Result<Analysed, Problem> {
        let request = convert::analyze_request(observations, QUESTION, self.band_tolerance);
        let answer = self.llm.clone().analyze(request).await;
        Ok(convert::analysed(answer.map_err(|status| convert::problem(&status))?.into_inner()))
    }

    /// Records readings, all of one moment.
    ///
    /// # Errors
    ///
    /// As [`Peers::recall`].
    pub(crate) async fn record(
        &self,
        collection: &str,
        time: SystemTime,
        samples: Vec<Sample>,
    ) -> Result<(), Problem> {
        let request = convert::record_request(collection, time, samples);
        let answer = self.storage.clone().record_metrics(request).await;
        answer.map(drop).map_err(|status| convert::problem(&status))
    }

    /// Sets documents, all or none.
    ///
    /// # Errors
    ///
    /// As [`Peers::recall`].
    pub(crate) async fn write(&self, documents: Vec<Document>) -> Result<(), Problem> {
        let answer = self.storage.clone().write_batch(convert::write_request(documents)).await;
        answer.map(drop).map_err(|status| convert::problem(&status))
    }

    /// Returns the names of the targets that are missed now.
    ///
    /// # Errors
    ///
    /// As [`Peers::recall`].
    pub(crate) async fn missed_targets(&self) -> Result<Vec<String>, Problem> {
        let answer = self.monitor.clone().get_targets(convert::targets_request()).await;
        Ok(convert::missed(answer.map_err(|status| convert::problem(&status))?.into_inner()))
    }
}

#[cfg(feature = "bench")]
impl Orchestrator {
    /// Makes a client for the orchestrator at `url`.
    ///
    /// # Errors
    ///
    /// Fails if the address is none.
    pub(crate) fn new(url: &str, telemetry: &Telemetry) -> Result<Self, rpc::Error> {
        let options =
            ChannelOptions { timeout: std::time::Duration::from_secs(60), ..ChannelOptions::default() };
        Ok(Self(OrchestratorServiceClient::over(Channel::lazy(url, options, telemetry.clone())?)))
    }

    /// Runs one cycle of the default agent.
    ///
    /// # Errors
    ///
    /// Fails with the code and the message of the service or of the way to it.
    pub(crate) async fn run_cycle(&self) -> Result<convert::Ran, Problem> {
        let answer = self.0.clone().run_cycle(RunCycleRequest::default()).await;
        let cycle = answer.map_err(|status| convert::problem(&status))?.into_inner().cycle;
        Ok(convert::ran(cycle.unwrap_or_default()))
    }
}
