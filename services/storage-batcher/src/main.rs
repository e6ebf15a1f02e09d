//! Starts one storage-batcher.

fn main() {}
