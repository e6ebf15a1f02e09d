//! Benchmarks of the gateway, run by `athena bench`.

pub mod bands;
pub mod cache_size;
pub mod merge;
mod pool_days;

pub use pool_days::Error;
