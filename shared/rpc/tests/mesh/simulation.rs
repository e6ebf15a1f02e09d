//! A network that a seed decides over, under hosts and channels.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use clock::Clock;
use contracts::memory::memory_service_server::MemoryServiceServer;
use futures::future::BoxFuture;
use rpc::{
    Host, HostSettings,
    net::{Io, Listener, Network},
};
use telemetry::Telemetry;
use turmoil::Result;

use crate::bystander::Bystander;

/// Where every simulated host serves.
pub(crate) const PORT: u16 = 7102;

/// The simulated network of a channel.
#[derive(Debug)]
pub(crate) struct Simulated;

impl Network for Simulated {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        // `memory` stands for every server, as a headless Service does.
        let names = if host == "memory" { vec!["one", "two"] } else { vec![host] };
        let addresses = names.into_iter().map(|name| SocketAddr::new(turmoil::lookup(name), port)).collect();
        Box::pin(std::future::ready(Ok(addresses)))
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move { Ok(Box::new(turmoil::net::TcpStream::connect(address).await?) as Box<dyn Io>) })
    }
}

struct Taking(turmoil::net::TcpListener);

impl Listener for Taking {
    type Io = turmoil::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, SocketAddr)> {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves memory with `bystander` at [`PORT`] of the simulated host that this runs on.
pub(crate) async fn serve(bystander: Bystander) -> Result {
    let listener = turmoil::net::TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT)).await?;
    let settings = HostSettings { allow_anonymous: true, ..HostSettings::defaults() };
    let host = Host::over(Taking(listener), &settings, Telemetry::silent("server"), Clock::system())?;
    let host = host.add(MemoryServiceServer::new(bystander));
    host.health().serving();
    Ok(host.run(std::future::pending()).await?)
}
