//! How often a template's claim comes true: a Beta posterior, and the bound on its error.

use serde::{Deserialize, Serialize};

/// The outcomes that count: an older one counts `1 - 1/MEMORY` of the next newer, so that a template that turns bad is found out.
const MEMORY: f64 = 200.0;
/// Probability that the error lies below the bound.
const CREDIBLE: f64 = 0.95;

/// Outcomes of one template. The prior is the confidence its file states, worth as many outcomes as the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Outcomes ever told.
    pub told: u64,
    /// Those that came true.
    pub came_true: u64,
    /// Both sums with older ones discounted.
    recent_true: f64,
    recent_false: f64,
    /// Sum of the squared differences between the confidence stated and what came.
    squares: f64,
}

/// The share of a template's claims that come true: Beta(`true_weight`, `false_weight`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// First parameter, above 0.
    pub true_weight: f64,
    /// Second parameter, above 0.
    pub false_weight: f64,
}

impl Outcomes {
    /// Counts one outcome of an answer that was given with `confidence`.
    pub fn tell(&mut self, came_true: bool, confidence: f64) {
        let kept = 1.0 - 1.0 / MEMORY;
        self.recent_true *= kept;
        self.recent_false *= kept;
        self.told += 1;
        if came_true {
            self.came_true += 1;
            self.recent_true += 1.0;
        } else {
            self.recent_false += 1.0;
        }
        self.squares += (confidence - f64::from(u8::from(came_true))).powi(2);
    }

    /// Returns the mean squared difference between the confidences stated and what came (Brier, 1950); `None` before the first
    /// outcome.
    #[must_use]
    pub fn brier(&self) -> Option<f64> {
        (self.told > 0).then(|| self.squares / self.told as f64)
    }

    /// Returns the posterior over a prior of `confidence` that is worth `evidence` outcomes.
    #[must_use]
    pub fn posterior(&self, confidence: f64, evidence: f64) -> Posterior {
        // Jeffreys' half an outcome each way keeps the distribution proper where the file says 0, 1 or no evidence.
        Posterior {
            true_weight: confidence * evidence + self.recent_true + 0.5,
            false_weight: (1.0 - confidence) * evidence + self.recent_false + 0.5,
        }
    }
}

impl Posterior {
    /// Returns the expected share that comes true.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.true_weight / (self.true_weight + self.false_weight)
    }

    /// Returns the share that does not come true which is not exceeded with probability 95 %.
    #[must_use]
    pub fn error_bound(&self) -> f64 {
        // The error is Beta(false, true); its distribution function rises, so halving finds the quantile.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if beta_below(self.false_weight, self.true_weight, middle) < CREDIBLE {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// Returns the regularised incomplete beta function by its continued fraction (DLMF 8.17.22), evaluated after Lentz.
fn beta_below(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side only; the other follows by symmetry (DLMF 8.17.4).
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    const TINY: f64 = 1e-300;
    let (mut value, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 0..300_i32 {
        let m = f64::from(step / 2);
        let numerator = if step == 0 {
            1.0
        } else if step % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / nonzero(1.0 + numerator * d, TINY);
        c = nonzero(1.0 + numerator / c, TINY);
        value *= c * d;
        if (1.0 - c * d).abs() < 1e-12 {
            break;
        }
    }
    (front * (value - 1.0)).clamp(0.0, 1.0)
}

fn nonzero(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}

/// Returns the logarithm of the gamma function of a positive number by Stirling's series (DLMF 5.11.1), reached by recurrence.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1_260.0 - inverse / 1_680.0))) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::{Outcomes, Posterior, beta_below, ln_gamma};

    #[test]
    fn the_distribution_agrees_with_what_is_known_in_closed_form() {
        assert!((ln_gamma(5.0) - 24_f64.ln()).abs() < 1e-11);
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-11);
        for x in [0.01, 0.2, 0.5, 0.77, 0.99] {
            assert!((beta_below(1.0, 1.0, x) - x).abs() < 1e-10, "uniform at {x}");
            assert!((beta_below(3.0, 1.0, x) - x.powi(3)).abs() < 1e-10, "a power at {x}");
            let symmetric = beta_below(4.5, 2.0, x) + beta_below(2.0, 4.5, 1.0 - x);
            assert!((symmetric - 1.0).abs() < 1e-10, "{x}");
        }
        let arcsine = 2.0 / std::f64::consts::PI * 0.3_f64.sqrt().asin();
        assert!((beta_below(0.5, 0.5, 0.3) - arcsine).abs() < 1e-9);
    }

    #[test]
    fn the_bound_tightens_with_evidence_and_lies_above_the_error() {
        let bound = |good, bad| Posterior { true_weight: good, false_weight: bad }.error_bound();
        assert!((bound(1.0, 1.0) - 0.95).abs() < 1e-9, "nothing is known");
        // A quantile by scipy: beta.ppf(0.95, 8, 12).
        assert!((bound(12.0, 8.0) - 0.581_94).abs() < 1e-4, "{}", bound(12.0, 8.0));
        assert!(bound(6.0, 4.0) > bound(60.0, 40.0) && bound(60.0, 40.0) > 0.4);
    }

    #[test]
    fn what_came_last_counts_most() {
        let mut outcomes = Outcomes::default();
        (0..500).for_each(|_| outcomes.tell(true, 0.6));
        let before = outcomes.posterior(0.6, 10.0).mean();
        (0..100).for_each(|_| outcomes.tell(false, 0.6));
        let after = outcomes.posterior(0.6, 10.0).mean();
        assert!(before > 0.95 && after < 0.65, "{before} {after}");
        assert_eq!((outcomes.told, outcomes.came_true), (600, 500));
        assert!((outcomes.brier().unwrap() - (500.0 * 0.16 + 100.0 * 0.36) / 600.0).abs() < 1e-12);
    }
}
