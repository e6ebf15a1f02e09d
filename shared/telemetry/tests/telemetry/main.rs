//! What a service sees of its telemetry, and what a collector receives of it.

#![expect(clippy::panic, clippy::unwrap_used, reason = "the helpers of tests may panic as the tests do")]

mod collector;
mod export;
mod log;
mod metrics;
mod traces;
