//! An address that refuses connections.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of the loopback address that is taken, but on which nobody listens.
#[derive(Debug)]
pub struct Unserved {
    socket: TcpSocket,
    address: SocketAddr,
}

impl Unserved {
    /// Returns the address; connecting to it is refused at once.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        debug_assert_eq!(self.socket.local_addr().ok(), Some(self.address));
        self.address
    }

    /// Returns the address as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

/// Takes a free port without listening on it, so that nobody else can before it is dropped.
///
/// # Panics
/// Where the loopback address has no free port.
#[must_use]
#[expect(clippy::expect_used, reason = "a test without a loopback address cannot go on")]
pub fn port_nobody_listens_on() -> Unserved {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    let address = socket.local_addr().expect("the address just bound");
    Unserved { socket, address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_refused_and_the_port_is_taken() {
        let unserved = port_nobody_listens_on();
        let refused = tokio::net::TcpStream::connect(unserved.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(tokio::net::TcpListener::bind(unserved.address()).await.is_err());
    }
}
