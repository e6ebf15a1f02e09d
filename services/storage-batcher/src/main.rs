//! Starts one storage-batcher.

use std::process::ExitCode;

use clock::Clock;
use storage_batcher::{Config, bind};

#[tokio::main]
async fn main() -> ExitCode {
    rpc::program(
        "storage-batcher",
        "storage_port",
        |config: &Config| &config.host,
        async |config, telemetry| {
            bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
        },
    )
    .await
}
