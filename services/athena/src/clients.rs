//! What the command asks of a running mesh, in its own words: the one place that names the contracts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use contracts::{
    agent::{self, orchestrator_service_client::OrchestratorServiceClient},
    llm::{self, cache_admin_service_client::CacheAdminServiceClient},
    memory::{self, memory_service_client::MemoryServiceClient},
    monitor::{self, monitor_service_client::MonitorServiceClient},
    storage::{self, storage_batcher_service_client::StorageBatcherServiceClient},
};
use rpc::Channel;
use serde::Serialize;

/// One finished cycle, as far as the command shows it.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Its identity.
    pub id: String,
    /// Its trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The date its observations were recorded on.
    pub recorded_date: String,
    /// Wall time it took.
    pub duration: Duration,
    /// True if nothing could be observed or decided.
    pub failed: bool,
    /// True if a branch failed or was late.
    pub partial: bool,
    /// Pools observed.
    pub pools: u32,
    /// Recalls made.
    pub recalls: u32,
    /// What is wrong with the input.
    pub warnings: Vec<Warning>,
    /// Branches that failed, in words.
    pub failures: Vec<String>,
}

/// Something wrong with a cycle's input.
#[derive(Clone, Debug)]
pub struct Warning {
    /// A stable word, such as `some_zero`.
    pub kind: String,
    /// The field.
    pub field: String,
    /// One sentence.
    pub message: String,
}

/// Why a cycle did not run.
#[derive(Debug)]
pub enum NoCycle {
    /// The replay has no more days.
    EndOfReplay,
    /// The call failed.
    Failed(tonic::Status),
}

/// One target, in the form of `athena demo --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The measured value; null where there is none.
    pub value: Option<f64>,
    /// The value's unit.
    pub unit: String,
    /// What to reach.
    pub target: f64,
    /// What never to pass.
    pub critical: f64,
    /// `ok`, `breach`, `critical`, `not_enough_data`, `no_series` or `degenerate_input`.
    pub state: String,
    /// Samples behind the value.
    pub samples: u64,
    /// `wall` or `agent`.
    pub clock: &'static str,
    /// True if above the target is good.
    #[serde(skip)]
    pub higher_is_better: bool,
    /// What stands beside the value.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// The value split into parts.
    #[serde(skip)]
    pub parts: BTreeMap<String, f64>,
}

/// Items by what answered them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Served {
    /// By a pattern template.
    pub pattern: u64,
    /// From the exact cache.
    pub exact: u64,
    /// From a semantic cache: none is built yet, so always 0.
    pub semantic: u64,
    /// By an identical call in flight.
    pub coalesced: u64,
    /// By a call shared with others.
    pub merged: u64,
    /// By a call of their own.
    pub upstream: u64,
}

impl Served {
    /// Returns how many items there were.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.pattern + self.exact + self.semantic + self.coalesced + self.merged + self.upstream
    }
}

/// What the storage ledger says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Costs {
    /// Writes and samples accepted.
    pub naive: u64,
    /// Documents sent.
    pub written: u64,
    /// Saved by folding.
    pub folded: u64,
    /// Saved by aggregation.
    pub aggregated: u64,
}

/// One span of a trace.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// True for the serving side of a call.
    pub server: bool,
    /// Begins this long after the trace.
    pub offset: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// A trace in short.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Spans whose parent is not held.
    pub orphans: u64,
}

/// Calls the orchestrator.
#[derive(Clone, Debug)]
pub(crate) struct Agent(OrchestratorServiceClient<Channel>);

impl Agent {
    /// Returns a caller over `channel`.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        Self(OrchestratorServiceClient::new(channel))
    }

    /// Runs one cycle.
    ///
    /// # Errors
    ///
    /// [`NoCycle::EndOfReplay`] when the recorded days are used up, otherwise the call's own status.
    pub(crate) async fn run_cycle(&mut self) -> Result<Cycle, NoCycle> {
        match self.0.run_cycle(agent::RunCycleRequest::default()).await {
            Ok(response) => response
                .into_inner()
                .cycle
                .map(Cycle::from)
                .ok_or_else(|| NoCycle::Failed(tonic::Status::internal("the answer carries no cycle"))),
            Err(status) if status.code() == tonic::Code::OutOfRange => Err(NoCycle::EndOfReplay),
            Err(status) => Err(NoCycle::Failed(status)),
        }
    }
}

