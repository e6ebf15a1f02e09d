//! A memory service on a free port, with its store in a folder that goes away.

use std::time::{Duration, UNIX_EPOCH};

use clock::{Clock, Hand};
use contracts::memory::{Memory, RecallResponse, memory_service_client::MemoryServiceClient};
use memory_service::{Config, Error, bind};
use prost_types::Timestamp;
use rpc::{Channel, ChannelOptions, Client as _, Code, Fault};
use telemetry::{Captured, Telemetry};
use tokio::{sync::oneshot, task::JoinHandle};

/// The second at which the agent clock of every test stands.
const NOW: u64 = 1_750_000_000;

pub(crate) struct Service {
    pub(crate) hand: Hand,
    pub(crate) telemetry: Telemetry,
    pub(crate) captured: Captured,
    config: Config,
    folder: tempfile::TempDir,
    url: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            Config { memory_port: 0, memory_dir: folder.path().join("made"), ..Config::defaults() };
        change(&mut config);
        Self::open(config, folder).await
    }

    /// Stops the service and starts one on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let (config, folder) = self.stop().await;
        Self::open(config, folder).await
    }

    /// Stops the service, and returns why one with changed settings does not start on the same folder.
    pub(crate) async fn restart_refused(self, change: impl FnOnce(&mut Config)) -> Error {
        let (mut config, _folder) = self.stop().await;
        change(&mut config);
        let bound = bind(config, Telemetry::silent("memory-service"), Clock::system()).await.unwrap();
        bound.run(std::future::pending()).await.unwrap_err()
    }

    pub(crate) async fn stop(self) -> (Config, tempfile::TempDir) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
        (self.config, self.folder)
    }

    /// The folder of the store.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.config.memory_dir
    }

    pub(crate) fn client(&self) -> MemoryServiceClient<Channel> {
        self.client_of(None)
    }

    pub(crate) fn client_of(&self, token: Option<&str>) -> MemoryServiceClient<Channel> {
        MemoryServiceClient::over(self.channel(token))
    }

    /// A client that repeats nothing: a test sees what the service answers first.
    pub(crate) fn unretried(&self) -> MemoryServiceClient<Channel> {
        let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
        let channel = Channel::lazy(&self.url, options, Telemetry::silent("caller")).unwrap();
        MemoryServiceClient::over(channel)
    }

    pub(crate) async fn open(config: Config, folder: tempfile::TempDir) -> Self {
        let (telemetry, captured) = Telemetry::captured("memory-service");
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(NOW));
        let bound = bind(config.clone(), telemetry.clone(), clock).await.unwrap();
        let url = format!("http://{}", bound.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = telemetry.spawn(bound.run(async { drop(stopped.await) }));
        let service = Self { hand, telemetry, captured, config, folder, url, stop, running };
        service.ready().await;
        service
    }

    /// Waits until health says SERVING.
    pub(crate) async fn ready(&self) {
        rpc::until_serving(&self.channel(None), "athena.memory.v1.MemoryService").await.unwrap();
    }

    /// Returns the state of a part of the service.
    pub(crate) async fn part(&self, part: &str) -> Option<rpc::Serving> {
        let states = rpc::states(&self.channel(None)).await.unwrap();
        states.get(&format!("athena.memory.v1.MemoryService/{part}")).copied()
    }

    pub(crate) fn channel(&self, token: Option<&str>) -> Channel {
        let options = ChannelOptions { token: token.map(config::Secret::new), ..ChannelOptions::default() };
        Channel::lazy(&self.url, options, Telemetry::silent("caller")).unwrap()
    }
}

/// A memory that leaves to the service what it may.
pub(crate) fn memory(id: &str, content: &str) -> Memory {
    Memory { id: id.into(), category: "test".into(), content: content.into(), ..Memory::default() }
}

/// A memory whose vector points `number` steps along a half circle of `steps`.
pub(crate) fn embedded(number: u16, steps: u16) -> Memory {
    let angle = std::f32::consts::PI * f32::from(number) / f32::from(steps);
    let mut embedding = vec![0.0; 256];
    (embedding[3], embedding[200]) = (angle.cos(), angle.sin());
    Memory { embedding, ..memory(&number.to_string(), "a direction") }
}

/// The agent clock's start, `seconds` later.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: i64::try_from(NOW).unwrap() + seconds, nanos: 0 }
}

/// The ids of an answer, in its order.
pub(crate) fn recalled(answer: &RecallResponse) -> Vec<&str> {
    answer.memories.iter().map(|scored| &*scored.memory.as_ref().unwrap().id).collect()
}

/// Code and wrong fields of a refused call.
pub(crate) fn fault(status: &tonic::Status) -> (Code, Vec<String>) {
    let fault = Fault::from(status);
    (fault.code(), fault.violations().iter().map(|violation| violation.field.clone()).collect())
}
