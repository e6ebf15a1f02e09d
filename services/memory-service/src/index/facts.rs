//! What filters and rankings ask of a row beside its vector and its words.

use std::time::SystemTime;

use super::column::Column;
use crate::memory::Memory;

/// The facts of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Facts {
    /// When it happened.
    pub(crate) time: SystemTime,
    /// From when on it is not found.
    pub(crate) expires: Option<SystemTime>,
    /// How sure it is, 0 to 1; 0: not stated.
    pub(crate) confidence: f64,
    /// How much it matters, 0 to 1; 0: not stated.
    pub(crate) importance: f64,
}

impl Facts {
    /// Those of a row that has none.
    pub(crate) const NONE: Self =
        Self { time: SystemTime::UNIX_EPOCH, expires: None, confidence: 0.0, importance: 0.0 };

    /// Returns those of `memory`.
    pub(crate) fn of(memory: &Memory) -> Self {
        let Memory { time, expires, confidence, importance, .. } = *memory;
        Self { time, expires, confidence, importance }
    }
}

/// Compares two rows of equal scores: less comes first. The newest does; of one time, what was written last.
pub(crate) fn newest_first(facts: &Column<Facts>, left: u32, right: u32) -> std::cmp::Ordering {
    let time = |row| facts.get(row).time;
    time(right).cmp(&time(left)).then_with(|| right.cmp(&left))
}
