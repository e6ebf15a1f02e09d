//! Benchmarks of the memory service, run by `athena bench`.
//!
//! `process` measures the service as it is deployed: a process, through its wire. `scan` and `filtered` measure from a query's vector to
//! the rows it finds, on the service's own pool. Left out there are what lies around that: the wire, the embedder, the choice of
//! candidates, and the store, in whose place full vectors lie in memory.

mod asking;
pub mod compacting;
pub mod evidence;
pub mod filtered;
pub mod given;
pub mod plans;
mod pool_days;
pub mod process;
pub mod scan;
pub mod settling;
mod vectors;
pub mod worded;

use std::{
    cmp::Ordering,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use roaring::RoaringBitmap;

pub use crate::answers::hunt::{Caught, hunt};
use crate::{
    stop::Stop,
    vector::{
        arena::Rows,
        code::Query,
        pool::Pool,
        scan::{Scan, Unknown},
        search::{Best, Order, Wanted, best},
        source::InMemory,
    },
};
use vectors::Clustered;

/// Memories a recall asks for.
const LIMIT: usize = 10;
/// Candidates of a part.
const PART: u64 = 16_384;
/// Most full vectors read for a recall.
const READS: usize = 4096;
/// Longest a recall may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Threads cannot be started.
    #[error("threads cannot be started")]
    Threads(#[from] std::io::Error),
    /// A recall failed.
    #[error("a recall failed: {0}")]
    Recall(String),
}

/// Rows of equal scores: the later one is the newer one.
struct Newest;

impl Order for Newest {
    fn compare(&self, left: u32, right: u32) -> Ordering {
        right.cmp(&left)
    }
}

/// Times of recalls, and how much of the truth they found.
#[derive(Default)]
struct Measured {
    times: Vec<Duration>,
    found: usize,
    wanted: usize,
}

impl Measured {
    /// Notes a recall that found `best`, where `truth` is what it should have found.
    fn note(&mut self, time: Duration, best: &Best, truth: &[u32]) {
        self.times.push(time);
        self.wanted += truth.len();
        self.found += truth.iter().filter(|row| best.found.iter().any(|found| found.row == **row)).count();
    }

    /// Returns the share of what should have been found that was.
    #[expect(clippy::cast_precision_loss, reason = "counts of some hundreds")]
    fn recall(&self) -> f64 {
        self.found as f64 / self.wanted.max(1) as f64
    }

    /// Returns the time in milliseconds that `share` of the recalls did not exceed.
    fn ms(&mut self, share: f64) -> f64 {
        quantile(&mut self.times, share)
    }
}

/// Returns what `share` of `times` did not exceed, in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place among some hundreds"
)]
fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn pool() -> Result<Pool, Error> {
    Ok(Pool::new(available_parallelism().map_or(1, usize::from), 16)?)
}

/// Finds the nearest of `candidates` to `query`, and how long that took.
fn recall(
    rows: &Rows,
    candidates: &RoaringBitmap,
    query: &[f32],
    pool: &Pool,
    vectors: &InMemory,
) -> Result<(Duration, Best), Error> {
    let (rows, candidates) = (rows.clone(), candidates.clone());
    let start = Instant::now();
    let stop = Arc::new(Stop::at(start + TIMEOUT));
    let query = Query::new(query);
    let scan = Arc::new(Scan { rows, candidates, query, weight: 1.0, known: Unknown, part: PART });
    let wanted = Wanted { limit: LIMIT, reads: READS };
    let best = best(&scan, wanted, pool, vectors, &Newest, &stop);
    let time = start.elapsed();
    Ok((time, best.map_err(|error| Error::Recall(error.to_string()))?))
}

/// Returns the nearest of `candidates` by a look at every full vector.
fn truth(clustered: &Clustered, candidates: &RoaringBitmap, query: &[f32]) -> Vec<u32> {
    let mut nearest: Vec<(f64, u32)> = Vec::new();
    for row in candidates {
        let vector = clustered.vectors.vector(row as usize);
        let (mut product, mut square) = ([0.0_f32; 16], [0.0_f32; 16]);
        for (left, right) in query.as_chunks::<16>().0.iter().zip(vector.as_chunks::<16>().0) {
            for lane in 0..16 {
                product[lane] += left[lane] * right[lane];
                square[lane] += right[lane] * right[lane];
            }
        }
        let sum = |lanes: [f32; 16]| lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
        let score = sum(product) / sum(square).sqrt();
        if nearest.len() == LIMIT && nearest[LIMIT - 1].0 > score {
            continue;
        }
        let place = nearest.partition_point(|(other, _)| *other > score);
        nearest.insert(place, (score, row));
        nearest.truncate(LIMIT);
    }
    nearest.into_iter().map(|(_, row)| row).collect()
}
