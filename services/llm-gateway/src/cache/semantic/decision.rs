//! The decision: a similarity, the guards and a learned score, in this order, and what each of them said.

use std::sync::{Arc, LazyLock};

use wording::{MOST_WORDS, Objection, Pairing, Text, Word, object};

use super::{alone, features::measure, model::Model};

/// Weights for the hashing embedder and for sentence encoders of the MiniLM class.
const HASHING: &str = include_str!("models/hashing.json");
const MINILM: &str = include_str!("models/minilm.json");

/// What a spelling of a word takes, in bytes, as allocators hand it out.
const SPELLING: usize = 16;
/// Similarity below which two texts are not looked at any further: no learned score reaches that far down.
pub const LEAST_SIMILARITY: f32 = 0.5;
/// Similarity from which an embedder without a model of its own is trusted, the guards agreeing. High, for nothing is known of it:
/// the calibrator finds a better one from labelled pairs.
pub const UNKNOWN_THRESHOLD: f32 = 0.97;

/// A text with its vector of length 1.
#[derive(Clone, Debug)]
pub struct Question {
    /// The text taken apart.
    pub text: Text,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// Decides whether the answer to one question may be served to another.
#[derive(Clone, Debug)]
pub struct Decision {
    model: Option<Arc<Model>>,
    threshold: f32,
}

/// What was decided about a pair, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Cosine of the vectors, −1 to 1.
    pub similarity: f32,
    /// How likely both ask the same, 0 to 1; the similarity where there is no model. Absent if it was not asked for: the texts are not
    /// near, or a guard objects.
    pub score: Option<f32>,
    /// The score from which an answer is served.
    pub threshold: f32,
    /// What a guard objects to.
    pub objection: Option<Objection>,
}

impl Question {
    /// Takes `text` apart; `vector` is its embedding.
    #[must_use]
    pub fn new(text: &str, vector: Vec<f32>) -> Self {
        Self { text: Text::new(text), vector }
    }

    /// Returns how many bytes it takes, about: its text once as it came and once taken apart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Text { raw, words, numbers, .. } = &self.text;
        let apart = words.len() * (size_of::<Word>() + 2 * SPELLING) + size_of_val(numbers.as_slice());
        size_of::<Self>() + raw.len() + apart + size_of_val(self.vector.as_slice())
    }
}

impl Decision {
    /// Returns the decision for vectors of the embedder of this name and size: `hashing-…` and sentence encoders (`bert-…`) with 384
    /// components have models, for others the guards and [`UNKNOWN_THRESHOLD`] decide.
    #[must_use]
    pub fn shipped(embedder: &str, dimensions: usize) -> Self {
        // Apart: hardly a process needs both.
        static OF_HASHING: LazyLock<Option<Arc<Model>>> = LazyLock::new(|| read(HASHING));
        static OF_MINILM: LazyLock<Option<Arc<Model>>> = LazyLock::new(|| read(MINILM));
        let model = match embedder.split('-').next() {
            Some("hashing") => OF_HASHING.clone(),
            Some("bert") => OF_MINILM.clone().filter(|model| model.dimensions() == Some(dimensions)),
            _ => None,
        };
        model.map_or_else(|| Self::similar(UNKNOWN_THRESHOLD), Self::learned)
    }

    /// Returns the decision by `model`, at its own threshold.
    #[must_use]
    pub fn learned(model: Arc<Model>) -> Self {
        Self { threshold: model.threshold, model: Some(model) }
    }

    /// Returns the decision by guards and similarity alone.
    #[must_use]
    pub fn similar(threshold: f32) -> Self {
        Self { model: None, threshold }
    }

    /// Changes the score from which an answer is served, 0 to 1. The guards object as before, whatever it is.
    #[must_use]
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold, ..self }
    }

    /// Returns the score from which an answer is served.
    #[must_use]
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Returns the model, if the decision is learned.
    #[must_use]
    pub fn model(&self) -> Option<&Model> {
        self.model.as_deref()
    }

    /// Returns by what the best of several answers that may be served is told: its score, and how near its question is, as the model
    /// weighs them.
    #[must_use]
    pub fn rank(&self, verdict: &Verdict) -> f32 {
        /// Scores are cut off here, where their odds still differ from each other in an f32.
        const SURE: f32 = 1e-6;
        let score = verdict.score.unwrap_or_default();
        match self.model.as_ref().map_or(0.0, |model| model.nearness) {
            0.0 => score,
            nearness => {
                let chance = score.clamp(SURE, 1.0 - SURE);
                (chance / (1.0 - chance)).ln() + nearness * verdict.similarity
            }
        }
    }

    /// Judges whether the answer to `stored` may be served to `asked`.
    #[must_use]
    pub fn judge(&self, stored: &Question, asked: &Question) -> Verdict {
        let similarity = dot(&stored.vector, &asked.vector);
        let verdict = Verdict { similarity, score: None, threshold: self.threshold, objection: None };
        let longest = stored.text.words.len().max(asked.text.words.len());
        if similarity < LEAST_SIMILARITY {
            return verdict;
        }
        if longest > MOST_WORDS {
            return Verdict { objection: super::objection(&stored.text, &asked.text), ..verdict };
        }
        let pairing = Pairing::new(&stored.text, &asked.text);
        if let Some(objection) = object(&pairing) {
            return Verdict { objection: Some(objection), ..verdict };
        }
        let score = self.model.as_ref().map_or(similarity, |model| {
            let weight = model.weigh(alone(&pairing));
            model.score(&measure(&pairing, similarity), weight, &stored.vector, &asked.vector)
        });
        Verdict { score: Some(score), ..verdict }
    }
}

