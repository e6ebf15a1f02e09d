//! Candidates chunk by chunk, as places within the chunk.

use std::ops::Range;

use roaring::RoaringBitmap;

/// A run of no more rows says that they come one by one.
const LONG: u32 = 16;
/// Rows that are taken at once then.
const MANY: usize = 128;

/// Hands over those of `rows` that lie in `range`: the number of each chunk of `chunk_rows` rows, a power of two of at most 2^16, and where in it they are.
/// Ends with the first error.
pub(crate) fn each_chunk<E>(
    rows: &RoaringBitmap,
    range: Range<u32>,
    chunk_rows: usize,
    each: impl FnMut(usize, &[u16]) -> Result<(), E>,
) -> Result<(), E> {
    let mut stretch =
        Stretch { shift: chunk_rows.ilog2(), number: 0, places: Vec::with_capacity(chunk_rows), each };
    let (mut rows, mut many) = (rows.range(range), [0; MANY]);
    while let Some(run) = rows.next_range() {
        let is_short = run.end() - run.start() < LONG;
        stretch.run(*run.start(), *run.end())?;
        if is_short {
            stretch.single(rows.next_many(&mut many))?;
        }
    }
    stretch.end()
}

/// The places in one chunk.
struct Stretch<F> {
    shift: u32,
    number: u32,
    places: Vec<u16>,
    each: F,
}

#[expect(clippy::cast_possible_truncation, reason = "places are less than the rows of a chunk")]
impl<E, F: FnMut(usize, &[u16]) -> Result<(), E>> Stretch<F> {
    /// Takes rows that follow each other.
    fn run(&mut self, mut first: u32, last: u32) -> Result<(), E> {
        loop {
            let start = self.go_to(first)?;
            let end = last.min(start | self.mask());
            self.places.extend((first - start..=end - start).map(|place| place as u16));
            if end == last {
                return Ok(());
            }
            first = end + 1;
        }
    }

    /// Takes rows that rise.
    fn single(&mut self, mut rows: &[u32]) -> Result<(), E> {
        while let Some(first) = rows.first() {
            let start = self.go_to(*first)?;
            let end = start | self.mask();
            let (here, rest) = rows.split_at(rows.partition_point(|row| *row <= end));
            self.places.extend(here.iter().map(|row| (row - start) as u16));
            rows = rest;
        }
        Ok(())
    }

    /// Goes on to the chunk of `row`, and returns its first row.
    fn go_to(&mut self, row: u32) -> Result<u32, E> {
        let number = row >> self.shift;
        if number != self.number {
            self.end()?;
            self.number = number;
        }
        Ok(number << self.shift)
    }

    /// Hands over what is taken.
    fn end(&mut self) -> Result<(), E> {
        if !self.places.is_empty() {
            (self.each)(self.number as usize, &self.places)?;
            self.places.clear();
        }
        Ok(())
    }

    fn mask(&self) -> u32 {
        (1 << self.shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::{collection::vec, prelude::*};
    use roaring::RoaringBitmap;

    use super::each_chunk;

    proptest! {
        #[test]
        fn every_row_of_the_range_comes_once_and_chunk_by_chunk(
            runs in vec((0_u32..70_000, prop_oneof![Just(1_u32), 1_u32..40, 1_u32..9_000]), 0..200),
            (start, end) in (0_u32..80_000, 0_u32..80_000),
            shift in 6_u32..=10,
        ) {
            let rows: RoaringBitmap = runs.iter().flat_map(|(first, rows)| *first..first + rows).collect();
            let (range, mut found, mut last) = (start..start.max(end), Vec::new(), None);
            each_chunk(&rows, range.clone(), 1 << shift, |number, places| {
                assert!(!places.is_empty() && last < Some(number), "each chunk comes once");
                last = Some(number);
                found.extend(places.iter().map(|place| ((number as u32) << shift) + u32::from(*place)));
                Ok::<(), Infallible>(())
            }).unwrap();
            prop_assert_eq!(found, rows.range(range).collect::<Vec<_>>());
        }
    }
}
