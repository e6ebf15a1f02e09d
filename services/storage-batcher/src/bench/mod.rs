//! Benchmarks of the storage batcher, run by `athena bench` against a service that it starts as a process.
//!
//! The load is bytes on connections of its own (`testkit::load`), in threads of the process that measures.

mod ack;
mod clients;
mod documents;
mod emulator;
mod faults;
mod server;
mod step;

use std::{io, net::SocketAddr};

use serde_json::Value;

pub use self::{
    ack::ack,
    documents::documents,
    emulator::Emulator,
    faults::{Story, faults},
    server::raw,
};

/// The service as a process that comes and goes, over a journal that stays.
pub trait Instance: Send {
    /// Starts it and returns where it listens once it serves.
    fn start(&mut self) -> impl Future<Output = Result<SocketAddr, Error>> + Send;
    /// Asks it to stop, and waits until it has.
    fn stop(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
    /// Ends it without a word to it.
    fn kill(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}

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
    /// The service did not start, or did not end.
    #[error("the service cannot be started, stopped or killed")]
    Process(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is compared with does not serve, or the service has no address.
    #[error("the file's server does not serve")]
    Host(#[from] rpc::Error),
}
