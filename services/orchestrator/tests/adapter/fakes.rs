//! The other four services as small fakes that count, wait and fail on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clock::Clock;
use contracts::{
    llm::{self, llm_gateway_service_server as llm_server},
    memory::{self, memory_service_server as memory_server},
    monitor::{self, monitor_service_server as monitor_server},
    storage::{self, storage_batcher_service_server as storage_server},
};
use futures::Stream;
use parking_lot::Mutex;
use rpc::{Host, HostSettings};
use telemetry::Telemetry;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the fakes were asked, and how they behave.
#[derive(Debug)]
pub(crate) struct World {
    /// Recalls running now, and the most that ever did.
    pub(crate) recalls: AtomicUsize,
    pub(crate) most_recalls: AtomicUsize,
    /// A recall is answered when it gets a permit.
    pub(crate) gate: Semaphore,
    /// Recalls of this pool are never answered.
    pub(crate) silent_pool: Mutex<Option<String>>,
    /// `grpc-timeout` seen by recalls.
    pub(crate) timeouts: Mutex<Vec<Option<Duration>>>,
    pub(crate) analyses: Mutex<Vec<llm::AnalyzeRequest>>,
    pub(crate) samples: Mutex<Vec<storage::RecordMetricsRequest>>,
    pub(crate) writes: Mutex<Vec<storage::WriteBatchRequest>>,
    pub(crate) memories: Mutex<Vec<memory::Memory>>,
    /// Storage answers with this.
    pub(crate) storage_down: Mutex<bool>,
    /// The gateway is UNAVAILABLE.
    pub(crate) llm_down: Mutex<bool>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            recalls: AtomicUsize::new(0),
            most_recalls: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            silent_pool: Mutex::default(),
            timeouts: Mutex::default(),
            analyses: Mutex::default(),
            samples: Mutex::default(),
            writes: Mutex::default(),
            memories: Mutex::default(),
            storage_down: Mutex::default(),
            llm_down: Mutex::default(),
        })
    }

    /// Serves all four on one port and returns its address.
    pub(crate) fn serve(self: &Arc<Self>) -> SocketAddr {
        let telemetry = Telemetry::silent("fakes");
        let host = Host::bind(&HostSettings::defaults(), 0, telemetry.clone(), Clock::system()).unwrap();
        let address = host.local_addr();
        let host = host
            .add(llm_server::LlmGatewayServiceServer::new(Fake(Arc::clone(self))))
            .add(memory_server::MemoryServiceServer::new(Fake(Arc::clone(self))))
            .add(storage_server::StorageBatcherServiceServer::new(Fake(Arc::clone(self))))
            .add(monitor_server::MonitorServiceServer::new(Fake(Arc::clone(self))));
        telemetry.spawn(async move { host.run(std::future::pending()).await });
        address
    }
}

/// A service over the shared world.
#[derive(Debug)]
pub(crate) struct Fake(Arc<World>);

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("the fake does not have it"))
}

/// Answers the rpcs a cycle does not use.
macro_rules! not_here {
    ($package:ident: $($method:ident($request:ident) -> $response:ident),* $(,)?) => {
        $(
            fn $method<'life0, 'async_trait>(
                &'life0 self,
                _: Request<$package::$request>,
            ) -> Pin<Box<dyn Future<Output = Answer<$package::$response>> + Send + 'async_trait>>
            where
                'life0: 'async_trait,
                Self: 'async_trait,
            {
                Box::pin(async { not_here() })
            }
        )*
    };
}

#[tonic::async_trait]
impl memory_server::MemoryService for Fake {
    async fn recall(&self, request: Request<memory::RecallRequest>) -> Answer<memory::RecallResponse> {
        let world = &self.0;
        world.timeouts.lock().push(rpc::Deadline::current().map(|deadline| deadline.remaining()));
        let query = request.into_inner().query.unwrap();
        let running = world.recalls.fetch_add(1, Ordering::SeqCst) + 1;
        world.most_recalls.fetch_max(running, Ordering::SeqCst);
        let silent = world.silent_pool.lock().clone();
        if silent.is_some_and(|pool| query.pools.contains(&pool)) {
            std::future::pending::<()>().await;
        }
        drop(world.gate.acquire().await.unwrap());
        world.recalls.fetch_sub(1, Ordering::SeqCst);
        let fits = |it: &&memory::Memory| {
            (query.categories.is_empty() || query.categories.contains(&it.category))
                && (query.pools.is_empty() || it.pools.iter().any(|pool| query.pools.contains(pool)))
        };
        let found = world.memories.lock().iter().filter(fits).cloned().collect::<Vec<_>>();
        let scored =
            |memory| memory::ScoredMemory { memory: Some(memory), ..memory::ScoredMemory::default() };
        Ok(Response::new(memory::RecallResponse {
            memories: found.into_iter().map(scored).collect(),
            ..memory::RecallResponse::default()
        }))
    }

    async fn remember_batch(
        &self,
        request: Request<memory::RememberBatchRequest>,
    ) -> Answer<memory::RememberBatchResponse> {
        self.0.memories.lock().extend(request.into_inner().memories);
        Ok(Response::new(memory::RememberBatchResponse::default()))
    }

