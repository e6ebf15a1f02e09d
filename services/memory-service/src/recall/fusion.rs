//! Makes one score of everything that speaks for a memory.
//!
//! Every part is between 0 and 1 (likeness between -1 and 1) and depends on the query and the memory alone, never on which other
//! memories are candidates. So a memory has the same score under every plan, and a bound of the error of the one part that may be
//! approximate, likeness, is a bound of the score's.

use std::time::{Duration, SystemTime};

use crate::index::threads::{Lending, Links};

/// Parts of a memory that has not stated its importance or confidence: neither for nor against it.
const UNSTATED: f32 = 0.5;
/// Ranks count from this on in reciprocal rank fusion (Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet
/// and individual rank learning methods", 2009).
const RANKS: f64 = 60.0;

/// What speaks for a memory, part by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Parts {
    /// Likeness of its vector, and of its neighbours', to the query's: -1 to 1.
    pub(crate) vector: f32,
    /// BM25 of its words, and of its neighbours', over the most that any text could have: 0 to 1.
    pub(crate) text: f32,
    /// Of the entities that the query names, the share it is about.
    pub(crate) entity: f32,
    /// 1 if it happened in a period that the query names.
    pub(crate) period: f32,
    /// 1 now, half of it a half-life ago, and so on.
    pub(crate) recency: f32,
    /// How much it matters.
    pub(crate) importance: f32,
    /// How sure it is.
    pub(crate) confidence: f32,
}

/// How much each part counts, 0 or more, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weights {
    /// Of likeness.
    pub(crate) vector: f64,
    /// Of words.
    pub(crate) text: f64,
    /// Of entities.
    pub(crate) entity: f64,
    /// Of periods.
    pub(crate) period: f64,
    /// Of recency.
    pub(crate) recency: f64,
    /// Of importance.
    pub(crate) importance: f64,
    /// Of confidence.
    pub(crate) confidence: f64,
}

impl Default for Weights {
    /// Evidence recall@10 on LoCoMo's dev five is 80.1 with the first four as they are, and 80.0 too where they are chosen by four
    /// conversations and measured on the fifth. Recency does not count, since old memories answer as many questions as new
    /// ones; importance and confidence count little, and only where they are stated.
    fn default() -> Self {
        Self {
            vector: 0.7,
            text: 1.0,
            entity: 0.15,
            period: 0.2,
            recency: 0.0,
            importance: 0.1,
            confidence: 0.1,
        }
    }
}

impl Weights {
    /// Returns all of them, in the order of [`Parts`].
    pub(crate) fn values(&self) -> [f64; 7] {
        let Self { vector, text, entity, period, recency, importance, confidence } = *self;
        [vector, text, entity, period, recency, importance, confidence]
    }

    /// Returns the shares that the parts have in a score, which is the weighted mean of them: in all 1, or 0 if nothing has a weight.
    pub(crate) fn shares(&self) -> Self {
        let sum: f64 = self.values().iter().sum();
        let of = |weight: f64| if sum > 0.0 { weight / sum } else { 0.0 };
        Self {
            vector: of(self.vector),
            text: of(self.text),
            entity: of(self.entity),
            period: of(self.period),
            recency: of(self.recency),
            importance: of(self.importance),
            confidence: of(self.confidence),
        }
    }
}

/// Returns the likeness of `row` with what its neighbours lend: the mean of `likeness` over both, by shares. So is its error, given
/// theirs.
pub(crate) fn lent(row: u32, links: &Links, lending: Lending, likeness: impl Fn(u32) -> f32) -> f32 {
    let (mut sum, mut shares) = (likeness(row), 1.0);
    if !lending.is_nothing() {
        links.around(row, lending, |other, share| {
            sum += share * likeness(other);
            shares += share;
        });
    }
    sum / shares
}

/// Returns the part of a memory of `time`: 1 at `now` and later, halved with every `half_life` before.
pub(crate) fn recency(time: SystemTime, now: SystemTime, half_life: Duration) -> f32 {
    let age = now.duration_since(time).unwrap_or_default();
    let lives = age.as_secs_f64() / half_life.as_secs_f64().max(f64::MIN_POSITIVE);
    (-lives).exp2() as f32
}

/// Returns the part of an importance or confidence from 0 to 1, where 0 means that nothing was stated.
pub(crate) fn stated(value: f64) -> f32 {
    if value > 0.0 { value as f32 } else { UNSTATED }
}

