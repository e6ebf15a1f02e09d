//! Recalls of vectors that a file brings, so that other engines can be asked the same.
//!
//! A folder holds `vectors.f32` and `queries.f32`, little-endian, one vector after the other, and `asked.json`:
//! `{"dimensions", "tags": [[name]] by row, "filters": {name: [tag or null] by query}}`.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::Path,
    time::Instant,
};

use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Measured, pool, recall};
use crate::vector::{arena::Arena, metric::Metric, source::InMemory};

/// Why nothing was answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("a file of the folder cannot be read")]
    File(#[from] io::Error),
    /// `asked.json` has another shape.
    #[error("asked.json has another shape")]
    Shape(#[from] serde_json::Error),
    /// A recall failed.
    #[error(transparent)]
    Recall(#[from] super::Error),
}

#[derive(Deserialize)]
struct Asked {
    dimensions: usize,
    tags: Vec<Vec<String>>,
    filters: BTreeMap<String, Vec<Option<String>>>,
}

/// Asks everything that `folder` asks; returns `build_s`, `grown_bytes`, and a filter's `p50_ms`, `p95_ms` and the `rows` found by query, ten at most. The tags'
/// rows are found before the time counts, as the index has them.
///
/// # Errors
/// [`Error`].
pub fn answer(folder: &Path) -> Result<Value, Error> {
    let Asked { dimensions, tags, filters } = serde_json::from_slice(&fs::read(folder.join("asked.json"))?)?;
    let values = floats(&folder.join("vectors.f32"))?;
    let queries = floats(&folder.join("queries.f32"))?;
    let start = Instant::now();
    let mut arena = Arena::new(Metric::Cosine, dimensions);
    for (seq, vector) in (0..).zip(values.chunks_exact(dimensions)) {
        arena.push(seq, vector);
    }
    let mut tagged: HashMap<&str, RoaringBitmap> = HashMap::new();
    for (row, tags) in (0..).zip(&tags) {
        tags.iter().for_each(|tag| {
            tagged.entry(tag).or_default().insert(row);
        });
    }
    let build_s = start.elapsed().as_secs_f64();
    let all: RoaringBitmap = (0..).zip(&tags).map(|(row, _)| row).collect();
    let nothing = RoaringBitmap::new();
    let (rows, vectors, pool) = (arena.rows().clone(), InMemory { dimensions, values }, pool()?);
    let mut answers = Map::new();
    for (name, asked) in &filters {
        let mut measured = Measured::default();
        let mut found = Vec::new();
        for (query, tag) in queries.chunks_exact(dimensions).zip(asked) {
            let candidates = tag.as_ref().map_or(&all, |tag| tagged.get(tag.as_str()).unwrap_or(&nothing));
            let (time, nearest) = recall(&rows, candidates, query, &pool, &vectors)?;
            measured.note(time, &nearest, &[]);
            found.push(nearest.found.iter().map(|found| found.row).collect::<Vec<_>>());
        }
        let (p50, p95) = (measured.ms(0.5), measured.ms(0.95));
        answers.insert(name.clone(), json!({ "p50_ms": p50, "p95_ms": p95, "rows": found }));
    }
    // Full vectors lie in the store, so they are not counted.
    Ok(json!({ "build_s": build_s, "grown_bytes": rows.bytes(), "filters": answers }))
}

fn floats(file: &Path) -> io::Result<Vec<f32>> {
    let bytes = fs::read(file)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
}
