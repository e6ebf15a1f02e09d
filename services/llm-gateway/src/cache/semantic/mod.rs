//! The semantic tier's decision: may the answer to one question be served to another?
//!
//! 1. Similarity alone serves wrong answers ("APR 25" is close to "APR 250"). An answer is served only where the vectors are near, no
//!    guard objects, and a score learned from labelled pairs reaches its threshold.
//! 2. A guard's objection stands at any threshold: numbers, identifiers, addresses and symbols are compared, never weighed.
//! 3. Every verdict carries similarity, score, threshold and objection, so that a miss can be explained as well as a hit.
//! 4. Only questions of one partition are compared: tenant, model, system prompt, tools, format, parameters and history are equal.
//! 5. Weights are data with their provenance in the same file; a program that measures other features refuses them.
//!
//! Everything here is pure: vectors come in, verdicts go out.

pub mod calibrate;
mod decision;
mod features;
mod mode;
mod model;
mod nearness;
mod store;

use wording::Pairing;
pub use wording::{MOST_WORDS, Objection, Text, objection};

pub use self::{
    decision::{Decision, LEAST_SIMILARITY, Question, UNKNOWN_THRESHOLD, Verdict, dot},
    features::{Features, NAMES},
    mode::Mode,
    model::{Error, Model},
    nearness::Nearness,
    store::{CANDIDATES, Candidate, Limits, Lookup, Store},
};

/// Measures two texts whose embeddings have this similarity, each feature as named in [`NAMES`].
#[must_use]
pub fn features(one: &Text, other: &Text, similarity: f32) -> Features {
    features::measure(&Pairing::new(one, other), similarity)
}

/// Returns the stems of the words that only one of two texts has.
#[must_use]
pub fn stems_alone(one: &Text, other: &Text) -> Vec<String> {
    let pairing = Pairing::new(one, other);
    alone(&pairing).map(str::to_owned).collect()
}

fn alone<'a>(pairing: &'a Pairing<'_>) -> impl Iterator<Item = &'a str> {
    pairing.one.left().chain(pairing.other.left()).map(|word| word.stem.as_str())
}
