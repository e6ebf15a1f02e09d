//! Starts one llm-gateway.

fn main() {}
