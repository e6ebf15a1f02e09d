//! Every metric, span and attribute name of the system.
//!
//! Names are OpenTelemetry's. In Prometheus text a dot becomes `_`, the unit follows (`s` → `_seconds`,
//! `1` → `_ratio`) and counters end in `_total`.
//! Sources: OpenTelemetry semantic conventions for RPC (release candidate, the names of 2025/26); buckets of rpc
//! durations from gRFC A66.

pub mod gen_ai;

/// How the values of a metric are summarized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A distribution.
    Histogram,
    /// The last value.
    Gauge,
}

/// Describes one metric; the constants of this module are all there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// OpenTelemetry name.
    pub name: &'static str,
    /// UCUM unit: `s`, `1`, `{item}`, `USD`.
    pub unit: &'static str,
    /// How values are summarized.
    pub kind: Kind,
    /// One sentence for the reader of `/metrics`.
    pub description: &'static str,
    /// Upper bounds of the fixed buckets in Prometheus text, in the unit; empty unless a histogram.
    pub buckets: &'static [f64],
}

impl Metric {
    /// Describes a counter.
    pub const fn counter(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self { name, unit, kind: Kind::Counter, description, buckets: &[] }
    }

    /// Describes a gauge.
    pub const fn gauge(name: &'static str, unit: &'static str, description: &'static str) -> Self {
        Self { name, unit, kind: Kind::Gauge, description, buckets: &[] }
    }

    /// Describes a histogram of seconds.
    pub const fn seconds(name: &'static str, description: &'static str, buckets: &'static [f64]) -> Self {
        Self::histogram(name, "s", description, buckets)
    }

    /// Describes a histogram of anything else.
    pub const fn histogram(
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        Self { name, unit, kind: Kind::Histogram, description, buckets }
    }
}

/// Bucket bounds of rpc durations in seconds (gRFC A66); they contain every latency target.
pub const RPC_SECONDS: &[f64] = &[
    0.0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
    0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4,
    0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];

/// Bucket bounds of the phases of a call in seconds, from the look into a cache to a model that takes its time.
pub const PHASE_SECONDS: &[f64] = &[
    0.000001, 0.000002, 0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005,
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0,
];

/// Bucket bounds of whole cycles in seconds; they contain the targets of 30 and 60 s.
pub const CYCLE_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0,
];

/// Server time of a memory query; attribute [`METHOD`].
pub const MEMORY_QUERY_LATENCY: Metric =
    Metric::seconds("memory_query_latency", "Server time of a memory query.", RPC_SECONDS);
/// Memories held, all tenants of one memory-service.
pub const MEMORY_COUNT: Metric =
    Metric::gauge("athena.memory.count", "{memory}", "Memories held, all tenants.");
/// Files of memories that could not be read, were set aside, and are still there.
pub const MEMORY_QUARANTINED: Metric = Metric::gauge(
    "athena.memory.quarantined",
    "{file}",
    "Files of memories that were set aside because they could not be read.",
);
/// Stored memories that could not be read at the start and are left out.
pub const MEMORY_CORRUPT: Metric = Metric::counter(
    "athena.memory.corrupt",
    "{memory}",
    "Stored memories that could not be read at the start.",
);
/// Memories that were forgotten; attribute [`CAUSE`] = `named`, `expired`, `quota`, `prune` or `merged`.
pub const MEMORY_FORGOTTEN: Metric = Metric::counter(
    "athena.memory.forgotten",
    "{memory}",
    "Memories that were forgotten, by what made them go.",
);
/// Memories whose vectors re-embeddings have still to make, all namespaces.
pub const MEMORY_TO_EMBED: Metric = Metric::gauge(
    "athena.memory.to_embed",
    "{memory}",
    "Memories whose vectors re-embeddings have still to make, all namespaces.",
);
/// Server time of a call in which a model was asked; attribute [`MODEL`].
pub const LLM_RESPONSE_TIME: Metric =
    Metric::seconds("llm_response_time", "Server time of a call in which a model was asked.", RPC_SECONDS);
/// Documents sent to the sink, embedded or Firestore; attribute [`OPERATION_TYPE`] = `write`, `delete`, `ledger`
/// or `read`.
pub const FIRESTORE_OPERATIONS: Metric = Metric::counter(
    "firestore_operations",
    "{document}",
    "Documents sent to the sink, embedded or Firestore.",
);
/// Documents the sink refused for good; they are kept as dead letters.
pub const STORAGE_REFUSED: Metric =
    Metric::counter("athena.storage.refused", "{document}", "Documents the sink refused for good.");
