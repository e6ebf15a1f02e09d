//! `memory.scan`: an unfiltered recall, against reading all codes once on the same threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use roaring::RoaringBitmap;
use serde_json::{Map, Value, json};

use super::{Error, Measured, PART, pool, quantile, recall, truth, vectors::Clustered};
use crate::vector::{arena::Rows, kernel::Kernel, pool::Pool};

/// Vectors, and recalls measured at that size.
const SIZES: [(usize, usize); 3] = [(50_000, 200), (250_000, 100), (1_000_000, 60)];
/// Recalls before the first that counts.
const WARM_UP: usize = 3;
/// Recalls whose answers are compared with a look at every full vector.
const CHECKED: usize = 40;
const SEED: u64 = 5;

/// Measures one round; returns the p95 of a recall at the greatest size over that of reading, and the details. Beside the documented
/// keys stands `unclustered`: the same at the greatest size for vectors without clusters, with their `ratio`.
///
/// # Errors
/// [`Error`] if threads cannot be started or a recall fails.
pub fn measure() -> Result<(f64, Value), Error> {
    let pool = pool()?;
    let (mut details, mut ratio) = (Map::new(), 0.0);
    for (count, recalls) in SIZES {
        let size;
        (ratio, size) = one(&pool, count, count.isqrt(), recalls)?;
        details.insert(count.to_string(), size);
    }
    let (count, recalls) = SIZES[SIZES.len() - 1];
    let (unclustered, mut figures) = one(&pool, count, 0, recalls)?;
    figures["ratio"] = json!(unclustered);
    details.insert("unclustered".to_owned(), figures);
    Ok((ratio, details.into()))
}

/// Returns the p95 of a recall over that of reading, and the figures of the size.
fn one(pool: &Pool, count: usize, clusters: usize, recalls: usize) -> Result<(f64, Value), Error> {
    let mut clustered = Clustered::new(count, clusters, SEED);
    let rows = clustered.arena().rows().clone();
    let all: RoaringBitmap = (0..).take(count).collect();
    let (mut measured, mut readings, mut full_vectors) = (Measured::default(), Vec::new(), 0);
    for number in 0..WARM_UP + recalls {
        let cluster = clustered.pick(clusters);
        let query = clustered.query(cluster);
        let (time, best) = recall(&rows, &all, &query, pool, &clustered.vectors)?;
        let reading = read_through(pool, &rows)?;
        if number >= WARM_UP {
            let checked = number < WARM_UP + CHECKED;
            let truth = if checked { truth(&clustered, &all, &query) } else { Vec::new() };
            measured.note(time, &best, &truth);
            full_vectors += best.read;
            readings.push(reading);
        }
    }
    let p95 = measured.ms(0.95);
    let reading = quantile(&mut readings, 0.95);
    #[expect(clippy::cast_precision_loss, reason = "bytes and rows")]
    let bytes = rows.bytes() as f64 / count as f64;
    let figures = json!({
        "p50_ms": measured.ms(0.5),
        "p95_ms": p95,
        "recall_at_10": measured.recall(),
        "bytes_per_vector": bytes,
        "full_vectors_read": full_vectors / recalls,
        "reading_p50_ms": quantile(&mut readings, 0.5),
        "reading_p95_ms": reading,
    });
    Ok((p95 / reading, figures))
}

/// Reads all codes once, cut into parts as a scan is.
fn read_through(pool: &Pool, rows: &Rows) -> Result<Duration, Error> {
    let chunks = rows.len().div_ceil(rows.chunk_rows());
    let parts = rows.len().div_ceil(usize::try_from(PART).unwrap_or(usize::MAX));
    let (rows, sum) = (rows.clone(), Arc::new(AtomicU64::new(0)));
    let total = Arc::clone(&sum);
    let start = Instant::now();
    let part = move |part: usize| {
        let kernel = Kernel::detect();
        let chunks = (part * chunks / parts..(part + 1) * chunks / parts).map(|number| rows.chunk(number));
        let sums = chunks.flat_map(|chunk| chunk.planes()).map(|plane| kernel.read_through(plane));
        total.fetch_add(sums.fold(0, u64::wrapping_add), Relaxed);
    };
    pool.run(parts, part).map_err(|error| Error::Recall(error.to_string()))?;
    let time = start.elapsed();
    std::hint::black_box(sum.load(Relaxed));
    Ok(time)
}
