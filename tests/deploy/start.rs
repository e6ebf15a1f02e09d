//! Every service, started with what its manifests say: what a setting's type allows, the service itself may still refuse.

use std::collections::BTreeMap;

use athena::Service;
use clock::Clock;
use config::Sources;
use telemetry::Telemetry;

use crate::{
    Report, container,
    manifest::{Manifest, files, read, stem},
    none,
};

/// Binds a service, on any free port, and returns why it would not start.
async fn refusal(service: Service, variables: BTreeMap<String, String>) -> Option<String> {
    let port = (service.port_setting().to_owned(), "0".to_owned());
    let sources = Sources::none().with_env(variables).with_flags([port]);
    macro_rules! bind {
        ($krate:ident) => {
            match config::load_alone::<$krate::Config>(&sources) {
                Ok(config) => {
                    let bound =
                        $krate::bind(config, Telemetry::silent(service.name()), Clock::system()).await;
                    bound.err().map(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
                }
                Err(faults) => Some(faults.to_string()),
            }
        };
    }
    match service {
        Service::LlmGateway => bind!(llm_gateway),
        Service::MemoryService => bind!(memory_service),
        Service::StorageBatcher => bind!(storage_batcher),
        Service::Monitor => bind!(monitor),
        Service::Orchestrator => bind!(orchestrator),
    }
}

/// Returns a line if the service does not start with what a manifest says.
async fn faults(path: &str, text: &str) -> Vec<String> {
    let service = Service::named(stem(path)).expect("a service");
    let manifest = Manifest::parse(text).expect("YAML");
    let workload = manifest.documents().iter().find(|document| !document["spec"]["template"].is_null());
    let container = &workload.expect("a workload")["spec"]["template"]["spec"]["containers"][0];
    let variables = container::environment(&mut Report::of(path), container);
    let filled = variables.into_iter().map(|(name, value)| (name, filled(&value))).collect();
    refusal(service, filled).await.map(|why| format!("{path}: {why}")).into_iter().collect()
}

/// Returns a value with a name in the place of each placeholder.
fn filled(value: &str) -> String {
    let mut parts = value.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| format!("{done}name{}", part.split_once('}').map_or("", |(_, rest)| rest)))
}

#[tokio::test]
async fn every_service_starts_with_what_its_manifests_say() {
    for (path, text) in ["kubernetes", "cloud-run"].into_iter().flat_map(files) {
        if stem(&path) != "namespace" {
            none(faults(&path, &text).await);
        }
    }
}

#[tokio::test]
async fn what_a_service_itself_refuses_is_found() {
    for (name, variable, value, expected) in [
        ("memory-service", "ATHENA_QUERY_DEFAULT_LIMIT", "5000", "query_default_limit"),
        ("memory-service", "ATHENA_MEMORY_EMBEDDER", "hashing-128", "memory_embedder"),
        ("llm-gateway", "ATHENA_LLM_PATTERNS", "/nowhere.toml", "nowhere"),
        ("orchestrator", "ATHENA_AGENT_SOURCE", "nowhere", "agent_source"),
        ("monitor", "ATHENA_MONITOR_RETENTION", "1s", "monitor_retention"),
    ] {
        let path = format!("deploy/kubernetes/{name}.yaml");
        let added = format!("env:\n            - name: {variable}\n              value: \"{value}\"\n");
        let found = faults(&path, &read(&path).replacen("env:\n", &added, 1)).await;
        assert!(found.iter().any(|line| line.contains(expected)), "{variable}={value}: {found:?}");
    }
    assert_eq!(filled("https://a-${B}.${C}.d"), "https://a-name.name.d");
}
