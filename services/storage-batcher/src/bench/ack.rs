//! `storage.ack`: durable acknowledgements a second, over those of a bare file behind the same host.
//!
//! Both servers get the same writes over the same connections, in short turns, and each turn is compared with the one next to it, since what
//! a sync takes on a virtual disk changes by a factor of ten from one minute to the next. A third turn is a writer's, over one stream.

use std::net::SocketAddr;

use serde_json::json;
use testkit::{
    Round,
    load::{Load, Measured, Pace},
    median,
};

use super::{
    Error,
    clients::{WRITE, state, streamed},
};

/// Turns of each number of producers.
const TURNS: usize = 9;
/// Producers, connections, and calls of a turn; the last are those that count.
const LOADS: [(usize, usize, u64); 3] = [(1, 1, 40), (16, 4, 1_000), (128, 4, 6_000)];

/// What was measured of one server with one number of producers.
#[derive(Default)]
struct Figures {
    per_s: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
}

/// Measures one round. The value is acknowledgements a second with 128 producers ÷ those of the file, median of the turns. Details: of each number of
/// producers `acks_per_s`, `p50_ms`, `p99_ms`, `raw_per_s`, `raw_p50_ms`, `raw_p99_ms`, `ratio`, and of a `client::Writer` on one stream with as many
/// writes that are not answered, each with a key, `stream_per_s` and `stream_ratio`, over the acknowledgements of `Write` next to it; `write_bytes`.
///
/// # Errors
/// [`Error`] if a call fails.
pub async fn ack(batcher: SocketAddr, raw: SocketAddr) -> Result<Round, Error> {
    let (mut details, mut value) = (serde_json::Map::new(), 0.0);
    for (producers, connections, calls) in LOADS {
        let (mut ours, mut theirs) = (Figures::default(), Figures::default());
        let mut stream_per_s = Vec::new();
        for _ in 0..TURNS {
            for (address, figures) in [(batcher, &mut ours), (raw, &mut theirs)] {
                figures.note(&run(address, producers, connections, calls).await?);
            }
            stream_per_s.push(streamed(batcher, producers, calls).await?);
        }
        let stream_ratio = median(stream_per_s.iter().zip(&ours.per_s).map(|(stream, ours)| stream / ours));
        value = median(ours.per_s.iter().zip(&theirs.per_s).map(|(ours, theirs)| ours / theirs));
        let figures = json!({
            "acks_per_s": median(ours.per_s),
            "p50_ms": median(ours.p50_ms),
            "p99_ms": median(ours.p99_ms),
            "raw_per_s": median(theirs.per_s),
            "raw_p50_ms": median(theirs.p50_ms),
            "raw_p99_ms": median(theirs.p99_ms),
            "ratio": value,
            "stream_per_s": median(stream_per_s),
            "stream_ratio": stream_ratio,
        });
        details.insert(producers.to_string(), figures);
    }
    details.insert("write_bytes".to_owned(), json!(state(0).len()));
    Ok(Round { value, details: details.into() })
}

impl Figures {
    fn note(&mut self, measured: &Measured) {
        self.per_s.push(measured.per_second());
        self.p50_ms.push(measured.micros(0.5) / 1e3);
        self.p99_ms.push(measured.micros(0.99) / 1e3);
    }
}

async fn run(
    address: SocketAddr,
    producers: usize,
    connections: usize,
    calls: u64,
) -> Result<Measured, Error> {
    let load = Load::grpc(address, WRITE, producers / connections, state);
    let measured = Load { connections, calls, pace: Pace::Closed, ..load }.run().await?;
    match measured.failure {
        None => Ok(measured),
        Some(why) => Err(Error::Call { address, why }),
    }
}
