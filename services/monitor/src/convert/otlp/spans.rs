//! Spans.

use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};

use super::{pairs, source, text};
use crate::{
    observer::Refused,
    trace::{Kind, NewSpan, SpanId, TraceId},
};

/// The last moment the contract's timestamps reach (year 9999) lies beyond what 64 bits of nanoseconds do.
const NANOS: u64 = 1_000_000_000;

/// Returns the spans of an export, and how many could not be read.
pub(crate) fn spans(request: ExportTraceServiceRequest) -> (Vec<NewSpan>, Refused) {
    let (mut spans, mut refused) = (Vec::new(), Refused::default());
    for resource in request.resource_spans {
        let service = source(resource.resource.as_ref()).service;
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            match read(span, &service) {
                Some(span) => spans.push(span),
                None => refused.add(1, "a trace id is 16 bytes and a span id 8, neither all zero"),
            }
        }
    }
    (spans, refused)
}

fn read(span: Span, service: &str) -> Option<NewSpan> {
    let status = span.status.unwrap_or_default();
    let parent = match span.parent_span_id.as_slice() {
        [] | [0, 0, 0, 0, 0, 0, 0, 0] => None,
        parent => Some(SpanId::from_bytes(parent)?),
    };
    Some(NewSpan {
        trace: TraceId::from_bytes(&span.trace_id)?,
        id: SpanId::from_bytes(&span.span_id)?,
        parent,
        name: text::cut(&span.name),
        service: service.to_owned(),
        kind: kind(span.kind),
        start: UNIX_EPOCH + nanos(span.start_time_unix_nano),
        duration: nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)),
        failed: status.code == StatusCode::Error as i32,
        status_message: text::cut(&status.message),
        attributes: pairs(&span.attributes),
    })
}

fn nanos(nanos: u64) -> Duration {
    Duration::new(nanos / NANOS, u32::try_from(nanos % NANOS).unwrap_or_default())
}

fn kind(kind: i32) -> Kind {
    match SpanKind::try_from(kind) {
        Ok(SpanKind::Internal) => Kind::Internal,
        Ok(SpanKind::Server) => Kind::Server,
        Ok(SpanKind::Client) => Kind::Client,
        Ok(SpanKind::Producer) => Kind::Producer,
        Ok(SpanKind::Consumer) => Kind::Consumer,
        Ok(SpanKind::Unspecified) | Err(_) => Kind::Unspecified,
    }
}
