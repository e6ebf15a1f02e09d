//! Slow operations: spans that took longer than the target of their kind of operation.
//!
//! They are found among the traces held, so that each can be looked at in its trace.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use telemetry::names;

use crate::trace::{Kind, Span, TraceId};

/// Threshold of a recall, the target of `memory_query_p95`.
pub const RECALL: Duration = Duration::from_millis(100);

/// Threshold of a call that may ask a model, the target of `llm_response`.
pub const MODEL: Duration = Duration::from_secs(2);

/// Threshold of a cycle, the target of `agent_cycle`.
pub const CYCLE: Duration = Duration::from_secs(30);

/// Threshold of every other rpc, the target of `api_response_p95`.
pub const API: Duration = Duration::from_millis(200);

/// A span that took longer than its threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its trace.
    pub trace: TraceId,
    /// The span.
    pub span: Arc<Span>,
    /// What it passed.
    pub threshold: Duration,
}

impl Operation {
    /// Pairs a span with its threshold; `None` if there is none for its kind.
    #[must_use]
    pub fn of(trace: TraceId, span: &Arc<Span>) -> Option<Self> {
        threshold(span).map(|threshold| Self { trace, span: Arc::clone(span), threshold })
    }

    /// Returns how many times its threshold it took.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.span.duration.as_secs_f64() / self.threshold.as_secs_f64()
    }

    pub(crate) fn slower_first(&self, other: &Self) -> Ordering {
        let ids = || (self.trace, self.span.id).cmp(&(other.trace, other.span.id));
        other.ratio().total_cmp(&self.ratio()).then_with(ids)
    }
}

/// Returns the threshold of a span: of the cycle itself and of calls, by their method. Streams that watch something
/// or write on and on are long by design and have none, nor does work within a service.
#[must_use]
pub fn threshold(span: &Span) -> Option<Duration> {
    if &*span.name == names::SPAN_CYCLE {
        return Some(CYCLE);
    }
    if !matches!(span.kind, Kind::Server | Kind::Client) {
        return None;
    }
    // An HTTP span is named `GET /path`, a call `package.Service/Method`.
    let (service, method) = span.name.rsplit_once('/').filter(|(service, _)| !service.contains(' '))?;
    match method {
        "RunCycle" => Some(CYCLE),
        "Recall" if service.ends_with(".MemoryService") => Some(RECALL),
        "Analyze" => Some(MODEL),
        _ if method.starts_with("Generate") => Some(MODEL),
        _ if method.starts_with("Watch") || method.ends_with("Stream") => None,
        _ => Some(API),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{API, CYCLE, Duration, Kind, MODEL, RECALL, Span, threshold};
    use crate::trace::SpanId;

    #[test]
    fn each_kind_of_operation_has_its_threshold() {
        let of = |name: &str, kind| {
            threshold(&Span {
                id: SpanId::from_bytes(&[1; 8]).unwrap(),
                parent: None,
                name: name.into(),
                service: "service".into(),
                kind,
                start: UNIX_EPOCH,
                duration: Duration::ZERO,
                failed: false,
                status_message: "".into(),
                attributes: Box::default(),
            })
        };
        assert_eq!(of("athena.agent.cycle", Kind::Internal), Some(CYCLE));
        assert_eq!(of("athena.agent.v1.OrchestratorService/RunCycle", Kind::Server), Some(CYCLE));
        assert_eq!(of("athena.memory.v1.MemoryService/Recall", Kind::Server), Some(RECALL));
        assert_eq!(of("athena.llm.v1.LlmGatewayService/Analyze", Kind::Client), Some(MODEL));
        assert_eq!(of("athena.llm.v1.LlmGatewayService/GenerateStream", Kind::Server), Some(MODEL));
        assert_eq!(of("athena.storage.v1.StorageBatcherService/Write", Kind::Server), Some(API));
        assert_eq!(of("athena.monitor.v1.MonitorService/WatchTargets", Kind::Server), None);
        assert_eq!(of("athena.storage.v1.StorageBatcherService/WriteStream", Kind::Client), None);
        assert_eq!(of("athena.agent.observe", Kind::Internal), None);
        assert_eq!(of("GET /yields", Kind::Client), None);
    }
}
