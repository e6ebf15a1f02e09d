//! How a channel calls.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::Secret;

use crate::breaker::BreakerOptions;
use crate::net::Network;

/// How a channel calls. The defaults are those of [`crate::PeerSettings`].
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Deadline of a call for which no earlier one applies. A stream has only to begin by then. Default 10 s.
    pub timeout: Duration,
    /// Longest time to wait for a connection, for a name's addresses, and for a server's word on its health. Default 2 s.
    pub connect_timeout: Duration,
    /// Bearer token for calls that are made on nobody's behalf. Default none. While a call is served, the token of its
    /// caller is sent on instead.
    pub token: Option<Secret>,
    /// How often a call is repeated that a server has seen, if its contract allows that and the server is UNAVAILABLE.
    /// Default 2.
    pub retries: u32,
    /// Share of all calls, in percent, that such repetitions may be. Default 20.
    pub retry_percent: u32,
    /// Repetitions a second that are allowed beside that share. Default 10.
    pub retries_per_second: u32,
    /// Largest message, in and out, for clients made by [`crate::Client::over`]. Default 16 MiB.
    pub max_message_bytes: usize,
    /// Idle time after which the server is asked whether it lives. Default 10 s.
    pub keepalive_interval: Duration,
    /// Time it has to answer that, before the connection counts as broken. Default 5 s.
    pub keepalive_timeout: Duration,
    /// How old a name's addresses may be before they are looked up again. Default 15 s.
    pub resolve_interval: Duration,
    /// When a server that fails is left alone.
    pub breaker: BreakerOptions,
    /// PEM file of authorities that are believed beside the public ones, for `https`. Default none.
    pub tls_ca: Option<PathBuf>,
    /// Where servers are. Default: this machine's network.
    pub network: Arc<dyn Network>,
    /// Fixes the chance in jitter and choice, for a simulation. Default none.
    pub seed: Option<u64>,
}
