//! Benchmarks of the gateway, run by `athena bench`.

pub mod cache_size;
pub mod merge;
pub mod templates;
