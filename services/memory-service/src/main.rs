//! Starts one memory-service.

fn main() {}
