//! Benchmarks of the storage batcher, run by `athena bench` against a service that it starts as a process.
//!
//! The load is bytes on connections of its own (`testkit::load`), in threads of the process that measures.

mod ack;
mod clients;
mod documents;
mod emulator;
mod faults;
mod outage;
mod server;
mod step;

use std::{io, net::SocketAddr};

pub use self::{
    ack::ack,
    documents::documents,
    emulator::Emulator,
    faults::{Story, faults},
    outage::outage,
    server::raw,
};

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service cannot be reached, started or ended, or a file not be written.
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
    /// An rpc failed that must not.
    #[error("{what} failed: {why}")]
    Rpc {
        /// Which one.
        what: &'static str,
        /// How it ended.
        why: String,
    },
    /// The file given is of another shape.
    #[error("the file cannot be read: {0}")]
    Data(String),
    /// Something came out otherwise than it must.
    #[error("the measurement went wrong: {0}")]
    Story(String),
    /// What is compared with does not serve, or the service has no address.
    #[error("the file's server does not serve")]
    Host(#[from] rpc::Error),
}
