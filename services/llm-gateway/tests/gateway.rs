//! The gateway over real gRPC, in front of a fake model server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

#[path = "gateway/admin.rs"]
mod admin;
#[path = "gateway/analyze.rs"]
mod analyze;
#[path = "gateway/chat.rs"]
mod chat;
#[path = "gateway/generate.rs"]
mod generate;
#[path = "gateway/harness.rs"]
mod harness;
#[path = "gateway/merging.rs"]
mod merging;
#[path = "gateway/patterns.rs"]
mod patterns;
#[path = "gateway/stream.rs"]
mod stream;
