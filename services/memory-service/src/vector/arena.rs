//! Rows of codes, in chunks that scans share with the one who appends.

use std::sync::Arc;

use super::{
    code::{Code, Query, ROUNDING},
    interval::Interval,
    kernel::{Factors, Kernel, half},
    metric::Metric,
    sieve::Columns,
};

/// Bytes of codes of a chunk, about: what the one who appends copies at most, once after each scan that began meanwhile.
const CHUNK_BYTES: usize = 256 << 10;

/// Rows that only grow in number: a changed memory gets a new row.
#[derive(Clone, Debug)]
pub(crate) struct Arena {
    rows: Rows,
}

/// The rows at one moment: what is appended later does not show in it. Cloning copies two pointers.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    metric: Metric,
    dimensions: usize,
    chunk_rows: usize,
    /// Chunks of `chunk_rows` rows each.
    full: Arc<Vec<Arc<Chunk>>>,
    /// The rows after them, fewer.
    last: Arc<Chunk>,
}

/// Some rows, one column after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    upper: Vec<u8>,
    lower: Vec<u8>,
    scales: Vec<f32>,
    coarse: Vec<f32>,
    fine: Vec<f32>,
    /// Empty where scores do not depend on it.
    lengths: Vec<f32>,
    seqs: Vec<u64>,
}

impl Arena {
    /// Makes an arena without rows, for vectors of `dimensions` values.
    pub(crate) fn new(metric: Metric, dimensions: usize) -> Self {
        // A power of two, and few enough for a place within a chunk to fit 16 bits.
        let chunk_rows = (CHUNK_BYTES / (2 * half(dimensions))).next_power_of_two().clamp(64, 1024);
        let (full, last) = (Arc::default(), Arc::default());
        Self { rows: Rows { metric, dimensions, chunk_rows, full, last } }
    }

    /// Returns the rows as they are now, shared.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Appends the row of `vector`, which the store has under `seq`, and returns its number; nothing once there are 2³² rows.
    pub(crate) fn push(&mut self, seq: u64, vector: &[f32]) -> Option<u32> {
        debug_assert_eq!(vector.len(), self.rows.dimensions, "all vectors of an arena are of one length");
        self.append(|chunk, metric| chunk.push(seq, &Code::new(vector), metric))
    }

    /// Makes an arena of chunks that [`Chunk::to_bytes`] made; nothing if they are no chunks of this metric and so many dimensions.
    pub(crate) fn restored(
        metric: Metric,
        dimensions: usize,
        chunks: impl IntoIterator<Item = Vec<u8>>,
    ) -> Option<Self> {
        let mut arena = Self::new(metric, dimensions);
        for bytes in chunks {
            let rows = &mut arena.rows;
            if rows.last.len() > 0 {
                // Only the last may be less than full.
                return None;
            }
            let chunk = Chunk::from_bytes(&bytes, half(dimensions), metric)?;
            let follows = rows.full.last().and_then(|before| before.seqs.last()) < chunk.seqs.first();
            if chunk.len() > rows.chunk_rows || !follows || !chunk.seqs.is_sorted_by(|one, next| one < next) {
                return None;
            }
            if chunk.len() == rows.chunk_rows {
                Arc::make_mut(&mut rows.full).push(Arc::new(chunk));
            } else {
                rows.last = Arc::new(chunk);
            }
        }
        Some(arena)
    }

    /// Returns an arena of those rows of this one that `kept` names, in order: their new numbers count from 0.
    pub(crate) fn compacted(&self, kept: impl IntoIterator<Item = u32>) -> Self {
        let mut compacted = Self::new(self.rows.metric, self.rows.dimensions);
        for row in kept {
            let (chunk, place) = self.rows.place(row);
            compacted.append(|target, _| target.copy(chunk, place, half(self.rows.dimensions)));
        }
        compacted
    }

