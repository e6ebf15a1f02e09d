//! One service over a folder of its own, started and killed as benchmarks do it.

use std::{io, path::Path, sync::Arc};

use athena::Service;
use rpc::{Channel, ChannelOptions};
use telemetry::Telemetry;
use testkit::{Instance, Server};

use crate::harness::{Process, until_serving};

/// A service over a folder of its own.
pub(crate) struct Running {
    service: Service,
    folder: Arc<tempfile::TempDir>,
    settings: Vec<String>,
    caller: Telemetry,
    process: Option<Process>,
}

impl Running {
    pub(crate) fn new(service: Service, settings: &[&str]) -> Self {
        let (folder, caller) = (Arc::new(tempfile::tempdir().unwrap()), Telemetry::silent("test"));
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { service, folder, settings, caller, process: None }
    }

    /// The same service over the same folder, with one more setting.
    pub(crate) fn with(&self, setting: &str) -> Self {
        let settings = self.settings.iter().cloned().chain([setting.to_owned()]).collect();
        let (service, folder, caller) = (self.service, Arc::clone(&self.folder), self.caller.clone());
        Self { service, folder, settings, caller, process: None }
    }

    /// A memory service that nothing leaves but what is named.
    pub(crate) fn memories(settings: &[&str]) -> Self {
        Self::new(Service::MemoryService, &[&["memory_port=0", "memory_max=0"], settings].concat())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns whether it was started and not ended since.
    pub(crate) fn is_there(&self) -> bool {
        self.process.is_some()
    }

    /// Returns a channel to the process that runs now.
    pub(crate) fn channel(&self) -> Channel {
        let url = self.process.as_ref().unwrap().url();
        Channel::lazy(&url, ChannelOptions::default(), self.caller.clone()).unwrap()
    }
}

impl Instance for Running {
    async fn start(&mut self) -> io::Result<Server> {
        let mut settings = athena::ephemeral(self.folder.path());
        settings.extend(self.settings.clone());
        let process = Process::start(self.service, &settings, &self.caller).await;
        let server = process.server();
        self.process = Some(process);
        until_serving(self.channel(), self.service).await;
        Ok(server)
    }

    async fn stop(&mut self) -> io::Result<()> {
        let mut process = self.process.take().unwrap();
        process.terminate().await;
        process.ended().await;
        Ok(())
    }

    async fn kill(&mut self) -> io::Result<()> {
        self.process.take().unwrap().kill().await;
        Ok(())
    }
}
