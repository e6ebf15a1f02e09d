//! The monitor's own service.

use std::{pin::Pin, sync::Arc, time::Duration};

use contracts::monitor::{
    GetTargetsRequest, GetTargetsResponse, GetTraceRequest, GetTraceResponse, ListSlowOperationsRequest,
    ListSlowOperationsResponse, ListTracesRequest, ListTracesResponse, WatchTargetsRequest,
    WatchTargetsResponse,
    monitor_service_server::{MonitorService, MonitorServiceServer},
};
use futures::Stream;
use rpc::Fault;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::{
    Error,
    convert::{request as read, response as write},
    observer::{Assessment, Observer},
    target::State,
};

/// How often states are judged anew while nothing arrives: a window that moves on may change one.
const TICK: Duration = Duration::from_secs(1);

/// Least time between two judgements for one watcher, however fast points arrive.
const PACE: Duration = Duration::from_millis(100);

/// Serves `MonitorService`.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    observer: Arc<Observer>,
}

impl Monitor {
    /// Serves what `observer` knows.
    pub(crate) fn new(observer: Arc<Observer>) -> Self {
        Self { observer }
    }

    /// Makes the service that a host adds.
    pub(crate) fn into_service(self) -> MonitorServiceServer<Self> {
        MonitorServiceServer::new(self)
    }
}

#[tonic::async_trait]
impl MonitorService for Monitor {
    async fn get_targets(
        &self,
        request: Request<GetTargetsRequest>,
    ) -> Result<Response<GetTargetsResponse>, Status> {
        let window = read::window(request.get_ref())?;
        Ok(Response::new(write::targets(&self.observer.targets(window))))
    }

    type WatchTargetsStream = Pin<Box<dyn Stream<Item = Result<WatchTargetsResponse, Status>> + Send>>;

    async fn watch_targets(
        &self,
        request: Request<WatchTargetsRequest>,
    ) -> Result<Response<Self::WatchTargetsStream>, Status> {
        let stream = watch(Arc::clone(&self.observer), read::watch(request.get_ref())?);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_traces(
        &self,
        request: Request<ListTracesRequest>,
    ) -> Result<Response<ListTracesResponse>, Status> {
        let listing = self.observer.traces(&read::filter(request.into_inner())?);
        Ok(Response::new(ListTracesResponse {
            traces: listing.traces.iter().map(write::summary).collect(),
            held: listing.held,
            dropped: listing.dropped,
        }))
    }

    async fn get_trace(
        &self,
        request: Request<GetTraceRequest>,
    ) -> Result<Response<GetTraceResponse>, Status> {
        let id = read::trace_id(&request.get_ref().trace_id)?;
        let trace = self.observer.trace(id).ok_or_else(|| Fault::from(Error::TraceNotHeld(id)))?;
        Ok(Response::new(GetTraceResponse {
            summary: Some(write::summary(&trace.summary)),
            spans: trace.spans.iter().map(|span| write::span(span)).collect(),
        }))
    }

    async fn list_slow_operations(
        &self,
        request: Request<ListSlowOperationsRequest>,
    ) -> Result<Response<ListSlowOperationsResponse>, Status> {
        let (service, limit) = read::slow(request.into_inner())?;
        let operations = self.observer.slow(&service, limit);
        Ok(Response::new(ListSlowOperationsResponse {
            operations: operations.iter().map(write::slow).collect(),
        }))
    }
}

/// Sends the targets now, when a state changes, and after `interval` of silence.
fn watch(
    observer: Arc<Observer>,
    read::Watch { window, interval }: read::Watch,
) -> impl Stream<Item = Result<WatchTargetsResponse, Status>> + Send {
    async_stream::stream! {
        let mut arrivals = observer.arrivals();
        let mut last = observer.targets(window);
        let mut silent_until = Instant::now() + interval;
        yield Ok(write::watched(&last));
        loop {
            let next = silent_until.min(Instant::now() + TICK);
            tokio::select! {
                changed = arrivals.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    tokio::time::sleep(PACE).await;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            let now = observer.targets(window);
            if Instant::now() >= silent_until || states(&now) != states(&last) {
                silent_until = Instant::now() + interval;
                yield Ok(write::watched(&now));
                last = now;
            }
        }
    }
}

fn states(assessment: &Assessment) -> Vec<State> {
    assessment.targets.iter().map(|report| report.state).collect()
}
