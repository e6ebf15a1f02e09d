//! Benchmark `gateway.near_miss`: paraphrases kept and near misses rejected at the shipped threshold.

use std::{collections::BTreeMap, time::Instant};

use embedding::Embedder;
use serde::Deserialize;
use serde_json::{Value, json};

pub use super::questions::Error;
use super::questions::{Questions, interval};
use crate::cache::semantic::{
    Decision,
    calibrate::{self, Labelled},
};

/// The share of near misses that has to be rejected, in percent.
const REJECTED: f64 = 90.0;

/// A pair of the file; label 1 if both ask the same.
#[derive(Deserialize)]
struct Pair {
    text_a: String,
    text_b: String,
    label: u8,
}

/// Judges every pair of a file; returns the paraphrases kept in percent, and the details.
///
/// # Errors
///
/// [`Error`] if the file has another shape or lacks one kind of pair, or the embedder fails.
pub async fn measure(data: &[u8], embedder: &dyn Embedder) -> Result<(f64, Value), Error> {
    let pairs: Vec<Pair> = serde_json::from_slice(data)?;
    let texts = pairs.iter().flat_map(|pair| [pair.text_a.as_str(), pair.text_b.as_str()]);
    let questions = Questions::embed(texts, embedder).await?;
    let decision = Decision::shipped(embedder.name(), embedder.dimensions());
    let mut objections: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    let (mut judged, mut alike) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for pair in &pairs {
        let Some((one, other)) = questions.pair(&pair.text_a, &pair.text_b) else { continue };
        let verdict = decision.judge(one, other);
        let same = pair.label == 1;
        judged.push(Labelled { score: verdict.score, same });
        alike.push(Labelled { score: Some(verdict.similarity), same });
        if let Some(objection) = verdict.objection {
            objections.entry(objection.guard).or_default()[usize::from(same)] += 1;
        }
    }
    let judge_us = start.elapsed().as_secs_f64() * 1e6 / judged.len().max(1) as f64;
    if judged.iter().all(|pair| pair.same) || !judged.iter().any(|pair| pair.same) {
        return Err(Error::Empty("pairs of one label only"));
    }
    let point = calibrate::at(&judged, decision.threshold());
    let alone = calibrate::curve(&alike).into_iter().find(|point| point.rejected.percent >= REJECTED);
    let best = calibrate::curve(&judged).into_iter().find(|point| point.rejected.percent >= REJECTED);
    let details = json!({
        "rejected_percent": point.rejected.percent,
        "kept_interval": interval(point.kept),
        "rejected_interval": interval(point.rejected),
        "threshold": decision.threshold(),
        "embedder": embedder.name(),
        "pairs": judged.len(),
        "false_hits_percent": point.false_hits.percent,
        "judge_us": judge_us,
        "similarity_alone_kept_percent": alone.map(|point| point.kept.percent),
        "kept_at_90_rejected_percent": best.map(|point| point.kept.percent),
        "objections_to_near_misses_and_paraphrases": objections,
        "model": decision.model().map(|model| &model.provenance),
    });
    Ok((point.kept.percent, details))
}

#[cfg(test)]
mod tests {
    use embedding::Hashing;

    use super::{Error, measure};

    #[tokio::test]
    async fn a_file_of_the_shape_is_measured_and_another_refused() {
        let file = r#"[
            {"text_a": "How do I learn to play the piano?", "text_b": "How do I learn to play piano?", "label": 1},
            {"text_a": "Is an APR of 25 normal?", "text_b": "Is an APR of 250 normal?", "label": 0}
        ]"#;
        let (kept, details) = measure(file.as_bytes(), &Hashing::new(512)).await.unwrap();
        assert_eq!((kept, &details["rejected_percent"]), (100.0, &100.0.into()));
        assert_eq!(details["objections_to_near_misses_and_paraphrases"]["number"][0], 1);
        assert!(matches!(measure(b"{}", &Hashing::new(512)).await, Err(Error::Shape(_))));
        assert!(matches!(measure(b"[]", &Hashing::new(512)).await, Err(Error::Empty(_))));
    }
}
