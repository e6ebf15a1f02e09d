//! What those who write and recall wait for while dead rows are removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use serde_json::{Value, json};

use super::{settling::record, vectors::Numbered};
use crate::{
    index::Index,
    memory::{Change, Record},
    space::Space,
    vector::metric::Metric,
    written::{Removed, Written},
};

/// Memories of a write while the index is filled.
const BATCH: u64 = 1_000;
/// Pause between two writes, and between two looks, while dead rows are removed.
const PAUSE: Duration = Duration::from_micros(500);
/// Memories that are written meanwhile, over and over.
const WRITES: u64 = 500;

/// Measures, in a space of so many memories of which half are dead, how long it takes to remove these (`took_ms`), and the longest that a write
/// (`write_ms`) and a look for a recall (`look_ms`) took meanwhile: `beside`, as the service does it, and `held`, where all wait for it.
pub fn measure(memories: u64) -> Value {
    let vectors = Numbered::new(usize::try_from(memories.isqrt()).unwrap_or(1).max(1), 7);
    let dimensions = vectors.vector(0).len();
    let mut index = Index::new(Metric::Cosine, dimensions, 0);
    let mut generation = 0;
    for first in (0..memories).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
        let records: Vec<Record> =
            (first..memories.min(first + BATCH)).map(|number| record(&vectors, number)).collect();
        let dead = (first + 1..).zip(&records).step_by(2);
        let removed = dead.map(|(seq, record)| Removed { seq, memory: Some(Arc::clone(&record.memory)) });
        let removed = removed.collect();
        generation += 1;
        index.apply(
            &Written { change: Arc::new(Change::Put(records)), first: first + 1, removed },
            generation,
        );
    }
    let writes: Vec<Arc<Change>> =
        (0..WRITES).map(|number| Arc::new(Change::Put(vec![record(&vectors, number)]))).collect();
    let held = waits(index.clone(), memories + 1, &writes, |space| space.hold().compact());
    let beside = waits(index, memories + 1, &writes, |space| space.compact(Index::has_dead));
    json!({ "memories": memories, "dead": memories.div_ceil(2), "beside": beside, "held": held })
}

fn waits(index: Index, first: u64, writes: &[Arc<Change>], compact: impl FnOnce(&Space)) -> Value {
    let (mut generation, space) = (index.generation(), Space::apart(index));
    let over = AtomicBool::new(false);
    let (took, write, look) = thread::scope(|scope| {
        let mut seq = first;
        let (space, over) = (&space, &over);
        let write = move || {
            let change = Arc::clone(&writes[usize::try_from(seq).unwrap_or_default() % writes.len()]);
            (generation, seq) = (generation + 1, seq + 1);
            let written = Written { change, first: seq, removed: Vec::new() };
            let _ = space.apply(generation, written).now_or_never();
        };
        let write = scope.spawn(move || longest(over, write));
        let look = scope.spawn(move || longest(over, || drop(space.index().view())));
        // So that both are at it.
        thread::sleep(PAUSE * 20);
        let start = Instant::now();
        compact(space);
        let took = start.elapsed();
        over.store(true, Relaxed);
        (took, write.join().unwrap_or_default(), look.join().unwrap_or_default())
    });
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    json!({ "took_ms": ms(took), "write_ms": ms(write), "look_ms": ms(look) })
}

/// Returns the longest that `work` took until it is over.
fn longest(over: &AtomicBool, mut work: impl FnMut()) -> Duration {
    let mut longest = Duration::ZERO;
    while !over.load(Relaxed) {
        let start = Instant::now();
        work();
        longest = longest.max(start.elapsed());
        thread::sleep(PAUSE);
    }
    longest
}
