//! The command as a process of its own: five services apart, killed and started again, and how it ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]

mod command;
mod documents;
mod harness;
mod killed;
mod memories;
mod reembedding;
mod running;
mod terminated;
