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

/// What is added up while scoring, by row.
#[derive(Debug)]
struct Sums {
    /// Of the word at hand: its frequency, with what neighbours lend.
    frequencies: Vec<f32>,
    /// `k1 (1 - b + b length / mean)`; 0 for a row that has not been looked at.
    lengths: Vec<f32>,
    scores: Vec<f32>,
    /// Rows with the word at hand.
    with_word: Vec<u32>,
    /// Rows with any word.
    with_any: Vec<u32>,
}

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
    pub(crate) fn scores(
        &self,
        wanted: &RoaringBitmap,
        links: &Links,
        lending: Lending,
    ) -> Vec<(u32, f32)> {
        let lending = if links.is_empty() { Lending::NOTHING } else { lending };
        let sparse = (wanted.len() * SPARSE <= self.lengths.len().into())
            .then(|| with_lenders(wanted, links, lending));
        let mut sums = Sums::new(self.lengths.len() as usize);
        for word in &self.words {
            word.list.each(sparse.as_ref(), |row, frequency| {
                let frequency = frequency as f32;
                sums.add(row, frequency);
                if !lending.is_nothing() {
                    links.around(row, lending, |other, share| sums.add(other, share * frequency));
                }
            });
            sums.score(word.rarity, |row| {
                let length = self.length(row, links, lending);
                K1 * (1.0 - B + B * length / self.mean)
            });
        }
        sums.into_scores(wanted)
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
    fn new(rows: usize) -> Self {
        Self {
            frequencies: vec![0.0; rows],
            lengths: vec![0.0; rows],
            scores: vec![0.0; rows],
            with_word: Vec::new(),
            with_any: Vec::new(),
        }
    }

    fn add(&mut self, row: u32, frequency: f32) {
        let sum = &mut self.frequencies[row as usize];
        if *sum == 0.0 {
            self.with_word.push(row);
        }
        *sum += frequency;
    }

    /// Turns the frequencies of a word into scores and forgets them.
    fn score(&mut self, rarity: f32, length: impl Fn(u32) -> f32) {
        for row in self.with_word.drain(..) {
            let at = row as usize;
            if self.lengths[at] == 0.0 {
                self.lengths[at] = length(row);
                self.with_any.push(row);
            }
            let frequency = std::mem::take(&mut self.frequencies[at]);
            self.scores[at] += rarity * frequency * (K1 + 1.0) / (frequency + self.lengths[at]);
        }
    }

    fn into_scores(self, wanted: &RoaringBitmap) -> Vec<(u32, f32)> {
        let Self { mut with_any, scores, .. } = self;
        with_any.retain(|row| wanted.contains(*row));
        with_any.sort_unstable();
        with_any.into_iter().map(|row| (row, scores[row as usize])).collect()
    }
}

fn with_lenders(wanted: &RoaringBitmap, links: &Links, lending: Lending) -> RoaringBitmap {
    let mut rows = wanted.clone();
    if !lending.is_nothing() {
        for row in wanted {
            links.around(row, lending, |other, _| {
                rows.insert(other);
            });
        }
    }
    rows
}
