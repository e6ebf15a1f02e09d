//! kill -9 under writers at full speed: nothing acknowledged is lost, nothing is doubled.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use athena::Service;
use contracts::memory::{
    ExportMemoriesRequest, ForgetRequest, ForgettingState, GetStatsRequest, ListForgettingsRequest, Memory,
    RecallRequest, RememberBatchRequest, RememberRequest, UndoRequest,
    memory_admin_service_client::MemoryAdminServiceClient, memory_service_client::MemoryServiceClient,
};
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::Telemetry;
use tokio::task::JoinHandle;

use crate::harness::{Process, until_serving};

/// Writers at a time.
const WRITERS: u32 = 16;
/// Every so many writes one goes in a batch, and every so many an earlier memory is forgotten.
const BATCHED: u32 = 7;
const FORGOTTEN: u32 = 5;
/// Forgettings that are undone at the end.
const UNDONE: u32 = 200;

/// What a writer knows of an id once its call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The last content that was acknowledged, and the one that may have been written.
    Kept(u32),
    Gone,
    /// The call that would have changed it was cut off: both states are right.
    Either(Option<u32>, Option<u32>),
    /// It was forgotten, and may have come back.
    Back,
}

/// What one writer was told, by id.
type Told = BTreeMap<String, Known>;

struct Run {
    folder: tempfile::TempDir,
    caller: Telemetry,
    process: Option<Process>,
}

impl Run {
    async fn start() -> Self {
        let (folder, caller) = (tempfile::tempdir().unwrap(), Telemetry::silent("test"));
        let mut run = Self { folder, caller, process: None };
        run.serve().await;
        run
    }

    /// Starts the service and returns how long it takes to serve.
    async fn serve(&mut self) -> Duration {
        let start = Instant::now();
        let mut settings = athena::ephemeral(self.folder.path());
        settings.push("memory_port=0".to_owned());
        settings.push("max_concurrent_calls=1000".to_owned());
        // Nothing goes but what is named.
        settings.push("memory_max=0".to_owned());
        self.process = Some(Process::start(Service::MemoryService, &settings, &self.caller).await);
        until_serving(self.channel(), Service::MemoryService).await;
        start.elapsed()
    }

    fn channel(&self) -> Channel {
        let options = ChannelOptions { retries: 0, ..ChannelOptions::default() };
        Channel::lazy(&self.process.as_ref().unwrap().url(), options, self.caller.clone()).unwrap()
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await;
    }

