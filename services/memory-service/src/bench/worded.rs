//! `memory.worded`: recalls by all that speaks for a memory, asked in words, and how long each step of them takes.
//!
//! Three sets of memories. `made` are those of `memory.serve`: no threads, words by Zipf, and one that all share. `days` are recorded pool
//! days, one memory a pool and day, thrice (48,051 of the 16,017 recorded): a pool is a thread of days, and every memory is written from one
//! template, so that a question shares words with all of them. `apart` are the same days without threads. Vectors of the days are those of the
//! service's own embedder of words. In this process: no wire, no store.

use std::hash::{DefaultHasher, Hasher as _};

use embedding::{Embedder as _, Hashing};
use futures::FutureExt as _;
use serde_json::{Map, Value, json};

use super::{
    asking::Asking,
    pool_days::{self, DIMENSIONS, Error},
    process::{DIMENSIONS as WIDE, corpus::Corpus},
};
use crate::{
    memory::{Memory, Place, Record},
    query::{Filter, Likeness, Query, Ranking},
    recall::Ran,
    vector::metric::Metric,
};

/// Memories of the made set, and how often the recorded days are taken.
const MADE: u64 = 50_000;
const TIMES: usize = 3;
/// Questions of a set, and those before that are not measured.
const ASKED: u64 = 300;
const WARM_UP: u64 = 20;
/// The steps that are shown.
const STEPS: [&str; 4] = ["plan", "text", "scan", "rank"];

/// Measures one round; returns the p50 of the slowest set in milliseconds, and an object a set: `memories`, `p50_ms`, `p95_ms`, a p50 of each step
/// in microseconds, and `answers`, a number that changes with any id, order or score that was found.
///
/// # Errors
/// Those of a file that is not one of recorded pools, or of a recall.
pub fn measure(days: &[u8]) -> Result<(f64, Value), Error> {
    let made = Corpus::new(MADE);
    let records: Vec<_> = (0..MADE).map(|number| made.record(number)).collect();
    let mut sets = vec![("made", set(WIDE, records, |number| Ok(made.question(number)))?)];
    let days = many(&pool_days::read(days)?)?;
    let ask = |number| asked(&days, number);
    sets.push(("days", set(DIMENSIONS, days.clone(), ask)?));
    sets.push(("apart", set(DIMENSIONS, days.iter().map(apart).collect(), ask)?));
    let slowest = sets.iter().filter_map(|(_, set)| set["p50_ms"].as_f64()).fold(0.0, f64::max);
    let details: Map<_, _> = sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect();
    Ok((slowest, Value::Object(details)))
}

/// Asks the questions that `ask` tells by number.
fn set(
    dimensions: usize,
    records: Vec<Record>,
    ask: impl Fn(u64) -> Result<Query, Error>,
) -> Result<Value, Error> {
    let memories = records.len();
    let asking = Asking::new(Metric::Cosine, dimensions, records).map_err(failed)?;
    let (mut total, mut steps, mut answers) =
        (Vec::new(), vec![Vec::new(); STEPS.len()], DefaultHasher::default());
    for number in 0..WARM_UP + ASKED {
        let ran = asking.run(&ask(number)?, None).map_err(failed)?;
        if number < WARM_UP {
            continue;
        }
        total.extend(ran.plan.root.duration);
        for (name, times) in STEPS.iter().zip(&mut steps) {
            times.extend(ran.plan.root.find(name).and_then(|node| node.duration));
        }
        note(&ran, &mut answers);
    }
    let mut set = json!({
        "memories": memories,
        "answers": answers.finish(),
        "p50_ms": super::quantile(&mut total, 0.5),
        "p95_ms": super::quantile(&mut total, 0.95),
    });
    for (name, times) in STEPS.iter().zip(&mut steps) {
        set[format!("{name}_us")] = json!(1e3 * super::quantile(times, 0.5));
    }
    Ok(set)
}

fn note(ran: &Ran, answers: &mut DefaultHasher) {
    for found in &ran.answer.found {
        answers.write(found.memory.id.as_bytes());
        answers.write_u64(found.score.to_bits());
    }
}

/// Takes the recorded days some times over, each time of other pools, and embeds them.
fn many(days: &[Record]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for time in 0..TIMES {
        for Record { memory, .. } in days {
            let again = |name: &str| format!("{name}-{time}");
            let place = memory.place.as_ref();
            let memory = Memory {
                id: again(&memory.id).into(),
                pools: memory.pools.iter().map(|pool| again(pool)).collect(),
                place: place.map(|place| Place { thread: again(&place.thread), ..place.clone() }),
                ..Memory::clone(memory)
            };
            let embedding = embedded(&memory.content)?;
            records.push(Record::new(memory, embedding));
        }
    }
    Ok(records)
}

fn apart(record: &Record) -> Record {
    let memory = Memory { place: None, ..Memory::clone(&record.memory) };
    Record::new(memory, record.embedding.clone())
}

/// Returns a question about a drawn day: every second one of its protocol alone.
fn asked(days: &[Record], number: u64) -> Result<Query, Error> {
    let drawn = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let day = usize::try_from(drawn).ok().and_then(|drawn| days.get(drawn % days.len().max(1)));
    let Some(Record { memory, .. }) = day else { return Err(Error::Run("no days".to_owned())) };
    let text = format!("How much USD does {} {} hold?", memory.category, memory.tags.join("-"));
    let categories = if number % 2 == 1 { vec![memory.category.clone()] } else { Vec::new() };
    let likeness = Likeness::Both(text.clone(), embedded(&text)?);
    Ok(question(likeness, categories))
}

fn embedded(text: &str) -> Result<Vec<f32>, Error> {
    let embedded = Hashing::new(DIMENSIONS).embed_one(text).now_or_never();
    embedded.and_then(Result::ok).ok_or_else(|| Error::Run("no embedding".to_owned()))
}

fn question(likeness: Likeness, categories: Vec<String>) -> Query {
    let filter = Filter { categories, ..Filter::default() };
    Query { likeness, filter, ranking: Ranking::Usual, ..Query::newest(super::LIMIT) }
        .canonical(Metric::Cosine)
}

fn failed(error: super::Error) -> Error {
    Error::Run(error.to_string())
}

impl Corpus {
    fn record(&self, number: u64) -> Record {
        let made = self.memory(number);
        let memory = Memory {
            id: made.id.into(),
            category: made.category,
            content: made.content,
            pools: vec![made.pool],
            ..Memory::bare()
        };
        Record::new(memory, made.vector)
    }

    fn question(&self, number: u64) -> Query {
        let asked = self.worded_query(number);
        question(Likeness::Both(asked.text, asked.vector), asked.category.into_iter().collect())
    }
}
