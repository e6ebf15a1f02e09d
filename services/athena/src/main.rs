//! Starts one athena.

fn main() {}
