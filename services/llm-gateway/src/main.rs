//! Starts one llm-gateway.

use std::process::ExitCode;

use clock::Clock;
use llm_gateway::{Config, bind};

#[tokio::main]
async fn main() -> ExitCode {
    rpc::program(
        "llm-gateway",
        "llm_port",
        |config: &Config| &config.host,
        async |config, telemetry| {
            bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
        },
    )
    .await
}
