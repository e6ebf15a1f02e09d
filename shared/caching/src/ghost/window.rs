//! Counts that fade.

use crate::curve::{Curve, Point};

/// Reads and hits of several caches side by side, of which older ones weigh less.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    reads: f64,
    hits: Vec<f64>,
}

impl Window {
    /// Takes in `reads` and the hits counted since `before`; what was there fades by e for every `length` reads.
    pub(super) fn take(&mut self, reads: f64, now: &[f64], before: &[f64], length: f64) {
        let fade = (-reads / length).exp();
        self.reads = self.reads * fade + reads;
        self.hits.resize(now.len(), 0.0);
        for (index, hits) in self.hits.iter_mut().enumerate() {
            let fresh = now[index] - before.get(index).copied().unwrap_or_default();
            *hits = *hits * fade + fresh;
        }
    }

    /// Returns hits ÷ reads of each cache.
    pub(super) fn ratios(&self) -> Vec<f64> {
        let ratio = |hits: &f64| if self.reads > 0.0 { (hits / self.reads).clamp(0.0, 1.0) } else { 0.0 };
        self.hits.iter().map(ratio).collect()
    }

    /// Returns the curve of caches of `sizes`.
    pub(super) fn curve(&self, sizes: &[u64]) -> Curve {
        let points = sizes.iter().zip(self.ratios()).map(|(&size, hit_ratio)| Point { size, hit_ratio });
        Curve { reads: self.reads, points: points.collect() }
    }
}
