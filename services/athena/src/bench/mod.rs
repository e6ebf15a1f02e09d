//! `athena bench`: named measurements, each beside its reference, in one form.
//!
//! A benchmark's code lives with the service it measures; here are the frame and the benchmarks of the whole mesh.

mod cycle;
mod gateway;
mod image;
mod merge;
mod overload;
mod processes;
mod recalls;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use config::Sources;
use embedding::{Choice, Embedder};
use indicatif::{ProgressBar, ProgressStyle};
use llm_gateway::bench::{near_miss, paraphrase};
use serde_json::{Value, json};

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
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Runs one process of gateway.exact_hit instead: how the benchmark starts it.
    #[arg(long, hide = true)]
    part: Option<gateway::Part>,
}

/// One benchmark: what it measures and what it is compared with.
struct Bench {
    name: &'static str,
    about: &'static str,
    unit: &'static str,
    better: &'static str,
    goal: &'static str,
    reference: &'static str,
    rounds: u32,
    /// The shape of file it takes with `--data`; empty if none.
    data: &'static str,
}

const BENCHES: [Bench; 21] = [
    Bench {
        name: "gateway.bands",
        about: "observations that an answer about close figures serves, at ±10 % of APR and TVL, with answers of the day before",
        unit: "percent",
        better: "higher",
        goal: "more than a grid of bands as close, with nothing served outside the tolerance",
        reference: "`grid`, `wide_grid` and `last_seen` on the same days",
        rounds: 1,
        data: "recorded pool days: pools/pool_days_base_….csv",
    },
    Bench {
        name: "gateway.cache_size",
        about: "hit-rate points lost by a cache that sizes itself, starting at 1,000 entries, on the worst of some recorded traces",
        unit: "points",
        better: "lower",
        goal: "at most 3 points, at most 20 resizes, mean size at most 1.5 times the smallest good size",
        reference: "the best fixed size up to 16,384, same eviction policy; the seed's rule beside it",
        rounds: 1,
        data: "a folder of traces, NAME.txt.gz with one key a line: cache-traces/",
    },
    Bench {
        name: "gateway.merge",
        about: "upstream calls about 300 pools one by one, over merged, with a tenth of all items spoiled",
        unit: "ratio",
        better: "higher",
        goal: "at least 20; wrong 0; answered + failed = items",
        reference: "the same pools one by one, in the same round; Batch Prompting 5 x at 6 items; no gateway has it",
        rounds: 5,
        data: "a pool snapshot: pools/pool_snapshot_….csv or current_state_….csv",
    },
    Bench {
        name: "gateway.exact_hit",
        about: "server CPU of an exact hit, over that of an echo behind the same host",
        unit: "ratio",
        better: "lower",
        goal: "at most 1.25; p99_ratio at most 1.5",
        reference: "an echo of the same bytes behind the same host, in the same round",
        rounds: 5,
        data: "",
    },
    Bench {
        name: "gateway.overhead",
        about: "what a miss through the OpenAI dialect adds to the p99 of direct calls, open loop 1,000/s",
        unit: "us",
        better: "lower",
        goal: "at most 500 us and twice Envoy's; cpu_us at most 100",
        reference: "direct calls in the same round; Busbar 82 us on 4 cores, GoModel 6.9 ms on 2 (their claims)",
        rounds: 5,
        data: "",
    },
    Bench {
        name: "gateway.memory",
        about: "resident memory of an idle gateway, caches off",
        unit: "bytes",
        better: "lower",
        goal: "at most 15 MiB; after_bytes at most 1.1 times idle",
        reference: "Busbar 7.3 MiB idle, 22.4 loaded; LiteLLM 1,080 idle (their boards' claims)",
        rounds: 1,
        data: "",
    },
    Bench {
        name: "gateway.single_flight",
        about: "upstream calls for 100 identical concurrent requests",
        unit: "count",
        better: "lower",
        goal: "1",
        reference: "LiteLLM, Portkey, Busbar: 100",
        rounds: 5,
        data: "",
    },
    Bench {
        name: "gateway.near_miss",
        about: "paraphrases that the semantic tier keeps at its shipped threshold, of question pairs alike by characters",
        unit: "percent",
        better: "higher",
        goal: "at least 70 % kept at 90 % or more of near misses rejected; 75 is the aim",
        reference: "Kmemo keeps 79 % at 65 % rejected (its claim); similarity alone stands in the details",
        rounds: 1,
        data: "labelled pairs, text_a, text_b, label: prompts/qqp_near_miss_dev.json",
    },
    Bench {
        name: "gateway.paraphrase",
        about: "wrong hits of the semantic tier in percent of hits: every origin is stored, every similar asked",
        unit: "percent",
        better: "lower",
        goal: "at most 4 % wrong at 90 % hits or more",
        reference: "GPTCache 8.7 % wrong at 88 % hits (its own figure); MiniLM cosine 4.4 % at 91 %",
        rounds: 1,
        data: "pairs that say the same, origin, similar: prompts/paraphrases_999.json",
    },
    Bench {
        name: "cycle.overhead",
        about: "what a cycle adds to the slowest branch of each stage and one fsync, with 100 recalls",
        unit: "ms",
        better: "lower",
        goal: "p99 at most 5 ms",
        reference: "Restate about 50 ms for 3 durable steps; Temporal start p50 20, p99 78 ms (their claims)",
        rounds: 5,
        data: "",
    },
    Bench {
        name: "cycle.replay",
        about: "a replayed cycle of 300 pools with the builtin analyst",
        unit: "ms",
        better: "lower",
        goal: "p50 at most 100 ms",
        reference: "the floor: 30 s a cycle",
        rounds: 5,
        data: "a pool snapshot: pools/pool_snapshot_….csv or current_state_….csv",
    },
    Bench {
        name: "gateway.templates",
        about: "Brier score of the learned confidence of an APR spike, against the fixed 0.9 of the seed",
        unit: "ratio",
        better: "lower",
        goal: "below constant_ratio, fitted on months before those scored; at most 0.65 is the aim",
        reference: "fixed 0.9 is 1.0; constant base rate about 0.73; logistic regression on 11 features of the pool's own history 0.68",
        rounds: 1,
        data: "recorded pool days: pools/pool_days_….csv",
    },
    Bench {
        name: "memory.plans",
        about: "queries about recorded pools whose matches the planner knows beforehand within a factor of two",
        unit: "percent",
        better: "higher",
        goal: "at least 90, of every plan",
        reference: "what came out; no memory store shows estimates. `over_best` is the time of the plan taken over that of the fastest",
        rounds: 1,
        data: "recorded pool days: pools/pool_days_….csv",
    },
    Bench {
        name: "memory.stale",
        about: "recalls, in a million steps of writes, deletions, expiries and recalls, that show what is no longer true",
        unit: "count",
        better: "lower",
        goal: "0",
        reference: "a look at every memory; five projects fixed this bug in 2026",
        rounds: 1,
        data: "",
    },
    Bench {
        name: "memory.scan",
        about: "p95 of an unfiltered recall of 1,000,000 vectors of 384 values, over that of reading the same codes once",
        unit: "ratio",
        better: "lower",
        goal: "at most 1.25, recall 1.000; below 1 is the aim",
        reference: "reading all codes on the same threads, after each recall",
        rounds: 3,
        data: "",
    },
    Bench {
        name: "memory.filtered",
        about: "p50 of a recall of 50,000 vectors under the slowest of filters that keep 50 to 0.1 %, related to the query and not",
        unit: "ms",
        better: "lower",
        goal: "at most 1.3 ms, recall 1.000; at or below qdrant-edge on every filter",
        reference: "qdrant-edge 0.03 to 1.24 ms, usearch 0.26 to 45, hannoy 0.18 to 40, on other cores",
        rounds: 3,
        data: "",
    },
    Bench {
        name: "memory.evidence",
        about: "turns that answer a question, found among the first ten by the default ranking, no LLM",
        unit: "percent",
        better: "higher",
        goal: "at least 75 on LoCoMo's dev five with MiniLM; at least weighted + 12 on others",
        reference: "cosine, BM25, their reciprocal rank fusion and their weighted sum on the same memories",
        rounds: 1,
        data: "conversations with questions and their evidence: conversations/locomo_dev.json",
    },
    Bench {
        name: "mesh.overload",
        about: "recalls answered in time at 10 times the capacity, as a share of the peak",
        unit: "ratio",
        better: "higher",
        goal: "at least 0.9",
        reference: "the peak of the same process, searched in the same round",
        rounds: 3,
        data: "",
    },
    Bench {
        name: "mesh.start",
        about: "from process start to SERVING, slowest service",
        unit: "ms",
        better: "lower",
        goal: "at most 50 ms",
        reference: "none",
        rounds: 5,
        data: "",
    },
    Bench {
        name: "mesh.memory",
        about: "resident memory of the whole mesh in one process, empty stores, 60 s after SERVING",
        unit: "bytes",
        better: "lower",
        goal: "at most 60 MiB",
        reference: "LiteLLM alone: 1,080 MiB idle (its board's claim)",
        rounds: 1,
        data: "",
    },
    Bench {
        name: "mesh.image",
        about: "the largest service binary, profile dist, stripped",
        unit: "bytes",
        better: "lower",
        goal: "at most 25 MB",
        reference: "TensorZero, Qdrant images: hundreds of MB",
        rounds: 1,
        data: "",
    },
];

/// What one round measured.
struct Round {
    /// The benchmark's value.
    value: f64,
    /// Its further quantities, by their documented keys.
    details: Value,
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
    async fn rounds(&self, round: impl AsyncFn() -> Result<Round>) -> Result<Outcome> {
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
    if let Some(part) = arguments.part {
        return gateway::part(part, settings).await;
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
    let Arguments { embedder, envoy, gateway, .. } = arguments;
    let setup = Setup { data, folder, embedder, settings: settings.to_vec(), envoy, gateway, rounds, bar };
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
