//! Rows of vectors and the columns beside them, in chunks that a snapshot shares with the writer.

use std::{sync::Arc, time::SystemTime};

use crate::memory::{Memory, Record, length};

/// Rows of a chunk. A writer copies a chunk that a running scan holds, so it is small: 512 KiB at 256 dimensions.
pub(crate) const CHUNK_ROWS: usize = 512;

/// The rows of one tenant; a freed row is taken again before a new one is made.
#[derive(Debug)]
pub(crate) struct Arena {
    rows: Rows,
    next: u32,
    free: Vec<u32>,
}

/// The rows at one moment: what is written later does not show in it. Cloning shares the chunks.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    dimensions: usize,
    chunks: Vec<Arc<Chunk>>,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    /// `dimensions` values a row, one row after the other.
    vectors: Vec<f32>,
    /// One over the length of the row's vector; 0 where that is zero.
    scales: Vec<f32>,
    times: Vec<SystemTime>,
    confidences: Vec<f64>,
    memories: Vec<Option<Arc<Memory>>>,
}

impl Arena {
    /// Makes an empty arena for vectors of `dimensions` values.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { rows: Rows { dimensions, chunks: Vec::new() }, next: 0, free: Vec::new() }
    }

    /// Returns the rows as they are now, shared.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Stores `record` in a free row and returns it.
    pub(crate) fn insert(&mut self, record: &Record) -> u32 {
        let row = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.put(row, record);
        row
    }

    /// Stores `record` in `row`, whatever was there.
    pub(crate) fn put(&mut self, row: u32, record: &Record) {
        let (chunk, offset) = place(row);
        if chunk == self.rows.chunks.len() {
            self.rows.chunks.push(Arc::default());
        }
        let dimensions = self.rows.dimensions;
        let chunk = Arc::make_mut(&mut self.rows.chunks[chunk]);
        if offset == chunk.memories.len() {
            chunk.vectors.resize((offset + 1) * dimensions, 0.0);
            chunk.scales.push(0.0);
            chunk.times.push(SystemTime::UNIX_EPOCH);
            chunk.confidences.push(0.0);
            chunk.memories.push(None);
        }
        chunk.vectors[offset * dimensions..][..dimensions].copy_from_slice(&record.embedding);
        let length = length(&record.embedding);
        #[expect(clippy::cast_possible_truncation, reason = "lengths are bounded by `VECTOR_LENGTHS`")]
        let scale = if length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
        chunk.scales[offset] = scale;
        chunk.times[offset] = record.memory.time;
        chunk.confidences[offset] = record.memory.confidence;
        chunk.memories[offset] = Some(Arc::clone(&record.memory));
    }

    /// Empties `row` and keeps it for a later insert.
    pub(crate) fn remove(&mut self, row: u32) {
        let (chunk, offset) = place(row);
        let dimensions = self.rows.dimensions;
        let chunk = Arc::make_mut(&mut self.rows.chunks[chunk]);
        chunk.vectors[offset * dimensions..][..dimensions].fill(0.0);
        chunk.memories[offset] = None;
        self.free.push(row);
    }
}

impl Rows {
    /// Returns the values of a vector.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Returns the vector of `row`.
    pub(crate) fn vector(&self, row: u32) -> &[f32] {
        let (chunk, offset) = place(row);
        &self.chunks[chunk].vectors[offset * self.dimensions..][..self.dimensions]
    }

    /// Returns one over the length of the vector of `row`, or 0.
    pub(crate) fn scale(&self, row: u32) -> f32 {
        let (chunk, offset) = place(row);
        self.chunks[chunk].scales[offset]
    }

    /// Returns when the memory of `row` happened.
    pub(crate) fn time(&self, row: u32) -> SystemTime {
        let (chunk, offset) = place(row);
        self.chunks[chunk].times[offset]
    }

    /// Returns how sure the memory of `row` is.
    pub(crate) fn confidence(&self, row: u32) -> f64 {
        let (chunk, offset) = place(row);
        self.chunks[chunk].confidences[offset]
    }

    /// Returns the memory of `row`, or nothing if the row is free.
    pub(crate) fn memory(&self, row: u32) -> Option<&Arc<Memory>> {
        let (chunk, offset) = place(row);
        self.chunks[chunk].memories[offset].as_ref()
    }
}

fn place(row: u32) -> (usize, usize) {
    (row as usize / CHUNK_ROWS, row as usize % CHUNK_ROWS)
}

#[cfg(test)]
mod tests {
    use super::{Arena, CHUNK_ROWS};
    use crate::index::tests::record;

    #[test]
    fn a_freed_row_is_taken_again() {
        let mut arena = Arena::new(2);
        let first = arena.insert(&record("a", &[1.0, 0.0]));
        arena.insert(&record("b", &[0.0, 1.0]));
        arena.remove(first);
        assert!(arena.rows().memory(first).is_none());
        assert_eq!(arena.rows().vector(first), [0.0, 0.0], "a forgotten vector is gone from memory");
        assert_eq!(arena.insert(&record("c", &[3.0, 4.0])), first);
        assert_eq!(arena.rows().vector(first), [3.0, 4.0]);
        assert!((arena.rows().scale(first) - 0.2).abs() < 1e-7);
    }

    #[test]
    fn a_snapshot_does_not_see_later_writes() {
        let mut arena = Arena::new(1);
        let row = arena.insert(&record("a", &[1.0]));
        let before = arena.rows().clone();
        arena.put(row, &record("b", &[2.0]));
        arena.insert(&record("c", &[3.0]));
        assert_eq!(before.vector(row), [1.0]);
        assert_eq!(before.memory(row).map(|memory| &*memory.id), Some("a"));
        assert_eq!(arena.rows().vector(row), [2.0]);
    }

    #[test]
    fn rows_go_on_in_the_next_chunk() {
        let mut arena = Arena::new(1);
        for number in 0..=CHUNK_ROWS {
            let row = arena.insert(&record(&number.to_string(), &[1.0]));
            assert_eq!(row as usize, number);
        }
        let last = u32::try_from(CHUNK_ROWS).unwrap();
        assert_eq!(arena.rows().memory(last).map(|memory| &*memory.id), Some("512"));
    }

    #[test]
    fn a_vector_of_zeros_has_no_direction() {
        let mut arena = Arena::new(2);
        let row = arena.insert(&record("a", &[0.0, 0.0]));
        assert!(arena.rows().scale(row).abs() < f32::EPSILON);
    }
}
