//! kill -9 under writers at full speed: nothing acknowledged is lost, nothing is doubled; and what a start after that finds. `athena bench
//! memory.kills` and `memory.restart` are the same at length.

use std::time::Duration;

use athena::Service;
use memory_service::bench::process::{DIMENSIONS, Error, Instance, Server, Story, fill, kills, restart};
use rpc::{Channel, ChannelOptions};
use telemetry::Telemetry;

use crate::harness::{Process, until_serving};

/// A service over a store of its own.
pub(crate) struct Running {
    folder: tempfile::TempDir,
    settings: Vec<String>,
    caller: Telemetry,
    process: Option<Process>,
}

impl Running {
    pub(crate) fn new(settings: &[String]) -> Self {
        let (folder, caller) = (tempfile::tempdir().unwrap(), Telemetry::silent("test"));
        Self { folder, settings: settings.to_vec(), caller, process: None }
    }

    /// Returns a channel to the process that runs now.
    pub(crate) fn channel(&self) -> Channel {
        let url = self.process.as_ref().unwrap().url();
        Channel::lazy(&url, ChannelOptions::default(), self.caller.clone()).unwrap()
    }
}

impl Instance for Running {
    async fn start(&mut self) -> Result<Server, Error> {
        let mut settings = athena::ephemeral(self.folder.path());
        settings.push("memory_port=0".to_owned());
        // Nothing goes but what is named.
        settings.push("memory_max=0".to_owned());
        settings.extend(self.settings.clone());
        let process = Process::start(Service::MemoryService, &settings, &self.caller).await;
        let server = process.server();
        self.process = Some(process);
        until_serving(self.channel(), Service::MemoryService).await;
        Ok(server)
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
async fn kill_9_under_full_load_loses_and_doubles_nothing() {
    // Checkpoints as often as can be: a kill has to meet these too.
    let settings = ["memory_checkpoint_interval=1s", "memory_checkpoint_min=1"].map(str::to_owned);
    let mut running = Running::new(&settings);
    let (pause, later) = (Duration::from_millis(1031), Duration::from_millis(331));
    let story = Story { memories: 1_000, kills: 6, pause, later };
    let killed = kills(&mut running, story).await.unwrap();
    assert_eq!(killed.differences, Default::default());
    assert!(killed.kills == 6 && killed.acknowledged > 1_000 && killed.forgotten > 100, "{killed:?}");
    assert!(killed.kept > 500 && killed.restored > 10, "{killed:?}");
    assert!(killed.restarts.iter().all(|restart| *restart < Duration::from_secs(20)), "{killed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_kill_and_one_after_a_stop_find_every_memory() {
    let settings =
        [format!("memory_embedder=hashing-{DIMENSIONS}"), format!("memory_dimensions={DIMENSIONS}")];
    let mut running = Running::new(&settings);
    let folder = running.folder.path().to_owned();
    // Not a whole number of batches.
    let filled = fill(&mut running, &folder, 1_500).await.unwrap();
    for _ in 0..2 {
        // It fails if a memory is missing, or not found by its own vector.
        let round = restart(&mut running, &filled).await.unwrap();
        assert_eq!(round.details["memories"], 1_500);
        assert!(round.details["bytes_on_disk"].as_u64() > Some(1_500 * 384 * 4), "{round:?}");
    }
}

#[tokio::test]
async fn a_store_that_finds_no_room_is_not_begun() {
    let mut running = Running::new(&[]);
    let folder = running.folder.path().to_owned();
    let refused = fill(&mut running, &folder, u64::MAX).await.unwrap_err();
    assert!(matches!(refused, Error::Room { .. }) && running.process.is_none(), "{refused}");
}