    fn append(&mut self, write: impl FnOnce(&mut Chunk, Metric)) -> Option<u32> {
        let rows = &mut self.rows;
        let number = u32::try_from(rows.len()).ok()?;
        let last = Arc::make_mut(&mut rows.last);
        write(last, rows.metric);
        if last.len() == rows.chunk_rows {
            last.shrink();
            Arc::make_mut(&mut rows.full).push(std::mem::take(&mut rows.last));
        }
        Some(number)
    }
}

impl Rows {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.full.len() * self.chunk_rows + self.last.len()
    }

    /// Returns the number of rows of every chunk but the last.
    pub(crate) fn chunk_rows(&self) -> usize {
        self.chunk_rows
    }

    /// Returns the chunks, the last of which may be less than full.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.full.iter().chain([&self.last]).map(AsRef::as_ref).filter(|chunk| chunk.len() > 0)
    }

    /// Returns by what the rows are compared.
    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    /// Returns under which number the store has the vector of `row`.
    pub(crate) fn seq(&self, row: u32) -> u64 {
        let (chunk, place) = self.place(row);
        chunk.seqs[place]
    }

    /// Returns the row of the vector that the store has under `seq`: they rise together.
    pub(crate) fn row(&self, seq: u64) -> Option<u32> {
        let number = self.full.partition_point(|chunk| chunk.seqs.last().is_some_and(|last| *last < seq));
        let place = self.chunk(number).seqs.binary_search(&seq).ok()?;
        u32::try_from(number * self.chunk_rows + place).ok()
    }

    /// Returns the chunk of that number; the last one after the full ones.
    pub(crate) fn chunk(&self, number: usize) -> &Chunk {
        self.full.get(number).unwrap_or(&self.last)
    }

    /// Returns the bytes that the rows take in memory.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn bytes(&self) -> usize {
        let chunks = self.full.iter().chain([&self.last]);
        chunks.map(|chunk| chunk.bytes() + size_of::<Chunk>() + size_of::<Arc<Chunk>>()).sum()
    }

    fn place(&self, row: u32) -> (&Chunk, usize) {
        let row = row as usize;
        (self.chunk(row / self.chunk_rows), row % self.chunk_rows)
    }
}

impl Chunk {
    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Writes what the upper plane has to say of each of `rows`.
    pub(crate) fn upper(&self, kernel: Kernel, factors: &Factors, rows: &[u16], sums: &mut [i32]) {
        kernel.products(&self.upper, factors, rows, sums);
    }

    /// Writes what the lower plane has to say of each of `rows`.
    pub(crate) fn lower(&self, kernel: Kernel, factors: &Factors, rows: &[u16], sums: &mut [i32]) {
        kernel.products(&self.lower, factors, rows, sums);
    }

    /// Returns between what the cosine of the row at `place` lies whose upper plane says `upper`.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "`ROUNDING` covers it")]
    pub(crate) fn guess(&self, place: usize, query: &Query, upper: i32) -> Interval {
        let product = 0.5 * (32 * upper - query.middle()) as f32;
        around(product, self.scales[place], self.coarse[place], query)
    }

    /// Puts into `passed` where in `places` the rows are whose cosine may reach `needed` by what their upper planes say.
    pub(crate) fn sieve(
        &self,
        kernel: Kernel,
        query: &Query,
        places: &[u16],
        uppers: &[i32],
        needed: f32,
        passed: &mut Vec<u16>,
    ) {
        let columns = Columns { scales: &self.scales, coarse: &self.coarse };
        query.bound().sieve(kernel, columns, places, uppers, needed, passed);
    }

    /// Returns between what the cosine of the row at `place` lies whose planes say `upper` and `lower`.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "`ROUNDING` covers it")]
    pub(crate) fn estimate(&self, place: usize, query: &Query, upper: i32, lower: i32) -> Interval {
        let product = (16 * upper + lower - 128 * query.sum) as f32;
        around(product, self.scales[place], self.fine[place], query)
    }

    /// Returns the length of the vector of the row at `place`; 1 where scores do not depend on it.
    #[inline]
    pub(crate) fn length(&self, place: usize) -> f32 {
        self.lengths.get(place).copied().unwrap_or(1.0)
    }

