//! One service as a program of its own.

use std::{error::Error, io::Write as _, process::ExitCode};

use config::{Settings, Sources};
use telemetry::Telemetry;

use crate::HostSettings;

/// Runs one service as a program of its own: reads its settings from the process (`PORT`, which Cloud Run sets, stands for
/// `port_setting`; OpenTelemetry's `OTEL_*` variables are honoured), sets up its telemetry, runs `serve` to its end and sends off what
/// telemetry waits, for at most [`telemetry::FLUSH_LIMIT`] after the drain.
///
/// Exit codes: 0 fine, 1 the service failed, 2 wrong settings; what went wrong is one line on standard error.
pub async fn program<C, E>(
    service: &'static str,
    port_setting: &str,
    host: impl FnOnce(&C) -> &HostSettings,
    serve: impl AsyncFnOnce(C, Telemetry) -> Result<(), E>,
) -> ExitCode
where
    C: Settings,
    E: Error + 'static,
{
    let sources = Sources::from_process(std::env::args().skip(1)).alias("PORT", port_setting);
    let config: C = match config::load_alone(&sources) {
        Ok(config) => config,
        Err(faults) => return fail(service, 2, &faults),
    };
    let options = host(&config).telemetry(service).with_otel_env(sources.variables("OTEL_"));
    let telemetry = match Telemetry::new(options) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(service, 2, &error),
    };
    let done = serve(config, telemetry.clone()).await;
    telemetry.shutdown().await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(service, 1, &error),
    }
}

/// Writes an error and its causes in one line.
fn fail(service: &str, code: u8, error: &dyn Error) -> ExitCode {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let line = causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"));
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "{service}: {line}"));
    ExitCode::from(code)
}