    not_here! {
        memory:
        remember(RememberRequest) -> RememberResponse,
        explain(ExplainRequest) -> ExplainResponse,
        explain_only(ExplainOnlyRequest) -> ExplainOnlyResponse,
        get(GetRequest) -> GetResponse,
        forget(ForgetRequest) -> ForgetResponse,
        get_stats(GetStatsRequest) -> GetStatsResponse,
    }
}

#[tonic::async_trait]
impl llm_server::LlmGatewayService for Fake {
    async fn analyze(&self, request: Request<llm::AnalyzeRequest>) -> Answer<llm::AnalyzeResponse> {
        let request = request.into_inner();
        self.0.analyses.lock().push(request.clone());
        if *self.0.llm_down.lock() {
            return Err(Status::unavailable("the upstream could not be reached"));
        }
        let result = |seen: llm::Observation| llm::ObservationResult {
            observation_id: seen.id,
            outcome: Some(llm::observation_result::Outcome::Analysis(llm::Analysis {
                summary: "calm".into(),
                confidence: 0.5,
                salience: 0.1,
            })),
            served: Some(llm::Served { by: llm::ServedBy::Merged.into(), ..llm::Served::default() }),
            ..llm::ObservationResult::default()
        };
        Ok(Response::new(llm::AnalyzeResponse {
            results: request.observations.into_iter().map(result).collect(),
            assessment: Some(llm::Assessment {
                overall_assessment: "a calm day".into(),
                ..llm::Assessment::default()
            }),
            upstream_calls: 1,
            served: Some(llm::Served {
                model: "builtin/statistics".into(),
                cost_usd: 0.25,
                ..llm::Served::default()
            }),
            input_warnings: Vec::new(),
        }))
    }

    type GenerateStreamStream = Streamed<llm::GenerateStreamResponse>;

    async fn generate_stream(
        &self,
        _: Request<llm::GenerateStreamRequest>,
    ) -> Answer<Self::GenerateStreamStream> {
        not_here()
    }

    not_here! { llm: generate(GenerateRequest) -> GenerateResponse }
}

#[tonic::async_trait]
impl storage_server::StorageBatcherService for Fake {
    async fn record_metrics(
        &self,
        request: Request<storage::RecordMetricsRequest>,
    ) -> Answer<storage::RecordMetricsResponse> {
        if *self.0.storage_down.lock() {
            return Err(Status::resource_exhausted("the journal is full"));
        }
        self.0.samples.lock().push(request.into_inner());
        Ok(Response::new(storage::RecordMetricsResponse::default()))
    }

    async fn write_batch(
        &self,
        request: Request<storage::WriteBatchRequest>,
    ) -> Answer<storage::WriteBatchResponse> {
        self.0.writes.lock().push(request.into_inner());
        Ok(Response::new(storage::WriteBatchResponse::default()))
    }

    type WriteStreamStream = Streamed<storage::WriteStreamResponse>;

    async fn write_stream(
        &self,
        _: Request<tonic::Streaming<storage::WriteStreamRequest>>,
    ) -> Answer<Self::WriteStreamStream> {
        not_here()
    }

    not_here! {
        storage:
        write(WriteRequest) -> WriteResponse,
        get(GetRequest) -> GetResponse,
        list(ListRequest) -> ListResponse,
        flush(FlushRequest) -> FlushResponse,
        plan_flush(PlanFlushRequest) -> PlanFlushResponse,
        get_buckets(GetBucketsRequest) -> GetBucketsResponse,
        get_costs(GetCostsRequest) -> GetCostsResponse,
        get_status(GetStatusRequest) -> GetStatusResponse,
        list_dead_letters(ListDeadLettersRequest) -> ListDeadLettersResponse,
        redrive_dead_letters(RedriveDeadLettersRequest) -> RedriveDeadLettersResponse,
        discard_dead_letters(DiscardDeadLettersRequest) -> DiscardDeadLettersResponse,
    }
}

#[tonic::async_trait]
impl monitor_server::MonitorService for Fake {
    async fn get_targets(
        &self,
        _: Request<monitor::GetTargetsRequest>,
    ) -> Answer<monitor::GetTargetsResponse> {
        let target = |(name, state): (&str, monitor::TargetState)| monitor::Target {
            name: name.into(),
            state: state.into(),
            ..monitor::Target::default()
        };
        let states = HashMap::from([
            ("cache_hit_rate", monitor::TargetState::Breach),
            ("agent_cycle", monitor::TargetState::Ok),
        ]);
        Ok(Response::new(monitor::GetTargetsResponse {
            targets: states.into_iter().map(target).collect(),
            now: None,
        }))
    }

    type WatchTargetsStream = Streamed<monitor::WatchTargetsResponse>;

    async fn watch_targets(
        &self,
        _: Request<monitor::WatchTargetsRequest>,
    ) -> Answer<Self::WatchTargetsStream> {
        not_here()
    }

    not_here! {
        monitor:
        list_traces(ListTracesRequest) -> ListTracesResponse,
        get_trace(GetTraceRequest) -> GetTraceResponse,
        list_slow_operations(ListSlowOperationsRequest) -> ListSlowOperationsResponse,
    }
}