/// Documents that high priority sent beyond the write budget; the others wait until they are paid.
pub const STORAGE_OVERDRAWN: Metric = Metric::counter(
    "athena.storage.overdrawn",
    "{document}",
    "Documents that high priority sent beyond the write budget.",
);
/// Documents that the write budget holds back.
pub const STORAGE_HELD: Metric =
    Metric::gauge("athena.storage.held", "{document}", "Documents that the write budget holds back.");
/// Dead letters that nobody has redriven or discarded.
pub const STORAGE_DEAD_LETTERS: Metric =
    Metric::gauge("athena.storage.dead_letters", "{letter}", "Dead letters kept.");
/// Writes, samples and dead letters that are not at the sink.
pub const STORAGE_JOURNAL_WRITES: Metric =
    Metric::gauge("athena.storage.journal_writes", "{write}", "Writes and samples that are not at the sink.");
/// Their bytes.
pub const STORAGE_JOURNAL_BYTES: Metric =
    Metric::gauge("athena.storage.journal_bytes", "By", "Bytes of what is not at the sink.");
/// Records found in the journal at the start; attribute [`KIND`] = `write`, `sample`, `dead_letter` or `damaged`.
pub const STORAGE_RECOVERED: Metric =
    Metric::gauge("athena.storage.recovered", "{record}", "Records found in the journal at the start.");
/// How long opening and reading the journal took at the start.
pub const STORAGE_RECOVERY_TIME: Metric =
    Metric::gauge("athena.storage.recovery_time", "s", "Time that the journal took at the start.");
/// Share of requests answered from a cache, 0 to 1; attribute [`CACHE`] = `llm` or `memory_query`.
pub const CACHE_HIT_RATE: Metric =
    Metric::gauge("cache_hit_rate", "1", "Share of requests answered from the cache.");
/// Most entries a cache holds; attribute [`CACHE`] = `llm` or `memory_query`.
pub const CACHE_CAPACITY: Metric =
    Metric::gauge("athena.cache.capacity", "{entry}", "Most entries the cache holds.");
/// Items the gateway answered; attribute [`SERVED`] = `pattern`, `exact`, `semantic`, `coalesced`, `merged` or `upstream`.
pub const LLM_ITEMS: Metric =
    Metric::counter("athena.llm.items", "{item}", "Items the gateway answered, by how they were served.");
/// Calls the gateway made to a model; attribute [`MODEL`].
pub const LLM_UPSTREAM_CALLS: Metric =
    Metric::counter("athena.llm.upstream_calls", "{call}", "Calls the gateway made to a model.");
/// Wall time of an answered call by what it was spent on; attribute [`PHASE`] = `pattern`, `cache`, `semantic`, `coalesced_wait`, `upstream`, or
/// `gateway` for what is left.
pub const LLM_PHASE: Metric = Metric::seconds(
    "athena.llm.phase.duration",
    "Wall time of an answered call, by what it was spent on.",
    PHASE_SECONDS,
);
/// Questions compared with those answered before; attribute [`OUTCOME`] = `empty`, `refused`, `served`, `agreed`, `disagreed` or `failed`.
pub const LLM_SEMANTIC: Metric =
    Metric::counter("athena.llm.semantic", "{question}", "Questions compared with those answered before.");
/// Money spent on models, in USD; attribute [`MODEL`].
pub const LLM_COST: Metric = Metric::counter("athena.llm.cost", "USD", "Money spent on models in USD.");
/// Requests sent to upstreams; attributes [`UPSTREAM`] and [`OUTCOME`] = `answered`, or how they failed.
pub const LLM_ATTEMPTS: Metric =
    Metric::counter("athena.llm.upstream.attempts", "{request}", "Requests sent to upstreams, by outcome.");
/// Times an upstream failed so often that it was left alone; attribute [`UPSTREAM`].
pub const LLM_BREAKER_OPENINGS: Metric = Metric::counter(
    "athena.llm.upstream.openings",
    "{opening}",
    "Times an upstream failed so often that it was left alone.",
);
/// Calls that an upstream's queue had no place for; attribute [`UPSTREAM`].
pub const LLM_SHED: Metric =
    Metric::counter("athena.llm.upstream.shed", "{call}", "Calls that an upstream's queue had no place for.");
