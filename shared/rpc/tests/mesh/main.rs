//! Real hosts on port 0, called over real channels.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "what was measured is shown where it was")]

mod access;
mod balancing;
mod bystander;
mod connections;
mod deadlines;
mod drain;
mod health;
mod http1;
mod limits;
mod opening;
mod overload;
mod partitions;
mod plain;
mod plain_channel;
mod reflection;
mod retries;
mod simulation;
mod storm;
mod tls;
mod traces;
