//! `memory.serve`: how long a recall takes through gRPC while memories are written.
//!
//! A store of 50,000 memories, then 300 recalls and 1,000 writes a second side by side, both in open loop: each time counts from when the
//! call was due. Every write is one `Remember` of a memory that is new and has no id, so that what is there is searched for one that says the
//! same, and there are 72,000 when the value is measured to its end; every recall asks something else, every second one in one of ten
//! categories. All bring their vectors of 384 values, and the value is that of
//! recalls by the vector alone. After that the same goes on for half as long with words in every query: the default ranking of what is asked in
//! words, without the time that an embedder would take.

use bytes::Bytes;
use serde_json::json;
use testkit::load::{Load, Measured, Pace, Protocol};

use super::{
    Error, Round, Server, check,
    clients::{self, Client},
    corpus::{Asked, Corpus},
    store,
};

/// Memories in the store before anything is measured.
const MEMORIES: u64 = 50_000;
/// Calls a second.
const RECALLS: u64 = 300;
const WRITES: u64 = 1_000;
/// How long both loads last, in seconds; how long before that, when connections are made and costs are learned; and how long with words.
const SECONDS: u64 = 20;
const WARM_UP: u64 = 2;
const WORDED: u64 = 10;
/// Recalls one after the other, when nobody writes, and the number of their first query: the loads come to no number as large.
const ALONE: u64 = 100;
const LATER: u64 = 1_000_000;
/// Connections of each load, and calls at a time on each: together no more than the service lets in at a time (`max_concurrent_calls`),
/// so that none is refused; one that waits for its turn is late all the same.
const CONNECTIONS: usize = 4;
const CALLS: usize = 25;

/// Measures one round, on a service that was just started over an empty store and takes vectors of [`super::DIMENSIONS`] values.
///
/// Details: `p50_ms`, `p95_ms` and `p99_ms` of recalls, `recalls_per_s` and `writes_per_s` that were answered, `write_p50_ms` and
/// `write_p99_ms`, `worded_p50_ms`, `worded_p95_ms` and `worded_p99_ms` of recalls with words, `alone_p50_ms` and `worded_alone_p50_ms` of
/// recalls one after the other when nobody writes, `failed` (of all loads), `cached` (recalls answered by the query cache, which should be
/// none), `cores` (CPU of the service per second), `fill_s` and `memories` (at the end).
///
/// # Errors
/// [`Error`] if the store cannot be filled, or does not hold afterwards what was acknowledged.
pub async fn serve(server: &Server) -> Result<Round, Error> {
    let (corpus, mut client) = (Corpus::new(MEMORIES), Client::new(server.address)?);
    let filled = store(server.address, &corpus, MEMORIES).await?;
    let by_vector = |number| corpus.query(number);
    let warm = both(server, &corpus, by_vector, 0, WARM_UP).await?;
    let alone = one_by_one(server, |number| corpus.query(LATER + number)).await?;
    let worded_alone = one_by_one(server, |number| corpus.worded_query(LATER + number)).await?;
    let used = server.process.cpu()?;
    let measured = both(server, &corpus, by_vector, WARM_UP, SECONDS).await?;
    let used = server.process.cpu()? - used;
    let by_words = |number| corpus.worded_query(number);
    let worded = both(server, &corpus, by_words, WARM_UP + SECONDS, WORDED).await?;
    let counts = client.counts().await?;
    let all = [&warm, &measured, &worded];
    let failed: u64 = all.iter().map(|both| both.recalls.failed + both.writes.failed).sum();
    if failed == 0 {
        let written = MEMORIES + all.iter().map(|both| both.writes.answered()).sum::<u64>();
        check(&mut client, &corpus, written, written - 1).await?;
    }
    let Both { recalls, writes } = &measured;
    let ms = |load: &Measured, share: f64| load.micros(share) / 1e3;
    Ok(Round {
        value: ms(recalls, 0.95),
        details: json!({
            "p50_ms": ms(recalls, 0.5),
            "p95_ms": ms(recalls, 0.95),
            "p99_ms": ms(recalls, 0.99),
            "writes_per_s": writes.per_second(),
            "recalls_per_s": recalls.per_second(),
            "failed": failed,
            "write_p50_ms": ms(writes, 0.5),
            "write_p99_ms": ms(writes, 0.99),
            "worded_p50_ms": ms(&worded.recalls, 0.5),
            "worded_p95_ms": ms(&worded.recalls, 0.95),
            "worded_p99_ms": ms(&worded.recalls, 0.99),
            "alone_p50_ms": ms(&alone, 0.5),
            "worded_alone_p50_ms": ms(&worded_alone, 0.5),
            "cached": counts.cached,
            "cores": used.as_secs_f64() / recalls.took.max(writes.took).as_secs_f64(),
            "fill_s": filled.took.as_secs_f64(),
            "memories": counts.memories,
        }),
    })
}

/// What came of both loads.
struct Both {
    recalls: Measured,
    writes: Measured,
}

/// Recalls one after the other, what `ask` says.
async fn one_by_one(server: &Server, ask: impl Fn(u64) -> Asked) -> Result<Measured, Error> {
    let load = load(server, clients::RECALL, ALONE, 1, |number| clients::recall(ask(number)));
    let load = Load { protocol: Protocol::Grpc(1), connections: 1, pace: Pace::Closed, ..load };
    Ok(load.run().await?)
}

/// Recalls and writes for some seconds, as if both had gone on for `passed` seconds before.
async fn both(
    server: &Server,
    corpus: &Corpus,
    ask: impl Fn(u64) -> Asked,
    passed: u64,
    seconds: u64,
) -> Result<Both, Error> {
    let recalls = |number| clients::recall(ask(passed * RECALLS + number));
    let writes = |number| clients::remember(corpus.memory(MEMORIES + passed * WRITES + number));
    let recalls = load(server, clients::RECALL, RECALLS, seconds, recalls);
    let writes = load(server, clients::REMEMBER, WRITES, seconds, writes);
    let (recalls, writes) = tokio::try_join!(recalls.run(), writes.run())?;
    Ok(Both { recalls, writes })
}

/// Makes a load of calls that are encoded before it begins.
fn load(server: &Server, path: &str, rate: u64, seconds: u64, call: impl Fn(u64) -> Bytes) -> Load {
    let calls: Vec<_> = (0..rate * seconds).map(call).collect();
    let number = calls.len() as u64;
    let body = move |number: u64| calls.get(number as usize).cloned().unwrap_or_default();
    let load = Load::grpc(server.address, path, CALLS, body);
    Load { connections: CONNECTIONS, calls: number, pace: Pace::PerSecond(rate as f64), ..load }
}
