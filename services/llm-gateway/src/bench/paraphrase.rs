//! Benchmark `gateway.paraphrase`: every `origin` of a file is stored and every `similar` asked; a hit on another origin is wrong.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use embedding::Embedder;
use serde::Deserialize;
use serde_json::{Value, json};

pub use super::questions::Error;
use super::questions::{Questions, interval};
use crate::cache::semantic::{CANDIDATES, Decision, Limits, Lookup, Store, calibrate::Share};

/// A pair of the file: both say the same.
#[derive(Deserialize)]
struct Pair {
    origin: String,
    similar: String,
}

/// Asks every paraphrase; returns the wrong hits in percent of hits, and the details. Equal origins count as one.
///
/// # Errors
///
/// [`Error`] if the file has another shape or holds no pair, or the embedder fails.
pub async fn measure(data: &[u8], embedder: &dyn Embedder) -> Result<(f64, Value), Error> {
    let pairs: Vec<Pair> = serde_json::from_slice(data)?;
    if pairs.is_empty() {
        return Err(Error::Empty("no pair"));
    }
    let texts = pairs.iter().flat_map(|pair| [pair.origin.as_str(), pair.similar.as_str()]);
    let questions = Questions::embed(texts, embedder).await?;
    let decision = Decision::shipped(embedder.name(), embedder.dimensions());
    let origins: BTreeSet<&str> = pairs.iter().map(|pair| pair.origin.as_str()).collect();
    let mut store =
        Store::new(Limits { questions: origins.len(), per_partition: origins.len(), bytes: usize::MAX });
    for origin in &origins {
        if let Some(question) = questions.of(origin) {
            store.insert((), question.clone(), *origin, 0);
        }
    }
    let (mut hits, mut wrong, mut nearest_wrong, mut objected) = (0, 0, 0, 0);
    let mut took: Vec<Duration> = Vec::with_capacity(pairs.len());
    for pair in &pairs {
        let Some(asked) = questions.of(&pair.similar) else { continue };
        let start = Instant::now();
        let found = store.lookup(&(), asked, &decision, CANDIDATES);
        took.push(start.elapsed());
        match found {
            Lookup::Served(found) => {
                hits += 1;
                wrong += usize::from(found.value != pair.origin);
            }
            Lookup::Near(found) => {
                nearest_wrong += usize::from(found.value != pair.origin);
                objected += usize::from(found.verdict.objection.is_some());
            }
            Lookup::Empty => {}
        }
    }
    took.sort();
    let at = |quantile: f64| took[((took.len() - 1) as f64 * quantile) as usize].as_secs_f64() * 1e6;
    let (hit, wrong) = (Share::of(hits, pairs.len()), Share::of(wrong, hits));
    let details = json!({
        "hit_percent": hit.percent,
        "lookup_p99_us": at(0.99),
        "lookup_p50_us": at(0.5),
        "embedder": embedder.name(),
        "threshold": decision.threshold(),
        "wrong_interval": interval(wrong),
        "hit_interval": interval(hit),
        "stored": origins.len(),
        "asked": pairs.len(),
        "misses_whose_nearest_is_another": nearest_wrong,
        "misses_by_a_guard": objected,
        "model": decision.model().map(|model| &model.provenance),
    });
    Ok((wrong.percent, details))
}

#[cfg(test)]
mod tests {
    use embedding::Hashing;

    use super::{Error, measure};

    #[tokio::test]
    async fn equal_origins_count_as_one_and_no_pair_is_refused() {
        let file = r#"[
            {"origin": "How do I learn to play the piano?", "similar": "How do I learn to play piano?"},
            {"origin": "How do I learn to play the piano?", "similar": "how do i learn to play the piano"},
            {"origin": "Why do cats sleep all day?", "similar": "Is 5 more than 4?"}
        ]"#;
        let (wrong, details) = measure(file.as_bytes(), &Hashing::new(512)).await.unwrap();
        assert_eq!((wrong, details["stored"].as_u64(), details["asked"].as_u64()), (0.0, Some(2), Some(3)));
        assert!((details["hit_percent"].as_f64().unwrap() - 200.0 / 3.0).abs() < 1e-9, "{details}");
        assert!(matches!(measure(b"[]", &Hashing::new(512)).await, Err(Error::Empty(_))));
    }
}
