//! A service as a process of this program, for benchmarks that start it, stop it and kill it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{Instance, Process, Server};
use tokio::process::Child;

use super::processes::{end, free_port, serve_with, until_serving};
use crate::Service;

/// A service over a folder that stays; killed when this is dropped.
pub(super) struct Running {
    service: Service,
    folder: PathBuf,
    settings: Vec<String>,
    child: Option<Child>,
}

impl Running {
    pub(super) fn new(service: Service, folder: &Path, settings: Vec<String>) -> Self {
        Self { service, folder: folder.to_owned(), settings, child: None }
    }

    async fn spawn(&mut self) -> Result<Server> {
        let port = free_port()?;
        let child = serve_with(self.service, port, &self.folder, self.settings.clone())?;
        let child = self.child.insert(child);
        until_serving(self.service, port).await?;
        let id = child.id().context("a measured process ended")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Server { address, process: Process::new(id) })
    }

    async fn terminate(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let id = child.id().context("a measured process ended")?;
        Process::new(id).terminate()?;
        let ended = child.wait().await?;
        ensure!(ended.success(), "a measured process did not stop well: {ended}");
        Ok(())
    }
}

impl Instance for Running {
    async fn start(&mut self) -> io::Result<Server> {
        self.spawn().await.map_err(io::Error::other)
    }

    async fn stop(&mut self) -> io::Result<()> {
        self.terminate().await.map_err(io::Error::other)
    }

    async fn kill(&mut self) -> io::Result<()> {
        match self.child.take() {
            Some(child) => end(child).await.map_err(io::Error::other),
            None => Ok(()),
        }
    }
}