/// Calls to an upstream that run now; attribute [`UPSTREAM`].
pub const LLM_RUNNING: Metric =
    Metric::gauge("athena.llm.upstream.running", "{call}", "Calls to an upstream that run now.");
/// Calls that wait for others to an upstream to end; attribute [`UPSTREAM`].
pub const LLM_QUEUED: Metric = Metric::gauge(
    "athena.llm.upstream.queued",
    "{call}",
    "Calls that wait for others to their upstream to end.",
);
/// Calls that met a tenant's limit; attributes [`TENANT`] and [`REASON`] = `requests`, `tokens`, `budget`, or `warned` for one let through.
pub const LLM_TENANT_LIMITED: Metric =
    Metric::counter("athena.llm.tenant.limited", "{call}", "Calls that met a tenant's limit, by which.");
/// Outcomes of what pattern templates claimed; attributes [`PATTERN`] and [`CAME_TRUE`].
pub const LLM_PATTERN_OUTCOMES: Metric =
    Metric::counter("athena.llm.pattern_outcomes", "{outcome}", "What came of pattern templates' claims.");
/// Wall time of a cycle; attribute [`COMPLETENESS`].
pub const CYCLE_DURATION: Metric =
    Metric::seconds("athena.agent.cycle.duration", "Wall time of an agent cycle.", CYCLE_SECONDS);
/// Input that cannot be what it says (all zero, all equal, stale, scaled); attributes [`FIELD`], [`KIND`].
pub const DEGENERATE_INPUT: Metric =
    Metric::counter("athena.agent.degenerate_input", "{finding}", "Findings of degenerate input.");
/// Time a server took for a call; attributes [`RPC_SYSTEM_NAME`], [`RPC_METHOD`], [`RPC_RESPONSE_STATUS_CODE`].
pub const RPC_SERVER_DURATION: Metric =
    Metric::seconds("rpc.server.call.duration", "Time a server took for a call.", RPC_SECONDS);
/// Time a client waited for a call, retries included; attributes [`RPC_SYSTEM_NAME`], [`RPC_METHOD`],
/// [`RPC_RESPONSE_STATUS_CODE`], [`SERVER_ADDRESS`].
pub const RPC_CLIENT_DURATION: Metric =
    Metric::seconds("rpc.client.call.duration", "Time a client waited for a call.", RPC_SECONDS);
/// Calls that were refused because too many of their method were running; attribute [`RPC_METHOD`].
pub const RPC_SHED: Metric = Metric::counter(
    "athena.rpc.calls.shed",
    "{call}",
    "Calls that were refused because too many of their method were running.",
);
/// Calls that run now, watches and what is never shed left out; attribute [`RPC_METHOD`].
pub const RPC_RUNNING: Metric = Metric::gauge("athena.rpc.calls.running", "{call}", "Calls that run now.");
/// Calls that wait for others to end; attribute [`RPC_METHOD`].
pub const RPC_QUEUED: Metric =
    Metric::gauge("athena.rpc.calls.queued", "{call}", "Calls that wait for others of their method to end.");
/// Spans that never reached a collector; attribute [`REASON`] = `queue_full` or `export_failed`.
pub const SPANS_DROPPED: Metric =
    Metric::counter("athena.telemetry.spans.dropped", "{span}", "Spans that never reached a collector.");

