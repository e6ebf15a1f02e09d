//! The memories and the queries of a load, each made from its number.

use std::sync::Arc;

use crate::bench::vectors::{self, Numbered};

/// Values of a vector: the service has to be told (`memory_dimensions`).
pub const DIMENSIONS: usize = vectors::DIMENSIONS;

/// Categories, of which each holds as many memories as any other.
const CATEGORIES: u64 = 10;
/// Memories are about as many pools.
const POOLS: u64 = 1_000;
/// Words of a memory and of a query, and how many different ones there are: the n-th most frequent one comes about as often as 1/n (Zipf).
const WORDS: usize = 16;
const ASKED: usize = 6;
const VOCABULARY: f64 = 20_000.0;
/// Numbers from here on are those of queries: no memory has the same vector.
const QUERIES: u64 = 1 << 40;
/// And from here on those of texts.
const TEXTS: u64 = 1 << 41;
const SEED: u64 = 7;

/// Memories and queries by number.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Corpus(Arc<Numbered>);

/// A memory.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::bench) struct Made {
    pub(in crate::bench) id: String,
    pub(in crate::bench) category: String,
    pub(in crate::bench) content: String,
    pub(in crate::bench) pool: String,
    pub(in crate::bench) vector: Vec<f32>,
}

/// A query.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::bench) struct Asked {
    /// Words to rank by beside the vector; empty for the vector alone.
    pub(in crate::bench) text: String,
    /// What to rank by; empty for no ranking.
    pub(in crate::bench) vector: Vec<f32>,
    /// The one category that is asked for, if any.
    pub(in crate::bench) category: Option<String>,
}

impl Corpus {
    /// Makes the memories of a store of about `memories`, in about as many clusters as a cluster has memories.
    pub(in crate::bench) fn new(memories: u64) -> Self {
        Self(Arc::new(Numbered::new(usize::try_from(memories.isqrt()).unwrap_or(1), SEED)))
    }

    /// Returns memory `number`.
    pub(in crate::bench) fn memory(&self, number: u64) -> Made {
        let pool = format!("pool-{}", number % POOLS);
        Made {
            id: format!("memory-{number}"),
            category: category(number),
            content: format!("{pool} {}", self.words(number, WORDS)),
            pool,
            vector: self.0.vector(number),
        }
    }

    /// Returns query `number`, which no other one equals: near a cluster, and every second one in one category only.
    pub(in crate::bench) fn query(&self, number: u64) -> Asked {
        let category = (number % 2 == 1).then(|| category(number / 2));
        Asked { text: String::new(), vector: self.0.vector(QUERIES + number), category }
    }

    /// Returns the same with words, the name of a pool among them.
    pub(in crate::bench) fn worded_query(&self, number: u64) -> Asked {
        let text = format!("pool-{} {}", number * 13 % POOLS, self.words(QUERIES + number, ASKED));
        Asked { text, ..self.query(number) }
    }

    fn words(&self, number: u64, count: usize) -> String {
        let mut random = self.0.random(TEXTS + number);
        let words: Vec<_> = (0..count).map(|_| word(random.next())).collect();
        words.join(" ")
    }

    /// Returns the query by the vector of memory `number`.
    pub(in crate::bench) fn twin(&self, number: u64) -> Asked {
        Asked { vector: self.0.vector(number), ..Asked::default() }
    }
}

fn category(number: u64) -> String {
    format!("category-{}", number % CATEGORIES)
}

/// Returns a word by an even number: its rank is the vocabulary's size to the power of a share, so that small ranks come often.
fn word(even: u64) -> String {
    let share = (even >> 11) as f64 / (1_u64 << 53) as f64;
    let mut rank = VOCABULARY.powf(share) as usize;
    let mut word = String::new();
    while rank > 0 {
        word.push_str(["ba", "ko", "li", "mu", "ne", "ri", "so", "tu", "va", "ze"][rank % 10]);
        rank /= 10;
    }
    word
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
    fn a_few_words_are_frequent_and_many_are_rare() {
        let corpus = Corpus::new(400);
        let mut words: Vec<_> = (0..1_000)
            .flat_map(|number| {
                let content = corpus.memory(number).content;
                content.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        words.sort_unstable();
        let mut counts: Vec<_> = words.chunk_by(|left, right| left == right).map(<[_]>::len).collect();
        counts.sort_unstable();
        assert!(counts.len() > 3_000 && counts[counts.len() / 2] <= 3, "{} different", counts.len());
        assert!((800..1_500).contains(&counts[counts.len() - 1]), "{:?}", counts.last());
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
