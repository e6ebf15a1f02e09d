//! A client of `WriteStream`: keeps what was not answered and sends it again, so that each write is accepted once, in order, over as many
//! connections as it takes.
//!
//! It needs nothing of the service but its contract. [`Writer`] is the handle, [`window`] what it has promised.

mod clients;
pub mod window;

use std::time::Duration;

use rpc::Fault;

pub use self::clients::{Ack, Left, Writer};

/// How a writer behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most writes that are not answered; [`Writer::send`] waits for room. The server may take fewer at a time. Default 1,024.
    pub max_writes: usize,
    /// Most bytes of them; one larger write is taken by itself. Default 4 MiB.
    pub max_bytes: usize,
    /// Most bytes of a write with its key; a larger one is refused by itself, since a server ends the stream of what is beyond its
    /// `max_message_bytes`. Default 16 MiB, as there.
    pub max_write_bytes: usize,
    /// Mean pause before the first try after a stream broke or a write was refused for now; it doubles. Default 50 ms.
    pub first_pause: Duration,
    /// Longest pause, also where the server asks for a longer one. Default 10 s.
    pub longest_pause: Duration,
    /// What the keys of writes begin with that come without one: `{prefix}-{number}`. `None`, the default, makes one by chance for each writer.
    pub key_prefix: Option<String>,
    /// Fixes the chance in pauses, for a simulation. Default none.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_writes: 1_024,
            max_bytes: 4 << 20,
            max_write_bytes: 16 << 20,
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(10),
            key_prefix: None,
            seed: None,
        }
    }
}

/// Why a write is not acknowledged.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The write was refused for good, as the service says it: it is invalid, or a dead letter. Or it is too large to be sent.
    #[error("the write was refused")]
    Refused(#[source] Fault),
    /// No stream can be had: the token, the rpc or the way it is used is refused. The write may have been accepted.
    #[error("the service refuses the stream")]
    Failed(#[source] Fault),
    /// The writer was closed or dropped before the answer. The write may have been accepted.
    #[error("the writer is closed")]
    Closed,
}
