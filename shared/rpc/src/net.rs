//! The network under a host: TCP, or a simulated one.

use std::{future::Future, io, net::SocketAddr, pin::Pin};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

/// Takes connections for a [`crate::Host`]. Implemented for tokio's TCP; a simulated network brings its own.
pub trait Listener: Send + Sync + 'static {
    /// One connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection and tells where it comes from. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// What the network says; the host goes on with the next one.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;

    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the network says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Small answers must not wait for more; a socket that refuses still works.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// One connection, whatever carries it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any listener, so that a host and its connections have no type parameter.
pub(crate) trait AnyListener: Send + Sync {
    fn accept(&self) -> Accepting<'_>;
}

pub(crate) type Accepting<'a> =
    Pin<Box<dyn Future<Output = io::Result<(Box<dyn Io>, SocketAddr)>> + Send + 'a>>;

impl<L: Listener> AnyListener for L {
    fn accept(&self) -> Accepting<'_> {
        Box::pin(async {
            let (io, peer) = Listener::accept(self).await?;
            Ok((Box::new(io) as Box<dyn Io>, peer))
        })
    }
}
