//! What the score of a spike looks at: the value's own trailing history, and nothing else.
//!
//! A spike is a value above `factor` × the mean of its trailing window. It is over when the next day's value is at most the same product.
//! Spikes are rare, so the score also learns from the same question asked at half to twice the factor ([`SHARES`]); which of them is asked
//! is one of the inputs. On recorded pool days this is worth about 0.02 of Brier ratio over learning from the one factor alone.

use serde::{Deserialize, Serialize};

use super::{
    figure::mean,
    score::{INPUTS, Inputs},
};

/// The shares of the factor at which the question is asked to learn, and what an answer counts; 1 is the spike itself. The others
/// count half, since questions about the same day are no independent evidence.
pub(super) const SHARES: [(f64, f64); 5] = [(0.5, 0.5), (0.7, 0.5), (1.0, 1.0), (1.4, 0.5), (2.0, 0.5)];

/// Centre and half-width of each input but the constant: round figures near what daily APRs show. They are part of what weights mean.
const SCALES: [(f64, f64); INPUTS - 1] =
    [(0.6, 0.6), (0.5, 0.7), (-1.5, 1.3), (0.0, 0.7), (0.3, 0.3), (5.5, 1.0), (0.0, 0.25), (-0.3, 0.4)];
/// No input counts for more than this, on either side.
const MOST: f64 = 4.0;
/// Days with and without an exit that are assumed before any is seen.
const ASSUMED: f64 = 1.5;

/// What a template with a score watches, as its file states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The value that spikes, such as `apr`.
    pub value: String,
    /// A value that says how large the subject is, such as `tvl`; may be empty.
    #[serde(default)]
    pub size: String,
    /// How many times the mean is a spike, above 1.
    pub factor: f64,
    /// Days of the mean.
    pub window_days: u32,
    /// Fewest days that must be known in the window.
    pub least_days: usize,
    /// Below this, in the value's unit, values are noise; it is added before logarithms are taken. Above 0.
    pub noise: f64,
    /// The weights to start from, the constant's first.
    pub weights: Inputs,
    /// What those weights are worth: the precision of each, in outcomes of inputs about 1 that could go either way.
    pub strength: f64,
    /// What they were fitted on, in words.
    pub provenance: String,
}

/// A value beside its past.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    /// The values of the window's days, oldest first.
    pub past: &'a [f64],
    /// The value itself.
    pub now: f64,
    /// The subject's size now, and on the last day before; `None` where it is not known.
    pub size: Option<(f64, f64)>,
}

impl Watch {
    /// Returns what is wrong with it.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        if self.value.is_empty() {
            Some("`score.value` must name a value")
        } else if !(self.factor > 1.0 && self.factor.is_finite()) {
            Some("`score.factor` must be above 1")
        } else if !(self.noise > 0.0 && self.noise.is_finite()) {
            Some("`score.noise` must be above 0")
        } else if self.window_days == 0 || self.least_days < 2 {
            Some("`score.window_days` must be at least 1 and `score.least_days` at least 2")
        } else if !(self.strength > 0.0 && self.strength.is_finite()) {
            Some("`score.strength` must be above 0")
        } else if self.weights.iter().any(|weight| !weight.is_finite()) {
            Some("`score.weights` must be finite")
        } else if self.provenance.trim().is_empty() {
            Some("`score.provenance` must say what the weights were fitted on")
        } else {
            None
        }
    }

    /// Returns above what a value is a spike, with `share` of the factor; `None` if too few days are known.
    #[must_use]
    pub fn threshold(&self, past: &[f64], share: f64) -> Option<f64> {
        (past.len() >= self.least_days.max(2)).then(|| self.factor * share * mean(past))
    }

    /// Returns the inputs for a value above the threshold that `share` gives; `None` if it is not above, or too few days are known.
    #[must_use]
    pub(super) fn inputs(&self, moment: &Moment<'_>, share: f64) -> Option<Inputs> {
        let threshold = self.threshold(moment.past, share).filter(|threshold| moment.now > *threshold)?;
        let log = |value: f64| (value.max(0.0) + self.noise).ln();
        let logs: Vec<f64> = moment.past.iter().copied().map(log).collect();
        let above: Vec<bool> = moment.past.iter().map(|value| *value > threshold).collect();
        let over = log(moment.now) - log(threshold);
        let (exits, stays) = turns(&above);
        let (size, growth) = match moment.size {
            Some((now, before)) => {
                (now.max(1.0).log10().clamp(2.0, 8.0), (now.max(1.0) / before.max(1.0)).ln().clamp(-2.0, 2.0))
            }
            None => (SCALES[5].0, SCALES[6].0),
        };
        let age = above.iter().rev().take_while(|above| **above).count();
        let raw = [
            over.clamp(0.0, 3.0),
            (age as f64).ln_1p(),
            falls(&logs, over),
            ((exits + ASSUMED) / (stays + ASSUMED)).ln(),
            autocorrelation(&logs),
            size,
            growth,
            share.ln(),
        ];
        let mut inputs = [1.0; INPUTS];
        for ((slot, raw), (centre, width)) in inputs.iter_mut().skip(1).zip(raw).zip(SCALES) {
            *slot = ((raw - centre) / width).clamp(-MOST, MOST);
        }
        Some(inputs)
    }
}

