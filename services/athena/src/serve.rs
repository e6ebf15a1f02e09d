//! `athena serve <service>`: one service in this process, as its own small program would run it.

use std::future::Future;

use anyhow::{Context as _, Result};
use clock::Clock;
use config::Sources;
use telemetry::Telemetry;

use crate::Service;

/// Runs one service until a signal, after saying on standard error where it listens.
///
/// # Errors
///
/// Fails with every fault of the settings, if the port is taken, or with the service's own error.
pub(crate) async fn run(service: Service, sources: &Sources) -> Result<()> {
    macro_rules! serve {
        ($krate:ident) => {{
            let config = known($krate::Config::load(sources), sources)?;
            let telemetry = Telemetry::new(
                config.host.telemetry(service.name()).with_otel_env(sources.variables("OTEL_")),
            )?;
            let bound = $krate::bind(config, telemetry.clone(), Clock::system()).await;
            let bound = bound.with_context(|| {
                let setting = service.port_setting();
                format!(
                    "cannot start {service} (if its port is taken, choose another with --set {setting}=PORT)"
                )
            })?;
            let address = bound.local_addr();
            until_signal(&telemetry, service, address, bound.run(rpc::shutdown_signal())).await
        }};
    }
    match service {
        Service::Monitor => serve!(monitor),
        Service::LlmGateway => serve!(llm_gateway),
        Service::MemoryService => serve!(memory_service),
        Service::StorageBatcher => serve!(storage_batcher),
        Service::Orchestrator => serve!(orchestrator),
    }
}

async fn until_signal<E: std::error::Error + Send + Sync + 'static>(
    telemetry: &Telemetry,
    service: Service,
    address: std::net::SocketAddr,
    running: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Result<()> {
    telemetry.in_scope(|| tracing::info!(%address, "listening"));
    let ended = telemetry.spawn(running).await;
    telemetry.shutdown().await;
    ended?.with_context(|| format!("{service} ended with an error"))
}

/// Adds the settings that no service has to the faults of the one that is started.
fn known<T>(loaded: Result<T, config::Faults>, sources: &Sources) -> Result<T, config::Faults> {
    let unknown = sources.unknown(&crate::declared());
    match loaded {
        Ok(config) => unknown.or(config),
        Err(mut faults) => {
            faults.merge(unknown);
            Err(faults)
        }
    }
}