/// Attribute: the RPC system; always [`GRPC`] here.
pub const RPC_SYSTEM_NAME: &str = "rpc.system.name";
/// Value of [`RPC_SYSTEM_NAME`].
pub const GRPC: &str = "grpc";
/// Attribute: the full method, `package.Service/Method`.
pub const RPC_METHOD: &str = "rpc.method";
/// Attribute: the status as a word, `OK` or `DEADLINE_EXCEEDED`.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";
/// Attribute: host name or address of the server.
pub const SERVER_ADDRESS: &str = "server.address";
/// Attribute: port of the server.
pub const SERVER_PORT: &str = "server.port";
/// Attribute: address of the caller.
pub const CLIENT_ADDRESS: &str = "client.address";
/// Attribute: class of a failure; absent when there was none.
pub const ERROR_TYPE: &str = "error.type";
/// Attribute of a resource: the name of a service.
pub const SERVICE_NAME: &str = "service.name";
/// Attribute of a resource: tells two instances of a service apart.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// Attribute: the method of a memory query.
pub const METHOD: &str = "method";
/// Attribute: the model that answered.
pub const MODEL: &str = "model";
/// Attribute: the upstream asked.
pub const UPSTREAM: &str = "upstream";
/// Attribute: what came of it.
pub const OUTCOME: &str = "outcome";
/// Attribute: what time was spent on.
pub const PHASE: &str = "phase";
/// Attribute: the tenant.
pub const TENANT: &str = "tenant";
/// Attribute: what was done to a document.
pub const OPERATION_TYPE: &str = "operation_type";
/// Attribute: which cache.
pub const CACHE: &str = "cache";
/// Attribute: the name of a pattern template.
pub const PATTERN: &str = "pattern";
/// Attribute: whether a claim came true.
pub const CAME_TRUE: &str = "came_true";
/// Attribute: how an item was served.
pub const SERVED: &str = "served";
/// Attribute: whether a cycle was complete or partial.
pub const COMPLETENESS: &str = "completeness";
/// Attribute: the field of a finding.
pub const FIELD: &str = "field";
/// Attribute: the kind of a finding.
pub const KIND: &str = "kind";
/// Attribute: what made memories go.
pub const CAUSE: &str = "cause";
/// Attribute: why something was dropped.
pub const REASON: &str = "reason";

/// Span of a whole agent cycle, the root of its trace.
pub const SPAN_CYCLE: &str = "athena.agent.cycle";
/// Span of a cycle's observing of its sources.
pub const SPAN_OBSERVE: &str = "athena.agent.observe";
/// Span of a cycle's recalls.
pub const SPAN_RECALL: &str = "athena.agent.recall";
/// Span of a cycle's analysis.
pub const SPAN_ANALYSE: &str = "athena.agent.analyse";
/// Span of a cycle's decisions.
pub const SPAN_DECIDE: &str = "athena.agent.decide";
/// Span of a cycle's storing.
pub const SPAN_STORE: &str = "athena.agent.store";
/// Span of a cycle's learning.
pub const SPAN_LEARN: &str = "athena.agent.learn";

/// Lists every metric.
pub const METRICS: &[Metric] = &[
    MEMORY_QUERY_LATENCY,
    MEMORY_COUNT,
    MEMORY_CORRUPT,
    MEMORY_QUARANTINED,
    MEMORY_FORGOTTEN,
    MEMORY_TO_EMBED,
    LLM_RESPONSE_TIME,
    FIRESTORE_OPERATIONS,
    STORAGE_REFUSED,
    STORAGE_OVERDRAWN,
    STORAGE_HELD,
    STORAGE_DEAD_LETTERS,
    STORAGE_JOURNAL_WRITES,
    STORAGE_JOURNAL_BYTES,
    STORAGE_RECOVERED,
    STORAGE_RECOVERY_TIME,
    CACHE_HIT_RATE,
    LLM_ITEMS,
    LLM_UPSTREAM_CALLS,
    LLM_COST,
    LLM_PHASE,
    LLM_SEMANTIC,
    LLM_ATTEMPTS,
    LLM_BREAKER_OPENINGS,
    LLM_SHED,
    LLM_RUNNING,
    LLM_QUEUED,
    LLM_TENANT_LIMITED,
    LLM_PATTERN_OUTCOMES,
    CYCLE_DURATION,
    DEGENERATE_INPUT,
    RPC_SERVER_DURATION,
    RPC_CLIENT_DURATION,
    RPC_SHED,
    RPC_RUNNING,
    RPC_QUEUED,
    SPANS_DROPPED,
    gen_ai::OPERATION_DURATION,
    gen_ai::TIME_TO_FIRST_CHUNK,
    gen_ai::TOKEN_USAGE,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metric_names_are_unique() {
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }

    #[test]
    fn histograms_and_only_they_have_rising_buckets() {
        for metric in METRICS {
            assert_eq!(metric.kind == Kind::Histogram, !metric.buckets.is_empty(), "{}", metric.name);
            assert!(metric.buckets.windows(2).all(|pair| pair[0] < pair[1]), "{}", metric.name);
        }
    }

    #[test]
    fn latency_targets_are_bucket_bounds() {
        for bound in [0.1, 0.2, 0.5, 2.0, 5.0] {
            assert!(RPC_SECONDS.contains(&bound), "{bound}");
        }
        for bound in [30.0, 60.0] {
            assert!(CYCLE_SECONDS.contains(&bound), "{bound}");
        }
    }
}
