//! Stories over the whole mesh, one module each, over real gRPC and a clock that the story moves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod completes_a_cycle;
mod keeps_tenants_apart;
mod merges_across_the_mesh;
mod replays_days;
mod reports_targets;
mod serves_close_figures;
mod serves_over_tls;
mod survives_a_dead_peer;
