//! Starts one monitor.

use std::{error::Error as _, io::Write as _, process::ExitCode};

use clock::Clock;
use config::Sources;
use monitor::{Config, Error, bind};
use telemetry::Telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let sources = Sources::from_process(std::env::args().skip(1)).alias("PORT", "monitor_port");
    let config: Config = match config::load_alone(&sources) {
        Ok(config) => config,
        Err(faults) => return fail(2, &faults.to_string()),
    };
    let telemetry = match Telemetry::new(config.host.telemetry("monitor")) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(2, &error.to_string()),
    };
    let done = telemetry.carry(serve(config, telemetry.clone())).await;
    telemetry.shutdown().await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &chain(&error)),
    }
}

async fn serve(config: Config, telemetry: Telemetry) -> Result<(), Error> {
    let bound = bind(config, telemetry, Clock::system()).await?;
    tracing::info!(address = %bound.local_addr(), "monitor listens; its dashboard is at /");
    bound.run(rpc::shutdown_signal()).await
}

/// Writes an error and its causes in one line.
fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "monitor: {message}"));
    ExitCode::from(code)
}
