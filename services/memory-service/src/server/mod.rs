//! The gRPC adapter: convert, call, convert back.

mod admin;
mod import;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use contracts::memory::{
    self as wire,
    memory_service_server::{MemoryService, MemoryServiceServer},
};
use rpc::{Caller, Deadline, Fault, Role};
use telemetry::{Histogram, KeyValue, Telemetry, names};
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span, field::Empty};

pub(crate) use admin::Admin;

use crate::{config::Limits, convert, engine::Engine, error::Error, recall::Answer, shape::SpaceKey};

/// The engine, once the store is read. Until then calls are answered with UNAVAILABLE.
pub(crate) type Slot = Arc<OnceLock<Arc<Engine>>>;

/// Serves `athena.memory.v1.MemoryService`.
#[derive(Debug)]
pub(crate) struct Adapter {
    engine: Slot,
    limits: Limits,
    latency: Histogram,
}

impl Adapter {
    /// Makes an adapter for the engine that will be in `engine`.
    pub(crate) fn new(engine: Slot, limits: Limits, telemetry: &Telemetry) -> Self {
        Self { engine, limits, latency: telemetry.histogram(names::MEMORY_QUERY_LATENCY) }
    }

    /// Makes the service that a host adds.
    pub(crate) fn into_service(self) -> MemoryServiceServer<Self> {
        MemoryServiceServer::new(self)
    }

    fn engine(&self) -> Result<&Arc<Engine>, Fault> {
        self.engine.get().ok_or_else(|| Error::NotReady.into())
    }

    /// Returns what a request about the space of `key` may ask for.
    fn limits_of(&self, key: &SpaceKey) -> Result<Limits, Fault> {
        Ok(Limits { dimensions: self.engine()?.dimensions(key), ..self.limits })
    }

    async fn answer(&self, key: &SpaceKey, query: Option<wire::Query>) -> Result<(Arc<Answer>, bool), Fault> {
        let query = convert::query(query, self.limits_of(key)?)?;
        let span = tracing::info_span!(
            "memory.recall",
            athena.memory.limit = query.limit,
            athena.memory.candidates = Empty,
            athena.memory.returned = Empty,
            athena.memory.cached = Empty,
        );
        let start = Instant::now();
        let recalled = self.engine()?.recall(key, query, budget()).instrument(span.clone()).await;
        // A recall that ran out of time is one too, and the slowest of all.
        self.latency.record(start.elapsed().as_secs_f64(), &[KeyValue::new(names::METHOD, "recall")]);
        if let Ok((answer, cached)) = &recalled {
            describe(&span, answer, *cached);
        }
        Ok(recalled?)
    }
}

#[tonic::async_trait]
impl MemoryService for Adapter {
    async fn remember(
        &self,
        request: Request<wire::RememberRequest>,
    ) -> Result<Response<wire::RememberResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let asked = convert::duplicates(request.duplicates)?;
        let draft = convert::draft(request.memory, self.limits_of(&key)?)?;
        let done = self.engine()?.remember(key, vec![draft], asked).await.map_err(Fault::from)?;
        Ok(Response::new(convert::remembered(done)))
    }

    async fn remember_batch(
        &self,
        request: Request<wire::RememberBatchRequest>,
    ) -> Result<Response<wire::RememberBatchResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let asked = convert::duplicates(request.duplicates)?;
        let drafts = convert::drafts(request.memories, self.limits_of(&key)?)?;
        let done = self.engine()?.remember(key, drafts, asked).await.map_err(Fault::from)?;
        Ok(Response::new(convert::all_remembered(done)))
    }

    async fn recall(
        &self,
        request: Request<wire::RecallRequest>,
    ) -> Result<Response<wire::RecallResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let (answer, cached) = self.answer(&key, request.query).await?;
        Ok(Response::new(convert::recalled(&answer, cached)))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let query = convert::query(request.query, self.limits_of(&key)?)?;
        let plan = convert::plan(&request.plan)?;
        let explained = self.engine()?.explain(&key, query, plan, budget()).await.map_err(Fault::from)?;
        Ok(Response::new(convert::explained(explained)))
    }

    async fn explain_only(
        &self,
        request: Request<wire::ExplainOnlyRequest>,
    ) -> Result<Response<wire::ExplainOnlyResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let query = convert::query(request.query, self.limits_of(&key)?)?;
        let plan = convert::plan(&request.plan)?;
        let planned = self.engine()?.explain_only(&key, query, plan).await.map_err(Fault::from)?;
        Ok(Response::new(convert::planned(planned)))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let id = convert::id(request.id)?;
        let (memory, embedding, account) = self.engine()?.get(&key, id).await.map_err(Fault::from)?;
        let embedding = request.include_embedding.then_some(embedding.as_slice());
        Ok(Response::new(convert::got(convert::memory(&memory, embedding), account)))
    }

    async fn forget(
        &self,
        request: Request<wire::ForgetRequest>,
    ) -> Result<Response<wire::ForgetResponse>, Status> {
        let (key, request) = opened(request, |request| &request.namespace)?;
        let ids = convert::ids(request.ids)?;
        let asked = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let (forgotten, number) = self.engine()?.forget(key, ids).await.map_err(Fault::from)?;
        let (unknown, forgetting) = (asked.saturating_sub(forgotten), number.unwrap_or_default());
        Ok(Response::new(wire::ForgetResponse { forgotten, unknown, forgetting }))
    }

    async fn get_stats(
        &self,
        request: Request<wire::GetStatsRequest>,
    ) -> Result<Response<wire::GetStatsResponse>, Status> {
        let is_admin = Caller::of(&request).role >= Role::Admin;
        let (key, _) = opened(request, |request| &request.namespace)?;
        Ok(Response::new(convert::stats(self.engine()?.stats(&key), is_admin)))
    }
}

/// Returns which space a request is about, and the request.
fn opened<R>(
    request: Request<R>,
    namespace: impl for<'r> FnOnce(&'r R) -> &'r str,
) -> Result<(SpaceKey, R), Fault> {
    let tenant = Caller::of(&request).tenant;
    let request = request.into_inner();
    let key = convert::key(tenant, namespace(&request), "namespace")?;
    Ok((key, request))
}

/// Returns what is left of the caller's deadline.
fn budget() -> Option<Duration> {
    Deadline::current().map(|deadline| deadline.remaining())
}

fn describe(span: &Span, answer: &Answer, cached: bool) {
    span.record("athena.memory.candidates", answer.candidates);
    span.record("athena.memory.returned", answer.found.len());
    span.record("athena.memory.cached", cached);
}
