//! Starts one memory-service.

use std::process::ExitCode;

use clock::Clock;
use memory_service::{Config, bind};

#[tokio::main]
async fn main() -> ExitCode {
    rpc::program(
        "memory-service",
        "memory_port",
        |config: &Config| &config.host,
        async |config, telemetry| {
            bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
        },
    )
    .await
}
