//! `athena bench`: named measurements, each beside its reference, in one form.
//!
//! A benchmark's code lives with the service it measures; here are the frame and the benchmarks of the whole mesh.

mod cycle;
mod gateway;
mod image;
mod list;
mod memories;
mod merge;
mod overload;
mod processes;
mod recalls;
mod running;
mod storage;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use config::Sources;
use embedding::{Choice, Embedder};
use indicatif::{ProgressBar, ProgressStyle};
use llm_gateway::bench::{near_miss, paraphrase};
use serde_json::{Value, json};
use testkit::Round;

use self::list::{BENCHES, Bench};

/// What `athena bench` takes.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A benchmark, or `list`.
    name: String,
    /// A file of the shape the benchmark takes, read by its header; for some a folder of such files.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The embedder: hashing, hashing-DIMENSIONS, the FOLDER of a sentence encoder (feature minilm), or URL#MODEL.
    #[arg(long, default_value = "hashing")]
    embedder: Choice,
    /// How many rounds; the median is the value. Each benchmark has its own default.
    #[arg(long)]
    rounds: Option<u32>,
    /// For gateway.overhead: the program of Envoy 1.40, measured beside; otherwise the `envoy` on the PATH, or none.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// For gateway.overhead and gateway.memory: the gateway's own program, as its image holds it; otherwise this program serves it.
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// For memory.restart, memory.kills, storage.faults and storage.outage: how many memories or writes; otherwise 1,000,000, 100,000, 100,000 and
    /// 1,000,000.
    #[arg(long, value_name = "NUMBER")]
    size: Option<u64>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Runs one process of gateway.exact_hit or storage.ack instead: how the benchmark starts it.
    #[arg(long, hide = true)]
    part: Option<Part>,
}

/// A process that a service is compared with, by which this program starts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The echo behind our own host.
    Echo,
    /// The echo behind tonic's server.
    BareEcho,
    /// The file that is synced, behind our own host.
    Raw,
}

/// What a benchmark measured over its rounds.
struct Outcome {
    /// Median of the rounds.
    value: f64,
    /// Smallest round.
    min: f64,
    /// Largest round.
    max: f64,
    /// Every further quantity, by its documented key.
    details: Value,
}

/// What a benchmark is run with.
struct Setup {
    /// The file given; empty if it takes none, or a folder.
    data: Vec<u8>,
    /// The folder given; empty if it takes none.
    folder: PathBuf,
    /// The embedder that is used or measured.
    embedder: Choice,
    /// Settings the user gave with `--set`.
    settings: Vec<String>,
    /// The program of Envoy, if one was named.
    envoy: Option<PathBuf>,
    /// The gateway's own program, if one was named.
    gateway: Option<PathBuf>,
    /// How many memories or writes, if that was said.
    size: Option<u64>,
    rounds: u32,
    bar: ProgressBar,
}

impl Setup {
    /// Returns the number of components of the embedder's vectors.
    async fn dimensions(&self) -> Result<usize> {
        if let Some(dimensions) = self.embedder.dimensions() {
            return Ok(dimensions);
        }
        Ok(self.embedder().await?.dimensions())
    }

    /// Makes the embedder.
    async fn embedder(&self) -> Result<Arc<dyn Embedder>> {
        let settings = self.settings.iter().filter_map(|setting| setting.split_once('='));
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings: embedding::Settings = config::load(&Sources::none().with_flags(settings))?;
        Ok(self.embedder.embedder(&settings, None).await?)
    }

    /// Runs `round` as often as wanted; the details are those of the round whose value is the median.
    async fn rounds(&self, mut round: impl AsyncFnMut() -> Result<Round>) -> Result<Outcome> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(round().await?);
            self.bar.inc(1);
        }
        rounds.sort_by(|left, right| left.value.total_cmp(&right.value));
        let (min, max) = (rounds[0].value, rounds[rounds.len() - 1].value);
        let median = rounds.swap_remove((rounds.len() - 1) / 2);
        Ok(Outcome { value: median.value, min, max, details: median.details })
    }
}

/// Lists the benchmarks or runs one, and returns what to print.
///
/// # Errors
///
/// Fails for an unknown name, an unreadable file, or whatever the benchmark itself fails with.
pub(crate) async fn run(arguments: Arguments, settings: &[String]) -> Result<String> {
    match arguments.part {
        Some(Part::Echo) => return gateway::echo(settings).await,
        Some(Part::BareEcho) => return gateway::bare_echo(settings).await,
        Some(Part::Raw) => return storage::raw(settings).await,
        None => {}
    }
    if arguments.name == "list" {
        return Ok(list(arguments.json));
    }
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == arguments.name) else {
        bail!("no benchmark is called {:?}; `athena bench list` names them", arguments.name);
    };
    if arguments.data.is_some() && bench.data.is_empty() {
        bail!("{} takes no --data", bench.name);
    }
    let (data, folder) = match arguments.data {
        Some(path) if bench.data.starts_with("a folder") => (Vec::new(), path),
        Some(path) => {
            (fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?, PathBuf::new())
        }
        None if bench.data.is_empty() => (Vec::new(), PathBuf::new()),
        None => bail!("{} needs --data: {}", bench.name, bench.data),
    };
    let rounds = arguments.rounds.unwrap_or(bench.rounds).max(1);
    let bar = progress(bench.name, rounds);
    let Arguments { embedder, envoy, gateway, size, .. } = arguments;
    let settings = settings.to_vec();
    let setup = Setup { data, folder, embedder, settings, envoy, gateway, size, rounds, bar };
    let outcome = measure(bench.name, &setup).await?;
    setup.bar.finish_and_clear();
    let object = object(bench, &outcome, rounds);
    Ok(if arguments.json { format!("{object:#}\n") } else { text(bench, &object) })
}

