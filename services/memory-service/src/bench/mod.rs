//! Benchmarks of the memory service, run by `athena bench`.

pub mod plans;
mod pool_days;

pub use crate::answers::hunt::{Caught, hunt};
pub use pool_days::Error;
