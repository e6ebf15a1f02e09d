//! Finds input that cannot be what it says: all zero, all equal, stale, scaled by 10^18, missing.
//!
//! A run of this agent's ancestor had every APR at 0 and stayed green for a week. Nothing here refuses a reading: what is found is
//! repaired where the repair is certain, left out of the means where it is not, and always said.

use serde::{Deserialize, Serialize};

use crate::pool::{Gas, Pool};

/// A figure in USD or percent above which only a number scaled by 10^18 explains it: more than all wealth on earth.
const ABSURD: f64 = 1e15;
/// What token amounts are scaled by on Ethereum's chains.
const WEI: f64 = 1e18;
/// A gas price in gwei above which it must be in wei: far above any price paid, and below Base's prices in wei (some 10^6).
const ABSURD_GWEI: f64 = 1e5;
/// Readings needed before "all equal" says anything.
const LEAST_EQUAL: usize = 3;

/// What is wrong with a field, or what was left out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every reading is 0.
    AllZero,
    /// Every reading is the same, and there are at least three.
    AllEqual,
    /// Some readings are 0; they are left out of the means.
    SomeZero,
    /// The readings describe an earlier moment than they should.
    Stale,
    /// Readings were scaled by 10^18 (gas: 10^9) and have been divided by it.
    WeiScaled,
    /// Readings are not there.
    Missing,
    /// Nothing is wrong: a configured cap left readings out.
    Cut,
}

/// One finding about one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// What is wrong.
    pub kind: Kind,
    /// The field, such as `apr`.
    pub field: String,
    /// How many readings it concerns.
    pub affected: usize,
    /// Readings in all.
    pub readings: usize,
    /// One sentence.
    pub message: String,
}

impl Kind {
    /// Returns the stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllZero => "all_zero",
            Self::AllEqual => "all_equal",
            Self::SomeZero => "some_zero",
            Self::Stale => "stale",
            Self::WeiScaled => "wei_scaled",
            Self::Missing => "missing",
            Self::Cut => "cut",
        }
    }
}

impl Warning {
    /// Makes a finding.
    pub fn new(
        kind: Kind,
        field: &str,
        affected: usize,
        readings: usize,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, field: field.to_owned(), affected, readings, message: message.into() }
    }

    /// Returns whether the input is at fault, not a cap of ours.
    #[must_use]
    pub fn is_degenerate(&self) -> bool {
        self.kind != Kind::Cut
    }
}

/// Repairs what is scaled by 10^18 and says what is wrong with a snapshot's pools.
pub fn inspect_pools(pools: &mut [Pool]) -> Vec<Warning> {
    let mut found = Vec::new();
    rescale(pools, "tvl", |pool| &mut pool.tvl, &mut found);
    rescale(pools, "apr", |pool| &mut pool.apr, &mut found);
    rescale(pools, "volume_24h", |pool| &mut pool.volume_24h, &mut found);
    inspect(pools.iter().map(|pool| pool.apr), "apr", &mut found);
    inspect(pools.iter().map(|pool| pool.tvl), "tvl", &mut found);
    found
}

/// Repairs a gas price given in wei and says what is wrong with it.
pub fn inspect_gas(gas: &mut Gas) -> Vec<Warning> {
    let mut found = Vec::new();
    if gas.price > ABSURD_GWEI {
        gas.price /= 1e9;
        let message = "the gas price was in wei and was divided by 10^9";
        found.push(Warning::new(Kind::WeiScaled, "gas_price", 1, 1, message));
    }
    if gas.price == 0.0 {
        found.push(Warning::new(Kind::AllZero, "gas_price", 1, 1, "the gas price is exactly 0"));
    }
    found
}

fn rescale(
    pools: &mut [Pool],
    field: &str,
    value: impl Fn(&mut Pool) -> &mut Option<f64>,
    found: &mut Vec<Warning>,
) {
    let readings = pools.len();
    let mut affected = 0;
    for reading in pools.iter_mut().filter_map(|pool| value(pool).as_mut()).filter(|it| **it > ABSURD) {
        *reading /= WEI;
        affected += 1;
    }
    if affected > 0 {
        let message = format!("{affected} of {readings} readings were above 10^15 and were divided by 10^18");
        found.push(Warning::new(Kind::WeiScaled, field, affected, readings, message));
    }
}