impl From<agent::Cycle> for Cycle {
    fn from(cycle: agent::Cycle) -> Self {
        let completeness = cycle.completeness();
        let failures = cycle
            .stages
            .iter()
            .flat_map(|report| &report.failures)
            .map(|failure| format!("{}: {} ({})", failure.branch, failure.message, failure.code))
            .collect();
        Self {
            id: cycle.cycle_id.clone(),
            trace_id: cycle.trace_id.clone(),
            recorded_date: cycle.recorded_date.clone(),
            duration: span_of(cycle.duration),
            failed: completeness == agent::Completeness::Failed,
            partial: completeness == agent::Completeness::Partial,
            pools: cycle.pools,
            recalls: cycle.recalls,
            warnings: cycle.input_warnings.into_iter().map(Warning::from).collect(),
            failures,
        }
    }
}

impl From<agent::InputWarning> for Warning {
    fn from(warning: agent::InputWarning) -> Self {
        Self { kind: warning.kind, field: warning.field, message: warning.message }
    }
}

/// Calls the monitor.
#[derive(Clone, Debug)]
pub(crate) struct Monitor(MonitorServiceClient<Channel>);

impl Monitor {
    /// Returns a caller over `channel`.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        Self(MonitorServiceClient::new(channel).max_decoding_message_size(64 << 20))
    }

    /// Returns the six targets, over `window` if one is given.
    ///
    /// # Errors
    ///
    /// Fails if the monitor cannot be asked.
    pub(crate) async fn targets(&mut self, window: Option<Duration>) -> Result<Vec<Target>> {
        let window = window.map(rpc::time::duration_to_proto);
        let request = monitor::GetTargetsRequest { window };
        let response = self.0.get_targets(request).await.context("cannot ask the monitor for its targets")?;
        Ok(response.into_inner().targets.into_iter().map(Target::from).collect())
    }

    /// Returns the newest traces whose root has this name, at most 1,000.
    ///
    /// # Errors
    ///
    /// Fails if the monitor cannot be asked.
    pub(crate) async fn traces(&mut self, root_name: &str) -> Result<Vec<Trace>> {
        let request = monitor::ListTracesRequest {
            root_name: root_name.to_owned(),
            limit: 1000,
            ..monitor::ListTracesRequest::default()
        };
        let response = self.0.list_traces(request).await.context("cannot ask the monitor for its traces")?;
        let trace = |summary: monitor::TraceSummary| Trace {
            id: summary.trace_id,
            orphans: u64::from(summary.orphans),
        };
        Ok(response.into_inner().traces.into_iter().map(trace).collect())
    }

    /// Returns the spans of one trace, parents before children.
    ///
    /// # Errors
    ///
    /// Fails if the monitor cannot be asked or does not hold the trace.
    pub(crate) async fn spans(&mut self, trace_id: &str) -> Result<Vec<Span>> {
        let request = monitor::GetTraceRequest { trace_id: trace_id.to_owned() };
        let response = self.0.get_trace(request).await.context("cannot ask the monitor for a trace")?;
        let response = response.into_inner();
        let begin = response.summary.and_then(|summary| summary.start_time);
        let nanos =
            |time: &prost_types::Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
        let begin = begin.as_ref().map_or(0, nanos);
        let span = |span: monitor::Span| {
            let start = span.start_time.as_ref().map_or(begin, nanos);
            Span {
                server: span.kind() == monitor::SpanKind::Server,
                offset: Duration::from_nanos(u64::try_from(start - begin).unwrap_or(0)),
                duration: span_of(span.duration),
                service: span.service,
                name: span.name,
            }
        };
        Ok(response.spans.into_iter().map(span).collect())
    }
}

impl From<monitor::Target> for Target {
    fn from(target: monitor::Target) -> Self {
        let state = target.state().as_str_name().trim_start_matches("TARGET_STATE_").to_lowercase();
        Self {
            state,
            clock: if target.clock() == monitor::ClockKind::Agent { "agent" } else { "wall" },
            higher_is_better: target.direction() == monitor::Direction::HigherIsBetter,
            name: target.name,
            value: target.value,
            unit: target.unit,
            target: target.target,
            critical: target.critical,
            samples: target.samples,
            notes: target.notes,
            parts: target.parts.into_iter().collect(),
        }
    }
}

