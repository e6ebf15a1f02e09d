//! `gateway.cache_size`: a cache that sizes itself on recorded key references, against every fixed size and the seed's rule.
//!
//! All of them are `caching::Cache` with the same eviction policy, driven as the gateway drives it: a read, and a store where it missed.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use caching::{Cache, Options, Sizing};
use clock::Clock;
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

/// Entries every cache starts with.
const START: u64 = 1_000;
/// The sizes looked at.
const LEAST: u64 = 100;
const MOST: u64 = 16_384;
/// Ratio of one fixed size to the next.
const FINENESS: f64 = 1.19;
/// Halvings of the gap between two fixed sizes, to find the smallest good one.
const HALVINGS: u32 = 4;
/// A size is good within so many points of the best.
const GOOD: f64 = 1.0;
/// Decisions of the seed's rule in a trace.
const DECISIONS: usize = 200;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or a trace cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing to replay.
    #[error("{0} holds no trace: files called NAME.txt.gz with one key a line")]
    Empty(String),
}

/// What became of one trace; hit ratios in percent.
struct Outcome {
    hit: f64,
    best_hit: f64,
    seed_rule_hit: f64,
    mean_size: f64,
    smallest_good_size: u64,
    resizes: u64,
    seed_rule_resizes: u64,
}

/// Replays every trace of a folder; returns the hit-rate points lost on the worst of them, and the details.
///
/// # Errors
/// [`Error`] if the folder or a trace in it cannot be read, or there is none.
pub fn measure(folder: &Path) -> Result<(f64, Value), Error> {
    let (mut details, mut lost, mut resizes, mut ratio) = (Map::new(), f64::NEG_INFINITY, 0, 0.0_f64);
    for (name, path) in traces(folder)? {
        let keys = read(&path)?;
        if keys.is_empty() {
            return Err(Error::Empty(path.display().to_string()));
        }
        let outcome = replay(&keys);
        lost = lost.max(outcome.best_hit - outcome.hit);
        resizes = resizes.max(outcome.resizes);
        ratio = ratio.max(outcome.mean_size / outcome.smallest_good_size as f64);
        details.insert(name, outcome.details(keys.len()));
    }
    details.insert("resizes_worst".into(), json!(resizes));
    details.insert("size_ratio_worst".into(), json!(ratio));
    Ok((lost, Value::Object(details)))
}

fn traces(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let fault = |source| Error::Read { path: folder.display().to_string(), source };
    let mut traces = Vec::new();
    for entry in fs::read_dir(folder).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".txt.gz"));
        if let Some(name) = name {
            traces.push((name.to_owned(), path));
        }
    }
    traces.sort();
    if traces.is_empty() { Err(Error::Empty(folder.display().to_string())) } else { Ok(traces) }
}

/// Reads a trace as hashes of its lines.
fn read(path: &Path) -> Result<Vec<u64>, Error> {
    let fault = |source| Error::Read { path: path.display().to_string(), source };
    let lines = BufReader::new(MultiGzDecoder::new(File::open(path).map_err(fault)?)).lines();
    let hash = |line: io::Result<String>| {
        let mut hasher = DefaultHasher::new();
        line.map_err(fault)?.hash(&mut hasher);
        Ok(hasher.finish())
    };
    lines.map(hash).collect()
}

fn replay(keys: &[u64]) -> Outcome {
    let (best_hit, smallest_good_size) = fixed(keys);
    let sized = cache(START, Some(Sizing { least: LEAST, most: MOST, auto: true }));
    let mut held = 0_u64;
    let hit = drive(&sized, keys, |_| held += sized.capacity());
    let (seed_rule_hit, seed_rule_resizes) = seed_rule(keys);
    Outcome {
        hit,
        best_hit,
        seed_rule_hit,
        mean_size: held as f64 / keys.len() as f64,
        smallest_good_size,
        resizes: sized.stats().resizes,
        seed_rule_resizes,
    }
}

