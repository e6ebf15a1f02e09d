//! What an agent sees: pools, gas, and one moment of both.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// One reading of one liquidity pool. A value that the source did not give, or that is no finite number, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// The pool's id in its source.
    pub id: String,
    /// The protocol, such as `aerodrome-slipstream`.
    pub protocol: String,
    /// The chain, such as `Base`.
    pub chain: String,
    /// The pair, such as `WETH-USDC`.
    pub symbol: String,
    /// Total value locked, in USD.
    pub tvl: Option<f64>,
    /// Yearly yield in percent.
    pub apr: Option<f64>,
    /// Part of `apr` that comes from fees, in percent.
    pub apr_base: Option<f64>,
    /// Part of `apr` that comes from rewards, in percent.
    pub apr_reward: Option<f64>,
    /// Volume of the last 24 h, in USD.
    pub volume_24h: Option<f64>,
    /// When the source itself read it, where it says so.
    pub read: Option<SystemTime>,
    /// Whether the source read it long before the moment it is given for.
    pub stale: bool,
}

/// One reading of a chain's gas price.
#[derive(Clone, Debug, PartialEq)]
pub struct Gas {
    /// The chain whose gas it is; not always the pools' chain.
    pub chain: String,
    /// Price in gwei.
    pub price: f64,
}

/// When a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The day, in UTC: what 30-day means and pool ages use.
    pub date: Date,
    /// The moment: midnight of the recorded day in a replay, the agent clock's now for a live source.
    pub time: SystemTime,
    /// Whether the day was recorded (a replay) or is today.
    pub recorded: bool,
}

impl Pool {
    /// Returns the pool in words: `WETH-USDC (aerodrome-slipstream)`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} ({})", self.symbol, self.protocol)
    }

    /// Returns the yearly yield of the whole pool in USD: what a reading is ranked by. 0 where a part is unknown.
    #[must_use]
    pub fn yearly_yield(&self) -> f64 {
        self.apr.zip(self.tvl).map_or(0.0, |(apr, tvl)| apr / 100.0 * tvl)
    }
}

impl Moment {
    /// Returns a recorded day.
    #[must_use]
    pub fn recorded(date: Date) -> Self {
        Self { date, time: midnight(date), recorded: true }
    }

    /// Returns the present moment of a live source.
    #[must_use]
    pub fn live(now: SystemTime) -> Self {
        Self { date: day_of(now), time: now, recorded: false }
    }
}

/// Returns the day of a moment, in UTC; the first day of 1970 for one that no calendar holds.
#[must_use]
pub fn day_of(time: SystemTime) -> Date {
    Timestamp::try_from(time).map_or(Date::constant(1970, 1, 1), |time| time.to_zoned(TimeZone::UTC).date())
}

/// Returns the first moment of a day, in UTC.
#[must_use]
pub fn midnight(date: Date) -> SystemTime {
    let days = days_between(Date::constant(1970, 1, 1), date);
    let length = Duration::from_secs(days.unsigned_abs() * 86_400);
    if days < 0 { SystemTime::UNIX_EPOCH - length } else { SystemTime::UNIX_EPOCH + length }
}

/// Returns how many days `to` lies after `from`; negative if before.
#[must_use]
pub fn days_between(from: Date, to: Date) -> i64 {
    i64::from(from.until(to).map_or(0, |span| span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_and_its_midnight_agree() {
        let date = Date::constant(2025, 7, 8);
        assert_eq!(day_of(midnight(date)), date);
        assert_eq!(day_of(midnight(date) + Duration::from_secs(86_399)), date);
        assert_eq!(days_between(date, Date::constant(2025, 8, 8)), 31);
        assert_eq!(days_between(date, Date::constant(2025, 7, 7)), -1);
    }

    #[test]
    fn an_unknown_part_makes_no_yield() {
        let pool = Pool { apr: Some(50.0), tvl: Some(200_000.0), ..Pool::default() };
        assert_eq!(pool.yearly_yield(), 100_000.0);
        assert_eq!(Pool { tvl: None, ..pool }.yearly_yield(), 0.0);
    }
}
