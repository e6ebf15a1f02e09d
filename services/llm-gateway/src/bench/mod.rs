//! Benchmarks of the gateway, run by `athena bench`.

pub mod merge;
