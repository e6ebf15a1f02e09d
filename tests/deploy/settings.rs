//! What the code makes of the environment of a container.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use athena::Service;
use config::{Faults, Profile, Settings, Sources, Value as _};
use rpc::HostSettings;

/// The settings that a deployment has to fit, as the service reads them.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Port it listens on.
    pub(crate) port: u16,
    /// Whether other machines can reach it.
    pub(crate) is_reachable: bool,
    /// Longest time it takes to stop.
    pub(crate) stop: Duration,
    /// Longest time a call takes that brings no deadline.
    pub(crate) call: Duration,
    /// The folder it writes to.
    pub(crate) folder: Option<PathBuf>,
    /// Whether documents or memories are kept in that folder for good.
    pub(crate) is_store: bool,
    /// Most bytes of that folder that are bounded by a setting, of the caches over it and of what waits to be
    /// written there.
    pub(crate) bytes: u64,
    /// Settings that name peers, and what they say.
    pub(crate) peers: Vec<(&'static str, String)>,
}

impl Loaded {
    fn of(port: u16, host: &HostSettings) -> Self {
        Self {
            port,
            is_reachable: !host.bind_address.is_loopback(),
            stop: host.drain_delay + host.drain_timeout + telemetry::FLUSH_LIMIT,
            call: host.request_timeout,
            folder: None,
            is_store: false,
            bytes: 0,
            peers: host.otlp_endpoint.iter().map(|url| ("otlp_endpoint", url.clone())).collect(),
        }
    }
}

/// Reads settings as the service's own program does: unknown names are faults, and `PORT` stands for the port.
pub(crate) fn load(service: Service, variables: &BTreeMap<String, String>) -> Result<Loaded, Faults> {
    let mut sources = Sources::none().alias("PORT", service.port_setting()).with_env(variables.clone());
    if let Some(profile) = variables.get("ATHENA_PROFILE").and_then(|profile| Profile::parse(profile)) {
        sources = sources.with_profile(profile);
    }
    Ok(match service {
        Service::LlmGateway => {
            let config: llm_gateway::Config = alone(&sources)?;
            Loaded::of(config.llm_port, &config.host)
        }
        Service::MemoryService => {
            let config: memory_service::Config = alone(&sources)?;
            Loaded {
                folder: Some(config.memory_dir),
                is_store: true,
                bytes: config.memory_store_cache.bytes() + config.journal.journal_queue_bytes.bytes(),
                ..Loaded::of(config.memory_port, &config.host)
            }
        }
        Service::StorageBatcher => {
            let config: storage_batcher::Config = alone(&sources)?;
            let common = Loaded::of(config.storage_port, &config.host);
            Loaded {
                stop: common.stop + config.storage_drain_timeout,
                folder: Some(config.storage_dir),
                is_store: config.firestore_project.is_none(),
                bytes: config.journal_max_bytes.bytes()
                    + config.journal_cache_bytes.bytes()
                    + config.journal.journal_queue_bytes.bytes(),
                ..common
            }
        }
        Service::Monitor => {
            let config: monitor::Config = alone(&sources)?;
            Loaded::of(config.monitor_port, &config.host)
        }
        Service::Orchestrator => {
            let config: orchestrator::Config = alone(&sources)?;
            let mut common = Loaded::of(config.agent_port, &config.host);
            common.peers.extend([
                ("agent_llm_url", config.agent_llm_url),
                ("agent_memory_url", config.agent_memory_url),
                ("agent_storage_url", config.agent_storage_url),
                ("agent_monitor_url", config.agent_monitor_url),
            ]);
            let call = common.call.max(config.agent_cycle_deadline);
            let bytes = config.agent_journal_cache.bytes() + config.journal.journal_queue_bytes.bytes();
            Loaded { call, bytes, folder: Some(config.agent_dir), ..common }
        }
    })
}

fn alone<C: Settings>(sources: &Sources) -> Result<C, Faults> {
    config::load_alone(sources)
}

/// Returns the service that a peer's setting should lead to.
pub(crate) fn peer(setting: &str) -> Option<Service> {
    Some(match setting {
        "agent_llm_url" => Service::LlmGateway,
        "agent_memory_url" => Service::MemoryService,
        "agent_storage_url" => Service::StorageBatcher,
        "agent_monitor_url" | "otlp_endpoint" => Service::Monitor,
        _ => return None,
    })
}

/// Returns the port on which a service listens if nobody says otherwise.
pub(crate) fn default_port(service: Service) -> u16 {
    load(service, &BTreeMap::new()).expect("defaults that can be read").port
}

#[test]
fn settings_are_read_as_the_program_reads_them() {
    let variables = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let loaded = load(Service::StorageBatcher, &variables(&[("PORT", "80")])).expect("a port");
    assert_eq!((loaded.port, loaded.is_store, loaded.is_reachable), (80, true, false));
    assert_eq!(loaded.stop, Duration::from_secs(10 + 10) + telemetry::FLUSH_LIMIT);
    assert!(load(Service::Monitor, &variables(&[("ATHENA_MEMORY_DIR", "/data")])).is_err());
    let ports: Vec<u16> = Service::ALL.into_iter().map(default_port).collect();
    assert_eq!(ports, [7104, 7101, 7102, 7103, 7100]);
}

#[test]
fn every_setting_that_names_a_peer_is_known() {
    let names = athena::declared().into_iter().map(|setting| setting.name);
    // The other addresses lead out of the mesh.
    let outside = ["agent_defillama_url", "agent_gas_rpc_url", "firestore_url", "llm_upstream_url"];
    for name in names.filter(|name| name.ends_with("_url") && !outside.contains(name)) {
        assert!(peer(name).is_some(), "{name}");
    }
}
