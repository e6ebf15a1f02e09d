//! Prints what those who write and recall wait for while dead rows are removed.

#[expect(clippy::print_stdout, reason = "the figures are its output")]
fn main() {
    let memories = std::env::args().nth(1).and_then(|memories| memories.parse().ok()).unwrap_or(1_000_000);
    println!("{}", memory_service::bench::compacting::measure(memories));
}
