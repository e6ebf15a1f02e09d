//! Starts one llm-gateway.

use std::{error::Error, io::Write as _, process::ExitCode};

use clock::Clock;
use config::Sources;
use llm_gateway::{Config, bind};
use telemetry::Telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let sources = Sources::from_process(std::env::args().skip(1)).alias("PORT", "llm_port");
    let config: Config = match config::load_alone(&sources) {
        Ok(config) => config,
        Err(faults) => return fail(2, &faults.to_string()),
    };
    let telemetry = match Telemetry::new(config.host.telemetry("llm-gateway")) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(2, &chain(&error)),
    };
    let done = serve(config, telemetry.clone()).await;
    telemetry.shutdown().await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &chain(&error)),
    }
}

async fn serve(config: Config, telemetry: Telemetry) -> Result<(), llm_gateway::Error> {
    bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
}

/// Writes an error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "llm-gateway: {message}"));
    ExitCode::from(code)
}
