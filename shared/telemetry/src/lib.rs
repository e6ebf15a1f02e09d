//! Installs tracing and metrics as a value, and owns every metric and span name.
//!
//! Design facts:
//!
//! 1. A [`Telemetry`] is a value, one per service instance. Nothing here touches process-wide state: several
//!    services live in one process, each with its own `service.name`, its own log lines and its own `/metrics`.
//! 2. Spans are `tracing` spans. The dispatch is carried by [`Telemetry::spawn`] and [`Telemetry::carry`]; a bare
//!    `tokio::spawn` loses it, which is why clippy forbids that one.
//! 3. Every measurement goes to two meter providers: base-2 exponential histograms with delta temporality over
//!    OTLP, fixed buckets in a Prometheus registry. One provider cannot do both: the Prometheus exporter drops
//!    exponential histograms without a word.
//! 4. Exporting never blocks a service: spans wait in a bounded queue, what does not fit is dropped and counted
//!    ([`names::SPANS_DROPPED`]), a collector that does not answer is reported once and not again before it has
//!    answered.
//! 5. The exporter's own calls are never traced: they run on threads without a dispatch, and the span layer leaves
//!    out the HTTP/2 stack.
//! 6. Flush and shutdown run on threads of their own and are bounded, so that a runtime with one worker cannot
//!    deadlock on them (opentelemetry-rust#2715, #3356).

mod captured;
mod env;
mod error;
mod export;
mod log;
mod metrics;
pub mod names;
mod options;
mod propagation;
mod value;

pub use captured::Captured;
pub use error::Error;
pub use log::{LogFormat, LogSink};
pub use metrics::{Counter, CounterSeries, Gauge, Histogram, HistogramSeries};
pub use opentelemetry::{Array, Context, Key, KeyValue, Value};
pub use opentelemetry_sdk::trace::SpanData;
pub use options::{GenAi, Headers, Options, Sampling};
pub use propagation::{annotate, annotate_current, extract, hex, inject, set_parent, trace_id, trace_id_for};
pub use value::{FLUSH_LIMIT, Telemetry};