/// Returns the best hit ratio of any fixed size, and the smallest size that is nearly as good.
fn fixed(keys: &[u64]) -> (f64, u64) {
    let hit = |size: u64| drive(&cache(size, None), keys, |_| ());
    let steps = (MOST as f64 / LEAST as f64).log(FINENESS).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two sizes")]
    let size = |step: u32| {
        (LEAST as f64 * (MOST as f64 / LEAST as f64).powf(f64::from(step) / steps)).round() as u64
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thirty steps")]
    let ratios: Vec<(u64, f64)> = (0..=steps as u32).map(size).map(|size| (size, hit(size))).collect();
    let best = ratios.iter().map(|(_, ratio)| *ratio).fold(0.0, f64::max);
    let good = ratios.iter().position(|(_, ratio)| *ratio >= best - GOOD).unwrap_or_default();
    let mut high = ratios[good].0;
    let mut low = good.checked_sub(1).map_or(high, |below| ratios[below].0);
    for _ in 0..HALVINGS {
        let middle = u64::midpoint(low, high);
        if middle == low {
            break;
        }
        if hit(middle) >= best - GOOD { high = middle } else { low = middle }
    }
    (best, high)
}

/// Resizes by the hit rate of the last two hundredth of the trace: × 1.5 below 50 % if under 2,000, × 0.8 above 90 % if over 100.
fn seed_rule(keys: &[u64]) -> (f64, u64) {
    let cache = cache(START, None);
    let every = keys.len().div_ceil(DECISIONS);
    let (mut size, mut reads, mut hits) = (START, 0, 0);
    let hit = drive(&cache, keys, |hit| {
        reads += 1;
        hits += usize::from(hit);
        if reads == every {
            let next = match hits as f64 / reads as f64 {
                poor if poor < 0.5 && size < 2_000 => size * 3 / 2,
                fine if fine > 0.9 && size > 100 => size * 4 / 5,
                _ => size,
            };
            if next != size {
                cache.resize(next);
            }
            (size, reads, hits) = (next, 0, 0);
        }
    });
    (hit, cache.stats().resizes)
}

/// Makes an empty cache in which nothing expires.
fn cache(entries: u64, sizing: Option<Sizing>) -> Cache<u64, ()> {
    let (clock, _) = Clock::manual(UNIX_EPOCH);
    let ttl = Duration::from_secs(86_400);
    Cache::with(Options { entries, ttl, bytes: None, sizing, resized: None }, clock)
}

/// Refers to every key, tells `each` whether it was a hit, and returns the hits in percent.
fn drive(cache: &Cache<u64, ()>, keys: &[u64], mut each: impl FnMut(bool)) -> f64 {
    let mut hits = 0_u64;
    for key in keys {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, ());
        }
        hits += u64::from(hit);
        each(hit);
    }
    hits as f64 * 100.0 / keys.len() as f64
}

impl Outcome {
    fn details(&self, references: usize) -> Value {
        json!({
            "hit": self.hit,
            "best_hit": self.best_hit,
            "seed_rule_hit": self.seed_rule_hit,
            "mean_size": self.mean_size,
            "smallest_good_size": self.smallest_good_size,
            "resizes": self.resizes,
            "seed_rule_resizes": self.seed_rule_resizes,
            "references": references,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::{Error, LEAST, measure};

    #[test]
    fn a_folder_of_traces_is_replayed_and_each_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(measure(folder.path()), Err(Error::Empty(_))));
        let file = std::fs::File::create(folder.path().join("few.txt.gz")).unwrap();
        let mut trace = GzEncoder::new(file, Compression::fast());
        for reference in 0..20_000 {
            writeln!(trace, "key-{}", reference % 50).unwrap();
        }
        trace.finish().unwrap();
        std::fs::write(folder.path().join("README.md"), "not a trace").unwrap();
        let (lost, details) = measure(folder.path()).unwrap();
        let few = &details["few"];
        assert!(lost.abs() < 0.01, "50 keys fit at every size: {details}");
        assert_eq!((few["hit"].as_f64(), few["smallest_good_size"].as_u64()), (Some(99.75), Some(LEAST)));
        assert!(few["mean_size"].as_f64().unwrap() < 500.0, "{details}");
        assert_eq!(details["resizes_worst"], few["resizes"]);
    }
}
