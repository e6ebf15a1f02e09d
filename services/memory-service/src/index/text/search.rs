//! Scores rows by the words of a query.

use roaring::RoaringBitmap;

use super::list::List;
use crate::index::{
    column::Column,
    threads::{Lending, Links},
};

/// How soon more of a word stops to matter; the common default (Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond",
/// 2009).
const K1: f32 = 1.2;
/// How much the length of a text matters; the common default, same source.
const B: f32 = 0.75;
/// Blocks of postings are skipped where at most one row in so many is wanted; else looking which costs more than reading them.
const SPARSE: u64 = 64;

/// The words of a query with their postings, as they were at one moment.
#[derive(Debug)]
pub(crate) struct Search {
    words: Vec<Word>,
    lengths: Column<u32>,
    /// Words of a live row on average.
    mean: f32,
}

#[derive(Debug)]
struct Word {
    /// How rare it is: `ln(1 + (n - d + 0.5) / (d + 0.5))` where d of n live rows have it. Above 0.
    rarity: f32,
    list: List,
}

/// What is added up while scoring.
#[derive(Debug)]
struct Sums {
    /// By row; side by side, since a row's are used together.
    rows: Vec<Sum>,
    /// Rows with the word at hand.
    with_word: Vec<u32>,
    /// Rows with any word.
    with_any: Bits,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Of the word at hand, with what neighbours lend.
    frequency: f32,
    /// `k1 (1 - b + b length / mean)`; 0 for a row that has not been looked at.
    length: f32,
    score: f32,
}

/// A set of rows that is asked about once a posting: a bit a row.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Search {
    /// Prepares a search for words in so many live rows each, of `live` rows with `total` words.
    pub(super) fn new(
        words: impl Iterator<Item = (u32, List)>,
        lengths: Column<u32>,
        live: u64,
        total: u64,
    ) -> Self {
        let rarity = |with: u32| {
            let (with, live) = (f64::from(with), live as f64);
            (1.0 + (live - with + 0.5) / (with + 0.5)).ln() as f32
        };
        let words = words.map(|(with, list)| Word { rarity: rarity(with), list }).collect();
        Self { words, lengths, mean: (total as f64 / live.max(1) as f64).max(1.0) as f32 }
    }

    /// Returns true if no memory has a word of the query.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Returns how many postings are read at most. No more rows than that have a word of the query.
    pub(crate) fn postings(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.list.len())).sum()
    }

    /// Returns what no score exceeds: that of a text of nothing but the words of the query.
    pub(crate) fn most(&self) -> f32 {
        self.words.iter().map(|word| word.rarity * (K1 + 1.0)).sum()
    }

    /// Returns the BM25 score, above 0, of each row of `wanted` that has a word of the query or borrows one, in the order of rows.
    ///
    /// A row borrows from its neighbours in `links`: its frequency of a word is its own plus the shares of theirs, and its length the
    /// mean of theirs and its own by the same shares. All of `wanted` has to be live. A row's score does not depend on which others are wanted.
    pub(crate) fn scores(&self, wanted: &RoaringBitmap, links: &Links, lending: Lending) -> Vec<(u32, f32)> {
        let lending = if links.is_empty() { Lending::NOTHING } else { lending };
        let rows = self.lengths.len();
        let is_sparse = wanted.len() * SPARSE <= rows.into();
        let lenders = is_sparse.then(|| links.with_lenders(wanted, lending));
        // A bitmap is slower to ask than bits, but bits have to be made.
        let bits = (self.postings() > wanted.len() / 4).then(|| Bits::of(wanted, rows));
        let takes = |row| bits.as_ref().map_or_else(|| wanted.contains(row), |bits| bits.contains(row));
        let mut sums = Sums::new(rows);
        for word in &self.words {
            word.list.each(lenders.as_ref(), |row, frequency| {
                let frequency = frequency as f32;
                if takes(row) {
                    sums.add(row, frequency);
                }
                if !lending.is_nothing() {
                    links.around(row, lending, |other, share| {
                        if takes(other) {
                            sums.add(other, share * frequency);
                        }
                    });
                }
            });
            sums.score(word.rarity, |row| {
                let length = self.length(row, links, lending);
                K1 * (1.0 - B + B * length / self.mean)
            });
        }
        sums.into_scores()
    }

    /// Returns the words of `row`, the mean with its neighbours'.
    fn length(&self, row: u32, links: &Links, lending: Lending) -> f32 {
        let (mut length, mut shares) = (self.lengths.get(row) as f32, 1.0);
        if !lending.is_nothing() {
            links.around(row, lending, |other, share| {
                length += share * self.lengths.get(other) as f32;
                shares += share;
            });
        }
        length / shares
    }
}

impl Sums {
    fn new(rows: u32) -> Self {
        Self { rows: vec![Sum::default(); rows as usize], with_word: Vec::new(), with_any: Bits::none(rows) }
    }

    fn add(&mut self, row: u32, frequency: f32) {
        let sum = &mut self.rows[row as usize];
        if sum.frequency == 0.0 {
            self.with_word.push(row);
        }
        sum.frequency += frequency;
    }

    /// Turns the frequencies of a word into scores and forgets them.
    fn score(&mut self, rarity: f32, length: impl Fn(u32) -> f32) {
        for row in self.with_word.drain(..) {
            let sum = &mut self.rows[row as usize];
            if sum.length == 0.0 {
                sum.length = length(row);
                self.with_any.insert(row);
            }
            let frequency = std::mem::take(&mut sum.frequency);
            sum.score += rarity * frequency * (K1 + 1.0) / (frequency + sum.length);
        }
    }

    fn into_scores(self) -> Vec<(u32, f32)> {
        self.with_any.iter().map(|row| (row, self.rows[row as usize].score)).collect()
    }
}

impl Bits {
    fn none(rows: u32) -> Self {
        Self(vec![0; (rows as usize).div_ceil(64)])
    }

    /// Takes in those of `rows` that are before `end`.
    fn of(rows: &RoaringBitmap, end: u32) -> Self {
        let mut bits = Self::none(end);
        rows.iter().take_while(|row| *row < end).for_each(|row| bits.insert(row));
        bits
    }

    fn insert(&mut self, row: u32) {
        self.0[row as usize / 64] |= 1 << (row % 64);
    }

    fn contains(&self, row: u32) -> bool {
        self.0.get(row as usize / 64).is_some_and(|bits| bits >> (row % 64) & 1 == 1)
    }

    /// Returns the rows in their order.
    fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip((0_u32..).step_by(64)).flat_map(|(bits, start)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let at = left.trailing_zeros();
                // Clears the lowest bit; nothing is left to clear at the end.
                left &= left.checked_sub(1)?;
                Some(start + at)
            })
        })
    }
}
