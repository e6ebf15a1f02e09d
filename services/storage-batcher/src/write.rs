//! What callers ask to be written, checked, and what they are told.

use std::sync::Arc;

use crate::{
    buckets::{BucketKey, Readings},
    change::Change,
    document::{Key, Priority},
};

/// One write, checked.
#[derive(Clone, Debug)]
pub struct NewWrite {
    /// The document.
    pub key: Key,
    /// What is done to it.
    pub change: Change,
    /// How soon it must be sent.
    pub priority: Priority,
    /// By what it is known again.
    pub idempotency_key: Option<Arc<str>>,
    /// Whose write it is, by name; empty if there is none.
    pub caller: Arc<str>,
}

/// When writes are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// When they are on disk.
    #[default]
    Durable,
    /// When the sink has taken them.
    Stored,
}

impl Level {
    /// Returns how soon a write is sent at least: one that somebody waits for goes at once.
    #[must_use]
    pub const fn priority(self) -> Priority {
        match self {
            Self::Durable => Priority::Normal,
            Self::Stored => Priority::High,
        }
    }
}

/// One sample, checked.
#[derive(Clone, Debug)]
pub struct NewSample {
    /// The bucket it lies in.
    pub bucket: BucketKey,
    /// When it was read, in microseconds since the epoch.
    pub time: i64,
    /// What was read.
    pub readings: Readings,
}

/// Says that writes are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Their places in the journal, in order.
    pub sequences: Vec<u64>,
    /// Documents of the tenant that wait for the sink.
    pub pending_documents: u64,
}
