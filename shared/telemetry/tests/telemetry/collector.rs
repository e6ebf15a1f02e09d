//! A collector in the process of the test: OpenTelemetry's own gRPC services on port 0.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// Longest time a test waits for something to arrive.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a collector received, in the order of arrival.
pub(crate) struct Collector {
    pub(crate) url: String,
    traces: UnboundedReceiver<(MetadataMap, ExportTraceServiceRequest)>,
    metrics: UnboundedReceiver<ExportMetricsServiceRequest>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (traces_in, traces) = unbounded_channel();
        let (metrics_in, metrics) = unbounded_channel();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Traces(traces_in)))
            .add_service(MetricsServiceServer::new(Metrics(metrics_in)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        telemetry::Telemetry::silent("collector").spawn(server);
        Self { url, traces, metrics }
    }

    /// Waits for the next batch of spans: the caller's metadata, the service's name, the spans.
    pub(crate) async fn spans(&mut self) -> (MetadataMap, String, Vec<Span>) {
        let (metadata, request) = tokio::time::timeout(PATIENCE, self.traces.recv()).await.unwrap().unwrap();
        let batch = request.resource_spans.into_iter().next().unwrap();
        let name = service_name(&batch.resource.unwrap());
        (metadata, name, batch.scope_spans.into_iter().flat_map(|scope| scope.spans).collect())
    }

    /// Waits for the next batch of metrics: the service's name, the metrics.
    pub(crate) async fn metrics(&mut self) -> (String, Vec<Metric>) {
        let request = tokio::time::timeout(PATIENCE, self.metrics.recv()).await.unwrap().unwrap();
        let batch = request.resource_metrics.into_iter().next().unwrap();
        let name = service_name(&batch.resource.unwrap());
        (name, batch.scope_metrics.into_iter().flat_map(|scope| scope.metrics).collect())
    }
}

fn service_name(resource: &Resource) -> String {
    let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
    match name.value.clone().unwrap().value.unwrap() {
        Value::StringValue(name) => name,
        other => panic!("service.name is {other:?}"),
    }
}

struct Traces(UnboundedSender<(MetadataMap, ExportTraceServiceRequest)>);

#[tonic::async_trait]
impl TraceService for Traces {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        // A test that has ended listens no more.
        let _ = self.0.send((metadata, request));
        Ok(Response::new(Default::default()))
    }
}

struct Metrics(UnboundedSender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}
