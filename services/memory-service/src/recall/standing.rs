//! All that speaks for a row beside its vector.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use roaring::RoaringBitmap;

use super::{
    fusion::{self, Parts, Weights},
    period::Periods,
};
use crate::{
    index::{
        Words,
        column::Column,
        facts::Facts,
        text::{Search, Telling},
        threads::{Lending, Links},
    },
    vector::{interval::Interval, scan::Known},
};

/// What is known of rows before a vector is looked at.
///
/// Of words it may be known at first what the telling ones give (`said`), and how much the others could at most (`unsaid`): a row's score is
/// then within these bounds, and [`Known::settle`] looks up all words of the rows that can still be among the best. A score is a sum
/// whose other parts do not depend on that, so bounds of this part are bounds of the whole.
#[derive(Debug)]
pub(crate) struct Standing {
    facts: Column<Facts>,
    /// BM25 by row, 0 to 1, where every word was read; as long as the last row with a word of the question.
    text: Vec<f32>,
    /// The rows about each entity that the question names.
    named: Vec<RoaringBitmap>,
    /// What words and entities add to a row's score at least, as far as either says something: a scan asks every candidate.
    said: Vec<f32>,
    /// What words that were not read add to any row's score at most.
    unsaid: f32,
    /// By how much sums of rounded numbers may differ.
    rounding: f32,
    /// What words that were not read and facts add to any row's score at most.
    unseen: f32,
    /// The words, where only the telling ones were read, and who lends them.
    words: Option<(Search, Links)>,
    /// BM25 of the rows that were settled, by row.
    settled: OnceLock<Vec<(u32, f32)>>,
    periods: Periods,
    now: SystemTime,
    half_life: Duration,
    /// How much each part counts, of 1.
    shares: Weights,
}

impl Standing {
    /// Knows nothing of the question yet.
    pub(crate) fn new(facts: Column<Facts>, weights: Weights, now: SystemTime, half_life: Duration) -> Self {
        let (text, named, said, words, settled, periods) = Default::default();
        let (unsaid, rounding, unseen, shares) = (0.0, 0.0, 0.0, weights.shares());
        let mut standing = Self {
            facts,
            text,
            named,
            said,
            unsaid,
            rounding,
            unseen,
            words,
            settled,
            periods,
            now,
            half_life,
            shares,
        };
        standing.listen("", Vec::new());
        standing
    }

    /// Returns how much likeness counts, of 1.
    pub(crate) fn share_of_vector(&self) -> f64 {
        self.shares.vector
    }

    /// Takes in the words of the question, `text`, for the rows in `wanted`; returns those that have one, their own or lent.
    pub(crate) fn hear(
        &mut self,
        text: &str,
        words: Words,
        wanted: &RoaringBitmap,
        links: &Links,
    ) -> RoaringBitmap {
        let scores = words.search.scores(wanted, links, Lending::default());
        let part = part(&words.search);
        self.text = vec![0.0; scores.last().map_or(0, |(row, _)| *row as usize + 1)];
        scores.iter().for_each(|(row, score)| self.text[*row as usize] = part(*score));
        self.said = self.text.iter().map(|text| self.shares.text as f32 * text).collect();
        self.listen(text, words.named);
        // In order as they are, none is left out.
        RoaringBitmap::from_sorted_iter(scores.into_iter().map(|(row, _)| row)).unwrap_or_default()
    }

    /// Takes in the words of the question as far as they tell rows apart; returns how many rows have one of those.
    pub(crate) fn hear_telling(&mut self, text: &str, words: Words, links: &Links) -> u64 {
        let Telling { scores, unread } = words.search.telling(links, Lending::default());
        let (part, share) = (part(&words.search), self.shares.text as f32);
        let heard = scores.iter().filter(|score| **score > 0.0).count();
        self.unsaid = share * part(unread);
        // Each of two sums of so many terms, at most 1, may be off by half of this.
        self.rounding = (words.search.len() + words.named.len() + 8) as f32 * f32::EPSILON;
        self.said = scores;
        self.said.iter_mut().for_each(|score| *score = share * part(*score));
        self.listen(text, words.named);
        self.words = Some((words.search, links.clone()));
        heard as u64
    }

