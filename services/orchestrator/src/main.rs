//! Starts one orchestrator.

use std::process::ExitCode;

use clock::Clock;
use orchestrator::{Config, bind};

#[tokio::main]
async fn main() -> ExitCode {
    rpc::program(
        "orchestrator",
        "agent_port",
        |config: &Config| &config.host,
        async |config, telemetry| {
            bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
        },
    )
    .await
}
