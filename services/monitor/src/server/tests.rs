//! A real server on a free port, fed with exports built by hand and asked through the generated clients.

use std::{net::SocketAddr, time::Duration};

use ::clock::{Clock, Hand};
use contracts::monitor::{
    GetTargetsRequest, GetTraceRequest, ListSlowOperationsRequest, ListTracesRequest, SpanKind, Target,
    TargetState, WatchTargetsRequest, monitor_service_client::MonitorServiceClient,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_client::MetricsServiceClient,
        },
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status as SpanStatus},
};
use rpc::{Channel, ChannelOptions, Client as _};
use telemetry::{Telemetry, names};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{Code, codec::CompressionEncoding};

use crate::{Config, Error, bind};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// A monitor that serves, the hand of its clock, and a channel to it.
struct World {
    address: SocketAddr,
    channel: Channel,
    hand: Hand,
    telemetry: Telemetry,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl World {
    async fn start(config: Config) -> Self {
        let start = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let (clock, hand) = Clock::manual(start);
        let telemetry = Telemetry::silent("monitor");
        let bound = bind(Config { monitor_port: 0, ..config }, telemetry.clone(), clock).await.unwrap();
        let address = bound.local_addr();
        let (stop, stopped) = oneshot::channel();
        let served = telemetry.spawn(bound.run(async move {
            let _ = stopped.await;
        }));
        let options = ChannelOptions::default();
        let channel = Channel::lazy(&format!("http://{address}"), options, telemetry.clone()).unwrap();
        Self { address, channel, hand, telemetry, stop, served }
    }

    fn client(&self) -> MonitorServiceClient<Channel> {
        MonitorServiceClient::over(self.channel.clone())
    }

    async fn export(&self, metrics: Vec<Metric>) -> ExportMetricsServiceResponse {
        let scope = ScopeMetrics { metrics, ..ScopeMetrics::default() };
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(resource("memory-service")),
            scope_metrics: vec![scope],
            ..ResourceMetrics::default()
        }];
        let mut client =
            MetricsServiceClient::new(self.channel.clone()).send_compressed(CompressionEncoding::Gzip);
        client.export(ExportMetricsServiceRequest { resource_metrics }).await.unwrap().into_inner()
    }

    async fn trace(&self, service: &str, spans: Vec<Span>) -> i64 {
        let scope = ScopeSpans { spans, ..ScopeSpans::default() };
        let resource_spans = vec![ResourceSpans {
            resource: Some(resource(service)),
            scope_spans: vec![scope],
            ..ResourceSpans::default()
        }];
        let mut client = TraceServiceClient::new(self.channel.clone());
        let answer = client.export(ExportTraceServiceRequest { resource_spans }).await.unwrap().into_inner();
        answer.partial_success.map(|partial| partial.rejected_spans).unwrap_or_default()
    }

    async fn target(&self, name: &str) -> Target {
        let targets =
            self.client().get_targets(GetTargetsRequest::default()).await.unwrap().into_inner().targets;
        targets.into_iter().find(|target| target.name == name).unwrap()
    }

    /// Returns status line, headers and body of `GET path`.
    async fn get(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.served.await.unwrap().unwrap();
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: &str) -> Resource {
    Resource { attributes: vec![pair(names::SERVICE_NAME, service)], ..Resource::default() }
}

