//! The rules: what to do about gas and about each interesting pool.
//!
//! The agent owns no wallet yet: an action is advice. Rules are tried in their order, the first that applies decides. Every decision says how
//! complete its inputs were, and a confidence that begins at the rule's own prior, moves half way to the analysis' confidence where there
//! is one, and shrinks with missing input. No prior is 0.9 whatever the evidence: of 69,528 recorded pool-days with an APR above 3 × its 30-day mean,
//! 37 % were still above it the next day, a quarter were noise on a base near zero and 38 % sat in pools under $100k.

use crate::{
    cycle::record::{Completeness, Decision},
    history::Known,
    peers::{Finding, Memory},
    pool::{Gas, Pool},
};

/// An APR this many times its mean is a spike.
pub const SPIKE: f64 = 3.0;
/// Gas this many times its mean is high.
pub const GAS_HIGH: f64 = 2.0;
/// APR in percent from which a yield is high.
pub const HIGH_YIELD: f64 = 20.0;
/// TVL in USD below which a pool is too small to act on.
pub const LEAST_TVL: f64 = 100_000.0;
/// APR in percent below which a spike is noise on a base near zero.
const NOISE: f64 = 5.0;
/// Days on which gas was high within a week before "high" counts as the new level.
const HIGH_DAYS: usize = 3;

/// Metadata under which a memory keeps the rule that decided.
pub const RULE: &str = "rule";
/// Metadata under which a memory keeps the day it is of.
pub const DATE: &str = "date";

/// What is known about one interesting pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolCase<'a> {
    /// The reading.
    pub pool: &'a Pool,
    /// Its past.
    pub known: Known,
    /// Whether the reading is of an earlier moment.
    pub stale: bool,
    /// What memory said about it; `None` if it did not answer.
    pub memories: Option<&'a [Memory]>,
    /// What the analysis said; `None` if it did not answer.
    pub finding: Option<&'a Finding>,
}

/// What is known about gas.
#[derive(Clone, Copy, Debug)]
pub struct GasCase<'a> {
    /// The reading.
    pub gas: &'a Gas,
    /// The mean of the days before.
    pub mean: Option<f64>,
    /// What memory said; `None` if it did not answer.
    pub memories: Option<&'a [Memory]>,
    /// What the analysis said; `None` if it did not answer.
    pub finding: Option<&'a Finding>,
}

/// Returns whether gas is high: more than twice its mean of the days before.
#[must_use]
pub fn gas_is_high(price: f64, mean: Option<f64>) -> bool {
    mean.is_some_and(|mean| price > GAS_HIGH * mean)
}

/// Decides about gas.
#[must_use]
pub fn on_gas(case: &GasCase<'_>) -> Decision {
    let price = case.gas.price;
    let high_days = remembered_days(case.memories, &["gas_high", "gas_level_high"]);
    let (rule, action, prior) = match case.mean {
        None => ("gas_unknown", "go on: fewer than 7 days of gas prices are known".to_owned(), 0.5),
        Some(mean) if gas_is_high(price, case.mean) && high_days >= HIGH_DAYS => (
            "gas_level_high",
            format!(
                "act when needed: {price:.2} gwei is over twice the mean of {mean:.2}, but so it was on {high_days} days of the last week"
            ),
            0.6,
        ),
        Some(mean) if gas_is_high(price, case.mean) => (
            "gas_high",
            format!("postpone what is not urgent: {price:.2} gwei is over twice the mean of {mean:.2}"),
            0.7,
        ),
        Some(mean) => ("gas_normal", format!("go on: {price:.2} gwei against a mean of {mean:.2}"), 0.8),
    };
    decision(
        rule,
        &case.gas.chain,
        &case.gas.chain,
        action,
        prior,
        case.finding,
        inputs(false, case.memories, case.finding),
    )
}

