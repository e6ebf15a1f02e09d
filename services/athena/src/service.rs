//! The five services by name: what they are called, where they listen and how their health is asked.

use std::fmt;

/// One of the five services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Takes telemetry in; started first, so that nothing the others report is lost.
    Monitor,
    /// Answers prompts and analyses.
    LlmGateway,
    /// Keeps memories.
    MemoryService,
    /// Keeps documents.
    StorageBatcher,
    /// Runs cycles; started last, since it calls all others.
    Orchestrator,
}

impl Service {
    /// Every service in the order in which a mesh starts them; it stops in reverse.
    pub const ALL: [Self; 5] =
        [Self::Monitor, Self::LlmGateway, Self::MemoryService, Self::StorageBatcher, Self::Orchestrator];

    /// Returns its name, as `athena serve` and `service.name` have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::LlmGateway => "llm-gateway",
            Self::MemoryService => "memory-service",
            Self::StorageBatcher => "storage-batcher",
            Self::Orchestrator => "orchestrator",
        }
    }

    /// Returns the setting that names its port.
    #[must_use]
    pub const fn port_setting(self) -> &'static str {
        match self {
            Self::Monitor => "monitor_port",
            Self::LlmGateway => "llm_port",
            Self::MemoryService => "memory_port",
            Self::StorageBatcher => "storage_port",
            Self::Orchestrator => "agent_port",
        }
    }

    /// Returns the gRPC service whose health stands for it.
    #[must_use]
    pub const fn health_name(self) -> &'static str {
        match self {
            Self::Monitor => "athena.monitor.v1.MonitorService",
            Self::LlmGateway => "athena.llm.v1.LlmGatewayService",
            Self::MemoryService => "athena.memory.v1.MemoryService",
            Self::StorageBatcher => "athena.storage.v1.StorageBatcherService",
            Self::Orchestrator => "athena.agent.v1.OrchestratorService",
        }
    }

    /// Returns the service called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
