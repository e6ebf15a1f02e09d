//! All that speaks for a row beside its vector.

use std::time::{Duration, SystemTime};

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
        threads::{Lending, Links},
    },
    vector::scan::Known,
};

/// What is known of rows before a vector is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    facts: Column<Facts>,
    /// BM25 by row, 0 to 1; as long as the last row with a word of the question.
    text: Vec<f32>,
    /// The rows about each entity that the question names.
    named: Vec<RoaringBitmap>,
    /// What words and entities add to a row's score, as far as either says something: a scan asks every candidate.
    said: Vec<f32>,
    periods: Periods,
    now: SystemTime,
    half_life: Duration,
    /// How much each part counts, of 1.
    shares: Weights,
}

impl Standing {
    /// Knows nothing of the question yet.
    pub(crate) fn new(facts: Column<Facts>, weights: Weights, now: SystemTime, half_life: Duration) -> Self {
        let (text, named, said, periods) = Default::default();
        Self { facts, text, named, said, periods, now, half_life, shares: weights.shares() }
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
        let most = words.search.most().max(f32::MIN_POSITIVE);
        let scores = words.search.scores(wanted, links, Lending::default());
        let rows = scores.iter().map(|(row, _)| *row).collect();
        self.text = vec![0.0; scores.last().map_or(0, |(row, _)| *row as usize + 1)];
        scores.into_iter().for_each(|(row, score)| self.text[row as usize] = (score / most).min(1.0));
        self.named = words.named;
        self.periods = Periods::of(text);
        self.said = self.text.iter().map(|text| self.shares.text as f32 * text).collect();
        let share = (self.shares.entity / self.named.len().max(1) as f64) as f32;
        for rows in &self.named {
            let end = rows.max().map_or(0, |last| last as usize + 1);
            self.said.resize(self.said.len().max(end), 0.0);
            rows.iter().for_each(|row| self.said[row as usize] += share);
        }
        rows
    }

    /// Returns the words' part of `row`.
    pub(crate) fn text(&self, row: u32) -> f32 {
        self.text.get(row as usize).copied().unwrap_or_default()
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
        let (facts, shares) = (self.facts.get(row), &self.shares);
        let mut score = shares.vector * f64::from(vector)
            + f64::from(self.said.get(row as usize).copied().unwrap_or_default())
            + shares.importance * f64::from(fusion::stated(facts.importance))
            + shares.confidence * f64::from(fusion::stated(facts.confidence));
        if !self.periods.is_empty() {
            score += shares.period * f64::from(self.periods.fit(facts.time));
        }
        if shares.recency > 0.0 {
            score += shares.recency * f64::from(fusion::recency(facts.time, self.now, self.half_life));
        }
        score
    }
}

impl Known for Standing {
    fn of(&self, row: u32) -> f32 {
        self.score(row, 0.0) as f32
    }
}
