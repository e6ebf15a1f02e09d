//! How the service is, in numbers of all tenants together.

use std::time::{Duration, SystemTime};

use crate::{budget::Standing, cache, store::Damaged};

/// What was found in the journal when the service started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Writes that were not at the sink.
    pub writes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Documents they are of.
    pub documents: u64,
    /// Documents among them that were on their way with a ledger document.
    pub resumed: u64,
    /// Buckets that were open.
    pub open_buckets: u64,
    /// Samples in them that are in no document yet.
    pub samples: u64,
    /// Writes that the sink refused for good.
    pub dead_letters: u64,
    /// Records that could not be read.
    pub damaged: Damaged,
    /// When the oldest of the writes was accepted, in microseconds since the epoch on the agent clock.
    pub oldest: Option<i64>,
    /// How long opening and reading took, in wall time.
    pub took: Duration,
}

/// How the service is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Writes, samples and dead letters that are not at the sink.
    pub writes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most of them.
    pub max_writes: u64,
    /// Most bytes.
    pub max_bytes: u64,
    /// Dead letters among them.
    pub dead_letters: u64,
    /// Bytes of those.
    pub dead_letter_bytes: u64,
    /// Why the disk takes no writes.
    pub refusing: Option<journal::Reason>,
    /// What was found at the start.
    pub recovery: Recovery,
    /// The sink's name.
    pub sink: &'static str,
    /// Documents that wait or are on their way.
    pub documents: u64,
    /// Batches that may be on their way at once.
    pub concurrency: u32,
    /// Batches that are.
    pub batches: u32,
    /// Documents a second while catching up.
    pub ramp: Option<f64>,
    /// How the write budget stands, if there is one.
    pub budget: Option<Standing>,
    /// What it holds back.
    pub held: Held,
    /// What the read cache holds and saved, if there is one, and its limits.
    pub cache: Option<(cache::Stats, cache::Limits)>,
    /// USD for 100,000 documents read.
    pub read_price: f64,
}

/// Documents that the write budget holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub documents: u64,
    /// When the last of them may leave, on the agent clock, if nothing else does; `None` if there are none.
    pub until: Option<SystemTime>,
}
