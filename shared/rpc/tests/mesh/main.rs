//! Real hosts on port 0, called over real channels.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "what was measured is shown where it was")]

mod access;
mod balancing;
mod bystander;
mod deadlines;
mod drain;
mod health;
mod http1;
mod limits;
mod partitions;
mod plain;
mod reflection;
mod retries;
mod simulation;
mod storm;
mod traces;
