//! The network under hosts and channels: TCP, or a simulated one.

use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin};

use futures::future::BoxFuture;
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
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

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

/// How a channel reaches servers.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Returns the addresses of a name, in no order.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Opens a connection.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>>;
}

/// The network of this machine: the system's resolver, and TCP without delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Network for Tcp {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // Small questions must not wait for more; a socket that refuses still works.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}