async fn measure(name: &str, setup: &Setup) -> Result<Outcome> {
    match name {
        "cycle.overhead" => cycle::overhead(setup).await,
        "cycle.replay" => cycle::replay(setup).await,
        "gateway.templates" => {
            let measure = async || {
                let (value, details) = llm_gateway::bench::templates::measure(&setup.data)?;
                Ok(Round { value, details })
            };
            setup.rounds(measure).await
        }
        "gateway.bands" => setup.rounds(async || bands(&setup.data)).await,
        "gateway.cache_size" => {
            let measure = async || {
                let (value, details) = llm_gateway::bench::cache_size::measure(&setup.folder)?;
                Ok(Round { value, details })
            };
            setup.rounds(measure).await
        }
        "gateway.merge" => merge::merge(setup).await,
        "gateway.exact_hit" => setup.rounds(gateway::exact_hit).await,
        "gateway.overhead" => {
            setup.rounds(|| gateway::overhead(setup.gateway.as_deref(), setup.envoy.as_deref())).await
        }
        "gateway.memory" => setup.rounds(|| gateway::memory(setup.gateway.as_deref())).await,
        "gateway.single_flight" => setup.rounds(gateway::single_flight).await,
        "gateway.near_miss" => {
            let embedder = setup.embedder().await?;
            let measure = async || {
                let (value, details) = near_miss::measure(&setup.data, &*embedder).await?;
                Ok(Round { value, details })
            };
            setup.rounds(measure).await
        }
        "gateway.paraphrase" => {
            let embedder = setup.embedder().await?;
            let measure = async || {
                let (value, details) = paraphrase::measure(&setup.data, &*embedder).await?;
                Ok(Round { value, details })
            };
            setup.rounds(measure).await
        }
        name if name.starts_with("memory.") => recalls::measure(name, setup).await,
        "storage.documents" => setup.rounds(async || storage::documents(setup).await).await,
        "storage.faults" => setup.rounds(async || storage::faults(setup).await).await,
        "storage.outage" => setup.rounds(async || storage::outage(setup).await).await,
        "storage.ack" => setup.rounds(async || storage::ack(setup).await).await,
        "mesh.overload" => setup.rounds(overload::overload).await,
        "mesh.start" => setup.rounds(processes::start).await,
        "mesh.memory" => setup.rounds(processes::memory).await,
        _ => setup.rounds(image::build).await,
    }
}

fn bands(days: &[u8]) -> Result<Round> {
    let (value, details) = llm_gateway::bench::bands::measure(days)?;
    Ok(Round { value, details })
}

fn object(bench: &Bench, outcome: &Outcome, rounds: u32) -> Value {
    json!({
        "bench": bench.name,
        "value": outcome.value,
        "min": outcome.min,
        "max": outcome.max,
        "unit": bench.unit,
        "better": bench.better,
        "goal": bench.goal,
        "reference": bench.reference,
        "rounds": rounds,
        "machine": machine(),
        "details": outcome.details,
    })
}

fn text(bench: &Bench, object: &Value) -> String {
    let Bench { name, about, unit, goal, reference, .. } = bench;
    format!(
        "{name}: {about}\n  value      {} {unit} (median of {}; {} to {})\n  goal       {goal}\n  reference  {reference}\n  details    {}\n",
        object["value"], object["rounds"], object["min"], object["max"], object["details"],
    )
}

fn list(json: bool) -> String {
    if json {
        let names: Vec<_> =
            BENCHES.iter().map(|bench| json!({ "bench": bench.name, "about": bench.about })).collect();
        return format!("{:#}\n", json!({ "benches": names }));
    }
    BENCHES.iter().map(|bench| format!("  {:<21} {}\n", bench.name, bench.about)).collect()
}

fn machine() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    json!({
        "cores": cores,
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "os": std::env::consts::OS,
    })
}

fn progress(name: &str, rounds: u32) -> ProgressBar {
    let bar = ProgressBar::new(rounds.into()).with_message(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:24} {pos}/{len}  {elapsed}") {
        bar.set_style(style.progress_chars("━━╌"));
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
