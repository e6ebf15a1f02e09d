//! Benchmarks of the gateway, run by `athena bench`.

pub mod bands;
pub mod cache_size;
pub mod merge;
pub mod near_miss;
pub mod paraphrase;
mod pool_days;
pub mod process;
mod questions;
pub mod templates;

pub use pool_days::Error;
