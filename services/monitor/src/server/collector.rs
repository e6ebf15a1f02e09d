//! OpenTelemetry's collector services: what the mesh and any foreign client exports.
//!
//! Log records are accepted and counted, not kept: they may carry what no store of ours was asked to hold.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use crate::{
    convert::otlp,
    observer::{Observer, Refused},
};

/// Serves the three export rpcs.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    observer: Arc<Observer>,
}

impl Collector {
    pub(crate) fn new(observer: Arc<Observer>) -> Self {
        Self { observer }
    }

    /// Returns the server of spans; like the other two it takes gzip and messages of at most `limit` bytes.
    pub(crate) fn traces(&self, limit: usize) -> TraceServiceServer<Self> {
        TraceServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit)
    }

    /// Returns the server of points.
    pub(crate) fn metrics(&self, limit: usize) -> MetricsServiceServer<Self> {
        MetricsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit)
    }

    /// Returns the server of log records.
    pub(crate) fn logs(&self, limit: usize) -> LogsServiceServer<Self> {
        LogsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(limit)
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (spans, mut refused) = otlp::spans(request.into_inner());
        refused.merge(&self.observer.take_spans(spans));
        let partial_success = reported("spans", refused).map(|(rejected_spans, error_message)| {
            ExportTracePartialSuccess { rejected_spans, error_message }
        });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (sources, mut refused) = otlp::points(request.into_inner());
        for (source, points) in sources {
            refused.merge(&self.observer.take_points(source, points));
        }
        let partial_success = reported("points", refused).map(|(rejected_data_points, error_message)| {
            ExportMetricsPartialSuccess { rejected_data_points, error_message }
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.observer.take_logs(otlp::log_records(request.get_ref()));
        Ok(Response::new(ExportLogsServiceResponse { partial_success: None }))
    }
}

/// Returns what an answer says of the refused part of an export; `None` if all was taken in.
fn reported(what: &'static str, refused: Refused) -> Option<(i64, String)> {
    if refused.count == 0 {
        return None;
    }
    tracing::warn!(what, refused = refused.count, reason = refused.reason, "part of an export was refused");
    Some((i64::try_from(refused.count).unwrap_or(i64::MAX), refused.reason))
}
