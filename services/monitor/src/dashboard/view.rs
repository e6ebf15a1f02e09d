//! What the page is told, as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    observer::{Assessment, Intake},
    slow::Operation,
    target::{ClockKind, Direction, Report},
    trace::{self, Kind, Listing},
};

#[derive(Debug, Serialize)]
pub(super) struct Targets<'a> {
    now_ms: f64,
    targets: Vec<Target<'a>>,
    intake: Intake,
}

#[derive(Debug, Serialize)]
struct Target<'a> {
    name: &'a str,
    label: &'a str,
    value: Option<f64>,
    unit: &'a str,
    target: f64,
    critical: f64,
    lower_is_better: bool,
    state: &'a str,
    samples: u64,
    least_samples: u64,
    window_seconds: f64,
    agent_clock: bool,
    notes: &'a [String],
    parts: &'a BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Traces<'a> {
    traces: Vec<Summary<'a>>,
    held: u64,
    dropped: u64,
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    trace_id: String,
    root_name: Option<&'a str>,
    root_service: Option<&'a str>,
    start_ms: f64,
    duration_ms: f64,
    spans: u32,
    orphans: u32,
    failed: u32,
    services: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Trace<'a> {
    summary: Summary<'a>,
    spans: Vec<Span<'a>>,
}

#[derive(Debug, Serialize)]
struct Span<'a> {
    span_id: String,
    parent_span_id: Option<String>,
    name: &'a str,
    service: &'a str,
    kind: Kind,
    /// Since the trace began.
    offset_ms: f64,
    duration_ms: f64,
    failed: bool,
    status_message: &'a str,
    attributes: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Slow<'a> {
    operations: Vec<SlowOperation<'a>>,
}

#[derive(Debug, Serialize)]
struct SlowOperation<'a> {
    trace_id: String,
    name: &'a str,
    service: &'a str,
    start_ms: f64,
    duration_ms: f64,
    threshold_ms: f64,
    ratio: f64,
    failed: bool,
}

pub(super) fn targets(assessment: &Assessment, intake: Intake) -> Targets<'_> {
    Targets {
        now_ms: since_epoch(assessment.now),
        targets: assessment.targets.iter().map(target).collect(),
        intake,
    }
}

pub(super) fn listing(listing: &Listing) -> Traces<'_> {
    Traces {
        traces: listing.traces.iter().map(summary).collect(),
        held: listing.held,
        dropped: listing.dropped,
    }
}

pub(super) fn trace(trace: &trace::Trace) -> Trace<'_> {
    let begin = trace.summary.start;
    Trace {
        summary: summary(&trace.summary),
        spans: trace.spans.iter().map(|each| span(each, begin)).collect(),
    }
}

pub(super) fn slow(operations: &[Operation]) -> Slow<'_> {
    Slow { operations: operations.iter().map(slow_operation).collect() }
}

fn target(report: &Report) -> Target<'_> {
    let definition = report.definition;
    Target {
        name: definition.name,
        label: definition.label,
        value: report.value,
        unit: definition.unit,
        target: definition.target,
        critical: definition.critical,
        lower_is_better: definition.direction == Direction::LowerIsBetter,
        state: report.state.as_str(),
        samples: report.samples,
        least_samples: definition.least_samples,
        window_seconds: report.window.as_secs_f64(),
        agent_clock: definition.clock == ClockKind::Agent,
        notes: &report.notes,
        parts: &report.parts,
    }
}

fn summary(summary: &trace::Summary) -> Summary<'_> {
    Summary {
        trace_id: summary.id.to_string(),
        root_name: summary.root.as_ref().map(|root| &*root.name),
        root_service: summary.root.as_ref().map(|root| &*root.service),
        start_ms: since_epoch(summary.start),
        duration_ms: millis(summary.duration),
        spans: summary.spans,
        orphans: summary.orphans,
        failed: summary.failed,
        services: summary.services.iter().map(|service| &**service).collect(),
    }
}

fn span(span: &trace::Span, begin: SystemTime) -> Span<'_> {
    Span {
        span_id: span.id.to_string(),
        parent_span_id: span.parent.map(|parent| parent.to_string()),
        name: &span.name,
        service: &span.service,
        kind: span.kind,
        offset_ms: millis(span.start.duration_since(begin).unwrap_or_default()),
        duration_ms: millis(span.duration),
        failed: span.failed,
        status_message: &span.status_message,
        attributes: span.attributes.iter().map(|(key, value)| (&**key, &**value)).collect(),
    }
}

fn slow_operation(operation: &Operation) -> SlowOperation<'_> {
    SlowOperation {
        trace_id: operation.trace.to_string(),
        name: &operation.span.name,
        service: &operation.span.service,
        start_ms: since_epoch(operation.span.start),
        duration_ms: millis(operation.span.duration),
        threshold_ms: millis(operation.threshold),
        ratio: operation.ratio(),
        failed: operation.span.failed,
    }
}

fn since_epoch(moment: SystemTime) -> f64 {
    millis(moment.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
