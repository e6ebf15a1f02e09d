//! The network as hosts and channels see it, so that a simulated one can take its place.

use std::{fmt, io, net::SocketAddr};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A connection's two directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

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
