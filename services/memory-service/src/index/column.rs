//! A value a row, in chunks that a snapshot shares with the writer.

use std::sync::Arc;

/// Rows of a chunk. A writer copies a chunk that a reader holds, so it is small.
const CHUNK: usize = 4096;

/// A value for each row, rows counted from 0; cloning shares the chunks.
#[derive(Clone, Debug)]
pub(crate) struct Column<T> {
    chunks: Vec<Arc<Vec<T>>>,
    /// What a row holds that was never set.
    absent: T,
}

impl<T: Copy> Column<T> {
    /// Makes a column whose rows hold `absent` until they are set.
    pub(crate) fn new(absent: T) -> Self {
        Self { chunks: Vec::new(), absent }
    }

    /// Returns the value of `row`.
    pub(crate) fn get(&self, row: u32) -> T {
        let chunk = self.chunks.get(row as usize / CHUNK);
        chunk.and_then(|chunk| chunk.get(row as usize % CHUNK)).copied().unwrap_or(self.absent)
    }

    /// Sets the value of `row`.
    pub(crate) fn set(&mut self, row: u32, value: T) {
        let (chunk, offset) = (row as usize / CHUNK, row as usize % CHUNK);
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, Arc::default);
        }
        let chunk = Arc::make_mut(&mut self.chunks[chunk]);
        if chunk.len() <= offset {
            chunk.resize(offset + 1, self.absent);
        }
        chunk[offset] = value;
    }

    /// Returns the first row after every one that was set.
    pub(crate) fn len(&self) -> u32 {
        let before = self.chunks.len().saturating_sub(1) * CHUNK;
        #[expect(clippy::cast_possible_truncation, reason = "rows are u32")]
        let rows = (before + self.chunks.last().map_or(0, |chunk| chunk.len())) as u32;
        rows
    }

    /// Returns how many bytes the values take.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, Column};

    #[test]
    fn a_row_never_set_holds_what_was_said() {
        let mut column = Column::new(7_u32);
        assert_eq!((column.get(0), column.len()), (7, 0));
        let far = u32::try_from(2 * CHUNK + 3).unwrap();
        column.set(far, 1);
        assert_eq!((column.get(far - 1), column.get(far), column.get(far + 1)), (7, 1, 7));
        assert_eq!(column.len(), far + 1);
    }

    #[test]
    fn a_snapshot_does_not_see_a_later_write() {
        let mut column = Column::new(0_u32);
        column.set(5, 1);
        let snapshot = column.clone();
        column.set(5, 2);
        assert_eq!((snapshot.get(5), column.get(5)), (1, 2));
    }
}
