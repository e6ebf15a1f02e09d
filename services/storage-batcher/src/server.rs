//! The gRPC adapter: convert, call, convert back.

mod stream;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use contracts::storage::{
    self as wire,
    storage_batcher_service_server::{StorageBatcherService, StorageBatcherServiceServer},
};
use rpc::{
    Caller, Code, Deadline, Fault, Role,
    limit::{Bounds, Limit, come_back},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    accept::Fate,
    batcher::Batcher,
    convert,
    error::Error,
    stream::Limits,
    write::{Level, NewWrite, Receipt},
};

/// Longest time kept for an answer to reach its caller before the caller's deadline.
const WAY_BACK: Duration = Duration::from_millis(250);

/// How long a write is waited for whose caller set no deadline.
const NO_DEADLINE: Duration = Duration::from_secs(3_600);

/// About how soon a stream may come back for which there is no room.
const STREAM_RETRY: Duration = Duration::from_secs(1);

/// The batcher, once the journal is read. Until then calls are answered with UNAVAILABLE.
pub(crate) type Slot = Arc<OnceLock<Batcher>>;

/// Serves `athena.storage.v1.StorageBatcherService`.
#[derive(Debug)]
pub(crate) struct Adapter {
    slot: Slot,
    limits: Limits,
    /// How many streams there may be.
    streams: Arc<Limit>,
}

impl Adapter {
    /// Makes the service that a host adds, for the batcher that will be in `slot`.
    pub(crate) fn service(slot: Slot, limits: Limits) -> StorageBatcherServiceServer<Self> {
        let streams = Limit::new(Bounds { running: limits.streams, queued: 0, wait: STREAM_RETRY });
        StorageBatcherServiceServer::new(Self { slot, limits, streams })
    }

    fn batcher(&self) -> Result<&Batcher, Error> {
        self.slot.get().ok_or(Error::NotReady)
    }

    async fn accept(&self, tenant: Arc<str>, writes: Vec<NewWrite>, level: Level) -> Result<Receipt, Error> {
        let batcher = self.batcher()?;
        match level {
            Level::Durable => batcher.write(tenant, writes).await,
            Level::Stored => {
                let left = Deadline::current().map_or(NO_DEADLINE, |deadline| deadline.remaining());
                // The answer has a way to go before the caller's time is over.
                let patience = left - (left / 10).min(WAY_BACK);
                batcher.write_through(tenant, writes, patience).await
            }
        }
    }
}

#[tonic::async_trait]
impl StorageBatcherService for Adapter {
    async fn write(
        &self,
        request: Request<wire::WriteRequest>,
    ) -> Result<Response<wire::WriteResponse>, Status> {
        let caller = Caller::of(&request);
        let (write, level) = convert::write(&caller, request.into_inner())?;
        let receipt = self.accept(caller.tenant, vec![write], level).await.map_err(convert::fault_of_one)?;
        Ok(Response::new(wire::WriteResponse {
            sequence: receipt.sequences.first().copied().unwrap_or_default(),
            pending_documents: receipt.pending_documents,
        }))
    }

    async fn write_batch(
        &self,
        request: Request<wire::WriteBatchRequest>,
    ) -> Result<Response<wire::WriteBatchResponse>, Status> {
        let caller = Caller::of(&request);
        let (writes, level) = convert::writes(&caller, request.into_inner())?;
        let receipt = self.accept(caller.tenant, writes, level).await.map_err(Fault::from)?;
        Ok(Response::new(wire::WriteBatchResponse {
            sequences: receipt.sequences,
            pending_documents: receipt.pending_documents,
        }))
    }

    type WriteStreamStream = stream::Answers;

