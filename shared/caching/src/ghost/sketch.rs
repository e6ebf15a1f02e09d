//! How often a key was asked for lately, within four bits.

/// Counters of four bits saturate here.
const MOST: u64 = 15;
/// Rows of a count-min sketch.
const ROWS: u32 = 4;
/// Fewest words: below, collisions would decide who stays.
const LEAST_WORDS: u32 = 128;
/// Increments after which every counter is halved, in multiples of the capacity the sketch is made for.
const PERIOD: u32 = 10;

/// A count-min sketch that forgets: TinyLFU's memory of frequencies (Einziger, Friedman, Manes 2017).
#[derive(Debug)]
pub(super) struct Sketch {
    words: Box<[u64]>,
    increments: u32,
    period: u32,
}

impl Sketch {
    /// Makes an empty sketch for a cache of `capacity` entries.
    pub(super) fn new(capacity: u32) -> Self {
        let capacity = capacity.max(LEAST_WORDS);
        let words = vec![0; capacity.next_power_of_two() as usize].into_boxed_slice();
        Self { words, increments: 0, period: capacity.saturating_mul(PERIOD) }
    }

    /// Returns how often `hash` was counted, 15 at most, halvings included.
    pub(super) fn frequency(&self, hash: u64) -> u64 {
        let mixed = mix(hash);
        let counts = (0..ROWS).map(|row| {
            let (word, shift) = self.place(mixed, row);
            self.words[word] >> shift & MOST
        });
        counts.min().unwrap_or_default()
    }

    /// Counts `hash` once.
    pub(super) fn count(&mut self, hash: u64) {
        let mixed = mix(hash);
        let mut counted = false;
        for row in 0..ROWS {
            let (word, shift) = self.place(mixed, row);
            if self.words[word] >> shift & MOST < MOST {
                self.words[word] += 1 << shift;
                counted = true;
            }
        }
        if counted {
            self.increments += 1;
            if self.increments >= self.period {
                self.halve();
            }
        }
    }

    fn halve(&mut self) {
        let mut odd = 0;
        for word in &mut self.words {
            odd += (*word & 0x1111_1111_1111_1111).count_ones();
            *word = *word >> 1 & 0x7777_7777_7777_7777;
        }
        // An odd counter loses half an increment; each increment is in four counters.
        self.increments = (self.increments / 2).saturating_sub(odd / ROWS);
    }

    /// Returns word and bit of the counter of `mixed` in `row`.
    fn place(&self, mixed: u64, row: u32) -> (usize, u32) {
        let mask = self.words.len() as u64 - 1;
        #[expect(clippy::cast_possible_truncation, reason = "masked to the number of words")]
        let word = (mixed.rotate_right(16 * row) & mask) as usize;
        let group = (mixed >> 61 & 3) as u32;
        (word, group * 16 + row * 4)
    }
}

/// Spreads a hash whose high bits are all alike, as they are in a sample.
fn mix(hash: u64) -> u64 {
    let folded = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    folded ^ folded >> 29
}

#[cfg(test)]
mod tests {
    use super::Sketch;

    #[test]
    fn what_is_asked_for_more_often_counts_more_and_is_forgotten_by_halves() {
        let mut sketch = Sketch::new(128);
        for _ in 0..6 {
            sketch.count(1);
        }
        sketch.count(2);
        assert_eq!((sketch.frequency(1), sketch.frequency(2), sketch.frequency(3)), (6, 1, 0));
        for _ in 0..40 {
            sketch.count(1);
        }
        assert_eq!(sketch.frequency(1), 15, "it saturates");
        sketch.halve();
        assert_eq!((sketch.frequency(1), sketch.frequency(2)), (7, 0));
    }
}
