//! Benchmarks of the memory service, run by `athena bench`.

pub mod evidence;
