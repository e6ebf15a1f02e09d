//! Recorded gas prices, by day.
//!
//! Two shapes are read by their headers: `Date(UTC)`, `UnixTimeStamp`, `Value (Wei)` (daily means in wei) and `Timestamp`, `GasPrice` (samples
//! in gwei, of which the day's mean is taken). Both are Ethereum's: the chain says so, whatever chain the pools are on.

use std::{collections::BTreeMap, time::Duration};

use jiff::civil::Date;

use super::recording::{Error, broken, day, number};
use crate::{
    history::{History, WINDOW_DAYS},
    pool::{Gas, Moment, day_of, days_between},
};

/// The chain the recorded files are of.
pub const CHAIN: &str = "Ethereum";

/// Recorded gas prices in gwei, by day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    days: BTreeMap<Date, (f64, u32)>,
}

impl Recorded {
    /// Reads recorded prices of either shape.
    ///
    /// # Errors
    ///
    /// Fails if the header has neither shape or a line cannot be read.
    pub fn from_csv(csv: &[u8]) -> Result<Self, Error> {
        let mut reader = csv::Reader::from_reader(csv);
        let header = reader.headers().map_err(|error| broken(&error))?.clone();
        let find = |name: &str| header.iter().position(|it| it.trim() == name);
        let (when, value, gwei) = match (find("UnixTimeStamp"), find("Value (Wei)")) {
            (Some(when), Some(value)) => (when, value, 1e-9),
            _ => {
                let shape = "UnixTimeStamp with Value (Wei), or Timestamp with GasPrice";
                let when = find("Timestamp").ok_or(Error::Column(shape))?;
                (when, find("GasPrice").ok_or(Error::Column(shape))?, 1.0)
            }
        };
        let mut recorded = Self::default();
        for row in reader.records() {
            let row = row.map_err(|error| broken(&error))?;
            let line = row.position().map_or(0, csv::Position::line);
            let text = |index: usize| row.get(index).unwrap_or_default().trim();
            let read = || Some((date(text(when))?, number(text(value))?));
            let (date, price) =
                read().ok_or_else(|| Error::Line { line, reason: "it has no date and price".to_owned() })?;
            let mean = recorded.days.entry(date).or_default();
            *mean = (mean.0 + price * gwei, mean.1 + 1);
        }
        Ok(recorded)
    }

    /// Returns the price of a day.
    #[must_use]
    pub fn on(&self, date: Date) -> Option<Gas> {
        let (sum, count) = self.days.get(&date)?;
        Some(Gas { chain: CHAIN.to_owned(), price: sum / f64::from(*count) })
    }

    /// Adds to `history` the days of the trailing window before `date` that it does not have yet: gas is known on days without
    /// pools too.
    pub fn fill(&self, history: &mut History, date: Option<Date>) {
        let Some(date) = date else { return };
        let in_window = |day: &Date| days_between(*day, date) <= WINDOW_DAYS;
        for day in self.days.range(..date).rev().map(|(day, _)| *day).take_while(in_window) {
            if let Some(gas) = self.on(day) {
                history.record_gas(Moment::recorded(day), &gas);
            }
        }
    }
}

/// Reads seconds since 1970 or a text that begins with a date.
fn date(text: &str) -> Option<Date> {
    match text.parse::<u64>() {
        Ok(seconds) => Some(day_of(std::time::UNIX_EPOCH + Duration::from_secs(seconds))),
        Err(_) => day(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAILY: &str = "\"Date(UTC)\",\"UnixTimeStamp\",\"Value (Wei)\"\n\
        \"7/7/2025\",\"1751846400\",\"2500000000\"\n\"7/8/2025\",\"1751932800\",\"3500000000\"\n";

    #[test]
    fn daily_wei_becomes_gwei_of_ethereum() {
        let recorded = Recorded::from_csv(DAILY.as_bytes()).unwrap();
        let gas = recorded.on(Date::constant(2025, 7, 8)).unwrap();
        assert_eq!((gas.chain.as_str(), gas.price), ("Ethereum", 3.5));
        assert_eq!(recorded.on(Date::constant(2025, 7, 9)), None);
    }

    #[test]
    fn samples_in_gwei_become_the_mean_of_their_day() {
        let csv = "Timestamp,GasPrice\n2025-03-02 13:07:09.251421,0.5\n2025-03-02 13:07:11.3,1.5\n";
        let recorded = Recorded::from_csv(csv.as_bytes()).unwrap();
        assert_eq!(recorded.on(Date::constant(2025, 3, 2)).unwrap().price, 1.0);
    }

    #[test]
    fn another_shape_is_refused() {
        assert!(matches!(Recorded::from_csv(b"time,price\n1,2\n"), Err(Error::Column(_))));
        assert!(matches!(Recorded::from_csv(b"Timestamp,GasPrice\nx,2\n"), Err(Error::Line { line: 2, .. })));
    }

    #[test]
    fn the_window_before_a_day_is_filled_without_the_day_itself() {
        let mut csv = "Timestamp,GasPrice\n".to_owned();
        for day in 1..=9 {
            csv.push_str(&format!("2025-03-0{day} 00:00:00,{day}\n"));
        }
        let mut history = History::default();
        let date = Date::constant(2025, 3, 9);
        Recorded::from_csv(csv.as_bytes()).unwrap().fill(&mut history, Some(date));
        assert_eq!(history.gas(CHAIN, date), Some(4.5));
    }
}