    /// Returns both planes.
    #[cfg(feature = "bench")]
    pub(crate) fn planes(&self) -> [&[u8]; 2] {
        [&self.upper, &self.lower]
    }

    /// Returns the rows as bytes for [`Arena::restored`]: how many, then column after column.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let columns = [&self.scales, &self.coarse, &self.fine, &self.lengths];
        let values: usize = columns.iter().map(|column| column.len() * size_of::<f32>()).sum();
        let size = 4 + self.upper.len() + self.lower.len() + values + self.len() * size_of::<u64>();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.seqs.iter().for_each(|seq| bytes.extend_from_slice(&seq.to_le_bytes()));
        for column in columns {
            column.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        }
        bytes.extend_from_slice(&self.upper);
        bytes.extend_from_slice(&self.lower);
        bytes
    }

    fn from_bytes(mut bytes: &[u8], half: usize, metric: Metric) -> Option<Self> {
        fn column<const N: usize, T>(bytes: &mut &[u8], rows: usize, of: fn([u8; N]) -> T) -> Option<Vec<T>> {
            let (column, rest) = bytes.split_at_checked(rows.checked_mul(N)?)?;
            *bytes = rest;
            Some(column.as_chunks::<N>().0.iter().map(|value| of(*value)).collect())
        }
        let bytes = &mut bytes;
        let rows = column(bytes, 1, u32::from_le_bytes)?[0] as usize;
        let seqs = column(bytes, rows, u64::from_le_bytes)?;
        let mut values = || column(bytes, rows, f32::from_le_bytes);
        let (scales, coarse, fine) = (values()?, values()?, values()?);
        let lengths = if metric.needs_lengths() { values()? } else { Vec::new() };
        let (upper, lower) = bytes.split_at_checked(rows.checked_mul(half)?)?;
        let is_whole = lower.len() == upper.len();
        let (upper, lower) = (upper.to_vec(), lower.to_vec());
        is_whole.then_some(Self { upper, lower, scales, coarse, fine, lengths, seqs })
    }

    fn push(&mut self, seq: u64, code: &Code, metric: Metric) {
        self.upper.extend_from_slice(&code.upper);
        self.lower.extend_from_slice(&code.lower);
        self.scales.push(code.scale);
        self.coarse.push(code.coarse);
        self.fine.push(code.fine);
        if metric.needs_lengths() {
            self.lengths.push(code.length);
        }
        self.seqs.push(seq);
    }

    fn copy(&mut self, from: &Self, place: usize, half: usize) {
        self.upper.extend_from_slice(&from.upper[place * half..][..half]);
        self.lower.extend_from_slice(&from.lower[place * half..][..half]);
        self.scales.push(from.scales[place]);
        self.coarse.push(from.coarse[place]);
        self.fine.push(from.fine[place]);
        self.lengths.extend(from.lengths.get(place));
        self.seqs.push(from.seqs[place]);
    }

    fn shrink(&mut self) {
        self.upper.shrink_to_fit();
        self.lower.shrink_to_fit();
        self.seqs.shrink_to_fit();
        for column in [&mut self.scales, &mut self.coarse, &mut self.fine, &mut self.lengths] {
            column.shrink_to_fit();
        }
    }

    #[cfg(any(test, feature = "bench"))]
    fn bytes(&self) -> usize {
        let columns = [&self.scales, &self.coarse, &self.fine, &self.lengths];
        let columns: usize = columns.iter().map(|column| column.capacity() * size_of::<f32>()).sum();
        let planes = self.upper.capacity() + self.lower.capacity();
        planes + columns + self.seqs.capacity() * size_of::<u64>()
    }
}

