//! A storm of random and mutated frames on each service, each a process of its own:
//! `cargo build --release && cargo run --release -p tests --example frames -- --frames 1000000 --seed 7`.
//!
//! `--service NAME` takes one of them, `--only N` shows the n-th frame and sends it alone. It fails if a service panics, answers a
//! frame as if it had failed itself, does not answer, leaks, or is not well afterwards.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use athena::Service;
use contracts::memory::{GetStatsRequest, memory_service_client::MemoryServiceClient};
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::Telemetry;
use tests::storm::{Report, Source, is_well, storm};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// Longest wait for a service to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Frames after which the memory is looked at for the first time: caches and allocators are warm by then.
const WARM: u64 = 100_000;
/// Most memory that may be added after that without being a leak, in KiB; and for each memory that was stored, as the good
/// frames ask for: its text and its vector, in the index and in what redb keeps of its file.
const GROWTH: u64 = 24 << 10;
const STORED: u64 = 8;

/// What is asked for.
struct Asked {
    frames: u64,
    seed: u64,
    services: Vec<Service>,
    only: Option<u64>,
}

/// A service in a process of its own; killed when this is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    panics: Arc<AtomicU64>,
    _reader: JoinSet<()>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let asked = arguments()?;
    let athena = env::current_exe()?.parent().and_then(Path::parent).context("no folder")?.join("athena");
    ensure!(athena.exists(), "{} is missing: cargo build --release", athena.display());
    println!("service           frames    raw      s  RSS 0.1M   RSS end  KiB   fds  panics  codes");
    for service in &asked.services {
        one(&athena, *service, &asked).await.with_context(|| service.to_string())?;
    }
    Ok(())
}

async fn one(athena: &Path, service: Service, asked: &Asked) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let process = Process::start(athena, service, folder.path()).await?;
    let source = Arc::new(Source::new(service, asked.seed));
    if let Some(number) = asked.only {
        println!("{:?}", source.nth(number));
        println!("{:?}", storm(process.address, &source, number..number + 1).await?);
        return is_well(process.address, service).await;
    }
    is_well(process.address, service).await?;
    let opened = process.open_files()?;
    let warm = WARM.min(asked.frames / 10);
    let mut report = process.hit(&source, 0..warm).await?;
    let before = process.memory()?;
    let rest = process.hit(&source, warm..asked.frames).await?;
    let took = report.took + rest.took;
    report.merge(rest);
    is_well(process.address, service).await?;
    let (after, left) = (process.memory()?, process.settled(opened).await?);
    let panics = process.panics.load(Ordering::Relaxed);
    let Report { frames, raw, codes, wrong, .. } = report;
    let name = service.name();
    let seconds = took.as_secs();
    println!(
        "{name:<15} {frames:>8} {raw:>6} {seconds:>6} {before:>9} {after:>9}  {left:>5} {panics:>7}  {codes:?}"
    );
    ensure!(wrong.is_empty(), "wrong answers:\n{}", wrong.join("\n"));
    ensure!(panics == 0, "it panicked");
    ensure!(left <= opened, "{opened} files were open before, {left} are after");
    let stored = stored(process.address, service).await?;
    if stored > 0 {
        println!("{:>15} {stored} memories are stored", "");
    }
    ensure!(after.saturating_sub(before) <= GROWTH + STORED * stored, "{before} KiB became {after}");
    Ok(())
}

/// Returns how many memories a memory-service keeps.
async fn stored(address: SocketAddr, service: Service) -> Result<u64> {
    if service != Service::MemoryService {
        return Ok(0);
    }
    let channel =
        Channel::lazy(&format!("http://{address}"), ChannelOptions::default(), Telemetry::silent("frames"))?;
    Ok(MemoryServiceClient::over(channel).get_stats(GetStatsRequest::default()).await?.into_inner().memories)
}

