//! What a client exports: one value of one stream.

use std::sync::Arc;

use super::distribution::Distribution;

/// Attributes of a series as text, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(String, String)]>);

/// Whether a value covers the time since the last export or since the client's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Since the last export.
    Delta,
    /// Since the client's start.
    Cumulative,
}

/// A value as exported.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// What was counted; it never falls but for a restart.
    Count(f64, Temporality),
    /// Where something stands.
    Level(f64),
    /// What was measured.
    Distribution(Distribution, Temporality),
}

/// One value of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Name of the metric.
    pub metric: String,
    /// Its attributes.
    pub labels: Labels,
    /// The client's own time of the stream's start, in nanoseconds; another one means another stream.
    pub start: u64,
    /// The client's own time of the value, in nanoseconds.
    pub time: u64,
    /// The value.
    pub sample: Sample,
}

/// Who exports: one process of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// `service.name`.
    pub service: String,
    /// `service.instance.id`; empty if not given.
    pub instance: String,
}

impl Labels {
    /// Sorts `pairs`; of two equal keys the first stays.
    #[must_use]
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort_by(|one, two| one.0.cmp(&two.0));
        pairs.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(pairs.into())
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let place = self.0.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| value.as_str())
    }
}