    async fn write_stream(
        &self,
        request: Request<Streaming<wire::WriteStreamRequest>>,
    ) -> Result<Response<Self::WriteStreamStream>, Status> {
        self.batcher().map_err(Fault::from)?;
        let permit = self.streams.enter(Deadline::after(STREAM_RETRY)).await.map_err(|_| crowded())?;
        Ok(Response::new(stream::serve(Arc::clone(&self.slot), self.limits, permit, request)))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let key = convert::key(&tenant, request.into_inner())?;
        let seen = self.batcher().map_err(Fault::from)?.get(&key).await.map_err(Fault::from)?;
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
        let listed = self.batcher().map_err(Fault::from)?.list(range).await.map_err(Fault::from)?;
        Ok(Response::new(convert::listed(&request.collection, listed)))
    }

    async fn flush(
        &self,
        request: Request<wire::FlushRequest>,
    ) -> Result<Response<wire::FlushResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let close = request.into_inner().close_open_buckets;
        let report = self.batcher().map_err(Fault::from)?.flush(tenant, close).await.map_err(Fault::from)?;
        Ok(Response::new(convert::flushed(report)))
    }

    async fn plan_flush(
        &self,
        request: Request<wire::PlanFlushRequest>,
    ) -> Result<Response<wire::PlanFlushResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let plan =
            self.batcher().map_err(Fault::from)?.plan(&tenant, request.into_inner().close_open_buckets);
        Ok(Response::new(convert::planned(plan)))
    }

    async fn record_metrics(
        &self,
        request: Request<wire::RecordMetricsRequest>,
    ) -> Result<Response<wire::RecordMetricsResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let batcher = self.batcher().map_err(Fault::from)?;
        let samples = convert::samples(&tenant, request.into_inner(), batcher.rules(), batcher.now())?;
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
            .batcher()
            .map_err(Fault::from)?
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
        let costs = self.batcher().map_err(Fault::from)?.costs(&tenant);
        Ok(Response::new(convert::costs(costs)))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::GetStatusResponse>, Status> {
        let status = self.batcher().map_err(Fault::from)?.status();
        Ok(Response::new(convert::status(status)))
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Result<Response<wire::ListDeadLettersResponse>, Status> {
        let tenant = Caller::of(&request).tenant;
        let (after, limit) = convert::letter_page(&request.into_inner())?;
        let (letters, more) = self.batcher().map_err(Fault::from)?.dead_letters(&tenant, after, limit);
        Ok(Response::new(convert::letters(&letters, more)))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<wire::RedriveDeadLettersRequest>,
    ) -> Result<Response<wire::RedriveDeadLettersResponse>, Status> {
        let Caller { tenant, name, .. } = Caller::of(&request);
        let sequences = convert::sequences(request.into_inner().sequences)?;
        let batcher = self.batcher().map_err(Fault::from)?;
        let redeemed = batcher.redeem((tenant, name), sequences, Fate::Redrive).await.map_err(Fault::from)?;
        let redriven = redeemed.into_iter().map(|letter| wire::RedrivenLetter {
            dead_letter_sequence: letter.letter,
            sequence: letter.write.unwrap_or_default(),
        });
        Ok(Response::new(wire::RedriveDeadLettersResponse { redriven: redriven.collect() }))
    }

    async fn discard_dead_letters(
        &self,
        request: Request<wire::DiscardDeadLettersRequest>,
    ) -> Result<Response<wire::DiscardDeadLettersResponse>, Status> {
        let caller = Caller::of(&request);
        caller.require(Role::Admin)?;
        let sequences = convert::sequences(request.into_inner().sequences)?;
        let batcher = self.batcher().map_err(Fault::from)?;
        let redeemed = batcher
            .redeem((caller.tenant, caller.name), sequences, Fate::Discard)
            .await
            .map_err(Fault::from)?;
        let discarded = redeemed.into_iter().map(|letter| letter.letter).collect();
        Ok(Response::new(wire::DiscardDeadLettersResponse { discarded }))
    }
}

fn crowded() -> Fault {
    Fault::new(Code::ResourceExhausted, "there are storage_streams streams already")
        .reason("OVERLOADED")
        .retry_after(come_back(STREAM_RETRY))
}
