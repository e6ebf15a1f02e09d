//! How near the nearest question came.

use super::{Objection, Verdict};
use crate::cache::Key;

/// The nearest question, and why its answer served or did not.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearness {
    /// Whether its answer served.
    pub served: bool,
    /// What was decided.
    pub verdict: Verdict,
    /// Whether the verifier refused it.
    pub refused_by_verifier: bool,
    /// Names the stored answer.
    pub answer: Key,
}

impl Nearness {
    /// Returns the guard that objects, and to what; the verifier counts as one.
    #[must_use]
    pub fn objection(&self) -> Option<(&'static str, &str, &str)> {
        match &self.verdict.objection {
            Some(Objection { guard, one, other }) => Some((guard, one, other)),
            None => self.refused_by_verifier.then_some(("verifier", "", "")),
        }
    }
}
