//! How wrong estimates of filters of a kind were.

use super::Kind;

/// How much of an error one recall corrects.
const LEARNED: f64 = 0.1;
/// Farthest that an estimate is corrected, either way, as a natural logarithm: fourfold.
const FARTHEST: f64 = 1.4;

/// By which factor estimates are corrected, by the kinds of conditions in the filter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Feedback([f64; 256]);

impl Default for Feedback {
    fn default() -> Self {
        Self([0.0; 256])
    }
}

impl Feedback {
    /// Returns what an estimate for conditions of `kinds` is to be multiplied by.
    #[must_use]
    pub(crate) fn factor(&self, kinds: impl IntoIterator<Item = Kind>) -> f64 {
        self.0[usize::from(shape(kinds))].exp()
    }

    /// Learns that an estimate of `estimated` rows, not corrected, turned out to be `actual`.
    pub(crate) fn learn(&mut self, kinds: impl IntoIterator<Item = Kind>, estimated: f64, actual: f64) {
        // One row more on both sides: whether nothing or one is found is no error worth learning.
        let error = ((actual + 1.0) / (estimated + 1.0)).ln().clamp(-FARTHEST, FARTHEST);
        let held = &mut self.0[usize::from(shape(kinds))];
        *held += LEARNED * (error - *held);
    }
}

/// Returns a bit for each kind.
fn shape(kinds: impl IntoIterator<Item = Kind>) -> u8 {
    kinds.into_iter().fold(0, |shape, kind| shape | 1 << kind as u8)
}

#[cfg(test)]
mod tests {
    use super::Feedback;
    use crate::plan::Kind::{Category, Pool};

    #[test]
    fn estimates_of_a_kind_come_to_what_they_turn_out_to_be() {
        let mut feedback = Feedback::default();
        for _ in 0..60 {
            feedback.learn([Category, Pool], 100.0, 200.0);
        }
        let factor = feedback.factor([Pool, Category]);
        assert!((factor - 2.0).abs() < 0.05, "{factor}");
        assert!((feedback.factor([Pool]) - 1.0).abs() < 1e-12, "other kinds are not touched");
    }

    #[test]
    fn no_correction_is_more_than_fourfold() {
        let mut feedback = Feedback::default();
        (0..1_000).for_each(|_| feedback.learn([Pool], 0.0, 1e6));
        assert!(feedback.factor([Pool]) < 4.1);
    }
}
