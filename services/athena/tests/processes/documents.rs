//! kill -9 under writers in front of a Firestore that fails: every acknowledged write arrives, and once. `athena bench storage.faults` is the same at
//! length.

use std::net::SocketAddr;

use athena::Service;
use rpc::{Channel, ChannelOptions};
use storage_batcher::bench::{Emulator, Error, Instance, Story, faults};
use telemetry::Telemetry;

use crate::harness::{Process, until_serving};

/// A service over a journal of its own.
struct Running {
    folder: tempfile::TempDir,
    firestore: SocketAddr,
    caller: Telemetry,
    process: Option<Process>,
}

impl Instance for Running {
    async fn start(&mut self) -> Result<SocketAddr, Error> {
        let mut settings = athena::ephemeral(self.folder.path());
        let often = ["firestore_batch_size=2", "firestore_flush_interval=1s", "firestore_retry_backoff=1ms"];
        settings.extend(["firestore_project=demo-athena"].into_iter().chain(often).map(str::to_owned));
        settings.push(format!("firestore_url={}", self.firestore));
        let process = Process::start(Service::StorageBatcher, &settings, &self.caller).await;
        let channel = Channel::lazy(&process.url(), ChannelOptions::default(), self.caller.clone()).unwrap();
        until_serving(channel, Service::StorageBatcher).await;
        let address = process.server().address;
        self.process = Some(process);
        Ok(address)
    }

    async fn stop(&mut self) -> Result<(), Error> {
        let mut process = self.process.take().unwrap();
        process.terminate().await;
        process.ended().await;
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), Error> {
        self.process.take().unwrap().kill().await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_and_a_firestore_that_fails_lose_and_double_no_write() {
    let emulator = Emulator::start(7).await.unwrap();
    let (folder, caller) = (tempfile::tempdir().unwrap(), Telemetry::silent("test"));
    let mut running = Running { folder, firestore: emulator.address(), caller, process: None };
    let story = Story { writes: 1_000, kills: 6, injected: 300, seed: 7 };
    let round = faults(&mut running, &emulator, story).await.unwrap();
    assert!(round.value == 0.0, "{round:?}");
    let least = [("writes", 1_000), ("kills", 6), ("injected", 300), ("documents", 100)];
    assert!(least.iter().all(|(of, least)| round.details[of].as_u64() >= Some(*least)), "{round:?}");
}
