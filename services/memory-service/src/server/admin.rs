//! The gRPC adapter of the administration.

use std::{sync::Arc, time::Instant};

use contracts::memory::{
    self as wire,
    memory_admin_service_server::{MemoryAdminService, MemoryAdminServiceServer},
};
use futures::stream::BoxStream;
use rpc::{Caller, Fault, Role, time};
use tonic::{Request, Response, Status, Streaming};

use super::{Slot, import, opened};
use crate::{
    config::Limits,
    convert,
    engine::Engine,
    error::Error,
    shape::{Shape, SpaceKey},
};

/// Serves `athena.memory.v1.MemoryAdminService`.
#[derive(Debug)]
pub(crate) struct Admin {
    engine: Slot,
    limits: Limits,
}

impl Admin {
    /// Makes the service that a host adds, for the engine that will be in `engine`.
    pub(crate) fn service(engine: Slot, limits: Limits) -> MemoryAdminServiceServer<Self> {
        MemoryAdminServiceServer::new(Self { engine, limits })
    }

    fn engine(&self) -> Result<&Arc<Engine>, Fault> {
        self.engine.get().ok_or_else(|| Error::NotReady.into())
    }
}

#[tonic::async_trait]
impl MemoryAdminService for Admin {
    async fn create_namespace(
        &self,
        request: Request<wire::CreateNamespaceRequest>,
    ) -> Result<Response<wire::CreateNamespaceResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (key, wish) = convert::admin::wish(tenant, request.into_inner().namespace)?;
        let (space, created) = self.engine()?.create(key, wish).await.map_err(Fault::from)?;
        let namespace = Some(convert::admin::namespace(space));
        Ok(Response::new(wire::CreateNamespaceResponse { namespace, created }))
    }

    async fn list_namespaces(
        &self,
        request: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let spaces = self.engine()?.list(&Caller::of(&request).tenant, None).into_iter();
        let namespaces = spaces.map(convert::admin::namespace).collect();
        Ok(Response::new(wire::ListNamespacesResponse { namespaces }))
    }

    async fn drop_namespace(
        &self,
        request: Request<wire::DropNamespaceRequest>,
    ) -> Result<Response<wire::DropNamespaceResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Admin)?;
        let key = convert::key(caller.tenant, &request.into_inner().name, "name")?;
        let memories = self.engine()?.drop_space(key).await.map_err(Fault::from)?;
        Ok(Response::new(wire::DropNamespaceResponse { memories }))
    }

    async fn take_snapshot(
        &self,
        request: Request<wire::TakeSnapshotRequest>,
    ) -> Result<Response<wire::TakeSnapshotResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let name = convert::admin::name(request.into_inner().name)?;
        let start = Instant::now();
        let taken = self.engine()?.store.snapshot(&name).await.map_err(Fault::from)?;
        let duration = Some(time::duration_to_proto(start.elapsed()));
        let (bytes, memories) = (taken.bytes, taken.memories);
        Ok(Response::new(wire::TakeSnapshotResponse { bytes, memories, duration }))
    }

    type ExportMemoriesStream = BoxStream<'static, Result<wire::ExportMemoriesResponse, Status>>;

    async fn export_memories(
        &self,
        request: Request<wire::ExportMemoriesRequest>,
    ) -> Result<Response<Self::ExportMemoriesStream>, Status> {
        let (key, _) = opened(request, |request| &request.namespace)?;
        let engine = Arc::clone(self.engine()?);
        let shape = engine.shape(&key);
        let first = Export { engine, key, shape, next: Next::Header };
        let stream =
            futures::stream::try_unfold(first, async |export| export.step().await.map_err(Into::into));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn import_memories(
        &self,
        request: Request<Streaming<wire::ImportMemoriesRequest>>,
    ) -> Result<Response<wire::ImportMemoriesResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let engine = Arc::clone(self.engine()?);
        let done = import::run(engine, tenant, self.limits, request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn prune(
        &self,
        request: Request<wire::PruneRequest>,
    ) -> Result<Response<wire::PruneResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let wire::PruneRequest { namespace, dry_run, expected_generation, examples } = request.into_inner();
        let (key, examples) = convert::forgettings::examples(tenant, &namespace, examples)?;
        let pruned = self.engine()?.prune(&key, expected_generation, examples, dry_run).await;
        Ok(Response::new(convert::forgettings::pruned(pruned.map_err(Fault::from)?)))
    }

    async fn list_forgettings(
        &self,
        request: Request<wire::ListForgettingsRequest>,
    ) -> Result<Response<wire::ListForgettingsResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (key, numbers, limit) = convert::forgettings::listed(tenant, &request.into_inner())?;
        let engine = self.engine()?;
        let (listed, now) = (engine.listed(&key, numbers, limit).await.map_err(Fault::from)?, engine.now());
        let forgettings = listed.iter().map(|entry| convert::forgettings::entry(entry, now)).collect();
        Ok(Response::new(wire::ListForgettingsResponse { forgettings }))
    }

    async fn undo(
        &self,
        request: Request<wire::UndoRequest>,
    ) -> Result<Response<wire::UndoResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let wire::UndoRequest { namespace, forgetting } = request.into_inner();
        let (key, number) = convert::forgettings::forgetting(tenant, &namespace, forgetting)?;
        let (restored, stayed) = self.engine()?.undo(key, number).await.map_err(Fault::from)?;
        Ok(Response::new(wire::UndoResponse { restored, stayed }))
    }

    async fn purge(
        &self,
        request: Request<wire::PurgeRequest>,
    ) -> Result<Response<wire::PurgeResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let (key, wire::PurgeRequest { forgetting, .. }) = opened(request, |request| &request.namespace)?;
        let number = (forgetting > 0).then_some(forgetting);
        let purged = self.engine()?.purge(&key, number).await.map_err(Fault::from)?;
        Ok(Response::new(wire::PurgeResponse { purged }))
    }

    async fn audit(
        &self,
        request: Request<wire::AuditRequest>,
    ) -> Result<Response<wire::AuditResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let wire::AuditRequest { namespace, examples } = request.into_inner();
        let (key, examples) = convert::forgettings::examples(tenant, &namespace, examples)?;
        let report = self.engine()?.audit(&key, examples).await.map_err(Fault::from)?;
        Ok(Response::new(convert::forgettings::audited(&report)))
    }

    async fn reembed(
        &self,
        request: Request<wire::ReembedRequest>,
    ) -> Result<Response<wire::ReembedResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Admin)?;
        let (key, embedder, dimensions) = convert::reembed::aim(caller.tenant, request.into_inner())?;
        let stands = self.engine()?.reembed(key, embedder, dimensions).await.map_err(Fault::from)?;
        let reembedding = Some(convert::reembed::reembedding(stands));
        Ok(Response::new(wire::ReembedResponse { reembedding }))
    }

    async fn get_reembedding(
        &self,
        request: Request<wire::GetReembeddingRequest>,
    ) -> Result<Response<wire::GetReembeddingResponse>, Status> {
        let (key, _) = opened(request, |request| &request.namespace)?;
        let stands = self.engine()?.reembedding(&key).await.map_err(Fault::from)?;
        let reembedding = Some(convert::reembed::reembedding(stands));
        Ok(Response::new(wire::GetReembeddingResponse { reembedding }))
    }

    async fn cancel_reembedding(
        &self,
        request: Request<wire::CancelReembeddingRequest>,
    ) -> Result<Response<wire::CancelReembeddingResponse>, Status> {
        Caller::of(&request).require(Role::Admin)?;
        let (key, _) = opened(request, |request| &request.namespace)?;
        let stands = self.engine()?.cancel_reembedding(key).await.map_err(Fault::from)?;
        let reembedding = Some(convert::reembed::reembedding(stands));
        Ok(Response::new(wire::CancelReembeddingResponse { reembedding }))
    }
}