impl Process {
    async fn start(athena: &Path, service: Service, folder: &Path) -> Result<Self> {
        let mut command = Command::new(athena);
        command.args(["serve", service.name()]).env_clear().stderr(Stdio::piped()).kill_on_drop(true);
        for setting in settings(service, folder)? {
            command.args(["--set", &setting]);
        }
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().context("no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let address = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(address) = address_in(&line) {
                    return Ok(address);
                }
            }
            bail!("it ended before it listened")
        };
        let address = tokio::time::timeout(PATIENCE, address).await??;
        let panics = Arc::new(AtomicU64::new(0));
        let (counted, mut reader) = (Arc::clone(&panics), JoinSet::new());
        reader.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("panicked") || line.contains("overflowed its stack") {
                    counted.fetch_add(1, Ordering::Relaxed);
                    println!("{line}");
                }
            }
        });
        let process = Self { child, address, panics, _reader: reader };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        // The stores are opened after the port.
        while let Err(error) = is_well(address, service).await {
            ensure!(tokio::time::Instant::now() < deadline, "it is not well: {error:#}");
        }
        Ok(process)
    }

    async fn hit(&self, source: &Arc<Source>, numbers: std::ops::Range<u64>) -> Result<Report> {
        storm(self.address, source, numbers).await
    }

    /// Returns the resident memory in KiB.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(self.proc()?.join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).context("no VmRSS")
    }

    fn open_files(&self) -> Result<usize> {
        Ok(fs::read_dir(self.proc()?.join("fd"))?.count())
    }

    /// Returns how many files are open once there are no more than `wanted`, or after a while.
    async fn settled(&self, wanted: usize) -> Result<usize> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.open_files()? > wanted && tokio::time::Instant::now() < deadline {
            // Real time: the system tells nobody when another process closes a file.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.open_files()
    }

    fn proc(&self) -> Result<PathBuf> {
        let id = self.child.id().context("the process has ended")?;
        Ok(PathBuf::from(format!("/proc/{id}")))
    }
}

fn settings(service: Service, folder: &Path) -> Result<Vec<String>> {
    let mut settings = athena::ephemeral(folder);
    settings.extend(["log_format=json".to_owned(), "log_filter=error,athena=info,rpc=info".to_owned()]);
    // Full caches are no leak, and hide one: they are kept small.
    let small: &[&str] = match service {
        Service::MemoryService => {
            &["memory_query_cache_size=10", "memory_embedding_cache_size=10", "memory_store_cache=1MiB"]
        }
        Service::StorageBatcher => &["journal_cache_bytes=1MiB"],
        Service::LlmGateway => &["llm_cache_size=10"],
        Service::Monitor => &[],
        Service::Orchestrator => &["agent_max_agents=10", "agent_cycles_kept=10"],
    };
    settings.extend(small.iter().map(|setting| (*setting).to_owned()));
    if service == Service::Orchestrator {
        fs::write(folder.join("pools.csv"), athena::data::pools()?)?;
        fs::write(folder.join("gas.csv"), athena::data::gas())?;
        let file = |name: &str| format!("replay:{}", folder.join(name).display());
        settings.push(format!("agent_source={}", file("pools.csv")));
        settings.push(format!("agent_gas_source={}", file("gas.csv")));
        // A million frames hold a hundred thousand cycles: each may look at little.
        let few = ["agent_min_pools=3", "agent_max_pools=3", "agent_max_interesting=1"];
        settings.extend(few.map(str::to_owned));
    }
    Ok(settings)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    if line["message"] != "listening" { None } else { line["fields"]["address"].as_str()?.parse().ok() }
}

fn arguments() -> Result<Asked> {
    let mut asked = Asked { frames: 1_000_000, seed: 7, services: Service::ALL.to_vec(), only: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match &*word {
            "--frames" => asked.frames = value.parse()?,
            "--seed" => asked.seed = value.parse()?,
            "--only" => asked.only = Some(value.parse()?),
            "--service" => asked.services = vec![Service::named(&value).context("no such service")?],
            _ => bail!("unknown: {word}"),
        }
    }
    Ok(asked)
}