/// Asks the gateway what answered so far; also returns the upstream calls made.
///
/// # Errors
///
/// Fails if the gateway cannot be asked.
pub(crate) async fn served(channel: Channel) -> Result<(Served, u64)> {
    let response = CacheAdminServiceClient::new(channel)
        .get_stats(llm::GetStatsRequest {})
        .await
        .context("cannot ask the gateway for its statistics")?;
    let counts = response.into_inner().served.unwrap_or_default();
    let served = Served {
        pattern: counts.pattern,
        exact: counts.exact,
        semantic: 0,
        coalesced: counts.coalesced,
        merged: counts.merged,
        upstream: counts.upstream,
    };
    Ok((served, counts.upstream_calls))
}

/// Sends everything that waits to the sink, open buckets whose time is over included, and returns the ledger.
///
/// # Errors
///
/// Fails if the storage batcher cannot be asked or the sink not be reached.
pub(crate) async fn flush_and_costs(channel: Channel) -> Result<Costs> {
    let mut client = StorageBatcherServiceClient::new(channel);
    client
        .flush(storage::FlushRequest { close_open_buckets: false })
        .await
        .context("cannot flush the storage batcher")?;
    let response = client
        .get_costs(storage::GetCostsRequest {})
        .await
        .context("cannot ask the storage batcher for its costs")?;
    let costs = response.into_inner();
    Ok(Costs {
        naive: costs.naive_documents,
        written: costs.written_documents,
        folded: costs.saved_by_folding,
        aggregated: costs.saved_by_aggregation,
    })
}

/// Measures `count` recalls one after another, and as many at once; each asks for something else, so that none is cached.
///
/// # Errors
///
/// Fails if the memory service cannot be asked.
pub(crate) async fn recalls(channel: &Channel, count: u32, round: u32) -> Result<(Duration, Duration)> {
    let recall = |way: &'static str, number: u32| {
        let mut client = MemoryServiceClient::new(channel.clone());
        async move {
            let text = format!("{way} recall {number} of round {round}: yield of a pool");
            let query = memory::Query { text, limit: 10, ..memory::Query::default() };
            client
                .recall(memory::RecallRequest { query: Some(query), ..memory::RecallRequest::default() })
                .await
                .context("cannot ask the memory service")
        }
    };
    let begun = Instant::now();
    for number in 0..count {
        recall("lone", number).await?;
    }
    let sequence = begun.elapsed();
    let begun = Instant::now();
    futures::future::try_join_all((0..count).map(|number| recall("joint", number))).await?;
    Ok((sequence, begun.elapsed()))
}

/// Fills the memory service with `count` memories, each of another text.
///
/// # Errors
///
/// Fails if the memory service cannot be asked.
#[cfg(feature = "bench")]
pub(crate) async fn remember(channel: &Channel, count: u32) -> Result<()> {
    const BATCH: u32 = 500;
    let memory = |number: u32| memory::Memory {
        id: format!("memory-{number}"),
        category: "bench".to_owned(),
        content: format!("pool {number} pays {} percent on {} thousand dollars", number % 97, number % 1013),
        ..memory::Memory::default()
    };
    let mut client = MemoryServiceClient::new(channel.clone());
    for first in (0..count).step_by(BATCH as usize) {
        let memories = (first..count.min(first + BATCH)).map(memory).collect();
        client
            .remember_batch(memory::RememberBatchRequest {
                memories,
                ..memory::RememberBatchRequest::default()
            })
            .await?;
    }
    Ok(())
}

/// Asks for the ten memories most like `text`, and returns how that ended.
#[cfg(feature = "bench")]
pub(crate) async fn recall(channel: Channel, text: String) -> rpc::Code {
    let query = memory::Query { text, limit: 10, ..memory::Query::default() };
    let recalled = MemoryServiceClient::new(channel)
        .recall(memory::RecallRequest { query: Some(query), ..memory::RecallRequest::default() })
        .await;
    recalled.map_or_else(|status| status.code(), |_| rpc::Code::Ok)
}

fn span_of(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default()
}
