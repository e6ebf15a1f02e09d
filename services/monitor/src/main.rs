//! Starts one monitor.

fn main() {}