/// An export on its way.
struct Export {
    engine: Arc<Engine>,
    key: SpaceKey,
    /// What the header says.
    shape: Shape,
    next: Next,
}

/// What an export sends next.
enum Next {
    Header,
    /// The memories after this number.
    Page(u64),
    End,
}

impl Export {
    /// Sends the next part.
    async fn step(mut self) -> Result<Option<(wire::ExportMemoriesResponse, Self)>, Fault> {
        let lines = match self.next {
            Next::End => return Ok(None),
            Next::Header => {
                self.next = Next::Page(0);
                convert::lines::header(&self.shape).map_err(unwritten)?
            }
            Next::Page(after) => {
                let page = self.engine.page(&self.key, &self.shape, after).await.map_err(Fault::from)?;
                self.next = page.after.map_or(Next::End, Next::Page);
                let mut lines = Vec::new();
                for (memory, vector) in &page.found {
                    let memory = convert::memory(memory, Some(vector));
                    lines.append(&mut convert::lines::line(memory).map_err(unwritten)?);
                }
                lines
            }
        };
        Ok(Some((wire::ExportMemoriesResponse { lines }, self)))
    }
}

fn unwritten(error: serde_json::Error) -> Fault {
    Fault::new(rpc::Code::Internal, "a memory cannot be written as a line").caused_by(error)
}
