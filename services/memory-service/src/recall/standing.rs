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
    periods: Periods,
    now: SystemTime,
    half_life: Duration,
    /// How much each part counts.
    pub(crate) weights: Weights,
}

impl Standing {
    /// Knows nothing of the question yet.
    pub(crate) fn new(facts: Column<Facts>, weights: Weights, now: SystemTime, half_life: Duration) -> Self {
        let (text, named, periods) = (Vec::new(), Vec::new(), Periods::default());
        Self { facts, text, named, periods, now, half_life, weights }
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
        rows
    }

    /// Returns the words' part of `row`.
    pub(crate) fn text(&self, row: u32) -> f32 {
        self.text.get(row as usize).copied().unwrap_or_default()
    }

    /// Returns all that speaks for `row`, whose likeness is `vector`.
    pub(crate) fn parts(&self, row: u32, vector: f32) -> Parts {
        let facts = self.facts.get(row);
        let recency = fusion::recency(facts.time, self.now, self.half_life);
        Parts { recency, ..self.but_recency(row, facts, vector) }
    }

    /// Returns the score of `row`, whose likeness is `vector`.
    pub(crate) fn score(&self, row: u32, vector: f32) -> f64 {
        let facts = self.facts.get(row);
        let mut parts = self.but_recency(row, facts, vector);
        // A power, for every candidate: only where it counts.
        if self.weights.recency > 0.0 {
            parts.recency = fusion::recency(facts.time, self.now, self.half_life);
        }
        self.weights.score(&parts)
    }

    fn but_recency(&self, row: u32, facts: Facts, vector: f32) -> Parts {
        let named = self.named.iter().filter(|rows| rows.contains(row)).count();
        Parts {
            vector,
            text: self.text(row),
            entity: named as f32 / self.named.len().max(1) as f32,
            period: if self.periods.is_empty() { 0.0 } else { self.periods.fit(facts.time) },
            recency: 0.0,
            importance: fusion::stated(facts.importance),
            confidence: fusion::stated(facts.confidence),
        }
    }
}

impl Known for Standing {
    fn of(&self, row: u32) -> f32 {
        self.score(row, 0.0) as f32
    }
}
