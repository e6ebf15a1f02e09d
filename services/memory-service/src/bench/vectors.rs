//! Vectors in clusters, made from a seed.

use crate::vector::{arena::Arena, metric::Metric, source::InMemory};

/// Values of a vector.
pub(super) const DIMENSIONS: usize = 384;

/// Length of what sets a vector apart from the middle of its cluster, whose length is 1: two of a cluster have a cosine of about 0.6.
const SPREAD: f64 = 0.8;

/// Vectors in clusters.
#[derive(Debug)]
pub(super) struct Clustered {
    /// The vectors; the first belongs to the first cluster, the second to the second, and so on in turn.
    pub(super) vectors: InMemory,
    middles: Vec<Vec<f32>>,
    random: Random,
}

/// Vectors in clusters that are made one by one, each from its number: for more of them than need to be held.
#[derive(Debug)]
pub(super) struct Numbered {
    middles: Vec<Vec<f32>>,
    /// Where the numbers of vector 0 begin; every vector takes as many as it has values.
    start: Random,
}

/// Numbers of a seed: SplitMix64, Steele, Lea and Flood 2014.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

/// What SplitMix64 adds for each number.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Clustered {
    /// Makes `count` vectors in about as many clusters as a cluster has vectors, or without clusters.
    pub(super) fn new(count: usize, clusters: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let middles = random.middles(clusters);
        let mut values = Vec::with_capacity(count * DIMENSIONS);
        for number in 0..count {
            match middles.get(number % clusters.max(1)) {
                Some(middle) => values.append(&mut random.vector(middle, SPREAD)),
                None => values.append(&mut random.vector(&[0.0; DIMENSIONS], 1.0)),
            }
        }
        Self { vectors: InMemory { dimensions: DIMENSIONS, values }, middles, random }
    }

    /// Returns another vector of `cluster`.
    pub(super) fn query(&mut self, cluster: usize) -> Vec<f32> {
        match self.middles.get(cluster % self.middles.len().max(1)) {
            Some(middle) => self.random.vector(middle, SPREAD),
            None => self.random.vector(&[0.0; DIMENSIONS], 1.0),
        }
    }

    /// Returns every cluster, the nearest to `query` first.
    pub(super) fn nearest_clusters(&self, query: &[f32]) -> Vec<usize> {
        let product = |middle: &[f32]| -> f32 { middle.iter().zip(query).map(|(a, b)| a * b).sum() };
        let mut clusters: Vec<_> = (0..self.middles.len()).collect();
        clusters
            .sort_by(|left, right| product(&self.middles[*right]).total_cmp(&product(&self.middles[*left])));
        clusters
    }

    /// Returns one of `count` numbers.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.random.next() % count.max(1) as u64).unwrap_or(0)
    }

    /// Encodes the vectors as rows.
    pub(super) fn arena(&self) -> Arena {
        let mut arena = Arena::new(Metric::Cosine, DIMENSIONS);
        for (seq, vector) in (0..).zip(self.vectors.values.chunks_exact(DIMENSIONS)) {
            arena.push(seq, vector);
        }
        arena
    }
}

impl Numbered {
    /// Makes vectors in `clusters`, which are at least one.
    pub(super) fn new(clusters: usize, seed: u64) -> Self {
        let mut start = Random(seed);
        Self { middles: start.middles(clusters.max(1)), start }
    }

    /// Returns vector `number`, of the clusters in turn: always the same one, whatever was asked for before.
    pub(super) fn vector(&self, number: u64) -> Vec<f32> {
        let cluster = number % self.middles.len() as u64;
        let mut random = self.random(number);
        let middle = usize::try_from(cluster).ok().and_then(|cluster| self.middles.get(cluster));
        middle.map_or_else(Vec::new, |middle| random.vector(middle, SPREAD))
    }

    /// Returns the numbers that vector `number` is made of, as many as it has values.
    pub(super) fn random(&self, number: u64) -> Random {
        let passed = number.wrapping_mul(DIMENSIONS as u64);
        Random(self.start.0.wrapping_add(STEP.wrapping_mul(passed)))
    }
}

impl Random {
    fn middles(&mut self, clusters: usize) -> Vec<Vec<f32>> {
        (0..clusters).map(|_| self.vector(&[0.0; DIMENSIONS], 1.0)).collect()
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns `middle` and something of about the length `spread` in every direction: each value the sum of four even ones, which is
    /// nearly normal.
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "values of about 0.05")]
    fn vector(&mut self, middle: &[f32], spread: f64) -> Vec<f32> {
        // Four values from 0 to 65,535 have a variance of 4 · 65,536² / 12.
        let factor = (spread / (65_536.0 / 3.0_f64.sqrt()) / (middle.len() as f64).sqrt()) as f32;
        let value = |bits: u64| {
            let parts = [bits & 0xFFFF, bits >> 16 & 0xFFFF, bits >> 32 & 0xFFFF, bits >> 48];
            (parts.iter().sum::<u64>() as f32 - 2.0 * 65_535.0) * factor
        };
        middle.iter().map(|middle| middle + value(self.next())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_vector_is_always_the_same_and_near_its_cluster() {
        let numbered = Numbered::new(4, 1);
        let cosine = |left: u64, right: u64| {
            let (left, right) = (numbered.vector(left), numbered.vector(right));
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            product(&left, &right) / (product(&left, &left) * product(&right, &right)).sqrt()
        };
        assert_eq!(numbered.vector(1_000_003), Numbered::new(4, 1).vector(1_000_003));
        assert!((cosine(3, 7) - 0.6).abs() < 0.15, "{}", cosine(3, 7));
        assert!(cosine(3, 6).abs() < 0.2, "{}", cosine(3, 6));
    }
}
