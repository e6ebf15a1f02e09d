//! W3C trace context in HTTP headers (`traceparent`, `tracestate`).
//!
//! Entering a span activates its context, so the current context is that of the innermost span entered on this
//! thread, whichever service's it is; `Span::current` would know the spans of one dispatch only.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TraceId};
use opentelemetry::{Context, Key, KeyValue, Value};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Writes the trace context of the current span into `headers`; nothing if there is no span.
pub fn inject(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Context::current(), &mut Writer(headers));
}

/// Reads the trace context of a caller from `headers`; an empty context if there is none.
pub fn extract(headers: &HeaderMap) -> Context {
    // From an empty context: in one process with its caller, the current one would be the caller's own.
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Reader(headers))
}

/// Makes the span of `parent` the parent of `span`; the span becomes a root if `parent` is empty.
///
/// Has no effect on a span that was entered already, or that is not recorded at all.
pub fn set_parent(span: &Span, parent: Context) {
    // Both cases are told in the documentation; neither is worth a log line a call.
    let _ = span.set_parent(parent);
}

/// Adds an attribute to a span, beside those it was made with; nothing if the span is not recorded. No log line shows it.
pub fn annotate(span: &Span, key: impl Into<Key>, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// Adds attributes to the innermost span entered on this thread; nothing if it is not recorded. No log line shows them. What tells of a
/// call that ends takes this way: the span is looked up once for all of them.
pub fn annotate_current(attributes: impl IntoIterator<Item = KeyValue>) {
    Context::map_current(|context| context.span().set_attributes(attributes));
}

/// Returns the trace id of the current span, 32 lower-case hexadecimal digits; `None` outside of a trace.
pub fn trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| written(span.trace_id()))
}

/// Returns the trace id that the headers of a request name; a new one, which no span has, if they name none. For an answer
/// to a request that is not traced.
pub fn trace_id_for(headers: &HeaderMap) -> String {
    let context = extract(headers);
    let given = context.span().span_context().trace_id();
    written(if given == TraceId::INVALID { RandomIdGenerator::default().new_trace_id() } else { given })
}

/// Writes an id of 128 bits: 32 lower-case hexadecimal digits. By a table, a tenth of the time that `{:032x}` takes: every call has
/// such ids.
pub fn hex(id: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = id.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text = String::with_capacity(32);
    text.extend(digits.map(|digit| char::from(DIGITS[usize::from(digit)])));
    text
}

fn written(id: TraceId) -> String {
    hex(u128::from_be_bytes(id.to_bytes()))
}

struct Writer<'a>(&'a mut HeaderMap);

impl Injector for Writer<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

struct Reader<'a>(&'a HeaderMap);

impl Extractor for Reader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn an_id_is_written_with_its_leading_zeros() {
        for id in [0, 0x2a, u128::MAX - 1, 0x0123_4567_89ab_cdef << 64] {
            assert_eq!(hex(id), format!("{id:032x}"));
        }
    }
}
