//! The six targets.

use std::time::Duration;

use telemetry::names;

/// Which side of a target is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Below the target.
    LowerIsBetter,
    /// Above the target.
    HigherIsBetter,
}

/// Which clock a value is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// The system's: latencies.
    Wall,
    /// The agent's: rates and shares over a window.
    Agent,
}

/// What a target judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// P95 of the server time of a memory query.
    MemoryQuery,
    /// P95 of the server time of calls in which a model was asked.
    LlmResponse,
    /// Documents sent to the sink a minute: writes, deletes, ledger.
    FirestoreWrites,
    /// Share of items answered without asking a model.
    CacheHitRate,
    /// P95 of the wall time of a cycle.
    AgentCycle,
    /// P95 of the server time of every other unary rpc.
    ApiResponse,
}

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What it judges.
    pub measure: Measure,
    /// Its name in the contract.
    pub name: &'static str,
    /// What a person calls it.
    pub label: &'static str,
    /// `ms`, `s`, `documents/min` or `percent`.
    pub unit: &'static str,
    /// What to reach, in `unit`.
    pub target: f64,
    /// What never to pass, in `unit`.
    pub critical: f64,
    /// Which side is good.
    pub direction: Direction,
    /// The window, on the agent clock.
    pub window: Duration,
    /// Samples needed for a judgement.
    pub least_samples: u64,
    /// Which clock the value is on.
    pub clock: ClockKind,
}

const MINUTE: Duration = Duration::from_secs(60);

/// The targets, in the order they are shown.
pub const TARGETS: [Definition; 6] = [
    Definition {
        measure: Measure::MemoryQuery,
        name: "memory_query_p95",
        label: "memory query P95",
        unit: "ms",
        target: 100.0,
        critical: 200.0,
        direction: Direction::LowerIsBetter,
        window: Duration::from_secs(5 * MINUTE.as_secs()),
        least_samples: 20,
        clock: ClockKind::Wall,
    },
    Definition {
        measure: Measure::LlmResponse,
        name: "llm_response",
        label: "LLM response P95",
        unit: "s",
        target: 2.0,
        critical: 5.0,
        direction: Direction::LowerIsBetter,
        window: Duration::from_secs(5 * MINUTE.as_secs()),
        least_samples: 5,
        clock: ClockKind::Wall,
    },
    Definition {
        measure: Measure::FirestoreWrites,
        name: "firestore_writes",
        label: "documents / min",
        unit: "documents/min",
        target: 20.0,
        critical: 50.0,
        direction: Direction::LowerIsBetter,
        window: Duration::from_secs(15 * MINUTE.as_secs()),
        least_samples: 1,
        clock: ClockKind::Agent,
    },
    Definition {
        measure: Measure::CacheHitRate,
        name: names::CACHE_HIT_RATE.name,
        label: "cache hit rate",
        unit: "percent",
        target: 70.0,
        critical: 50.0,
        direction: Direction::HigherIsBetter,
        window: Duration::from_secs(60 * MINUTE.as_secs()),
        least_samples: 100,
        clock: ClockKind::Agent,
    },
    Definition {
        measure: Measure::AgentCycle,
        name: "agent_cycle",
        label: "agent cycle P95",
        unit: "s",
        target: 30.0,
        critical: 60.0,
        direction: Direction::LowerIsBetter,
        window: Duration::from_secs(60 * MINUTE.as_secs()),
        least_samples: 5,
        clock: ClockKind::Wall,
    },
    Definition {
        measure: Measure::ApiResponse,
        name: "api_response_p95",
        label: "API response P95",
        unit: "ms",
        target: 200.0,
        critical: 500.0,
        direction: Direction::LowerIsBetter,
        window: Duration::from_secs(5 * MINUTE.as_secs()),
        least_samples: 100,
        clock: ClockKind::Wall,
    },
];