/// Returns between what the cosine lies of a row whose codes have that `product` with the query's, and leave out `rest`.
#[inline]
fn around(product: f32, scale: f32, rest: f32, query: &Query) -> Interval {
    if scale == 0.0 {
        // No direction: it scores 0, and not about 0.
        return Interval { lower: 0.0, upper: 0.0 };
    }
    let found = product * (scale * query.scale);
    let radius = rest + (1.0 + rest) * query.rest + ROUNDING;
    Interval { lower: (found - radius).max(-1.0), upper: (found + radius).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::{Arena, Metric};

    #[test]
    fn rows_are_numbered_as_they_come_across_chunks() {
        let mut arena = Arena::new(Metric::Cosine, 3);
        let count = u32::try_from(arena.rows().chunk_rows() * 2 + 1).unwrap();
        for row in 0..count {
            assert_eq!(arena.push(u64::from(row) * 3, &[1.0, 2.0, 3.0]), Some(row));
        }
        assert_eq!(arena.rows().len(), count as usize);
        assert!((0..count).all(|row| arena.rows().seq(row) == u64::from(row) * 3));
        assert!((0..count).all(|row| arena.rows().row(u64::from(row) * 3) == Some(row)));
        assert_eq!((arena.rows().row(1), arena.rows().row(u64::MAX)), (None, None));
    }

    #[test]
    fn a_snapshot_does_not_see_later_rows() {
        let mut arena = Arena::new(Metric::Cosine, 3);
        arena.push(1, &[1.0, 0.0, 0.0]);
        let before = arena.rows().clone();
        for seq in 2..3_000 {
            arena.push(seq, &[0.0, 1.0, 0.0]);
        }
        assert_eq!((before.len(), before.seq(0)), (1, 1));
        assert_eq!(arena.rows().len(), 2_999);
    }

    #[test]
    fn a_compacted_arena_has_the_rows_that_were_kept() {
        let mut arena = Arena::new(Metric::Dot, 5);
        for seq in 0..3_000_u16 {
            arena.push(seq.into(), &[1.0, f32::from(seq), 3.0, 4.0, 5.0]);
        }
        let compacted = arena.compacted((0..3_000).step_by(3));
        let rows = compacted.rows();
        assert_eq!(rows.len(), 1_000);
        let mut again = Arena::new(Metric::Dot, 5);
        for seq in (0..3_000_u16).step_by(3) {
            again.push(seq.into(), &[1.0, f32::from(seq), 3.0, 4.0, 5.0]);
        }
        assert_eq!(format!("{rows:?}"), format!("{:?}", again.rows()));
    }

    #[test]
    fn an_arena_comes_back_from_its_chunks_and_from_nothing_else() {
        for (metric, count) in [(Metric::Cosine, 3_000_u16), (Metric::Dot, 2048), (Metric::Dot, 0)] {
            let mut arena = Arena::new(metric, 5);
            for seq in 0..count {
                arena.push(seq.into(), &[1.0, f32::from(seq), 3.0, 4.0, 5.0]);
            }
            let chunks: Vec<_> = arena.rows().chunks().map(super::Chunk::to_bytes).collect();
            let restored = Arena::restored(metric, 5, chunks.clone()).unwrap();
            assert_eq!(format!("{:?}", restored.rows()), format!("{:?}", arena.rows()));
            if count > 0 {
                let other = if metric == Metric::Dot { Metric::Cosine } else { Metric::Dot };
                assert!(Arena::restored(other, 5, chunks.clone()).is_none());
                assert!(Arena::restored(metric, 70, chunks.clone()).is_none());
                let twice = [chunks.clone(), chunks.clone()].concat();
                assert!(Arena::restored(metric, 5, twice).is_none(), "numbers rise");
                let cut = chunks[0][..chunks[0].len() - 1].to_vec();
                assert!(Arena::restored(metric, 5, [cut]).is_none());
            }
        }
    }

    #[test]
    fn a_row_takes_little_more_than_a_byte_a_value() {
        let mut arena = Arena::new(Metric::Cosine, 384);
        for seq in 0..10_240 {
            arena.push(seq, &[1.0; 384]);
        }
        assert!(arena.rows().bytes() <= 410 * 10_240, "{}", arena.rows().bytes());
    }
}
