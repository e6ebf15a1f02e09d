//! `gateway.memory`: what a gateway keeps resident when it has nothing to do, under load, and afterwards.

use std::time::Duration;

use serde_json::json;
use testkit::load::{Load, Pace};

use super::{Error, Round, Server, completions, run, topic};

/// Time between SERVING and the first reading.
const SETTLE: Duration = Duration::from_secs(10);
/// Calls of the load, each a miss, and how many a second.
const CALLS: u64 = 20_000;
const RATE: f64 = 1_000.0;
const CONNECTIONS: usize = 64;
/// Time between the end of the load and the last reading.
const AFTER: Duration = Duration::from_secs(120);

/// Measures one round, on a gateway that was just started.
///
/// # Errors
/// [`Error`] if a call fails.
pub async fn memory(gateway: &Server) -> Result<Round, Error> {
    tokio::time::sleep(SETTLE).await;
    let (idle, anonymous) = (gateway.process.resident()?, gateway.process.anonymous()?);
    let load = completions(gateway.address, topic());
    run(Load { calls: CALLS, connections: CONNECTIONS, pace: Pace::PerSecond(RATE), ..load }).await?;
    let loaded = gateway.process.resident()?;
    tokio::time::sleep(AFTER).await;
    let after = gateway.process.resident()?;
    Ok(Round {
        value: idle as f64,
        details: json!({
            "loaded_bytes": loaded,
            "after_bytes": after,
            "anonymous_bytes": anonymous,
            "after_anonymous_bytes": gateway.process.anonymous()?,
            "after_ratio": after as f64 / idle as f64,
        }),
    })
}
