//! What the contract says of a recall, one memory after the other.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::SystemTime};

use super::{HALF_LIFE, Outcome, POOLS};
use crate::{
    query::{Query, Ranking},
    record::{Change, Record},
};

/// Shares of what the memories next to one in its thread lend to it, and those after them.
const LENT: [f64; 2] = [0.5, 0.25];
/// By how much a score in `f32` may be off.
const ROUNDING: f64 = 1e-5;

/// Memories by id, with the number of their write.
#[derive(Default)]
pub(super) struct Model(BTreeMap<Arc<str>, (usize, Record)>);

impl Model {
    pub(super) fn new(changes: &[Change]) -> Self {
        let (mut model, mut written) = (Self::default(), 0);
        for change in changes {
            match change {
                Change::Put(records) => records.iter().for_each(|record| {
                    written += 1;
                    model.0.insert(Arc::clone(&record.memory.id), (written, record.clone()));
                }),
                Change::Forget(ids) => ids.iter().for_each(|id| drop(model.0.remove(id.as_str()))),
            }
        }
        model
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn embedding(&self, id: &str) -> &[f32] {
        &self.0[id].1.embedding
    }

    /// Every candidate, the best first.
    pub(super) fn recall(&self, query: &Query, now: SystemTime) -> Outcome {
        let passing = self.0.values().filter(|(_, record)| query.filter.passes(&record.memory, now));
        let passing: Vec<_> = passing.collect();
        let scores: Vec<f64> = match query.ranking {
            Ranking::Newest | Ranking::Usual => vec![0.0; passing.len()],
            Ranking::Vector => passing.iter().map(|(_, record)| cosine(query, record)).collect(),
            Ranking::Text => passing.iter().map(|one| self.text(query, one)).collect(),
            Ranking::Hybrid => passing.iter().map(|one| self.hybrid(query, one, now)).collect(),
            Ranking::Ranks => {
                let vector: Vec<_> = passing.iter().map(|(_, record)| Some(cosine(query, record))).collect();
                let text = passing.iter().map(|one| Some(self.text(query, one)).filter(|text| *text > 0.0));
                let text: Vec<_> = text.collect();
                (0..passing.len()).map(|at| (rank(&vector, at) + rank(&text, at)) * 61.0 / 2.0).collect()
            }
        };
        let mut found: Vec<_> = scores.into_iter().zip(&passing).collect();
        found.sort_by(|(left_score, (left_seq, left)), (right_score, (right_seq, right))| {
            let by_score = right_score.partial_cmp(left_score).unwrap_or(Ordering::Equal);
            by_score.then(right.memory.time.cmp(&left.memory.time)).then(right_seq.cmp(left_seq))
        });
        let found = found.into_iter().map(|(score, (_, record))| (record.memory.id.to_string(), score));
        (passing.len() as u64, found.collect())
    }

    /// Returns whether a recall found what it should: the same in the same order where scores are exact, else of the same scores.
    pub(super) fn agrees(&self, query: &Query, found: &Outcome, expected: &Outcome) -> bool {
        let limit = query.limit.min(expected.1.len());
        let near = |left: f64, right: f64| (left - right).abs() < ROUNDING;
        let scores: BTreeMap<_, _> = expected.1.iter().cloned().collect();
        let own = found.1.iter().all(|(id, score)| scores.get(id).is_some_and(|own| near(*score, *own)));
        let best = found.1.iter().zip(&expected.1).all(|((_, score), (_, best))| near(*score, *best));
        let ids =
            |outcome: &Outcome| outcome.1.iter().take(limit).map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let is_exact = matches!(query.ranking, Ranking::Newest | Ranking::Vector);
        found.0 == expected.0
            && found.1.len() == limit
            && own
            && best
            && (!is_exact || ids(found) == ids(expected))
    }

    fn hybrid(&self, query: &Query, one: &(usize, Record), now: SystemTime) -> f64 {
        let memory = &one.1.memory;
        let weights = query.weights;
        let stated = |value: f64| if value > 0.0 { value } else { 0.5 };
        let words: Vec<&str> = query.words().unwrap_or_default().split(' ').collect();
        // Names that no memory is about any more name nothing.
        let about = |pool: &&str| {
            self.0.values().any(|(_, record)| record.memory.pools.iter().any(|other| other == pool))
        };
        let named: Vec<&str> = POOLS.into_iter().filter(|pool| words.contains(pool)).filter(about).collect();
        let is_about = named.iter().filter(|pool| memory.pools.iter().any(|other| other == *pool)).count();
        let age = now.duration_since(memory.time).unwrap_or_default().as_secs_f64();
        let parts = [
            self.lent(one, |record| cosine(query, record), true),
            self.text(query, one),
            is_about as f64 / named.len().max(1) as f64,
            0.0,
            (-age / HALF_LIFE.as_secs_f64()).exp2(),
            stated(memory.importance),
            stated(memory.confidence),
        ];
        let all: f64 = weights.values().iter().sum();
        weights.values().iter().zip(parts).map(|(weight, part)| weight * part).sum::<f64>() / all
    }

    /// BM25 with what neighbours lend, of the most that it could be.
    fn text(&self, query: &Query, one: &(usize, Record)) -> f64 {
        let words = |record: &Record| record.memory.content.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let count =
            |record: &Record, word: &str| words(record).iter().filter(|other| *other == word).count() as f64;
        let live = self.0.len() as f64;
        let mean = self.0.values().map(|(_, record)| words(record).len() as f64).sum::<f64>() / live;
        let mut asked: Vec<&str> = query.words().unwrap_or_default().split_whitespace().collect();
        asked.sort_unstable();
        asked.dedup();
        let (mut score, mut most) = (0.0, 0.0);
        for word in asked {
            let with = self.0.values().filter(|(_, record)| count(record, word) > 0.0).count() as f64;
            if with > 0.0 {
                let rarity = (1.0 + (live - with + 0.5) / (with + 0.5)).ln();
                let frequency = self.lent(one, |record| count(record, word), false);
                let length = self.lent(one, |record| words(record).len() as f64, true);
                let norm = 1.2 * (0.25 + 0.75 * length / mean.max(1.0));
                score += rarity * frequency * 2.2 / (frequency + norm);
                most += rarity * 2.2;
            }
        }
        if most > 0.0 { score / most } else { 0.0 }
    }

    /// What a memory has of something with what its neighbours lend: the sum, or the mean.
    fn lent(&self, one: &(usize, Record), of: impl Fn(&Record) -> f64, is_mean: bool) -> f64 {
        let (mut sum, mut shares) = (of(&one.1), 1.0);
        if let Some(place) = &one.1.memory.place {
            let in_thread = self.0.values().filter_map(|other| {
                let there = other.1.memory.place.as_ref().filter(|there| there.thread == place.thread)?;
                Some((there.position, other.0, &other.1))
            });
            let mut thread: Vec<_> = in_thread.collect();
            thread.sort_by_key(|(position, seq, _)| (*position, *seq));
            let at = thread.iter().position(|(_, seq, _)| *seq == one.0).unwrap_or_default();
            for (distance, share) in (1..).zip(LENT) {
                let sides = [at.checked_sub(distance), Some(at + distance)];
                for (_, _, other) in sides.into_iter().flatten().filter_map(|at| thread.get(at)) {
                    sum += share * of(other);
                    shares += share;
                }
            }
        }
        if is_mean { sum / shares } else { sum }
    }
}

/// Reciprocal of the rank of the value at `at`; of equal values the better one.
fn rank(values: &[Option<f64>], at: usize) -> f64 {
    let Some(own) = values[at] else { return 0.0 };
    // Values that are equal in `f32` are equal.
    let better = values.iter().flatten().filter(|other| (**other as f32) > (own as f32)).count();
    1.0 / (61 + better) as f64
}

fn cosine(query: &Query, record: &Record) -> f64 {
    let product = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    let (vector, own) = (query.likeness.vector().unwrap_or_default(), &record.embedding);
    let squares = product(vector, vector) * product(own, own);
    if squares > 0.0 { product(vector, own) / squares.sqrt() } else { 0.0 }
}
