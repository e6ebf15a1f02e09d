//! Benchmarks of the memory service; what is measured is said by the service's own.

use anyhow::Result;
use memory_service::bench::{hunt, plans};
use serde_json::json;

use super::Round;

/// Steps of a hunt.
const STEPS: u64 = 1_000_000;

/// Estimates of filters on recorded pools.
pub(super) fn plans(days: &[u8]) -> Result<Round> {
    let (value, details) = plans::measure(days)?;
    Ok(Round { value, details })
}

/// Recalls served with what is no longer true.
pub(super) fn stale() -> Round {
    let caught = hunt(STEPS, 1);
    let details = json!({
        "steps": STEPS,
        "recalls": caught.recalls,
        "cached": caught.cached,
        "writes": caught.writes,
    });
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let value = caught.stale as f64;
    Round { value, details }
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
        let all = ["direct", "empty", "filtered_scan", "full_scan", "pool_partitioned", "time_partitioned"];
        assert_eq!(names, all);
        for (name, plan) in plans {
            assert!(plan["within_factor_2_percent"].as_f64() >= Some(90.0), "{name} {:#}", round.details);
        }
    }
}
