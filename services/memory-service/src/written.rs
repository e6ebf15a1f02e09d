//! A write that is on disk, as memory takes it over.

use std::sync::Arc;

use crate::{memory::Memory, record::Change};

/// A write that is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// What was written.
    pub(crate) change: Arc<Change>,
    /// The number of the first record that was put; the others follow it. No number is given twice.
    pub(crate) first: u64,
    /// What was replaced or deleted; of the write itself if it puts an id twice.
    pub(crate) removed: Vec<Removed>,
}

/// A memory that is in the store no longer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Removed {
    /// The number it had.
    pub(crate) seq: u64,
    /// What it was; absent where its row could not be read any more.
    pub(crate) memory: Option<Arc<Memory>>,
}
