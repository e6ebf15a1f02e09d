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
/// Rows are looked up in the postings where at most one in so many is wanted; else all postings are read.
const SPARSE: u64 = 64;
/// Words left unread give no row more than one in so many of what all words could. More of it leaves more rows in doubt, whose words are all
/// looked up; less of it reads longer postings. Of 8, 16 and 64 the first was the fastest in two of three sets of `memory.worded`.
const UNREAD: f32 = 8.0;
/// A word that at most one in so many rows has is read whatever it gives: its postings are few.
const RARE: u32 = 32;

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

/// What the telling words of a query give to each row.
#[derive(Debug)]
pub(crate) struct Telling {
    /// By row, dead ones too: no more than its score, but for rounding.
    pub(crate) scores: Vec<f32>,
    /// No score is greater than this and what `scores` has, but for rounding; 0 where every word was read.
    pub(crate) unread: f32,
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

    /// Returns the number of the query's words that some memory has.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// Returns how many postings are read at most. No more rows than that have a word of the query.
    pub(crate) fn postings(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.list.len())).sum()
    }

    /// Returns what no score exceeds: that of a text of nothing but the words of the query.
    pub(crate) fn most(&self) -> f32 {
        self.words.iter().map(Word::most).sum()
    }

    /// Returns the BM25 score, above 0, of each row of `wanted` that has a word of the query or borrows one, in the order of rows.
    ///
    /// A row borrows from its neighbours in `links`: its frequency of a word is its own plus the shares of theirs, and its length the
    /// mean of theirs and its own by the same shares. All of `wanted` has to be live. A row's score does not depend on which others are wanted:
    /// sums of halves and quarters are exact in whatever order they are added.
    pub(crate) fn scores(&self, wanted: &RoaringBitmap, links: &Links, lending: Lending) -> Vec<(u32, f32)> {
        let scores: Vec<(u32, f32)> = if self.is_sparse(wanted.len()) {
            let rows: Vec<u32> = wanted.iter().collect();
            let scores = self.look_up(&rows, links, lending);
            rows.into_iter().zip(scores).collect()
        } else {
            let scores = self.read(self.words.iter(), links, lending);
            wanted.iter().map_while(|row| Some((row, *scores.get(row as usize)?))).collect()
        };
        scores.into_iter().filter(|(_, score)| *score > 0.0).collect()
    }

    /// Returns whether it costs less to look up so many rows than to read all postings.
    pub(crate) fn is_sparse(&self, rows: u64) -> bool {
        rows * SPARSE <= self.lengths.len().into()
    }

    /// Returns what the telling words give to each row, and the most that the others do.
    ///
    /// A word gives `rarity · f (k1 + 1) / (f + ..)` for the frequency f, which is below `rarity · (k1 + 1)` whatever f is. So words that nearly every
    /// row has, whose rarity is near 0, can be left unread though their postings are the longest: what they give at most is the sum of these
    /// bounds. Left are the most frequent words, as many as come to one in [`UNREAD`] of [`Search::most`].
    pub(crate) fn telling(&self, links: &Links, lending: Lending) -> Telling {
        let is_frequent = |word: &Word| word.list.len() > self.lengths.len() / RARE;
        let mut left: Vec<usize> = (0..self.words.len()).filter(|at| is_frequent(&self.words[*at])).collect();
        left.sort_unstable_by(|one, other| self.words[*one].rarity.total_cmp(&self.words[*other].rarity));
        let (allowed, mut unread) = (self.most() / UNREAD, 0.0);
        let count = left.iter().take_while(|at| {
            let with = unread + self.words[**at].most();
            let fits = with <= allowed;
            unread = if fits { with } else { unread };
            fits
        });
        left.truncate(count.count());
        let telling = self.words.iter().enumerate().filter(|(at, _)| !left.contains(at));
        Telling { scores: self.read(telling.map(|(_, word)| word), links, lending), unread }
    }

    /// Returns what `words` give to each row, dead ones too.
    fn read<'a>(&self, words: impl Iterator<Item = &'a Word>, links: &Links, lending: Lending) -> Vec<f32> {
        let mut scores = vec![0.0; self.lengths.len() as usize];
        if links.is_empty() || lending.is_nothing() {
            for word in words {
                word.list.each(|row, frequency| {
                    if let Some(score) = scores.get_mut(row as usize) {
                        *score += word.score(frequency as f32, self.norm(self.lengths.get(row) as f32));
                    }
                });
            }
            return scores;
        }
        // Frequencies of the word at hand, with what neighbours lend, and the rows that have it; norms once they are needed.
        let (mut frequencies, mut with_word) = (vec![0.0; scores.len()], Vec::new());
        let mut norms = vec![0.0; scores.len()];
        for word in words {
            let mut add = |row: u32, frequency: f32| {
                if let Some(sum) = frequencies.get_mut(row as usize) {
                    if *sum == 0.0 {
                        with_word.push(row);
                    }
                    *sum += frequency;
                }
            };
            word.list.each(|row, frequency| {
                let frequency = frequency as f32;
                add(row, frequency);
                links.around(row, lending, |other, share| add(other, share * frequency));
            });
            for row in with_word.drain(..) {
                let at = row as usize;
                if norms[at] == 0.0 {
                    norms[at] = self.norm(self.length(row, links, lending));
                }
                scores[at] += word.score(std::mem::take(&mut frequencies[at]), norms[at]);
            }
        }
        scores
    }

    /// Returns the score of each of `rows`, which rise; 0 for one without a word.
    pub(crate) fn look_up(&self, rows: &[u32], links: &Links, lending: Lending) -> Vec<f32> {
        // The rows and who lends to them; of each row in which places these are, and their shares.
        let mut all = rows.to_vec();
        rows.iter().for_each(|row| links.around(*row, lending, |other, _| all.push(other)));
        all.sort_unstable();
        all.dedup();
        let (mut lenders, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            lenders.extend(all.binary_search(row).map(|place| (place, 1.0)));
            links.around(*row, lending, |other, share| {
                lenders.extend(all.binary_search(&other).map(|place| (place, share)));
            });
            ends.push(lenders.len());
        }
        let norms: Vec<f32> = rows.iter().map(|row| self.norm(self.length(*row, links, lending))).collect();
        let mut scores = vec![0.0; rows.len()];
        let mut frequencies = vec![0.0; all.len()];
        for word in &self.words {
            frequencies.fill(0.0);
            word.list.find(&all, |place, frequency| frequencies[place] = frequency as f32);
            let mut start = 0;
            for ((score, norm), end) in scores.iter_mut().zip(&norms).zip(&ends) {
                let frequency =
                    lenders[start..*end].iter().map(|(place, share)| share * frequencies[*place]).sum();
                *score += word.score(frequency, *norm);
                start = *end;
            }
        }
        scores
    }

    /// Returns the words of `row`, the mean with its neighbours'.
    fn length(&self, row: u32, links: &Links, lending: Lending) -> f32 {
        let (mut length, mut shares) = (self.lengths.get(row) as f32, 1.0);
        links.around(row, lending, |other, share| {
            length += share * self.lengths.get(other) as f32;
            shares += share;
        });
        length / shares
    }

    /// Returns what a frequency counts less the longer the text is: `k1 (1 - b + b length / mean)`.
    fn norm(&self, length: f32) -> f32 {
        K1 * (1.0 - B + B * length / self.mean)
    }
}

impl Word {
    /// Returns what the word gives to a row with this frequency and norm.
    fn score(&self, frequency: f32, norm: f32) -> f32 {
        self.rarity * frequency * (K1 + 1.0) / (frequency + norm)
    }

    /// Returns what it gives at most.
    fn most(&self) -> f32 {
        self.rarity * (K1 + 1.0)
    }
}
