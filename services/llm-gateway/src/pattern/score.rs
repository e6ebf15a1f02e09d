//! A small logistic score that learns online.
//!
//! Bayesian logistic regression with a Gaussian prior, by Laplace's approximation (MacKay, "The evidence framework applied to
//! classification networks", 1992; Bishop, *Pattern Recognition and Machine Learning*, 4.4 and 4.5): the weights' distribution is a
//! mean and a precision matrix. An outcome moves the mean to the new mode by Newton's method and adds its curvature to the
//! precision, and what came of it is the prior of the next one. So nothing but ten small rows is kept, whatever was seen, and an outcome costs
//! a bounded number of steps.

use serde::{Deserialize, Serialize};

/// Inputs of a score, the constant 1 among them.
pub const INPUTS: usize = 9;

/// Most steps of Newton's method for one outcome. One is all but enough: the prior holds the mode close.
const STEPS: usize = 8;
/// A step shorter than this is the last.
const CLOSE: f64 = 1e-9;
/// Precision of the constant's weight before the first outcome, whatever the strength of the others: the base rate is found fast.
const CONSTANT: f64 = 1.0;

/// What a score looks at, scaled to about -1 to 1; the first is 1.
pub type Inputs = [f64; INPUTS];

/// The weights' distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    mean: Inputs,
    precision: [Inputs; INPUTS],
    /// The weights that answer; the mean as it was when it was last published.
    serving: Inputs,
    /// Outcomes learned from.
    learned: u64,
}

impl Score {
    /// Makes a score that starts from `weights`, which count as `strength`: the precision of each but the constant's.
    #[must_use]
    pub fn new(weights: Inputs, strength: f64) -> Self {
        let mut precision = [[0.0; INPUTS]; INPUTS];
        for (place, row) in precision.iter_mut().enumerate() {
            row[place] = if place == 0 { CONSTANT } else { strength };
        }
        Self { mean: weights, precision, serving: weights, learned: 0 }
    }

    /// Returns the probability that the published weights give, 0 to 1.
    #[must_use]
    pub fn probability(&self, inputs: &Inputs) -> f64 {
        sigmoid(dot(&self.serving, inputs))
    }

    /// Takes in one outcome that counts as `weight` of one, above 0 and at most 1; what was published stays.
    pub fn learn(&mut self, inputs: &Inputs, came_true: bool, weight: f64) {
        let prior = self.mean;
        let mut mean = prior;
        let truth = f64::from(u8::from(came_true));
        for _ in 0..STEPS {
            let chance = sigmoid(dot(&mean, inputs));
            let mut gradient = [0.0; INPUTS];
            for (place, slot) in gradient.iter_mut().enumerate() {
                let pulled: f64 = (0..INPUTS)
                    .map(|other| self.precision[place][other] * (mean[other] - prior[other]))
                    .sum();
                *slot = weight * inputs[place] * (chance - truth) + pulled;
            }
            let Some(step) = solve(&self.curved(inputs, chance, weight), &gradient) else { return };
            mean.iter_mut().zip(&step).for_each(|(weight, step)| *weight -= step);
            if step.iter().all(|step| step.abs() < CLOSE) {
                break;
            }
        }
        self.precision = self.curved(inputs, sigmoid(dot(&mean, inputs)), weight);
        self.mean = mean;
        self.learned += 1;
    }

    /// Lets what was learned answer from now on.
    pub fn publish(&mut self) {
        self.serving = self.mean;
    }

    /// Returns the weights that were learned, the constant's first.
    #[must_use]
    pub fn weights(&self) -> &Inputs {
        &self.mean
    }

    /// Returns how many outcomes were learned from.
    #[must_use]
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// Returns the precision with the curvature of one outcome added.
    fn curved(&self, inputs: &Inputs, chance: f64, weight: f64) -> [Inputs; INPUTS] {
        let mut precision = self.precision;
        let weight = weight * chance * (1.0 - chance);
        for (row, left) in precision.iter_mut().zip(inputs) {
            for (slot, right) in row.iter_mut().zip(inputs) {
                *slot += weight * left * right;
            }
        }
        precision
    }
}

fn dot(left: &Inputs, right: &Inputs) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

/// Solves a symmetric positive definite system by Cholesky's decomposition (Golub and Van Loan, *Matrix Computations*, 4.2);
/// `None` if it is not positive definite, which a precision is unless its numbers are broken.
fn solve(matrix: &[Inputs; INPUTS], right: &Inputs) -> Option<Inputs> {
    let mut lower = [[0.0; INPUTS]; INPUTS];
    for row in 0..INPUTS {
        for column in 0..=row {
            let known: f64 = (0..column).map(|place| lower[row][place] * lower[column][place]).sum();
            let left = matrix[row][column] - known;
            if row == column {
                if !(left > 0.0 && left.is_finite()) {
                    return None;
                }
                lower[row][row] = left.sqrt();
            } else {
                lower[row][column] = left / lower[column][column];
            }
        }
    }
    let mut solution = *right;
    for row in 0..INPUTS {
        let known: f64 = (0..row).map(|place| lower[row][place] * solution[place]).sum();
        solution[row] = (solution[row] - known) / lower[row][row];
    }
    for row in (0..INPUTS).rev() {
        let known: f64 = (row + 1..INPUTS).map(|place| lower[place][row] * solution[place]).sum();
        solution[row] = (solution[row] - known) / lower[row][row];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::{INPUTS, Inputs, Score, sigmoid};

    /// A fixed sequence between -1 and 1 (a linear congruential generator, Numerical Recipes).
    fn noise(state: &mut u32) -> f64 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(*state >> 8) / f64::from(1_u32 << 23) - 1.0
    }

    fn inputs(state: &mut u32) -> Inputs {
        let mut inputs = [1.0; INPUTS];
        inputs.iter_mut().skip(1).for_each(|slot| *slot = 2.0 * noise(state));
        inputs
    }

    #[test]
    fn the_weights_behind_the_outcomes_are_found() {
        let wanted = [0.5, -1.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.3];
        let mut state = 7;
        let mut score = Score::new([0.0; INPUTS], 1.0);
        for _ in 0..20_000 {
            let inputs = inputs(&mut state);
            let chance = sigmoid(super::dot(&wanted, &inputs));
            score.learn(&inputs, noise(&mut state).midpoint(1.0) < chance, 1.0);
        }
        for (found, wanted) in score.weights().iter().zip(wanted) {
            assert!((found - wanted).abs() < 0.1, "{:?}", score.weights());
        }
    }

    #[test]
    fn a_stronger_prior_moves_less() {
        let moved = |strength| {
            let mut score = Score::new([0.0; INPUTS], strength);
            score.learn(&[1.0; INPUTS], true, 1.0);
            score.weights()[1]
        };
        assert!(moved(1.0) > 5.0 * moved(30.0) && moved(30.0) > 0.0);
    }

    #[test]
    fn nothing_learned_answers_before_it_is_published() {
        let mut score = Score::new([0.0; INPUTS], 1.0);
        let seen = [1.0; INPUTS];
        score.learn(&seen, true, 1.0);
        assert_eq!(score.probability(&seen), 0.5);
        score.publish();
        assert!(score.probability(&seen) > 0.5);
        assert_eq!(score.learned(), 1);
    }

    #[test]
    fn broken_inputs_teach_nothing() {
        let mut score = Score::new([0.0; INPUTS], 1.0);
        score.learn(&[f64::NAN; INPUTS], true, 1.0);
        assert_eq!((score.learned(), *score.weights()), (0, [0.0; INPUTS]));
    }
}
