//! Starts one monitor.

use std::process::ExitCode;

use clock::Clock;
use monitor::{Config, bind};

#[tokio::main]
async fn main() -> ExitCode {
    rpc::program(
        "monitor",
        "monitor_port",
        |config: &Config| &config.host,
        async |config, telemetry| {
            bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
        },
    )
    .await
}
