//! Benchmarks `cycle.overhead` and `cycle.replay`, run by `athena bench` against a mesh that it has started.
//!
//! Both call a running orchestrator as any client would, so its own gRPC adapter is in the figure.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use telemetry::Telemetry;

use crate::{
    clients::Orchestrator,
    source::{Sources, recording, replay},
};

/// Pools of [`overhead_sources`]: all interesting, so that a cycle makes 1 + 2 × 50 recalls.
pub const OVERHEAD_POOLS: usize = 50;
/// Pools of one cycle of `cycle.replay`.
pub const REPLAY_POOLS: usize = 300;
/// Cycles before measuring begins: connections are made, tables exist.
const WARM_UP: u32 = 3;

/// What a benchmark measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Median over the rounds.
    pub value: f64,
    /// Smallest round.
    pub min: f64,
    /// Largest round.
    pub max: f64,
    /// The unit of the three.
    pub unit: &'static str,
    /// Every other quantity.
    pub details: Value,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The orchestrator's address is none.
    #[error("the orchestrator cannot be called")]
    Address(#[source] rpc::Error),
    /// A cycle was refused or failed.
    #[error("a cycle failed with {code}: {message}")]
    Cycle {
        /// The code in words.
        code: String,
        /// The sentence.
        message: String,
    },
    /// A cycle was not complete: its figure would not mean what it says.
    #[error("a cycle was not complete: {0}")]
    Incomplete(String),
    /// The file for the fsync cannot be written.
    #[error("cannot measure an fsync")]
    Disk(#[source] std::io::Error),
    /// A latency does not fit the histogram.
    #[error("cannot keep a latency")]
    Histogram(#[source] hdrhistogram::RecordError),
}

/// One measured cycle.
#[derive(Clone, Debug)]
struct Sample {
    wall: Duration,
    own: Vec<(&'static str, Duration)>,
    branches: Duration,
    pools: u32,
    recalls: u32,
}

/// Returns sources for `cycle.overhead`: [`OVERHEAD_POOLS`] pools, all of high yield, for ever. Bind with
/// `agent_max_interesting` at least as large.
///
/// # Errors
///
/// Never in practice: the recording is made here.
pub fn overhead_sources() -> Result<Sources, recording::Error> {
    let mut csv = "timestamp,pool,protocol_slug,chain,symbol,tvl_usd,apy\n".to_owned();
    for pool in 0..OVERHEAD_POOLS {
        csv.push_str(&format!(
            "2025-08-01,pool-{pool},bench,Base,A{pool}-B,{}00000,{}\n",
            pool + 1,
            20 + pool
        ));
    }
    replay::from_rows(csv.as_bytes(), &[], OVERHEAD_POOLS)
}

/// Measures `cycle.overhead`: the p99 over a round's cycles of wall time − Σ over the stages of the slowest branch − one fsync, in
/// milliseconds. `folder` should be on the disk of `agent_dir`; its fsync is measured between the cycles.
///
/// # Errors
///
/// Fails if a cycle is refused or not complete, or the disk cannot be written.
pub async fn overhead(url: &str, folder: &Path, rounds: u32, cycles: u32) -> Result<Measured, Error> {
    let client = connect(url).await?;
    let mut all = histogram()?;
    let (mut p99s, mut fsyncs, mut recalls) = (Vec::new(), Vec::new(), 0);
    let mut stages: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds.max(1) {
        let mut samples = Vec::new();
        let mut syncs = Vec::new();
        for _ in 0..cycles.max(1) {
            samples.push(cycle(&client).await?);
            syncs.push(fsync(folder).map_err(Error::Disk)?);
        }
        let sync = median(syncs.iter().map(Duration::as_secs_f64).collect());
        let mut round = histogram()?;
        for sample in samples {
            recalls = sample.recalls;
            for (stage, own) in sample.own {
                stages.entry(stage).or_default().push(own.as_secs_f64() * 1e3);
            }
            let own =
                sample.wall.saturating_sub(sample.branches).saturating_sub(Duration::from_secs_f64(sync));
            record(&mut round, own)?;
            record(&mut all, own)?;
        }
        p99s.push(millis(round.value_at_quantile(0.99)));
        fsyncs.push(sync * 1e3);
    }
    let details = json!({
        "p50_ms": millis(all.value_at_quantile(0.5)),
        "fsync_ms": median(fsyncs),
        "recalls": recalls,
        "cycles": all.len(),
        "own_ms": stages.into_iter().map(|(stage, own)| (stage, median(own))).collect::<BTreeMap<_, _>>(),
    });
    Ok(measured(p99s, details))
}

/// Measures `cycle.replay`: the p50 of a cycle's wall time in milliseconds.
///
/// # Errors
///
/// Fails if a cycle is refused or not complete.
pub async fn replay(url: &str, rounds: u32, cycles: u32) -> Result<Measured, Error> {
    let client = connect(url).await?;
    let mut all = histogram()?;
    let (mut p50s, mut pools, mut recalls) = (Vec::new(), 0, 0_u64);
    for _ in 0..rounds.max(1) {
        let mut round = histogram()?;
        for _ in 0..cycles.max(1) {
            let sample = cycle(&client).await?;
            pools = sample.pools;
            recalls += u64::from(sample.recalls);
            record(&mut round, sample.wall)?;
            record(&mut all, sample.wall)?;
        }
        p50s.push(millis(round.value_at_quantile(0.5)));
    }
    let details = json!({
        "p99_ms": millis(all.value_at_quantile(0.99)),
        "pools": pools,
        "recalls": recalls as f64 / all.len() as f64,
        "cycles": all.len(),
    });
    Ok(measured(p50s, details))
}

async fn connect(url: &str) -> Result<Orchestrator, Error> {
    let client = Orchestrator::new(url, &Telemetry::silent("bench")).map_err(Error::Address)?;
    for _ in 0..WARM_UP {
        cycle(&client).await?;
    }
    Ok(client)
}

async fn cycle(client: &Orchestrator) -> Result<Sample, Error> {
    let start = Instant::now();
    let ran = client.run_cycle().await;
    let wall = start.elapsed();
    let ran = ran.map_err(|problem| Error::Cycle { code: problem.code, message: problem.message })?;
    if let Some(why) = ran.incomplete {
        return Err(Error::Incomplete(why));
    }
    Ok(Sample { wall, own: ran.own, branches: ran.branches, pools: ran.pools, recalls: ran.recalls })
}

/// Writes a page and waits for the disk, as a commit does.
fn fsync(folder: &Path) -> std::io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let start = Instant::now();
    file.write_all(&[1; 4096])?;
    file.sync_data()?;
    Ok(start.elapsed())
}

fn histogram() -> Result<Histogram<u64>, Error> {
    // Three digits, up to ten minutes of microseconds; only a bad bound could be refused.
    Histogram::new_with_max(600_000_000, 3)
        .map_err(|_| Error::Histogram(hdrhistogram::RecordError::ValueOutOfRangeResizeDisabled))
}

fn record(histogram: &mut Histogram<u64>, duration: Duration) -> Result<(), Error> {
    histogram.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).map_err(Error::Histogram)
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn measured(rounds: Vec<f64>, details: Value) -> Measured {
    let min = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let max = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Measured { value: median(rounds), min, max, unit: "ms", details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn the_recording_for_the_overhead_never_ends() {
        let sources = overhead_sources().unwrap();
        assert!(!sources.is_exhausted(1_000_000));
        assert_eq!(sources.steps(), None);
    }
}
