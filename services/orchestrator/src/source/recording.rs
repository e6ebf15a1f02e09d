//! What recordings have in common: how a field is read, and why it cannot be.

use jiff::civil::Date;

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A column is not there.
    #[error("the header names none of the columns {0}")]
    Column(&'static str),
    /// A line cannot be read.
    #[error("line {line} cannot be read: {reason}")]
    Line {
        /// The line, the header being 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// Nothing would be replayed.
    #[error(
        "the recording holds {days} days with at least {min_pools} pools, and needs more than the {history} of history"
    )]
    TooShort {
        /// Usable days.
        days: usize,
        /// Pools a day needs.
        min_pools: usize,
        /// Days of history asked for.
        history: usize,
    },
}

/// Reads a finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Reads the date at the start of a text: `2025-07-08`, `2025-07-08T…`, `2025-07-08 …`.
pub(super) fn day(text: &str) -> Option<Date> {
    text.get(..10)?.parse().ok()
}

/// Says which line is no CSV.
pub(super) fn broken(error: &csv::Error) -> Error {
    Error::Line { line: error.position().map_or(1, csv::Position::line), reason: error.to_string() }
}
