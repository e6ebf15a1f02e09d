//! The gateway over real gRPC, in front of a fake model server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "gateway/admin.rs"]
mod admin;
#[path = "gateway/analyze.rs"]
mod analyze;
#[path = "gateway/bands.rs"]
mod bands;
#[path = "gateway/chat.rs"]
mod chat;
#[path = "gateway/faults.rs"]
mod faults;
#[path = "gateway/generate.rs"]
mod generate;
#[path = "gateway/harness.rs"]
mod harness;
#[path = "gateway/isolation.rs"]
mod isolation;
#[path = "gateway/merging.rs"]
mod merging;
#[path = "gateway/near_miss.rs"]
mod near_miss;
#[path = "gateway/patterns.rs"]
mod patterns;
#[path = "gateway/routes.rs"]
mod routes;
#[path = "gateway/similar.rs"]
mod similar;
#[path = "gateway/stream.rs"]
mod stream;
#[path = "gateway/telling.rs"]
mod telling;
#[path = "gateway/tenants.rs"]
mod tenants;
