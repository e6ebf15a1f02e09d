//! Prints what the decision of the semantic tier is fitted on; `tests/peers/semantic_fit.py` reads it.
//!
//! `cargo run --release -p llm-gateway --features bench,minilm --example semantic_features -- EMBEDDER NEAR_MISSES PARAPHRASES`
//!
//! The first line names embedder and features, each further one is a pair: of the near misses, and of each paraphrase with the origins
//! nearest to it and its own. Vectors are printed where a network over them is fitted: for folders of sentence encoders.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    collections::{BTreeSet, HashMap},
    env, fs,
};

use embedding::{Choice, Embedder};
use llm_gateway::cache::semantic::{NAMES, Question, features, objection, stems_alone};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Texts embedded at a time.
const BATCH: usize = 64;
/// Nearest origins of a paraphrase that are printed.
const NEAREST: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [embedder, near_misses, paraphrases] = &arguments[..] else {
        return Err("wanted: EMBEDDER NEAR_MISSES PARAPHRASES".into());
    };
    let choice: Choice = embedder.parse()?;
    let embedder = choice.embedder(&embedding::Settings::defaults(), None).await?;
    let near_misses: Vec<Value> = serde_json::from_slice(&fs::read(near_misses)?)?;
    let paraphrases: Vec<Value> = serde_json::from_slice(&fs::read(paraphrases)?)?;
    let near_misses = texts(&near_misses, "text_a", "text_b");
    let paraphrases = texts(&paraphrases, "origin", "similar");
    let all = near_misses.iter().chain(&paraphrases).flat_map(|(one, other, _)| [*one, *other]);
    let questions = embed(&*embedder, all.collect()).await?;
    let vectors = matches!(choice, Choice::Folder { .. });
    println!("{}", json!({ "embedder": embedder.name(), "features": NAMES.as_slice() }));
    for (one, other, pair) in &near_misses {
        print("near_miss", (*one, *other), &questions, pair["label"] == 1, 0, vectors);
    }
    let origins: BTreeSet<&str> = paraphrases.iter().map(|(origin, ..)| *origin).collect();
    for (origin, asked, _) in &paraphrases {
        let mut nearest: Vec<_> =
            origins.iter().map(|other| (similarity(&questions[other], &questions[asked]), *other)).collect();
        nearest.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (rank, (_, other)) in nearest.iter().enumerate() {
            if rank < NEAREST || other == origin {
                print("paraphrase", (*other, *asked), &questions, other == origin, rank, vectors);
            }
        }
    }
    Ok(())
}

/// Returns both texts of every pair, with the pair.
fn texts<'a>(pairs: &'a [Value], one: &str, other: &str) -> Vec<(&'a str, &'a str, &'a Value)> {
    let text = |pair: &'a Value, name: &str| pair[name].as_str().unwrap_or_default();
    pairs.iter().map(|pair| (text(pair, one), text(pair, other), pair)).collect()
}

async fn embed<'a>(
    embedder: &dyn Embedder,
    texts: BTreeSet<&'a str>,
) -> Result<HashMap<&'a str, Question>, Failure> {
    let texts: Vec<&str> = texts.into_iter().collect();
    let mut questions = HashMap::new();
    for batch in texts.chunks(BATCH) {
        let vectors = embedder.embed(batch).await?;
        questions
            .extend(batch.iter().zip(vectors).map(|(text, vector)| (*text, Question::new(text, vector))));
    }
    Ok(questions)
}

fn similarity(one: &Question, other: &Question) -> f32 {
    one.vector.iter().zip(&other.vector).map(|(one, other)| one * other).sum()
}

fn print(
    set: &str,
    (one, other): (&str, &str),
    questions: &HashMap<&str, Question>,
    same: bool,
    rank: usize,
    vectors: bool,
) {
    let (left, right) = (&questions[one], &questions[other]);
    // Near misses share a question wherever they share a text; a paraphrase is asked once, whatever it is compared with.
    let group = if set == "near_miss" { json!([one, other]) } else { json!([other]) };
    let mut line = json!({
        "set": set,
        "group": group,
        "alone": stems_alone(&left.text, &right.text),
        "label": u8::from(same),
        "rank": rank,
        "guarded": objection(&left.text, &right.text).is_some(),
        "features": features(&left.text, &right.text, similarity(left, right)).as_slice(),
    });
    if vectors {
        line["one"] = json!(left.vector);
        line["other"] = json!(right.vector);
    }
    println!("{line}");
}
