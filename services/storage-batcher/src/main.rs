//! Starts one storage-batcher.

use std::{error::Error, io::Write as _, process::ExitCode};

use clock::Clock;
use config::Sources;
use storage_batcher::{Config, bind};
use telemetry::Telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let sources = Sources::from_process(std::env::args().skip(1)).alias("PORT", "storage_port");
    let config: Config = match config::load_alone(&sources) {
        Ok(config) => config,
        Err(faults) => return fail(2, &faults.to_string()),
    };
    let telemetry = match Telemetry::new(config.host.telemetry("storage-batcher")) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(2, &error.to_string()),
    };
    let done = serve(config, telemetry.clone()).await;
    telemetry.shutdown().await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &chain(&error)),
    }
}

async fn serve(config: Config, telemetry: Telemetry) -> Result<(), storage_batcher::Error> {
    bind(config, telemetry, Clock::system()).await?.run(rpc::shutdown_signal()).await
}

/// Writes an error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

fn fail(code: u8, message: &str) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "storage-batcher: {message}"));
    ExitCode::from(code)
}
