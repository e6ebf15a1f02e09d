//! How the command reaches the services of a mesh: in plaintext, or over TLS where they have a certificate.

use std::{net::SocketAddr, path::PathBuf};

use rpc::{ChannelOptions, HostSettings};

/// The scheme of the services' addresses, and whom to believe.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    tls: bool,
    authorities: Option<PathBuf>,
}

impl Reach {
    /// Reads the settings that all services of a mesh share.
    pub(crate) fn of(host: &HostSettings) -> Self {
        Self { tls: host.tls_cert.is_some(), authorities: host.tls_ca.clone() }
    }

    /// Returns the URL of a service.
    pub(crate) fn url(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.tls { "https" } else { "http" })
    }

    /// Returns the options of a channel to a service.
    pub(crate) fn options(&self) -> ChannelOptions {
        ChannelOptions { tls_ca: self.authorities.clone(), ..ChannelOptions::default() }
    }
}
