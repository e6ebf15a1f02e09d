//! Traces: spans of several services put together by trace id.
//!
//! 1. A span is held as it came; one sent twice (a repeated export) is held once.
//! 2. The store is bounded three ways: traces, spans in all, spans of one trace. The trace that began to arrive first
//!    makes room, whole; what was dropped is counted.
//! 3. An orphan is a span whose parent is not held; it is counted as spans arrive, in any order.

mod assembly;
mod span;
mod store;

pub use assembly::{Summary, Trace};
pub use span::{Kind, NewSpan, Span, SpanId, TraceId};
pub use store::{Filter, Limits, Listing, Refusal, Store};
