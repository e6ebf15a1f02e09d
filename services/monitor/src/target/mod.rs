//! Targets: whether the mesh does what it is for.
//!
//! 1. A value with fewer samples than its target needs is shown and not judged; one without a series says so. An exact 0
//!    is a value like any other.
//! 2. A window is on the agent clock and cut to the run, so that a short replay is not diluted by time that never was.
//! 3. Where the newest cycles saw only zeros or only equal values, the figures that measure work on them
//!    (`agent_cycle`, `cache_hit_rate`) are not judged: cycles without anything to do are fast, and equal inputs always
//!    hit. Latencies of single calls and documents a minute are real whatever they carry, and stay judged.

mod definition;
mod degenerate;
mod measure;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

pub use definition::{ClockKind, Definition, Direction, Measure, TARGETS};
use degenerate::Findings;
pub use measure::is_api_method;

use crate::series::Store;

/// Whether a target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The target is met.
    Ok,
    /// The target is missed, the critical threshold is not.
    Breach,
    /// The critical threshold is passed.
    Critical,
    /// Fewer samples than needed.
    NotEnoughData,
    /// The series behind the target was never seen.
    NoSeries,
    /// There are samples, but of degenerate input.
    DegenerateInput,
}

/// One target and how it is met.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The target.
    pub definition: &'static Definition,
    /// The value in the target's unit; `None` where there is none.
    pub value: Option<f64>,
    /// Whether it is met.
    pub state: State,
    /// Samples behind the value.
    pub samples: u64,
    /// The window the value is over.
    pub window: Duration,
    /// What stands beside the value.
    pub notes: Vec<String>,
    /// The value in parts, in the target's unit.
    pub parts: BTreeMap<String, f64>,
}

/// The part of the past a value is over.
#[derive(Clone, Copy, Debug)]
struct Window {
    now: SystemTime,
    /// What arrived after this; `None`: everything.
    since: Option<SystemTime>,
    width: Duration,
}

/// A value before it is judged.
#[derive(Debug, Default)]
struct Measured {
    value: Option<f64>,
    samples: u64,
    notes: Vec<String>,
    parts: BTreeMap<String, f64>,
}

/// Judges the six targets at `now`, over `window` instead of each target's own if one is given.
#[must_use]
pub fn judge(store: &Store, started: SystemTime, now: SystemTime, window: Option<Duration>) -> Vec<Report> {
    TARGETS.iter().map(|definition| report(store, definition, started, now, window)).collect()
}

impl State {
    /// Returns the state in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Breach => "breach",
            Self::Critical => "critical",
            Self::NotEnoughData => "not_enough_data",
            Self::NoSeries => "no_series",
            Self::DegenerateInput => "degenerate_input",
        }
    }
}

impl Definition {
    /// Returns the state of a value that has enough samples.
    #[must_use]
    pub fn state_of(&self, value: f64) -> State {
        let (met, critical) = match self.direction {
            Direction::LowerIsBetter => (value < self.target, value > self.critical),
            Direction::HigherIsBetter => (value > self.target, value < self.critical),
        };
        match (met, critical) {
            (true, _) => State::Ok,
            (false, true) => State::Critical,
            (false, false) => State::Breach,
        }
    }
}

impl Window {
    fn cut(width: Duration, started: SystemTime, now: SystemTime) -> Self {
        let run = now.duration_since(started).unwrap_or_default();
        if width >= run {
            return Self { now, since: None, width: run };
        }
        Self { now, since: now.checked_sub(width), width }
    }
}

fn report(
    store: &Store,
    definition: &'static Definition,
    started: SystemTime,
    now: SystemTime,
    window: Option<Duration>,
) -> Report {
    let window = Window::cut(window.unwrap_or(definition.window), started, now);
    let known = store.knows(definition.measure.metric().name);
    let mut measured =
        if known { measure::measure(store, definition.measure, window) } else { Measured::default() };
    let findings = Findings::of_newest_cycles(store, window.since);
    let degenerate = known && definition.measure.depends_on_input() && findings.is_degenerate();
    if known && definition.measure.depends_on_input() {
        measured.notes.extend(findings.reasons());
    }
    if known && definition.measure == Measure::AgentCycle {
        measured.notes.extend(findings.remarks());
    }
    let state = match measured.value {
        _ if !known => State::NoSeries,
        Some(_) if measured.samples >= definition.least_samples && degenerate => State::DegenerateInput,
        Some(value) if measured.samples >= definition.least_samples => definition.state_of(value),
        _ => State::NotEnoughData,
    };
    if state == State::NoSeries && store.refused() > 0 {
        measured.notes.push(format!("{} points were refused: raise monitor_max_series", store.refused()));
    }
    Report {
        definition,
        value: measured.value,
        state,
        samples: measured.samples,
        window: window.width,
        notes: measured.notes,
        parts: measured.parts,
    }
}

#[cfg(test)]
mod tests;
