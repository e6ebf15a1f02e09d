//! `athena demo`: replays the bundled days through the whole mesh and says what it measured.

mod report;
mod screen;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clock::{Clock, Hand};
use config::Sources;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

pub use crate::demo::report::{Documents, Recalls, Report};
use crate::{
    Mesh, NoCycle, Options, Replay, Service, clients,
    clients::{Agent, Cycle, Monitor},
};

/// Agent time between two cycles.
pub const CYCLE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Agent time after the last cycle until every bucket is closed: 15 minutes and its lateness.
const UNTIL_CLOSED: Duration = Duration::from_secs(17 * 60);

/// The first recorded day that is replayed: where the agent clock starts.
const FIRST_DAY: &str = "2025-07-19T00:00:00Z";

/// Rounds of the recalls measured after the replay.
const ROUNDS: u32 = 5;

/// Name of the root span of a cycle.
const ROOT: &str = "athena.agent.v1.OrchestratorService/RunCycle";

/// Runs the demo in a temporary folder, with progress on standard error, and returns what it measured.
///
/// # Errors
///
/// Fails if the mesh cannot be started or asked; a failed cycle is no error but part of the report.
pub async fn run(sources: Sources) -> Result<Report> {
    let start: Timestamp = FIRST_DAY.parse()?;
    let (clock, hand) = Clock::manual(start.into());
    let mesh = Mesh::start(Options { sources, clock, replay: Some(Replay::bundled()?) }).await?;
    let measured = measure(&mesh, &hand).await;
    let stopped = mesh.stop().await;
    let report = measured?;
    stopped?;
    Ok(report)
}

/// Renders the report for people: at most 40 lines of at most `width` columns.
#[must_use]
pub fn screen(report: &Report, width: usize, colour: bool) -> String {
    screen::render(report, width, colour)
}

async fn measure(mesh: &Mesh, hand: &Hand) -> Result<Report> {
    let begun = Instant::now();
    let cycles = replay(mesh, hand).await?;
    let elapsed = CYCLE_EVERY * u32::try_from(cycles.ran.len() + cycles.failed).unwrap_or(u32::MAX);
    hand.advance(UNTIL_CLOSED);
    let costs = clients::flush_and_costs(mesh.channel(Service::StorageBatcher)?).await?;
    mesh.flush_telemetry().await;
    let (served, upstream_calls) = clients::served(mesh.channel(Service::LlmGateway)?).await?;
    let mut monitor = Monitor::new(mesh.channel(Service::Monitor)?);
    let window = elapsed + UNTIL_CLOSED;
    let targets = monitor.targets(Some(window)).await?;
    // The call that found no more days has a trace too, which is no cycle's.
    let ran: HashSet<&str> = cycles.ran.iter().map(|cycle| cycle.trace_id.as_str()).collect();
    let mut traces = monitor.traces(ROOT).await?;
    traces.retain(|trace| ran.contains(trace.id.as_str()));
    let shown = report::typical(&cycles.ran).cloned();
    let spans = match &shown {
        Some(cycle) => monitor.spans(&cycle.trace_id).await?,
        None => Vec::new(),
    };
    let recalls = recalls(mesh, &cycles.ran).await?;
    Ok(Report {
        recalls,
        failed: cycles.failed,
        why_failed: cycles.why,
        cycles: cycles.ran,
        targets,
        served,
        upstream_calls,
        documents: Documents::over(&costs, elapsed),
        traces: traces.len(),
        orphans: traces.iter().map(|trace| trace.orphans).sum(),
        shown,
        spans,
        wall: begun.elapsed(),
        agent_time: elapsed,
    })
}

/// Measures as many recalls as a cycle made, one after another and at once, over the memories that the run left.
async fn recalls(mesh: &Mesh, cycles: &[Cycle]) -> Result<Recalls> {
    let count = report::typical(cycles).map_or(1, |cycle| cycle.recalls);
    let channel = mesh.channel(Service::MemoryService)?;
    let (mut sequence, mut together) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (lone, joint) = clients::recalls(&channel, count, round).await?;
        sequence.push(lone);
        together.push(joint);
    }
    sequence.sort();
    together.sort();
    let middle = sequence.len() / 2;
    Ok(Recalls { count, sequence: sequence[middle], together: together[middle] })
}

#[derive(Default)]
struct Cycles {
    ran: Vec<Cycle>,
    failed: usize,
    why: Vec<String>,
}

/// Runs a cycle for every recorded day; sends each cycle's telemetry off before the agent clock moves on, so that the monitor
/// sees it at the agent time at which it happened.
async fn replay(mesh: &Mesh, hand: &Hand) -> Result<Cycles> {
    let mut agent = Agent::new(mesh.channel(Service::Orchestrator)?);
    let bar = progress();
    let mut cycles = Cycles::default();
    loop {
        match agent.run_cycle().await {
            Ok(cycle) => {
                bar.set_message(format!("{} ms a cycle", cycle.duration.as_millis()));
                if cycle.failed {
                    cycles.failed += 1;
                    cycles.why.extend(cycle.failures.first().cloned());
                }
                cycles.ran.push(cycle);
            }
            Err(NoCycle::EndOfReplay) => break,
            Err(NoCycle::Failed(status)) => {
                cycles.failed += 1;
                cycles.why.push(format!("{}: {}", status.code(), status.message()));
                if cycles.failed > 3 {
                    bail!("the cycles fail: {}", cycles.why.join("; "));
                }
            }
        }
        bar.inc(1);
        mesh.flush_telemetry().await;
        hand.advance(CYCLE_EVERY);
    }
    bar.finish_and_clear();
    cycles.ran.first().context("the replay has no days")?;
    Ok(cycles)
}

fn progress() -> ProgressBar {
    let bar = ProgressBar::new(40);
    let line = "replaying recorded days of Base pools as 5-minute cycles  {bar:24} {pos}/{len}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(line) {
        bar.set_style(style.progress_chars("━━╌"));
    }
    bar
}
