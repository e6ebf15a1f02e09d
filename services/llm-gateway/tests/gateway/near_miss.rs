//! Pairs that look alike, by category: a regression test of guards and decision, never evidence of their quality.

use std::collections::BTreeMap;

use embedding::{Embedder as _, Hashing};
use llm_gateway::cache::semantic::{Decision, Question};
use serde::Deserialize;

const PAIRS: &str = include_str!("../data/near_miss.json");

#[derive(Deserialize)]
struct File {
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    a: String,
    b: String,
    should_match: bool,
    category: String,
}

/// Returns how many pairs of each category are served, and how many there are.
async fn served(decision: &Decision, should_match: bool) -> BTreeMap<String, (usize, usize)> {
    let file: File = serde_json::from_str(PAIRS).unwrap();
    let embedder = Hashing::new(512);
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for pair in file.pairs.into_iter().filter(|pair| pair.should_match == should_match) {
        let mut vectors = embedder.embed(&[&pair.a, &pair.b]).await.unwrap().into_iter();
        let one = Question::new(&pair.a, vectors.next().unwrap());
        let other = Question::new(&pair.b, vectors.next().unwrap());
        let count = counts.entry(pair.category).or_default();
        count.0 += usize::from(decision.judge(&one, &other).is_served());
        count.1 += 1;
    }
    counts
}

#[tokio::test]
async fn few_near_misses_of_any_category_are_served() {
    let served = served(&Decision::shipped("hashing-512", 512), false).await;
    for (category, (wrong, all)) in &served {
        let most = match category.as_str() {
            "numeric-swap" | "negation" | "unit-swap" => 0,
            _ => all / 4,
        };
        assert!(wrong <= &most, "{category}: {wrong} of {all} served, at most {most}; {served:?}");
    }
}

#[tokio::test]
async fn guards_alone_object_to_numbers_units_and_negations() {
    // The lowest threshold there is: whatever is near enough to be looked at is served unless a guard objects.
    let served = served(&Decision::similar(-1.0), false).await;
    for category in ["numeric-swap", "negation", "unit-swap"] {
        assert_eq!(served[category].0, 0, "{category}: {served:?}");
    }
}
