//! `gateway.single_flight`: how often the upstream is asked when many ask the same at once.

use std::time::Duration;

use serde_json::json;
use testkit::{
    Mock,
    load::{Load, Pace, chat},
};

use super::{COMPLETIONS, Error, MODEL, Round, Server, run, topic};

/// Identical calls at once, each on its own connection.
const CALLS: u64 = 100;
/// How long the mock takes: all calls have come by then.
pub const DELAY: Duration = Duration::from_millis(300);

/// Measures one round through the OpenAI dialect; the mock takes [`DELAY`].
///
/// # Errors
/// [`Error`] if a call fails.
pub async fn single_flight(mock: &Mock, gateway: &Server) -> Result<Round, Error> {
    let before = mock.calls();
    let topic = topic();
    let load = Load::http(gateway.address, COMPLETIONS, move |_| chat(MODEL, &topic, 0));
    let load = Load { calls: CALLS, connections: CALLS as usize, pace: Pace::AtOnce, ..load };
    let measured = run(load).await?;
    Ok(Round {
        value: (mock.calls() - before) as f64,
        details: json!({ "answered": measured.answered(), "slowest_us": measured.micros(1.0) }),
    })
}