fn read(file: &str) -> Option<Arc<Model>> {
    Model::read(file).ok().map(Arc::new)
}

impl Verdict {
    /// Tells whether the answer may be served.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.objection.is_none() && self.score.is_some_and(|score| score >= self.threshold)
    }
}

/// Returns the sum of products, which is the cosine of vectors of length 1; 0 for vectors of different length, which are of different embedders.
#[must_use]
pub fn dot(one: &[f32], other: &[f32]) -> f32 {
    /// Independent sums, so that the compiler can use vector instructions.
    const LANES: usize = 8;
    if one.len() != other.len() {
        return 0.0;
    }
    let mut sums = [0.0; LANES];
    let (ones, others) = (one.chunks_exact(LANES), other.chunks_exact(LANES));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(one, other)| one * other).sum();
    for (one, other) in ones.zip(others) {
        for (sum, (one, other)) in sums.iter_mut().zip(one.iter().zip(other)) {
            *sum += one * other;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Decision, HASHING, LEAST_SIMILARITY, MINILM, Question, UNKNOWN_THRESHOLD, Verdict, dot};
    use crate::cache::semantic::model::Model;

    fn question(text: &str, angle: f32) -> Question {
        Question::new(text, vec![angle.cos(), angle.sin()])
    }

    #[test]
    fn the_shipped_models_are_whole_and_chosen_by_the_embedder() {
        for file in [HASHING, MINILM] {
            let model = Model::read(file).unwrap();
            assert!(model.threshold > 0.5 && model.provenance["left_out"]["kept"]["percent"].is_number());
            assert!(file.len() <= 200 << 10, "{} bytes", file.len());
        }
        assert!(Decision::shipped("hashing-512", 512).model().is_some());
        assert!(Decision::shipped("bert-0123", 384).model().is_some());
        for (name, dimensions) in [("bert-0123", 768), ("openai/some-model@384", 384)] {
            let decision = Decision::shipped(name, dimensions);
            assert!(decision.model().is_none() && decision.threshold() == UNKNOWN_THRESHOLD);
        }
    }

    #[test]
    fn what_is_not_near_is_not_judged() {
        let decision = Decision::similar(0.0);
        let verdict = decision.judge(&question("a pool", 0.0), &question("a pool", 1.2));
        assert!(verdict.similarity < LEAST_SIMILARITY && verdict.score.is_none() && !verdict.is_served());
    }

    #[test]
    fn without_a_model_similarity_and_guards_decide() {
        let decision = Decision::similar(0.9);
        let verdict =
            decision.judge(&question("how are pools made", 0.0), &question("how is a pool made", 0.1));
        assert!(verdict.is_served(), "{verdict:?}");
        let verdict =
            decision.judge(&question("how is pool A made", 0.0), &question("how is pool B made", 0.0));
        assert_eq!(verdict.objection.unwrap().guard, "name");
    }

    #[test]
    fn a_question_is_answered_by_its_own_answer() {
        for name in ["hashing-512", "bert-0"] {
            let decision = Decision::shipped(name, 384);
            let mut vector = vec![0.0; 384];
            vector[0] = 1.0;
            let question = Question::new("What is the best way to learn to play the piano?", vector);
            assert!(decision.judge(&question, &question).is_served(), "{name}");
        }
    }

    #[test]
    fn of_answers_that_may_serve_the_model_weighs_how_near_they_are() {
        let near =
            |score, similarity| Verdict { similarity, score: Some(score), threshold: 0.5, objection: None };
        let (likely, close) = (near(0.9, 0.6), near(0.8, 0.9));
        let hashing = Decision::shipped("hashing-512", 512);
        assert!(hashing.rank(&close) > hashing.rank(&likely));
        assert!(hashing.rank(&near(1.0, 0.6)).is_finite());
        for decision in [Decision::shipped("bert-0", 384), Decision::similar(0.5)] {
            assert!(decision.rank(&close) < decision.rank(&likely));
        }
    }

    proptest! {
        #[test]
        fn no_threshold_lets_another_number_or_pool_through(
            one in 0_u32..100_000, other in 0_u32..100_000, first in "[A-Z]", second in "[A-Z]", threshold in -1.0_f32..1.0,
        ) {
            for decision in [Decision::shipped("hashing-512", 512), Decision::shipped("bert-0", 384), Decision::similar(0.0)] {
                let decision = decision.with_threshold(threshold);
                let asks = |text: String| Question::new(&text, vec![1.0]);
                if one != other {
                    let verdict = decision.judge(&asks(format!("is an APR of {one} normal")), &asks(format!("is an APR of {other} normal")));
                    prop_assert!(!verdict.is_served());
                }
                if first != second && first != "I" && second != "I" {
                    let verdict = decision.judge(&asks(format!("what does pool {first} pay")), &asks(format!("what does pool {second} pay")));
                    prop_assert!(!verdict.is_served());
                }
            }
        }
    }

    #[test]
    fn the_dot_product_takes_every_component() {
        let (one, other): (Vec<f32>, Vec<f32>) = ((0..19).map(|i| i as f32).collect(), vec![1.0; 19]);
        assert_eq!(dot(&one, &other), 171.0);
        assert_eq!(dot(&one, &other[1..]), 0.0);
    }
}
