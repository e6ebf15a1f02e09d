//! The newest writes, whose documents are kept as they are: another write may come, and a batch may leave. All others wait packed.

use std::collections::VecDeque;

use crate::document::Key;

/// Most bytes of documents, by estimate, that are kept as they are; in memory they take some three times as much.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The newest writes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    writes: VecDeque<(Key, u64, usize)>,
    bytes: usize,
}

impl Recent {
    /// Takes in the write of `sequence`, after which its document has `bytes`.
    pub(super) fn note(&mut self, key: Key, sequence: u64, bytes: usize) {
        self.bytes += bytes;
        self.writes.push_back((key, sequence, bytes));
    }

    /// Returns the oldest write if it is among the newest no more.
    pub(super) fn leave(&mut self) -> Option<(Key, u64)> {
        if self.bytes <= MAX_BYTES {
            return None;
        }
        let (key, sequence, bytes) = self.writes.pop_front()?;
        self.bytes -= bytes;
        Some((key, sequence))
    }
}
