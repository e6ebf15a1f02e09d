//! `mesh.overload`: what a service still gets done when ten times more is asked of it than it can do.
//!
//! A memory service as a process of its own; the load comes from this one. Its recalls scan every memory, none is cached.
//! First the peak: as many as one after another can be answered. Then ten times that arrive in open loop, each with a
//! deadline; what is answered in time counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rpc::{Channel, ChannelOptions, Code};
use serde_json::json;
use telemetry::Telemetry;

use testkit::Round;

use super::processes::{end, free_port, serve, until_serving};
use crate::{Service, clients};

/// Memories in the store, so that a recall is worth many milliseconds: the load runs on the same cores, and must cost little
/// beside the work.
const MEMORIES: u32 = 150_000;
/// Callers of the search for the peak; the best counts.
const CALLERS: [u32; 3] = [4, 16, 48];
/// How long each of them calls, and how long the overload lasts.
const PEAK: Duration = Duration::from_secs(4);
const OVERLOAD: Duration = Duration::from_secs(10);
/// How many times the peak arrives.
const TIMES: f64 = 10.0;
/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(1);
/// Connections of the load: one would be its bottleneck.
const CONNECTIONS: usize = 4;
/// Good calls in a row after which the service has recovered.
const IN_A_ROW: u32 = 20;

/// Measures one round.
pub(super) async fn overload() -> Result<Round> {
    let (folder, port) = (tempfile::tempdir()?, free_port()?);
    let child = serve(Service::MemoryService, port, folder.path())?;
    until_serving(Service::MemoryService, port).await?;
    let load = Load::new(port)?;
    // A batch may take longer than the calls that are measured.
    let filling = Channel::lazy(&load.url, ChannelOptions::default(), load.telemetry.clone())?;
    clients::remember(&filling, MEMORIES).await?;
    let mut peak = 0.0_f64;
    for callers in CALLERS {
        peak = peak.max(load.closed_loop(callers).await);
    }
    let quiet = load.one().await;
    let counted = load.open_loop(peak * TIMES).await;
    let recovery = load.recovery(quiet).await?;
    end(child).await?;
    let seconds = OVERLOAD.as_secs_f64();
    Ok(Round {
        value: counted.answered() / seconds / peak,
        details: json!({
            "p99_ms_accepted": counted.p99_ms(),
            "recovery_s": recovery.as_secs_f64(),
            "peak_per_s": peak,
            "offered_per_s": counted.offered as f64 / seconds,
            "goodput_per_s": counted.answered() / seconds,
            "shed_per_s": counted.shed as f64 / seconds,
            "late_per_s": counted.late as f64 / seconds,
            "failed": counted.failed,
            "memories": MEMORIES,
        }),
    })
}

/// The callers.
struct Load {
    url: String,
    channels: Vec<Channel>,
    telemetry: Telemetry,
    /// Makes each question another one, so that none is answered from a cache.
    asked: Arc<AtomicU64>,
}

/// What became of the calls of an overload.
#[derive(Default)]
struct Counted {
    offered: u64,
    /// How long each answered call took.
    took: Vec<Duration>,
    shed: u64,
    late: u64,
    failed: u64,
}

impl Load {
    fn new(port: u16) -> Result<Self> {
        // Nothing stands between the callers and the service: no repetition, no breaker.
        let mut options = ChannelOptions { timeout: DEADLINE, retries: 0, ..ChannelOptions::default() };
        options.breaker.failures = u32::MAX;
        options.breaker.success_percent = 0;
        let telemetry = Telemetry::untraced("load");
        let url = format!("http://127.0.0.1:{port}");
        let channel = |_| Channel::lazy(&url, options.clone(), telemetry.clone());
        let channels = (0..CONNECTIONS).map(channel).collect::<Result<_, _>>()?;
        Ok(Self { url, channels, telemetry, asked: Arc::default() })
    }

    /// Makes one recall; returns how it ended and how long it took.
    fn recall(&self) -> impl Future<Output = (Code, Duration)> + Send + use<> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let channel = self.channels[(number % CONNECTIONS as u64) as usize].clone();
        async move {
            let begun = Instant::now();
            let code = clients::recall(channel, format!("yield of pool {number}")).await;
            (code, begun.elapsed())
        }
    }

    /// Returns the answers a second that `callers` get who each wait for one before they ask the next.
    async fn closed_loop(&self, callers: u32) -> f64 {
        let until = Instant::now() + PEAK;
        let caller = || async move {
            let mut answered = 0_u32;
            while Instant::now() < until {
                answered += u32::from(self.recall().await.0 == Code::Ok);
            }
            answered
        };
        let answered: u32 = futures::future::join_all((0..callers).map(|_| caller())).await.into_iter().sum();
        f64::from(answered) / PEAK.as_secs_f64()
    }

    /// Returns what an answer takes when nobody else asks: the longest of some.
    async fn one(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..IN_A_ROW {
            longest = longest.max(self.recall().await.1);
        }
        longest
    }

    /// Asks `rate` times a second, whatever becomes of it.
    async fn open_loop(&self, rate: f64) -> Counted {
        let (begun, mut calls) = (Instant::now(), Vec::new());
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while begun.elapsed() < OVERLOAD {
            tick.tick().await;
            // As many as are due by now: a late tick is made up for.
            let due = (begun.elapsed().as_secs_f64() * rate) as usize;
            while calls.len() < due {
                calls.push(self.telemetry.spawn(self.recall()));
            }
        }
        let mut counted = Counted { offered: calls.len() as u64, ..Counted::default() };
        for call in calls {
            match call.await {
                Ok((Code::Ok, took)) => counted.took.push(took),
                Ok((Code::ResourceExhausted, _)) => counted.shed += 1,
                Ok((Code::DeadlineExceeded, _)) => counted.late += 1,
                Ok(_) | Err(_) => counted.failed += 1,
            }
        }
        counted
    }

    /// Returns how long after the overload calls are answered as if nothing had been.
    async fn recovery(&self, quiet: Duration) -> Result<Duration> {
        let (begun, mut good, mut since) = (Instant::now(), 0, Duration::ZERO);
        while good < IN_A_ROW {
            let began = begun.elapsed();
            let (code, took) = self.recall().await;
            let is_good = code == Code::Ok && took <= quiet * 2;
            (good, since) = match (is_good, good) {
                (true, 0) => (1, began),
                (true, _) => (good + 1, since),
                (false, _) => (0, began),
            };
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("the service has not recovered within a minute of the overload");
            }
        }
        Ok(since)
    }
}

impl Counted {
    fn answered(&self) -> f64 {
        self.took.len() as f64
    }

    fn p99_ms(&self) -> Option<f64> {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = (took.len() * 99 / 100).min(took.len().saturating_sub(1));
        took.get(at).map(|took| took.as_secs_f64() * 1e3)
    }
}