/// Returns how often the series left the ground above the threshold, and how often it stayed there, today included.
fn turns(above: &[bool]) -> (f64, f64) {
    let spent = above.iter().filter(|above| **above).count();
    let exits = above.windows(2).filter(|pair| pair[0] && !pair[1]).count();
    (exits as f64, (spent - exits) as f64)
}

/// Returns the log odds that a day's change was a fall by at least `needed`, in logarithms, with half a day assumed each way.
fn falls(logs: &[f64], needed: f64) -> f64 {
    let changes = logs.windows(2).map(|pair| pair[1] - pair[0]);
    let (mut far, mut short) = (0.5_f64, 0.5);
    changes.for_each(|change| if change <= -needed { far += 1.0 } else { short += 1.0 });
    (far / short).ln()
}

/// Returns the autocorrelation with the day before, drawn to 0 where hardly anything moves.
fn autocorrelation(logs: &[f64]) -> f64 {
    let centre = mean(logs);
    let products: f64 = logs.windows(2).map(|pair| (pair[0] - centre) * (pair[1] - centre)).sum();
    let squares: f64 = logs.iter().map(|value| (value - centre).powi(2)).sum();
    products / (squares + 0.1)
}

#[cfg(test)]
mod tests {
    use super::{INPUTS, Moment, Watch};

    fn watch() -> Watch {
        Watch {
            value: "apr".into(),
            size: "tvl".into(),
            factor: 3.0,
            window_days: 30,
            least_days: 7,
            noise: 0.01,
            weights: [0.0; INPUTS],
            strength: 30.0,
            provenance: "none".into(),
        }
    }

    #[test]
    fn a_spike_needs_days_and_height() {
        let moment = |past, now| Moment { past, now, size: None };
        assert!(watch().inputs(&moment(&[10.0; 6], 99.0), 1.0).is_none(), "six days");
        assert!(watch().inputs(&moment(&[10.0; 7], 30.0), 1.0).is_none(), "three times is not more");
        assert!(watch().inputs(&moment(&[10.0; 7], 30.1), 1.0).is_some());
        assert!(watch().inputs(&moment(&[10.0; 7], 30.1), 1.4).is_none());
        assert!(watch().inputs(&moment(&[0.0; 7], 0.1), 1.0).is_some(), "above nothing");
    }

    #[test]
    fn each_input_moves_with_what_it_is_named_for() {
        let of = |past: &[f64], now, size| watch().inputs(&Moment { past, now, size }, 1.0).unwrap();
        let flat = [10.0; 10];
        let plain = of(&flat, 40.0, Some((1e5, 1e5)));
        assert!(of(&flat, 80.0, None)[1] > plain[1], "higher above");
        let old = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 30.0, 30.0];
        assert!(of(&old, 40.0, None)[2] > plain[2], "two days old");
        let nervous = [1.0, 30.0, 1.0, 1.0, 30.0, 1.0, 1.0, 30.0, 1.0, 1.0];
        let calm = of(&nervous, 40.0, None);
        assert!(calm[3] > plain[3] && calm[4] > plain[4], "spikes ended before");
        let slow = [1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0];
        assert!(of(&slow, 40.0, None)[5] > calm[5], "levels that last");
        assert!(of(&flat, 40.0, Some((1e6, 1e5)))[6] > plain[6], "a larger pool");
        assert!(of(&flat, 40.0, Some((2e5, 1e5)))[7] > plain[7], "a growing pool");
        assert!(plain.iter().all(|input| input.abs() <= 4.0));
    }
}
