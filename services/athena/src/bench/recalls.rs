//! Benchmarks of the memory service; what is measured is said by the service's own.

use anyhow::Result;
use memory_service::bench::{self, hunt};
use serde_json::{Value, json};

use testkit::Round;

use super::{Outcome, Setup, memories};

/// Steps of a hunt.
const STEPS: u64 = 1_000_000;

/// Runs the benchmark of that name.
pub(super) async fn measure(name: &str, setup: &Setup) -> Result<Outcome> {
    match name {
        "memory.plans" => setup.rounds(async || plans(&setup.data)).await,
        "memory.worded" => setup.rounds(async || worded(&setup.data)).await,
        "memory.stale" => setup.rounds(async || stale()).await,
        "memory.serve" => setup.rounds(async || memories::serve(setup).await).await,
        "memory.restart" => memories::restart(setup).await,
        "memory.kills" => setup.rounds(async || memories::kills(setup).await).await,
        "memory.filtered" => setup.rounds(async || vectors(bench::filtered::measure)).await,
        "memory.scan" => setup.rounds(async || vectors(bench::scan::measure)).await,
        _ => {
            let embedder = setup.embedder().await?;
            let measure = async || {
                let (value, details) = bench::evidence::measure(&setup.data, &*embedder).await?;
                Ok(Round { value, details })
            };
            setup.rounds(measure).await
        }
    }
}

fn vectors(measure: fn() -> Result<(f64, Value), bench::Error>) -> Result<Round> {
    let (value, details) = measure()?;
    Ok(Round { value, details })
}

/// Estimates of filters on recorded pools.
fn plans(days: &[u8]) -> Result<Round> {
    let (value, details) = bench::plans::measure(days)?;
    Ok(Round { value, details })
}

/// Recalls asked in words.
fn worded(days: &[u8]) -> Result<Round> {
    let (value, details) = bench::worded::measure(days)?;
    Ok(Round { value, details })
}

/// Recalls served with what is no longer true.
fn stale() -> Result<Round> {
    let caught = hunt(STEPS, 1)?;
    let details = json!({
        "steps": STEPS,
        "recalls": caught.recalls,
        "cached": caught.cached,
        "writes": caught.writes,
    });
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let value = caught.stale as f64;
    Ok(Round { value, details })
}

#[cfg(test)]
mod tests {
    use crate::data;

    #[test]
    fn estimates_are_within_a_factor_of_two_in_nine_of_ten_queries() {
        let round = super::plans(&data::pools().unwrap()).unwrap();
        assert!(round.value >= 90.0, "{} {:#}", round.value, round.details);
        let plans = round.details["plans"].as_object().unwrap();
        let names: Vec<_> = plans.keys().map(String::as_str).collect();
        let all = [
            "direct",
            "empty",
            "filtered_scan",
            "full_scan",
            "pool_partitioned",
            "text_first",
            "time_partitioned",
        ];
        assert_eq!(names, all);
        for (name, plan) in plans {
            assert!(plan["within_factor_2_percent"].as_f64() >= Some(90.0), "{name} {:#}", round.details);
        }
    }
}
