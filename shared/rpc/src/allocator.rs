//! The allocator of every program of the house.

use tikv_jemallocator::Jemalloc;

/// Gives back what has been free for ten seconds, by threads of its own; `.cargo/config.toml` sets the rest.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;
