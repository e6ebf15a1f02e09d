//! Benchmarks of the storage batcher, run by `athena bench` against a service that it starts as a process.
//!
//! The load is bytes on connections of its own (`testkit::load`), in threads of the process that measures.

mod ack;
mod raw;

use std::{io, net::SocketAddr};

use serde_json::Value;

pub use self::{ack::ack, raw::raw};

/// What one round measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// The benchmark's value.
    pub value: f64,
    /// Every further quantity, by its documented key.
    pub details: Value,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service cannot be reached, or a file not be written.
    #[error("the service cannot be measured")]
    Io(#[from] io::Error),
    /// A call failed that must not.
    #[error("a write at {address} failed: {why}")]
    Call {
        /// Where.
        address: SocketAddr,
        /// How it ended.
        why: String,
    },
    /// What is compared with does not serve.
    #[error("the file's server does not serve")]
    Raw(#[from] rpc::Error),
}
