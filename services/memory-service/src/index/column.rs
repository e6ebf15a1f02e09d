//! A value a row, in chunks that a snapshot shares with the writer.

use std::sync::Arc;

/// Rows of a chunk. A writer copies a chunk that a reader holds, so it is small.
const CHUNK: usize = 2048;

/// A value for each row, rows counted from 0; cloning shares the chunks.
#[derive(Clone, Debug)]
pub(crate) struct Column<T> {
    chunks: Vec<Arc<[T]>>,
    len: u32,
    /// What a row holds that was never set.
    absent: T,
}

impl<T: Copy> Column<T> {
    /// Makes a column whose rows hold `absent` until they are set.
    pub(crate) fn new(absent: T) -> Self {
        Self { chunks: Vec::new(), len: 0, absent }
    }

    /// Returns the value of `row`.
    pub(crate) fn get(&self, row: u32) -> T {
        self.chunks.get(row as usize / CHUNK).map_or(self.absent, |chunk| chunk[row as usize % CHUNK])
    }

    /// Sets the value of `row`.
    pub(crate) fn set(&mut self, row: u32, value: T) {
        let chunk = row as usize / CHUNK;
        while self.chunks.len() <= chunk {
            self.chunks.push(Arc::from(vec![self.absent; CHUNK]));
        }
        Arc::make_mut(&mut self.chunks[chunk])[row as usize % CHUNK] = value;
        self.len = self.len.max(row + 1);
    }

    /// Returns the first row after every one that was set.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Returns how many bytes the values take.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>()
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
