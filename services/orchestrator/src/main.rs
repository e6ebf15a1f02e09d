//! Starts one orchestrator.

fn main() {}
