//! Prints what it costs to look, for a memory that is written, whether another one says the same.

#[expect(clippy::print_stdout, reason = "the figures are its output")]
fn main() {
    let memories = std::env::args().nth(1).and_then(|memories| memories.parse().ok()).unwrap_or(50_000);
    println!("{}", memory_service::bench::settling::measure(memories));
}