/// `times` values between 1 and 2 times 2^`exponent`.
fn measured(metric: &names::Metric, labels: &[(&str, &str)], exponent: i32, times: u64) -> Metric {
    let point = ExponentialHistogramDataPoint {
        attributes: labels.iter().map(|(key, value)| pair(key, value)).collect(),
        count: times,
        scale: 0,
        positive: Some(Buckets { offset: exponent, bucket_counts: vec![times] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: DELTA };
    named(metric.name, Data::ExponentialHistogram(data))
}

fn counted(metric: &names::Metric, labels: &[(&str, &str)], value: i64, temporality: i32) -> Metric {
    let point = NumberDataPoint {
        attributes: labels.iter().map(|(key, value)| pair(key, value)).collect(),
        value: Some(number_data_point::Value::AsInt(value)),
        ..NumberDataPoint::default()
    };
    let sum = Sum { data_points: vec![point], aggregation_temporality: temporality, is_monotonic: true };
    named(metric.name, Data::Sum(sum))
}

fn named(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

fn span(trace: u8, id: u8, parent: u8, name: &str, start_ms: u64, end_ms: u64) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: (1_700_000_000_000 + start_ms) * 1_000_000,
        end_time_unix_nano: (1_700_000_000_000 + end_ms) * 1_000_000,
        ..Span::default()
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn exports_become_targets() {
    let world = World::start(Config::defaults()).await;
    assert_eq!(world.target("memory_query_p95").await.state(), TargetState::NoSeries);
    world.hand.advance(Duration::from_secs(60));
    world.export(vec![measured(&names::MEMORY_QUERY_LATENCY, &[(names::METHOD, "recall")], -4, 30)]).await;
    let target = world.target("memory_query_p95").await;
    assert_eq!((target.state(), target.samples, target.least_samples), (TargetState::Breach, 30, 20));
    assert!((target.value.unwrap() - 62.5 * 2f64.powf(0.95)).abs() < 1e-6, "{:?}", target.value);
    assert_eq!((target.unit.as_str(), target.window), ("ms", seconds(60)));
    world.stop().await;
}

#[tokio::test]
async fn documents_a_minute_run_on_the_agent_clock() {
    let world = World::start(Config::defaults()).await;
    world.hand.advance(Duration::from_secs(600));
    let labels = [(names::OPERATION_TYPE, "write")];
    world.export(vec![counted(&names::FIRESTORE_OPERATIONS, &labels, 250, DELTA)]).await;
    let target = world.target("firestore_writes").await;
    assert!((target.value.unwrap() - 25.0).abs() < 1e-9);
    assert_eq!(target.state(), TargetState::Breach);
    world.stop().await;
}

#[tokio::test]
async fn a_foreign_clients_cumulative_and_explicit_metrics_are_understood() {
    let world = World::start(Config::defaults()).await;
    for total in [1_000, 1_120] {
        let labels = [(names::SERVED, "exact")];
        world.export(vec![counted(&names::LLM_ITEMS, &labels, total, CUMULATIVE)]).await;
    }
    let target = world.target("cache_hit_rate").await;
    assert_eq!((target.state(), target.samples, target.value), (TargetState::Ok, 120, Some(100.0)));
    let point = HistogramDataPoint {
        count: 10,
        bucket_counts: vec![0, 10, 0],
        explicit_bounds: vec![20.0, 40.0],
        ..HistogramDataPoint::default()
    };
    let histogram = Histogram { data_points: vec![point], aggregation_temporality: DELTA };
    world.export(vec![named(names::CYCLE_DURATION.name, Data::Histogram(histogram))]).await;
    assert_eq!(world.target("agent_cycle").await.value, Some(39.0));
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_reported_back_and_counted() {
    let world = World::start(Config { monitor_max_series: 10, ..Config::defaults() }).await;
    let many =
        (0..15).map(|label| counted(&names::LLM_ITEMS, &[(names::SERVED, &label.to_string())], 1, DELTA));
    let partial = world.export(many.collect()).await.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 5);
    assert_eq!(partial.error_message, "more series than the monitor keeps");
    let summary = Summary { data_points: vec![SummaryDataPoint::default()] };
    let partial = world.export(vec![named("summary", Data::Summary(summary))]).await.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert!(world.get("/api/targets").await.contains(r#""points_refused":5"#));
    let refused =
        world.trace("agent", vec![Span { trace_id: vec![1; 3], ..span(1, 1, 0, "short", 0, 1) }]).await;
    assert_eq!(refused, 1);
    world.stop().await;
}

#[tokio::test]
async fn spans_of_two_services_become_one_trace() {
    let world = World::start(Config::defaults()).await;
    let recall = "athena.memory.v1.MemoryService/Recall";
    let failed = SpanStatus { code: 2, message: "store is gone".to_owned() };
    let served = Span {
        attributes: vec![pair("rpc.method", recall)],
        status: Some(failed),
        ..span(1, 3, 2, recall, 20, 400)
    };
    world.trace("memory-service", vec![served]).await;
    let call = Span { kind: 3, ..span(1, 2, 1, recall, 10, 410) };
    world
        .trace("orchestrator", vec![Span { kind: 1, ..span(1, 1, 0, "athena.agent.cycle", 0, 500) }, call])
        .await;
    world.trace("orchestrator", vec![Span { kind: 1, ..span(2, 1, 9, "later", 600, 700) }]).await;

    let mut client = world.client();
    let listing = client.list_traces(ListTracesRequest::default()).await.unwrap().into_inner();
    let ids: Vec<_> = listing.traces.iter().map(|trace| trace.trace_id.as_str()).collect();
    assert_eq!(ids, ["02".repeat(16), "01".repeat(16)]);
    assert_eq!((listing.held, listing.traces[0].orphans, listing.traces[1].orphans), (2, 1, 0));

    let request =
        ListTracesRequest { service: "memory-service".to_owned(), failed_only: true, ..listing_request() };
    let found = client.list_traces(request).await.unwrap().into_inner().traces;
    assert_eq!((found.len(), found[0].root_name.as_str(), found[0].failed), (1, "athena.agent.cycle", 1));
    assert_eq!(found[0].services, ["memory-service", "orchestrator"]);

    let request = GetTraceRequest { trace_id: "01".repeat(16) };
    let trace = client.get_trace(request).await.unwrap().into_inner();
    let kinds: Vec<_> = trace.spans.iter().map(|span| span.kind()).collect();
    assert_eq!(kinds, [SpanKind::Internal, SpanKind::Client, SpanKind::Server]);
    assert_eq!(trace.spans[2].status_message, "store is gone");
    assert_eq!(trace.spans[2].attributes["rpc.method"], recall);

    let slow = client.list_slow_operations(ListSlowOperationsRequest::default()).await.unwrap().into_inner();
    let slow: Vec<_> =
        slow.operations.iter().map(|slow| slow.span.as_ref().unwrap().span_id.as_str()).collect();
    assert_eq!(slow, ["03".repeat(8)]);
    world.stop().await;
}

fn listing_request() -> ListTracesRequest {
    ListTracesRequest { limit: 10, ..ListTracesRequest::default() }
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    let world = World::start(Config::defaults()).await;
    let mut client = world.client();
    let named = |status: tonic::Status, field: &str| {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{}", status.message());
    };
    let many = ListTracesRequest { limit: 1_001, ..ListTracesRequest::default() };
    named(client.list_traces(many).await.unwrap_err(), "limit");
    let negative = ListTracesRequest { min_duration: seconds(-1), ..ListTracesRequest::default() };
    named(client.list_traces(negative).await.unwrap_err(), "min_duration");
    let many = ListSlowOperationsRequest { limit: 1_001, ..ListSlowOperationsRequest::default() };
    named(client.list_slow_operations(many).await.unwrap_err(), "limit");
    let short = GetTraceRequest { trace_id: "abc".to_owned() };
    named(client.get_trace(short).await.unwrap_err(), "trace_id");
    named(client.get_targets(GetTargetsRequest { window: seconds(0) }).await.unwrap_err(), "window");
    let long = WatchTargetsRequest { interval: seconds(3_601), window: None };
    named(client.watch_targets(long).await.unwrap_err(), "interval");
    let missing = client.get_trace(GetTraceRequest { trace_id: "07".repeat(16) }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    world.stop().await;
}

#[tokio::test]
async fn a_watch_tells_of_a_changed_state_and_ends_with_the_server() {
    let world = World::start(Config::defaults()).await;
    let request = WatchTargetsRequest { interval: seconds(3_600), window: None };
    let mut watch = world.client().watch_targets(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(first.targets.iter().all(|target| target.state() == TargetState::NoSeries));
    world.export(vec![measured(&names::CYCLE_DURATION, &[], 6, 5)]).await;
    let second = watch.message().await.unwrap().unwrap();
    assert_eq!(second.targets[4].state(), TargetState::Critical);
    let telemetry = world.telemetry.clone();
    let ended = telemetry.spawn(async move { watch.message().await });
    world.stop().await;
    assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn log_records_are_counted_and_not_kept() {
    let world = World::start(Config::defaults()).await;
    let scope = ScopeLogs { log_records: vec![LogRecord::default(); 3], ..ScopeLogs::default() };
    let resource_logs = vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }];
    let mut client = LogsServiceClient::new(world.channel.clone());
    client.export(ExportLogsServiceRequest { resource_logs }).await.unwrap();
    assert!(world.get("/api/targets").await.contains(r#""logs":3"#));
    world.stop().await;
}

#[tokio::test]
async fn the_dashboard_answers_and_holds_no_markup_of_telemetry() {
    let world = World::start(Config::defaults()).await;
    let nasty = "</script><img src=x onerror=alert(1)>";
    world.trace(nasty, vec![span(1, 1, 0, nasty, 0, 900)]).await;
    let page = world.get("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("default-src 'none'"), "{page}");
    let id = "01".repeat(16);
    for path in ["/api/traces".to_owned(), format!("/api/traces/{id}"), "/api/slow".to_owned()] {
        let answer = world.get(&path).await;
        assert!(answer.contains("application/json") && !answer.contains("<img"), "{answer}");
    }
    assert!(world.get("/api/traces").await.contains("\\u003cimg src=x"));
    assert!(world.get("/api/traces?limit=1001").await.starts_with("HTTP/1.1 400"));
    assert!(world.get("/api/traces?limit=x").await.starts_with("HTTP/1.1 400"));
    assert!(world.get("/api/traces?min_ms=-1").await.starts_with("HTTP/1.1 400"));
    assert!(world.get("/api/targets?window_seconds=0").await.starts_with("HTTP/1.1 400"));
    assert!(world.get("/api/traces/zz").await.starts_with("HTTP/1.1 400"));
    assert!(world.get(&format!("/api/traces/{}", "07".repeat(16))).await.starts_with("HTTP/1.1 404"));
    world.stop().await;
}

#[tokio::test]
async fn with_tokens_the_dashboards_data_needs_one() {
    let host = rpc::HostSettings {
        auth_tokens: config::Secret::new("hunter2=acme:agent"),
        ..rpc::HostSettings::defaults()
    };
    let world = World::start(Config { host, ..Config::defaults() }).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    assert!(world.get("/api/targets").await.starts_with("HTTP/1.1 401"));
    world.stop().await;
}