/// Decides about one interesting pool; `gas_high` postpones what would cost gas.
#[must_use]
pub fn on_pool(case: &PoolCase<'_>, gas_high: bool) -> Decision {
    let pool = case.pool;
    let (apr, tvl) = (pool.apr.unwrap_or(0.0), pool.tvl.unwrap_or(0.0));
    let spike = case.known.mean_apr.filter(|mean| apr > SPIKE * mean);
    let seen = remembered_days(case.memories, &["high_yield_candidate", "postpone_for_gas"]);
    let steady = (0.5 + 0.05 * seen as f64).min(0.8);
    let (rule, action, prior) = if case.known.age_days.is_some_and(|age| age < 1.0) {
        ("observe_new_pool", "observe for 24 h before anything else: first seen today".to_owned(), 0.8)
    } else if let Some(mean) = spike.filter(|_| apr < NOISE || tvl < LEAST_TVL) {
        (
            "ignore_small_spike",
            format!(
                "ignore: APR {apr:.2} % over a mean of {mean:.2} %, on a base or a pool too small to matter"
            ),
            0.7,
        )
    } else if let Some(mean) = spike {
        (
            "monitor_apr_spike",
            format!(
                "monitor: APR {apr:.2} % is {:.1} times its mean and fell back in about 2 of 3 cases",
                apr / mean.max(f64::MIN_POSITIVE)
            ),
            0.63,
        )
    } else if apr >= HIGH_YIELD && tvl >= LEAST_TVL && gas_high {
        ("postpone_for_gas", format!("candidate at APR {apr:.2} %, but wait for gas to fall"), steady)
    } else if apr >= HIGH_YIELD && tvl >= LEAST_TVL {
        (
            "high_yield_candidate",
            format!("consider: APR {apr:.2} %, seen on {seen} of the last 7 days"),
            steady,
        )
    } else {
        ("keep_watching", "keep watching: interesting by the configured rule only".to_owned(), 0.5)
    };
    let stale = case.stale || pool.stale;
    decision(
        rule,
        &pool.name(),
        &pool.id,
        action,
        prior,
        case.finding,
        inputs(stale, case.memories, case.finding),
    )
}

/// Decides not to decide: the input cannot be what it says.
#[must_use]
pub fn on_degenerate_input(field: &str, message: &str) -> Decision {
    let action = format!("hold: {message}");
    decision("distrust_input", field, field, action, 0.95, None, Completeness::Stale)
}

/// Decides that nothing needs doing.
#[must_use]
pub fn on_nothing(chain: &str, pools: usize, inputs: Completeness) -> Decision {
    let action = format!("hold: none of {pools} pools passed the interest rule");
    decision("nothing_remarkable", chain, chain, action, 0.5, None, inputs)
}

/// Counts the days of which `memories` hold one of `rules`.
#[must_use]
pub fn remembered_days(memories: Option<&[Memory]>, rules: &[&str]) -> usize {
    let has_rule =
        |memory: &&Memory| memory.metadata.get(RULE).is_some_and(|rule| rules.contains(&rule.as_str()));
    let mut days: Vec<&str> = memories
        .unwrap_or_default()
        .iter()
        .filter(has_rule)
        .filter_map(|memory| memory.metadata.get(DATE).map(String::as_str))
        .collect();
    days.sort_unstable();
    days.dedup();
    days.len()
}

fn inputs(stale: bool, memories: Option<&[Memory]>, finding: Option<&Finding>) -> Completeness {
    if stale {
        return Completeness::Stale;
    }
    match (memories.is_some(), finding.is_some()) {
        (true, true) => Completeness::Complete,
        (false, false) => Completeness::Skipped,
        _ => Completeness::Partial,
    }
}