    fn listen(&mut self, text: &str, named: Vec<RoaringBitmap>) {
        self.named = named;
        self.periods = Periods::of(text);
        let share = self.share_of_entity();
        for rows in &self.named {
            let end = rows.max().map_or(0, |last| last as usize + 1);
            self.said.resize(self.said.len().max(end), 0.0);
            rows.iter().for_each(|row| self.said[row as usize] += share);
        }
        let Weights { importance, confidence, period, recency, .. } = self.shares;
        let period = if self.periods.is_empty() { 0.0 } else { period };
        let unsaid = f64::from(self.unsaid) + f64::from(self.rounding + 4.0 * f32::EPSILON);
        self.unseen = (unsaid + importance + confidence + period + recency) as f32;
    }

    fn share_of_entity(&self) -> f32 {
        (self.shares.entity / self.named.len().max(1) as f64) as f32
    }

    /// Returns the words' part of `row`, which was settled if not all words were read.
    pub(crate) fn text(&self, row: u32) -> f32 {
        let read = || self.text.get(row as usize).copied().unwrap_or_default();
        self.settled.get().map_or_else(read, |settled| {
            settled.binary_search_by_key(&row, |(row, _)| *row).map_or(0.0, |place| settled[place].1)
        })
    }

    /// Returns what words and entities add to the score of `row`, which was settled if not all words were read.
    fn said(&self, row: u32) -> f32 {
        if self.words.is_none() {
            return self.said.get(row as usize).copied().unwrap_or_default();
        }
        let share = self.share_of_entity();
        let named = self.named.iter().filter(|rows| rows.contains(row));
        named.fold(self.shares.text as f32 * self.text(row), |said, _| said + share)
    }

    /// Returns all that speaks for `row`, whose likeness is `vector`.
    pub(crate) fn parts(&self, row: u32, vector: f32) -> Parts {
        let facts = self.facts.get(row);
        let named = self.named.iter().filter(|rows| rows.contains(row)).count();
        Parts {
            vector,
            text: self.text(row),
            entity: named as f32 / self.named.len().max(1) as f32,
            period: self.periods.fit(facts.time),
            recency: fusion::recency(facts.time, self.now, self.half_life),
            importance: fusion::stated(facts.importance),
            confidence: fusion::stated(facts.confidence),
        }
    }

    /// Returns the score of `row`, whose likeness is `vector`: that of its parts, of which only what counts is computed.
    pub(crate) fn score(&self, row: u32, vector: f32) -> f64 {
        self.shares.vector * f64::from(vector) + f64::from(self.said(row)) + self.stated(row)
    }

    /// Returns what the facts of `row` add to its score.
    fn stated(&self, row: u32) -> f64 {
        let (facts, shares) = (self.facts.get(row), &self.shares);
        let mut stated = shares.importance * f64::from(fusion::stated(facts.importance))
            + shares.confidence * f64::from(fusion::stated(facts.confidence));
        if !self.periods.is_empty() {
            stated += shares.period * f64::from(self.periods.fit(facts.time));
        }
        if shares.recency > 0.0 {
            stated += shares.recency * f64::from(fusion::recency(facts.time, self.now, self.half_life));
        }
        stated
    }
}

impl Known for Arc<Standing> {
    fn within(&self, row: u32) -> Interval {
        let said = self.said.get(row as usize).copied().unwrap_or_default();
        let (said, stated) = (f64::from(said), self.stated(row));
        let (unsaid, rounding) = (f64::from(self.unsaid), f64::from(self.rounding));
        Interval {
            lower: (said + stated - rounding) as f32,
            upper: (said + unsaid + stated + rounding) as f32,
        }
    }

    fn most(&self, row: u32) -> f32 {
        self.said.get(row as usize).copied().unwrap_or_default() + self.unseen
    }

    fn settle(&self, rows: &[u32]) {
        if let Some((search, links)) = &self.words {
            let (scores, part) = (search.look_up(rows, links, Lending::default()), part(search));
            // Once, as is said of it.
            let _ = self.settled.set(rows.iter().copied().zip(scores.into_iter().map(part)).collect());
        }
    }

    fn of(&self, row: u32) -> f32 {
        self.score(row, 0.0) as f32
    }
}

/// Returns what makes of BM25 a part of 0 to 1: over the most that any text could have.
fn part(search: &Search) -> impl Fn(f32) -> f32 + use<> {
    let most = search.most().max(f32::MIN_POSITIVE);
    move |score| (score / most).min(1.0)
}
