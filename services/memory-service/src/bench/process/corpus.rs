//! The memories and the queries of a load, each made from its number.

use std::sync::Arc;

use crate::bench::vectors::{self, Numbered};

/// Values of a vector: the service has to be told (`memory_dimensions`).
pub const DIMENSIONS: usize = vectors::DIMENSIONS;

/// Categories, of which each holds as many memories as any other.
const CATEGORIES: u64 = 10;
/// Memories are about as many pools.
const POOLS: u64 = 1_000;
/// They pay so many different rates.
const PERCENTS: u64 = 97;
/// Numbers from here on are those of queries: no memory has the same vector.
const QUERIES: u64 = 1 << 40;
const SEED: u64 = 7;

/// Memories and queries by number.
#[derive(Clone, Debug)]
pub(super) struct Corpus(Arc<Numbered>);

/// A memory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) category: String,
    pub(super) content: String,
    pub(super) pool: String,
    pub(super) vector: Vec<f32>,
}

/// A query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asked {
    /// Words to rank by beside the vector; empty for the vector alone.
    pub(super) text: String,
    /// What to rank by; empty for no ranking.
    pub(super) vector: Vec<f32>,
    /// The one category that is asked for, if any.
    pub(super) category: Option<String>,
}

impl Corpus {
    /// Makes the memories of a store of about `memories`, in about as many clusters as a cluster has memories.
    pub(super) fn new(memories: u64) -> Self {
        Self(Arc::new(Numbered::new(usize::try_from(memories.isqrt()).unwrap_or(1), SEED)))
    }

    /// Returns memory `number`.
    pub(super) fn memory(&self, number: u64) -> Made {
        let pool = number % POOLS;
        let (percent, thousands) = (number * 7 % PERCENTS, number * 31 % 1_013);
        Made {
            id: format!("memory-{number}"),
            category: category(number),
            content: format!(
                "observation {number}: pool {pool} pays {percent} percent on {thousands} thousand dollars, more than in the week before"
            ),
            pool: format!("pool-{pool}"),
            vector: self.0.vector(number),
        }
    }

    /// Returns query `number`, which no other one equals: near a cluster, and every second one in one category only.
    pub(super) fn query(&self, number: u64) -> Asked {
        let category = (number % 2 == 1).then(|| category(number / 2));
        Asked { text: String::new(), vector: self.0.vector(QUERIES + number), category }
    }

    /// Returns the same with words, which are those of some memories.
    pub(super) fn worded_query(&self, number: u64) -> Asked {
        let (pool, percent) = (number * 13 % POOLS, number % PERCENTS);
        let text =
            format!("how much more than in the week before does pool {pool} pay, was it {percent} percent?");
        Asked { text, ..self.query(number) }
    }

    /// Returns the query by the vector of memory `number`.
    pub(super) fn twin(&self, number: u64) -> Asked {
        Asked { vector: self.0.vector(number), ..Asked::default() }
    }
}

fn category(number: u64) -> String {
    format!("category-{}", number % CATEGORIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_distinct_and_half_of_them_are_filtered() {
        let corpus = Corpus::new(400);
        let queries: Vec<_> = (0..100).map(|number| corpus.query(number)).collect();
        assert_eq!(queries.iter().filter(|query| query.category.is_some()).count(), 50);
        for (at, query) in queries.iter().enumerate() {
            assert!(!queries[..at].contains(query));
        }
        let mut asked: Vec<_> = queries.iter().filter_map(|query| query.category.clone()).collect();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len() as u64, CATEGORIES);
    }

    #[test]
    fn a_memory_is_nearest_to_its_own_twin() {
        let corpus = Corpus::new(400);
        let product = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
        let length = |vector: &[f32]| product(vector, vector).sqrt();
        let asked = corpus.twin(7).vector;
        let score = |number: u64| {
            let vector = corpus.memory(number).vector;
            product(&asked, &vector) / length(&vector)
        };
        assert_eq!((0..400).max_by(|left, right| score(*left).total_cmp(&score(*right))), Some(7));
    }
}