    /// Writes until the service is gone; numbers come from `next`.
    fn writer(&self, number: u32, next: Arc<AtomicU32>, mut told: Told) -> JoinHandle<Told> {
        let mut client = MemoryServiceClient::over(self.channel());
        self.caller.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Relaxed);
                let ids = if turn.is_multiple_of(BATCHED) { 3 } else { 1 };
                // An id of earlier is written again now and then: it must come back once, and as it was last.
                let name = |place: u32| format!("{number}-{}", (turn / 3 + place) % 4_000);
                let forgets = turn.is_multiple_of(FORGOTTEN);
                let ids: Vec<String> = (0..ids).map(name).collect();
                let after = (!forgets).then_some(turn);
                let before: Vec<_> = ids.iter().map(|id| told.get(id).copied()).collect();
                if write(&mut client, &ids, after).await.is_ok() {
                    let known = after.map_or(Known::Gone, Known::Kept);
                    told.extend(ids.into_iter().map(|id| (id, known)));
                    continue;
                }
                for (id, before) in ids.into_iter().zip(before) {
                    let before = match before {
                        Some(Known::Kept(turn)) => Some(turn),
                        _ => None,
                    };
                    told.insert(id, Known::Either(before, after));
                }
                return told;
            }
        })
    }

    /// Compares what is there with what was told, and returns what is there.
    async fn check(&self, told: &mut [Told]) -> u64 {
        let mut admin = MemoryAdminServiceClient::over(self.channel());
        let mut stream = admin.export_memories(ExportMemoriesRequest::default()).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(part) = stream.message().await.unwrap() {
            lines.extend(part.lines);
        }
        let mut found: BTreeMap<String, u32> = BTreeMap::new();
        for line in lines.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            let (id, turn) = (line["id"].as_str().unwrap(), line["content"].as_str().unwrap());
            let twice = found.insert(id.to_owned(), turn.parse().unwrap());
            assert_eq!(twice, None, "{id} is there twice");
        }
        for (id, known) in told.iter_mut().flatten() {
            let there = found.get(id).copied();
            match *known {
                Known::Kept(turn) => assert_eq!(there, Some(turn), "{id} was acknowledged"),
                Known::Gone => assert_eq!(there, None, "{id} was forgotten"),
                Known::Back => {}
                Known::Either(before, after) => {
                    assert!(
                        there == before || there == after,
                        "{id}: {there:?}, not {before:?} or {after:?}"
                    );
                }
            }
            *known = there.map_or(Known::Gone, Known::Kept);
        }
        let named: usize = told.iter().map(BTreeMap::len).sum();
        assert!(found.len() <= named, "nothing is there that nobody wrote");
        self.counts(found.len() as u64).await;
        found.len() as u64
    }

    /// Undoes the last forgettings: of each all that it took comes back, but for what was written again.
    async fn undo(&self, told: &mut [Told]) {
        let mut admin = MemoryAdminServiceClient::over(self.channel());
        let request = ListForgettingsRequest { limit: UNDONE, ..ListForgettingsRequest::default() };
        let listed = admin.list_forgettings(request).await.unwrap().into_inner().forgettings;
        assert!(!listed.is_empty(), "there were some");
        let mut restored = 0;
        for forgetting in listed {
            assert_eq!(forgetting.state(), ForgettingState::Undoable);
            let request = UndoRequest { forgetting: forgetting.number, ..UndoRequest::default() };
            let done = admin.undo(request).await.unwrap().into_inner();
            assert_eq!(done.restored + done.stayed, forgetting.memories, "nothing of it is lost");
            restored += done.restored;
        }
        // Whatever came back was written before; that it is there once and can be read is left to the check.
        for known in told.iter_mut().flat_map(Told::values_mut).filter(|known| **known == Known::Gone) {
            *known = Known::Back;
        }
        let before = told.iter().flatten().filter(|(_, known)| matches!(known, Known::Kept(_))).count();
        assert_eq!(self.check(told).await, before as u64 + restored);
    }

    /// What is searched is what is kept.
    async fn counts(&self, count: u64) {
        let mut client = MemoryServiceClient::over(self.channel());
        let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
        assert_eq!(stats.memories, count);
        let answer = client.recall(RecallRequest::default()).await.unwrap().into_inner();
        assert_eq!(answer.candidates, count);
    }
}

async fn write(
    client: &mut MemoryServiceClient<Channel>,
    ids: &[String],
    turn: Option<u32>,
) -> Result<(), tonic::Status> {
    let Some(turn) = turn else {
        return client
            .forget(ForgetRequest { ids: ids.to_vec(), ..ForgetRequest::default() })
            .await
            .map(drop);
    };
    let memory = |id: &String| Memory {
        id: id.clone(),
        category: "test".to_owned(),
        content: turn.to_string(),
        ..Memory::default()
    };
    if let [id] = ids {
        let request = RememberRequest { memory: Some(memory(id)), ..RememberRequest::default() };
        return client.remember(request).await.map(drop);
    }
    let memories = ids.iter().map(memory).collect();
    let batch = RememberBatchRequest { memories, ..RememberBatchRequest::default() };
    client.remember_batch(batch).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_full_load_loses_and_doubles_nothing() {
    let mut run = Run::start().await;
    let next = Arc::new(AtomicU32::new(1));
    let mut told: Vec<Told> = vec![Told::new(); WRITERS as usize];
    for round in 1..=6_u64 {
        let writers: Vec<_> = (0..WRITERS)
            .zip(told)
            .map(|(number, told)| run.writer(number, Arc::clone(&next), told))
            .collect();
        // Real time: the kill has to come at any point of a commit, and later in each round.
        tokio::time::sleep(Duration::from_millis(700 + 331 * round)).await;
        run.kill().await;
        told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        let restart = run.serve().await;
        assert!(restart < Duration::from_secs(20), "{restart:?}");
        run.check(&mut told).await;
    }
    assert!(next.load(Relaxed) > 1_000, "there was load");
    run.undo(&mut told).await;
}
