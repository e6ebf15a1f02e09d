//! A histogram of either layout.

use super::{explicit::Explicit, exponential::Exponential, merge::Merge};

/// Recorded values, in the layout their client chose.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Buckets that grow by a constant factor.
    Exponential(Exponential),
    /// Buckets with bounds of their own.
    Explicit(Explicit),
}

impl Distribution {
    /// Returns how many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Exponential(histogram) => histogram.count(),
            Self::Explicit(histogram) => histogram.count(),
        }
    }

    /// Returns the value below which the share `quantile` (0 to 1) lies; `None` if nothing was recorded.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        match self {
            Self::Exponential(histogram) => histogram.quantile(quantile),
            Self::Explicit(histogram) => histogram.quantile(quantile),
        }
    }

    /// Returns what was recorded after `earlier`, an older state of the same stream; `None` after a reset.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        match (self, earlier) {
            (Self::Exponential(now), Self::Exponential(then)) => now.since(then).map(Self::Exponential),
            (Self::Explicit(now), Self::Explicit(then)) => now.since(then).map(Self::Explicit),
            _ => None,
        }
    }

    fn into_exponential(self) -> Exponential {
        match self {
            Self::Exponential(histogram) => histogram,
            Self::Explicit(histogram) => histogram.to_exponential(),
        }
    }
}

impl Merge for Distribution {
    fn absorb(&mut self, later: Self) {
        if let (Self::Explicit(mine), Self::Explicit(theirs)) = (&*self, &later)
            && let Some(sum) = mine.plus(theirs)
        {
            *self = Self::Explicit(sum);
            return;
        }
        let mine = std::mem::replace(self, Self::Exponential(Exponential::new()));
        let mut merged = mine.into_exponential();
        merged.absorb(later.into_exponential());
        *self = Self::Exponential(merged);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::merge::Merge, Distribution, Explicit, Exponential};

    #[test]
    fn both_layouts_merge_into_an_exponential_one() {
        let mut exponential = Exponential::new();
        exponential.record(0.2, 10);
        let mut merged =
            Distribution::Explicit(Explicit::new(&[0.1, 1.0], vec![10, 0, 0], None, None).unwrap());
        merged.absorb(Distribution::Exponential(exponential));
        assert_eq!(merged.count(), 20);
        let p95 = merged.quantile(0.95).unwrap();
        assert!((p95 / 0.2 - 1.0).abs() < 0.1, "{p95}");
    }

    #[test]
    fn equal_bounds_stay_explicit() {
        let one = Explicit::new(&[1.0], vec![1, 2], None, None).unwrap();
        let mut merged = Distribution::Explicit(one.clone());
        merged.absorb(Distribution::Explicit(one));
        assert_eq!(merged, Distribution::Explicit(Explicit::new(&[1.0], vec![2, 4], None, None).unwrap()));
    }
}
