//! What it costs to look, for a memory that is written, whether another one says the same.

use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::vectors::Numbered;
use crate::{
    held::Held,
    hygiene::{
        saying::Saying,
        settle::{Alike, Duplicates, Given, Known, Manner, settle},
    },
    index::Index,
    memory::{Change, Memory, Record, cosine},
    recall::contents::Contents as _,
    vector::{metric::Metric, source::Vectors as _},
};

/// Values of a vector, and words of a memory.
const DIMENSIONS: usize = super::vectors::DIMENSIONS;
const WORDS: u64 = 16;
/// Memories written, of which every second one says what is there.
const WRITES: u64 = 2_000;
const MANNER: Manner = Manner { asked: None, otherwise: Duplicates::Merge, threshold: 0.9, most: 16 };

/// Measures it in a space of so many memories, in microseconds a memory on one core: `saying_us` (taking a memory's words apart), `lookup_us` (who
/// may say the same), `settle_new_us` and `settle_same_us` (deciding, with what was found in memory), `index_us` (what the index takes to put
/// one), and, as what is not done instead, `nearest_us` (comparing its vector with one category of ten, in full).
pub fn measure(memories: u64) -> Value {
    let vectors = Numbered::new(usize::try_from(memories.isqrt()).unwrap_or(1).max(1), 7);
    let (mut index, mut held) = (Index::new(Metric::Cosine, DIMENSIONS, 0), Held::default());
    let all: Vec<Record> = (0..memories).map(|number| record(&vectors, number)).collect();
    index.apply(&held.write(Change::Put(all.clone())), 1);
    let written =
        |number: u64| if number.is_multiple_of(2) { number * 7 % memories } else { memories + number };
    let writes: Vec<Record> = (0..WRITES).map(|number| record(&vectors, written(number))).collect();
    let (saying_us, sayings) =
        timed(|| writes.iter().map(|record| Saying::of(&record.memory)).collect::<Vec<_>>());
    let now = SystemTime::UNIX_EPOCH;
    let (lookup_us, found) =
        timed(|| sayings.iter().map(|saying| index.saying(*saying, now, MANNER.most)).collect::<Vec<_>>());
    let given = |record: &Record| {
        let content = format!("The {}.", record.memory.content);
        let memory = Memory { id: "new".into(), content, ..(*record.memory).clone() };
        Given { record: Record::new(memory, record.embedding.clone()), is_named: false }
    };
    let given: Vec<Given> = writes.iter().map(given).collect();
    let known = |seqs: &Vec<u64>| {
        let alike = seqs.iter().filter_map(|seq| {
            let memory = held.memories(&[*seq]).ok()?.pop()?;
            let mut embedding = Vec::new();
            held.read(&[*seq], &mut |_, vector| embedding = vector.to_vec()).ok()?;
            Some(Alike { seq: *seq, record: Record::new(memory, embedding), is_heard: false })
        });
        Known { alike: alike.collect(), ..Known::default() }
    };
    let settled = |parity: usize| {
        let some = given.iter().zip(&found).skip(parity).step_by(2);
        let (us, merged) = timed(|| {
            some.map(|(given, seqs)| {
                settle(std::slice::from_ref(given), vec![known(seqs)], MANNER).joins.len()
            })
            .sum::<usize>()
        });
        (us * 2.0, merged)
    };
    let ((settle_same_us, merged), (settle_new_us, none)) = (settled(0), settled(1));
    let category = all.iter().step_by(10);
    let (nearest, best) = timed(|| {
        let likeness = |other: &Record| cosine(&writes[1].embedding, &other.embedding);
        category.map(likeness).fold(f32::MIN, f32::max)
    });
    let new = held.write(Change::Put(writes));
    let (index_us, ()) = timed(|| index.apply(&new, 2));
    json!({
        "memories": memories, "saying_us": saying_us, "lookup_us": lookup_us, "settle_new_us": settle_new_us,
        "settle_same_us": settle_same_us, "index_us": index_us, "nearest_us": nearest * WRITES as f64,
        "merged": merged, "merged_of_new": none, "nearest": best,
    })
}

/// Returns what `work` returned, and the microseconds it took of each write.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed().as_secs_f64() * 1e6 / WRITES as f64, done)
}

pub(super) fn record(vectors: &Numbered, number: u64) -> Record {
    let mut random = vectors.random(number);
    let words: Vec<String> = (0..WORDS).map(|_| format!("word{}", random.next() % 5_000)).collect();
    let memory = Memory {
        id: number.to_string().into(),
        category: (number % 10).to_string(),
        content: format!("{} at {number}", words.join(" ")),
        pools: vec![format!("pool-{}", number % 1_000)],
        ..Memory::bare()
    };
    Record::new(memory, vectors.vector(number))
}