fn inspect(values: impl Iterator<Item = Option<f64>>, field: &str, found: &mut Vec<Warning>) {
    let values: Vec<Option<f64>> = values.collect();
    let readings = values.len();
    let known: Vec<f64> = values.into_iter().flatten().collect();
    let missing = readings - known.len();
    let zero = known.iter().filter(|value| **value == 0.0).count();
    if missing > 0 {
        let message = format!("{missing} of {readings} pools give no {field}");
        found.push(Warning::new(Kind::Missing, field, missing, readings, message));
    }
    if zero > 0 && zero == known.len() {
        let message = format!("every {field} is exactly 0: the source, not the market");
        found.push(Warning::new(Kind::AllZero, field, zero, readings, message));
    } else if zero > 0 {
        let message =
            format!("{zero} of {readings} pools report {field} of exactly 0: left out of the means");
        found.push(Warning::new(Kind::SomeZero, field, zero, readings, message));
    } else if known.len() >= LEAST_EQUAL && known.iter().all(|value| *value == known[0]) {
        let message = format!("every {field} is {}: the source, not the market", known[0]);
        found.push(Warning::new(Kind::AllEqual, field, known.len(), readings, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(aprs: &[Option<f64>]) -> Vec<Pool> {
        let pool = |(index, apr): (usize, &Option<f64>)| Pool {
            id: index.to_string(),
            apr: *apr,
            tvl: Some(1000.0 + index as f64),
            ..Pool::default()
        };
        aprs.iter().enumerate().map(pool).collect()
    }

    fn kinds(found: &[Warning]) -> Vec<(Kind, &str, usize)> {
        found.iter().map(|it| (it.kind, it.field.as_str(), it.affected)).collect()
    }

    #[test]
    fn an_apr_of_zero_everywhere_is_reported() {
        let found = inspect_pools(&mut pools(&[Some(0.0), Some(0.0)]));
        assert_eq!(kinds(&found), [(Kind::AllZero, "apr", 2)]);
    }

    #[test]
    fn some_zeros_are_counted_and_sound_values_are_silent() {
        let found = inspect_pools(&mut pools(&[Some(0.0), Some(3.0), Some(4.0)]));
        assert_eq!(kinds(&found), [(Kind::SomeZero, "apr", 1)]);
        assert_eq!(inspect_pools(&mut pools(&[Some(2.0), Some(3.0), Some(4.0)])), []);
    }

    #[test]
    fn equal_values_need_three_readings_to_be_suspicious() {
        assert_eq!(inspect_pools(&mut pools(&[Some(7.0), Some(7.0)])), []);
        let found = inspect_pools(&mut pools(&[Some(7.0), Some(7.0), Some(7.0)]));
        assert_eq!(kinds(&found), [(Kind::AllEqual, "apr", 3)]);
    }

    #[test]
    fn a_missing_value_is_not_a_zero() {
        let found = inspect_pools(&mut pools(&[None, Some(3.0), Some(4.0)]));
        assert_eq!(kinds(&found), [(Kind::Missing, "apr", 1)]);
    }

    #[test]
    fn a_value_scaled_by_wei_is_divided_and_said() {
        let mut pools = pools(&[Some(2.0), Some(3.0)]);
        pools[0].tvl = Some(3.67e23);
        let found = inspect_pools(&mut pools);
        assert_eq!(kinds(&found), [(Kind::WeiScaled, "tvl", 1)]);
        assert!((pools[0].tvl.unwrap() - 367_000.0).abs() < 1e-6);
    }

    #[test]
    fn gas_in_wei_is_divided_and_zero_gas_is_reported() {
        let mut gas = Gas { chain: "Base".into(), price: 2.5e9 };
        assert_eq!(kinds(&inspect_gas(&mut gas)), [(Kind::WeiScaled, "gas_price", 1)]);
        assert_eq!(gas.price, 2.5);
        gas.price = 5e6;
        assert_eq!(kinds(&inspect_gas(&mut gas)), [(Kind::WeiScaled, "gas_price", 1)]);
        assert_eq!(gas.price, 0.005, "Base's 5,000,000 wei are no 5,000,000 gwei");
        gas.price = 9_000.0;
        assert_eq!(inspect_gas(&mut gas), [], "dear, but gwei");
        gas.price = 0.0;
        assert_eq!(kinds(&inspect_gas(&mut gas)), [(Kind::AllZero, "gas_price", 1)]);
    }
}
