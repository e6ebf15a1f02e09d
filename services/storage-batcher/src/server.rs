//! The gRPC adapter: convert, call, convert back.

use std::sync::{Arc, OnceLock};

use contracts::storage::{
    self as wire,
    storage_batcher_service_server::{StorageBatcherService, StorageBatcherServiceServer},
};
use rpc::{Caller, Fault};
use tonic::{Request, Response, Status};

use crate::{batcher::Batcher, convert, error::Error};

/// The batcher, once the journal is read. Until then calls are answered with UNAVAILABLE.
pub(crate) type Slot = Arc<OnceLock<Batcher>>;

/// Serves `athena.storage.v1.StorageBatcherService`.
#[derive(Debug)]
pub(crate) struct Adapter(Slot);

impl Adapter {
    /// Makes the service that a host adds, for the batcher that will be in `slot`.
    pub(crate) fn service(slot: Slot) -> StorageBatcherServiceServer<Self> {
        StorageBatcherServiceServer::new(Self(slot))
    }

    fn batcher(&self) -> Result<&Batcher, Fault> {
        self.0.get().ok_or_else(|| Error::NotReady.into())
    }
}

#[tonic::async_trait]
impl StorageBatcherService for Adapter {
    async fn write(
        &self,
        request: Request<wire::WriteRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let write = convert::write(&tenant, request.into_inner().write)?;
        let accepted = self.batcher()?.write(tenant, vec![write]).await;
        let receipt = accepted.map_err(convert::fault_of_one)?;
        Ok(Response::new(wire::WriteResponse {
            sequence: receipt.sequences.first().copied().unwrap_or_default(),
            pending_documents: receipt.pending_documents,
        }))
    }

    async fn write_batch(
        &self,
        request: Request<wire::WriteBatchRequest>,
    ) -> Result<Response<wire::WriteBatchResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let writes = convert::writes(&tenant, request.into_inner().writes)?;
        let receipt = self.batcher()?.write(tenant, writes).await.map_err(Fault::from)?;
        Ok(Response::new(wire::WriteBatchResponse {
            sequences: receipt.sequences,
            pending_documents: receipt.pending_documents,
        }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let key = convert::key(&tenant, request.into_inner())?;
        let seen = self.batcher()?.get(&key).await.map_err(Fault::from)?;
        let document = Some(convert::document(&key.collection, seen));
        Ok(Response::new(wire::GetResponse { document }))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let request = request.into_inner();
        let range = convert::range(&tenant, &request)?;
        let listed = self.batcher()?.list(range).await.map_err(Fault::from)?;
        Ok(Response::new(convert::listed(&request.collection, listed)))
    }

    async fn flush(
        &self,
        request: Request<wire::FlushRequest>,
    ) -> Result<Response<wire::FlushResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let close = request.into_inner().close_open_buckets;
        let report = self.batcher()?.flush(tenant, close).await.map_err(Fault::from)?;
        Ok(Response::new(convert::flushed(report)))
    }

    async fn plan_flush(
        &self,
        request: Request<wire::PlanFlushRequest>,
    ) -> Result<Response<wire::PlanFlushResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let plan = self.batcher()?.plan(&tenant, request.into_inner().close_open_buckets);
        Ok(Response::new(convert::planned(plan)))
    }

    async fn record_metrics(
        &self,
        request: Request<wire::RecordMetricsRequest>,
    ) -> Result<Response<wire::RecordMetricsResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let batcher = self.batcher()?;
        let samples = convert::samples(&tenant, request.into_inner(), batcher.now())?;
        let accepted = samples.len() as u64;
        let open_buckets = batcher.record(tenant, samples).await.map_err(Fault::from)?;
        Ok(Response::new(wire::RecordMetricsResponse { accepted, open_buckets }))
    }

    async fn get_buckets(
        &self,
        request: Request<wire::GetBucketsRequest>,
    ) -> Result<Response<wire::GetBucketsResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let query = convert::bucket_query(request.into_inner())?;
        let found = self
            .batcher()?
            .buckets(&tenant, &query.collection, &query.entity, query.span)
            .await
            .map_err(Fault::from)?;
        Ok(Response::new(wire::GetBucketsResponse {
            buckets: found.into_iter().map(convert::bucket).collect(),
        }))
    }

    async fn get_costs(
        &self,
        request: Request<wire::GetCostsRequest>,
    ) -> Result<Response<wire::GetCostsResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        Ok(Response::new(convert::costs(self.batcher()?.costs(&tenant))))
    }
}
