//! Answers of the monitor's contract.

use std::{collections::HashMap, sync::Arc};

use contracts::monitor as wire;
use rpc::time;

use crate::{
    observer::Assessment,
    slow::Operation,
    target::{ClockKind, Direction, Report, State},
    trace::{Kind, Span, Summary},
};

pub(crate) fn targets(assessment: &Assessment) -> wire::GetTargetsResponse {
    wire::GetTargetsResponse {
        targets: assessment.targets.iter().map(target).collect(),
        now: Some(time::to_proto(assessment.now)),
    }
}

pub(crate) fn watched(assessment: &Assessment) -> wire::WatchTargetsResponse {
    let wire::GetTargetsResponse { targets, now } = targets(assessment);
    wire::WatchTargetsResponse { targets, now }
}

pub(crate) fn summary(summary: &Summary) -> wire::TraceSummary {
    let root = |text: fn(&Span) -> &Arc<str>| summary.root.as_ref().map(|root| text(root).to_string());
    wire::TraceSummary {
        trace_id: summary.id.to_string(),
        root_name: root(|root| &root.name).unwrap_or_default(),
        root_service: root(|root| &root.service).unwrap_or_default(),
        start_time: Some(time::to_proto(summary.start)),
        duration: Some(time::duration_to_proto(summary.duration)),
        spans: summary.spans,
        orphans: summary.orphans,
        failed: summary.failed,
        services: summary.services.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn span(span: &Span) -> wire::Span {
    wire::Span {
        span_id: span.id.to_string(),
        parent_span_id: span.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        name: span.name.to_string(),
        service: span.service.to_string(),
        kind: kind(span.kind).into(),
        start_time: Some(time::to_proto(span.start)),
        duration: Some(time::duration_to_proto(span.duration)),
        failed: span.failed,
        status_message: span.status_message.to_string(),
        attributes: span.attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    }
}

pub(crate) fn slow(operation: &Operation) -> wire::SlowOperation {
    wire::SlowOperation {
        span: Some(span(&operation.span)),
        trace_id: operation.trace.to_string(),
        threshold: Some(time::duration_to_proto(operation.threshold)),
    }
}

fn target(report: &Report) -> wire::Target {
    let definition = report.definition;
    wire::Target {
        name: definition.name.to_owned(),
        value: report.value,
        unit: definition.unit.to_owned(),
        target: definition.target,
        critical: definition.critical,
        direction: direction(definition.direction).into(),
        state: state(report.state).into(),
        samples: report.samples,
        least_samples: definition.least_samples,
        window: Some(time::duration_to_proto(report.window)),
        clock: clock(definition.clock).into(),
        notes: report.notes.clone(),
        parts: report.parts.iter().map(|(name, part)| (name.clone(), *part)).collect::<HashMap<_, _>>(),
    }
}

fn state(state: State) -> wire::TargetState {
    match state {
        State::Ok => wire::TargetState::Ok,
        State::Breach => wire::TargetState::Breach,
        State::Critical => wire::TargetState::Critical,
        State::NotEnoughData => wire::TargetState::NotEnoughData,
        State::NoSeries => wire::TargetState::NoSeries,
        State::DegenerateInput => wire::TargetState::DegenerateInput,
    }
}

fn direction(direction: Direction) -> wire::Direction {
    match direction {
        Direction::LowerIsBetter => wire::Direction::LowerIsBetter,
        Direction::HigherIsBetter => wire::Direction::HigherIsBetter,
    }
}

fn clock(clock: ClockKind) -> wire::ClockKind {
    match clock {
        ClockKind::Wall => wire::ClockKind::Wall,
        ClockKind::Agent => wire::ClockKind::Agent,
    }
}

fn kind(kind: Kind) -> wire::SpanKind {
    match kind {
        Kind::Unspecified => wire::SpanKind::Unspecified,
        Kind::Internal => wire::SpanKind::Internal,
        Kind::Server => wire::SpanKind::Server,
        Kind::Client => wire::SpanKind::Client,
        Kind::Producer => wire::SpanKind::Producer,
        Kind::Consumer => wire::SpanKind::Consumer,
    }
}
