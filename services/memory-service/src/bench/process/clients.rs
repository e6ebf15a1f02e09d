//! What benchmarks ask of the service: the calls of a load, encoded once, and those whose answer matters.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use contracts::memory::{
    self as wire, memory_admin_service_client::MemoryAdminServiceClient,
    memory_service_client::MemoryServiceClient,
};
use prost::Message as _;
use rpc::{Channel, ChannelOptions, Client as _};
use serde::Deserialize;
use telemetry::Telemetry;
use testkit::load::frame;
use tonic::Status;

use super::{
    Error,
    corpus::{Asked, Made},
};

/// The rpcs of loads.
pub(super) const REMEMBER: &str = "/athena.memory.v1.MemoryService/Remember";
pub(super) const REMEMBER_BATCH: &str = "/athena.memory.v1.MemoryService/RememberBatch";
pub(super) const RECALL: &str = "/athena.memory.v1.MemoryService/Recall";

/// Memories a recall asks for.
const LIMIT: u32 = 10;
/// Longest a call may take whose answer matters.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the call that remembers one, whose id the service makes: so it looks first whether another one says the same.
pub(super) fn remember(made: Made) -> Bytes {
    let memory = wire::Memory { id: String::new(), ..memory(made) };
    let request = wire::RememberRequest { memory: Some(memory), ..wire::RememberRequest::default() };
    frame(&request.encode_to_vec())
}

/// Returns the call that remembers several in one commit.
pub(super) fn batch(made: impl Iterator<Item = Made>) -> Bytes {
    let memories = made.map(memory).collect();
    let request = wire::RememberBatchRequest { memories, ..wire::RememberBatchRequest::default() };
    frame(&request.encode_to_vec())
}

/// Returns the call that asks for the memories most like a vector.
pub(super) fn recall(asked: Asked) -> Bytes {
    frame(&request(asked).encode_to_vec())
}

fn memory(made: Made) -> wire::Memory {
    wire::Memory {
        id: made.id,
        category: made.category,
        content: made.content,
        pools: vec![made.pool],
        embedding: made.vector,
        ..wire::Memory::default()
    }
}

fn request(asked: Asked) -> wire::RecallRequest {
    let query = wire::Query {
        text: asked.text,
        embedding: asked.vector,
        categories: asked.category.into_iter().collect(),
        limit: LIMIT,
        ..wire::Query::default()
    };
    wire::RecallRequest { query: Some(query), ..wire::RecallRequest::default() }
}

/// Calls the service and heeds its answers.
#[derive(Clone, Debug)]
pub(super) struct Client {
    memories: MemoryServiceClient<Channel>,
    admin: MemoryAdminServiceClient<Channel>,
}

/// What a recall found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recalled {
    /// Memories that passed the filter.
    pub(super) candidates: u64,
    /// What the best one says.
    pub(super) first: Option<String>,
}

/// What the service counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Memories held.
    pub(super) memories: u64,
    /// Recalls answered by the query cache.
    pub(super) cached: u64,
}

/// What came of undoing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Undone {
    /// Memories that had been forgotten.
    pub(super) forgotten: u64,
    /// Those of them that came back.
    pub(super) restored: u64,
    /// Those that did not, since their id was written again.
    pub(super) stayed: u64,
}

/// A line of an export; its first, the header, has neither.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    id: String,
    content: String,
}

impl Client {
    /// Makes a client whose calls are made once.
    pub(super) fn new(address: SocketAddr) -> Result<Self, Error> {
        let options = ChannelOptions { timeout: PATIENCE, retries: 0, ..ChannelOptions::default() };
        let channel = Channel::lazy(&format!("http://{address}"), options, Telemetry::untraced("bench"));
        let channel = channel.map_err(std::io::Error::other)?;
        let memories = MemoryServiceClient::over(channel.clone());
        Ok(Self { memories, admin: MemoryAdminServiceClient::over(channel) })
    }

    /// Asks for the memories most like a vector.
    pub(super) async fn recall(&mut self, asked: &Asked) -> Result<Recalled, Error> {
        let answer = self.memories.recall(request(asked.clone())).await.map_err(failed("a recall"))?;
        let answer = answer.into_inner();
        let first = answer.memories.into_iter().next().and_then(|scored| scored.memory);
        Ok(Recalled { candidates: answer.candidates, first: first.map(|memory| memory.content) })
    }

    /// Returns what the service counted.
    pub(super) async fn counts(&mut self) -> Result<Counts, Error> {
        let stats = self.memories.get_stats(wire::GetStatsRequest::default()).await;
        let stats = stats.map_err(failed("reading statistics"))?.into_inner();
        Ok(Counts { memories: stats.memories, cached: stats.cache_hits })
    }

    /// Remembers these ids with one content: one by `Remember`, several by `RememberBatch`.
    pub(super) async fn remember(&mut self, ids: Vec<String>, content: u32) -> Result<(), Error> {
        let memory = |id| wire::Memory {
            id,
            category: "bench".to_owned(),
            content: content.to_string(),
            ..wire::Memory::default()
        };
        let mut memories: Vec<_> = ids.into_iter().map(memory).collect();
        let remembered = if memories.len() == 1 {
            let request =
                wire::RememberRequest { memory: memories.pop(), ..wire::RememberRequest::default() };
            self.memories.remember(request).await.map(drop)
        } else {
            let request = wire::RememberBatchRequest { memories, ..wire::RememberBatchRequest::default() };
            self.memories.remember_batch(request).await.map(drop)
        };
        remembered.map_err(failed("remembering"))
    }

    /// Forgets these ids.
    pub(super) async fn forget(&mut self, ids: Vec<String>) -> Result<(), Error> {
        let request = wire::ForgetRequest { ids, ..wire::ForgetRequest::default() };
        self.memories.forget(request).await.map(drop).map_err(failed("forgetting"))
    }

    /// Undoes the last forgettings, at most so many.
    pub(super) async fn undo(&mut self, limit: u32) -> Result<Undone, Error> {
        let request = wire::ListForgettingsRequest { limit, ..wire::ListForgettingsRequest::default() };
        let listed = self.admin.list_forgettings(request).await.map_err(failed("listing forgettings"))?;
        let mut undone = Undone::default();
        for forgetting in listed.into_inner().forgettings {
            let request = wire::UndoRequest { forgetting: forgetting.number, ..wire::UndoRequest::default() };
            let done = self.admin.undo(request).await.map_err(failed("undoing"))?.into_inner();
            undone.forgotten += forgetting.memories;
            undone.restored += done.restored;
            undone.stayed += done.stayed;
        }
        Ok(undone)
    }

    /// Shows `each` every memory's id and content, as the store has them.
    pub(super) async fn export(&mut self, mut each: impl FnMut(String, &str)) -> Result<(), Error> {
        const WHAT: &str = "an export";
        let export = self.admin.export_memories(wire::ExportMemoriesRequest::default()).await;
        let mut parts = export.map_err(failed(WHAT))?.into_inner();
        while let Some(part) = parts.message().await.map_err(failed(WHAT))? {
            for line in part.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line: Line = serde_json::from_slice(line)
                    .map_err(|error| Error::Call { what: WHAT, why: error.to_string() })?;
                if !line.id.is_empty() {
                    each(line.id, &line.content);
                }
            }
        }
        Ok(())
    }
}

/// Says which call failed, and how.
fn failed(what: &'static str) -> impl Fn(Status) -> Error {
    move |status| Error::Call { what, why: format!("{}: {}", status.code(), status.message()) }
}
