//! What can go wrong when a host or a channel is set up.

use std::{io, net::SocketAddr, path::PathBuf};

/// Tells why a [`crate::Host`] could not be bound or run, or a [`crate::Channel`] not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port is taken, or the address is not one of this machine.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Anyone on the network could call the service.
    #[error(
        "{address} is reachable from other machines: set `auth_tokens`, or `allow_anonymous` if that is meant"
    )]
    Unprotected {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// An entry of `auth_tokens` is not `token=tenant:role`.
    #[error("entry {entry} of `auth_tokens` {problem}")]
    Tokens {
        /// Its position, from 1. The entry itself is a secret.
        entry: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// One of the two files that TLS needs is not named.
    #[error("`{missing}` is missing: `{given}` is set, and TLS needs both")]
    HalfTls {
        /// The setting that is missing.
        missing: &'static str,
        /// The setting that is there.
        given: &'static str,
    },
    /// The certificate or its key cannot be used.
    #[error("tls cannot be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A descriptor set for reflection is damaged.
    #[error("a descriptor set cannot be served")]
    Descriptors(#[source] prost::DecodeError),
    /// The address of a server is not an `http` or `https` URL.
    #[error("`{url}` is not an http or https url of a server, nor several of one scheme with commas between")]
    Url {
        /// The address as it was given.
        url: String,
    },
    /// The authorities of a channel cannot be read.
    #[error("`{}` is no file of authorities: {problem}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The token of a channel has characters that no header can carry.
    #[error("the token of the channel to `{url}` is not valid in a header")]
    Token {
        /// The address of the server.
        url: String,
    },
}
