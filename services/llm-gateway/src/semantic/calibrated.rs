//! What thresholds would bring on labelled pairs.

use crate::{
    cache::semantic::{
        Question,
        calibrate::{Labelled, Point, at, curve, lowest_within},
    },
    error::Error,
    gateway::Gateway,
};

/// Pairs embedded at a time.
const BATCH: usize = 128;

/// Two questions, and whether one answer is right for both.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The one.
    pub one: String,
    /// The other.
    pub other: String,
    /// Whether one answer is right for both.
    pub same: bool,
}

/// What thresholds bring on some pairs.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// The threshold of now.
    pub current: Point,
    /// The lowest that keeps the promise asked for, if there is one.
    pub recommended: Option<Point>,
    /// Every threshold that changes something, from the lowest to the highest.
    pub curve: Vec<Point>,
}

impl Gateway {
    /// Judges `pairs` as the semantic cache would, and says what each threshold brings.
    ///
    /// # Errors
    /// [`Error::Embedder`].
    pub async fn calibrate(&self, pairs: &[Pair], most_false_percent: f64) -> Result<Calibration, Error> {
        let decision = self.semantic.decision();
        let mut labelled = Vec::with_capacity(pairs.len());
        for batch in pairs.chunks(BATCH) {
            let texts: Vec<&str> =
                batch.iter().flat_map(|pair| [pair.one.as_str(), pair.other.as_str()]).collect();
            let vectors = self.embedder.embed(&texts).await?;
            for (pair, vectors) in batch.iter().zip(vectors.chunks_exact(2)) {
                let [one, other] = vectors else { continue };
                let stored = Question::new(&pair.one, one.clone());
                let verdict = decision.judge(&stored, &Question::new(&pair.other, other.clone()));
                labelled.push(Labelled { score: verdict.score, same: pair.same });
            }
            // Judging holds up the thread it runs on.
            tokio::task::yield_now().await;
        }
        Ok(Calibration {
            current: at(&labelled, decision.threshold()),
            recommended: lowest_within(&labelled, most_false_percent),
            curve: curve(&labelled),
        })
    }
}

/// Shows everything but the words.
impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("same", &self.same).finish_non_exhaustive()
    }
}