/// Returns the reciprocal rank fusion of likeness and words, row by row, as a share of what the best of both would have: 0 to 1. Equal
/// values share the better rank; a row without a value has no rank.
///
/// Unlike the weighted mean this depends on the other candidates.
pub(crate) fn reciprocal(likeness: &[Option<f32>], words: &[Option<f32>]) -> Vec<f64> {
    let mut scores = vec![0.0; likeness.len()];
    add_ranks(likeness, &mut scores);
    add_ranks(words, &mut scores);
    scores
}

fn add_ranks(values: &[Option<f32>], scores: &mut [f64]) {
    let values = values.iter().enumerate();
    let mut ranked: Vec<(usize, f32)> = values.filter_map(|(at, value)| Some((at, (*value)?))).collect();
    ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
    let mut rank = 1.0;
    for same in ranked.chunk_by(|one, other| one.1 == other.1) {
        for (at, _) in same {
            scores[*at] += (RANKS + 1.0) / (RANKS + rank) / 2.0;
        }
        rank += same.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::{array::uniform7, collection::vec, prelude::*};

    use super::{Parts, Weights, lent, recency, reciprocal, stated};
    use crate::index::threads::{Lending, Threads};

    fn weights(values: [f64; 7]) -> Weights {
        let [vector, text, entity, period, recency, importance, confidence] = values;
        Weights { vector, text, entity, period, recency, importance, confidence }
    }

    proptest! {
        #[test]
        fn shares_are_in_all_one_and_in_the_proportions_of_the_weights(given in uniform7(0.0_f64..2.0)) {
            let (shares, sum) = (weights(given).shares().values(), given.iter().sum::<f64>());
            prop_assume!(sum > 0.0);
            for (share, weight) in shares.into_iter().zip(given) {
                prop_assert!((share * sum - weight).abs() < 1e-12);
            }
        }

        #[test]
        fn ranks_are_those_of_a_naive_model(values in vec((0_u8..5, 0_u8..5), 0..30)) {
            let all: Vec<Parts> = values
                .iter()
                .map(|(vector, text)| Parts { vector: (*vector).into(), text: (*text).into(), ..Parts::default() })
                .collect();
            let likeness: Vec<_> = all.iter().map(|parts| Some(parts.vector)).collect();
            let words: Vec<_> = all.iter().map(|parts| Some(parts.text).filter(|text| *text > 0.0)).collect();
            for (at, score) in reciprocal(&likeness, &words).into_iter().enumerate() {
                let better = |part: fn(&Parts) -> f32| all.iter().filter(|other| part(other) > part(&all[at])).count();
                let rank = |better: usize| 1.0 / (61 + better) as f64;
                let by_text = if all[at].text > 0.0 { rank(better(|parts| parts.text)) } else { 0.0 };
                let expected = (rank(better(|parts| parts.vector)) + by_text) * 61.0 / 2.0;
                prop_assert!((score - expected).abs() < 1e-12, "{score} {expected}");
            }
        }
    }

    #[test]
    fn without_weights_nothing_counts() {
        assert_eq!(weights([0.0; 7]).shares().values(), [0.0; 7]);
    }

    #[test]
    fn neighbours_lend_likeness_and_an_error_does_not_grow_by_it() {
        let mut threads = Threads::new();
        (0..3).for_each(|row| threads.insert("t", u64::from(row), row));
        let likeness = [0.8, 0.2, 0.4];
        let lending = Lending { next: 0.5, second: 0.25 };
        let with = |error: f32| lent(0, threads.links(), lending, |row| likeness[row as usize] + error);
        assert!((with(0.0) - (0.8 + 0.5 * 0.2 + 0.25 * 0.4) / 1.75).abs() < 1e-6);
        assert!((with(0.01) - with(0.0)).abs() < 0.010_001);
        assert_eq!(lent(9, threads.links(), lending, |_| 0.7), 0.7);
    }

    #[test]
    fn recency_halves_and_the_future_counts_as_now() {
        let (day, now) = (Duration::from_hours(24), UNIX_EPOCH + Duration::from_hours(240));
        assert_eq!(recency(now, now, day), 1.0);
        assert_eq!(recency(now - day, now, day), 0.5);
        assert_eq!(recency(now - 3 * day, now, day), 0.125);
        assert_eq!(recency(now + day, now, day), 1.0);
        assert_eq!(recency(UNIX_EPOCH, now, Duration::ZERO), 0.0);
    }

    #[test]
    fn what_is_not_stated_is_neither_for_nor_against_a_memory() {
        assert!(stated(0.9) > stated(0.0) && stated(0.0) > stated(0.1));
    }
}