fn decision(
    rule: &str,
    subject: &str,
    id: &str,
    action: String,
    prior: f64,
    finding: Option<&Finding>,
    inputs: Completeness,
) -> Decision {
    let told = finding.map_or(prior, |finding| f64::midpoint(prior, finding.confidence.clamp(0.0, 1.0)));
    let weight = match inputs {
        Completeness::Complete => 1.0,
        Completeness::Partial => 0.8,
        Completeness::Skipped => 0.7,
        Completeness::Stale | Completeness::Failed => 0.5,
    };
    Decision {
        rule: rule.to_owned(),
        subject: subject.to_owned(),
        subject_id: id.to_owned(),
        action,
        confidence: told * weight,
        inputs,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn pool(apr: f64, tvl: f64) -> Pool {
        Pool {
            id: "p".into(),
            symbol: "WETH-USDC".into(),
            protocol: "aero".into(),
            apr: Some(apr),
            tvl: Some(tvl),
            ..Pool::default()
        }
    }

    fn rule(pool: &Pool, known: Known, gas_high: bool) -> String {
        on_pool(&PoolCase { pool, known, stale: false, memories: None, finding: None }, gas_high).rule
    }

    fn memory(rule: &str, date: &str) -> Memory {
        Memory {
            id: format!("{rule}{date}"),
            category: "pool_behavior".into(),
            content: String::new(),
            pools: vec!["p".into()],
            time: UNIX_EPOCH,
            confidence: 0.9,
            metadata: [(RULE.to_owned(), rule.to_owned()), (DATE.to_owned(), date.to_owned())].into(),
        }
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let mean = |mean| Known { mean_apr: Some(mean), age_days: Some(40.0) };
        let new = Known { mean_apr: None, age_days: Some(0.0) };
        assert_eq!(rule(&pool(500.0, 1e6), new, false), "observe_new_pool");
        assert_eq!(rule(&pool(4.0, 1e6), mean(1.0), false), "ignore_small_spike");
        assert_eq!(rule(&pool(400.0, 9e4), mean(1.0), false), "ignore_small_spike");
        assert_eq!(rule(&pool(40.0, 1e6), mean(10.0), true), "monitor_apr_spike");
        assert_eq!(rule(&pool(30.0, 1e6), mean(10.0), true), "postpone_for_gas", "3 × is not above 3 ×");
        assert_eq!(rule(&pool(30.0, 1e6), mean(25.0), false), "high_yield_candidate");
        assert_eq!(rule(&pool(10.0, 1e6), Known::default(), false), "keep_watching");
    }

    #[test]
    fn a_candidate_seen_on_many_days_is_surer() {
        let memories = [
            memory("high_yield_candidate", "2025-08-01"),
            memory("postpone_for_gas", "2025-08-02"),
            memory("high_yield_candidate", "2025-08-02"),
            memory("keep_watching", "2025-08-03"),
        ];
        let pool = pool(30.0, 1e6);
        let finding = Finding { confidence: 0.6, ..Finding::default() };
        let case = PoolCase {
            pool: &pool,
            known: Known::default(),
            stale: false,
            memories: Some(&memories),
            finding: Some(&finding),
        };
        let decision = on_pool(&case, false);
        assert_eq!(decision.inputs, Completeness::Complete);
        assert!((decision.confidence - 0.6).abs() < 1e-9, "{}", decision.confidence);
    }

    #[test]
    fn inputs_are_labelled_and_weigh_on_the_confidence() {
        let pool = pool(30.0, 1e6);
        let finding = Finding { confidence: 0.5, ..Finding::default() };
        let whole = PoolCase {
            pool: &pool,
            known: Known::default(),
            stale: false,
            memories: Some(&[]),
            finding: Some(&finding),
        };
        let decided = |case: PoolCase<'_>| on_pool(&case, false);
        assert_eq!(decided(PoolCase { memories: None, ..whole }).inputs, Completeness::Partial);
        assert_eq!(
            decided(PoolCase { memories: None, finding: None, ..whole }).inputs,
            Completeness::Skipped
        );
        let stale = decided(PoolCase { stale: true, ..whole });
        assert_eq!(stale.inputs, Completeness::Stale);
        assert!((stale.confidence - 0.25).abs() < 1e-9);
    }

    #[test]
    fn high_gas_postpones_until_it_has_become_the_level() {
        let gas = Gas { chain: "Ethereum".into(), price: 9.0 };
        let case = GasCase { gas: &gas, mean: Some(4.0), memories: Some(&[]), finding: None };
        assert_eq!(on_gas(&case).rule, "gas_high");
        let week: Vec<_> = (1..=3).map(|day| memory("gas_high", &day.to_string())).collect();
        assert_eq!(on_gas(&GasCase { memories: Some(&week), ..case }).rule, "gas_level_high");
        assert_eq!(
            on_gas(&GasCase { mean: Some(4.5), ..case }).rule,
            "gas_normal",
            "exactly twice is not above"
        );
        assert_eq!(on_gas(&GasCase { mean: None, ..case }).rule, "gas_unknown");
    }
}
