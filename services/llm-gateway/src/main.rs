//! Starts one llm-gateway.

use std::process::ExitCode;

use clock::Clock;
use config::{Settings as _, Sources};
use llm_gateway::{Config, bind};
use telemetry::Telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let sources = Sources::from_process(std::env::args().skip(1)).alias("PORT", "llm_port");
    let unknown = sources.unknown(&Config::declared());
    let config = match Config::load(&sources) {
        Ok(config) if unknown.is_empty() => config,
        Ok(_) => return refuse(&unknown),
        Err(faults) => return refuse(&faults),
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format_args!("{error:#}")),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let telemetry = Telemetry::new(config.host.telemetry("llm-gateway"))?;
    let bound = bind(config, telemetry.clone(), Clock::system()).await?;
    let outcome = bound.run(rpc::shutdown_signal()).await;
    telemetry.shutdown().await;
    Ok(outcome?)
}

#[expect(clippy::print_stderr, reason = "telemetry may not be there yet, and whoever started this reads it")]
fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{why}");
    ExitCode::from(2)
}
