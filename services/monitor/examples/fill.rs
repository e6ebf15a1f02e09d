//! Fills a running monitor with made-up telemetry, to look at its dashboard: `cargo run -p monitor --example fill -- URL`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for looking at the page")]

use std::{env, error::Error, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status},
};
use rpc::{Channel, ChannelOptions};
use telemetry::{Telemetry, names};

const DELTA: i32 = 1;
const MILLI: u64 = 1_000_000;
const RECALL: &str = "athena.memory.v1.MemoryService/Recall";
const ANALYZE: &str = "athena.llm.v1.LlmGatewayService/Analyze";
const WRITE: &str = "athena.storage.v1.StorageBatcherService/WriteBatch";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("give the monitor's url")?;
    let channel = Channel::lazy(&url, ChannelOptions::default(), Telemetry::silent("fill"))?;
    let mut traces = TraceServiceClient::new(channel.clone());
    let mut metrics = MetricsServiceClient::new(channel);
    let now = u64::try_from(clock::Clock::system().now().duration_since(std::time::UNIX_EPOCH)?.as_nanos())?;
    for cycle in 0..12u8 {
        let start = now - u64::from(12 - cycle) * 5 * u64::try_from(Duration::from_secs(1).as_nanos())?;
        let resource_spans = spans_of(cycle + 1, start);
        traces.export(ExportTraceServiceRequest { resource_spans }).await?;
    }
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource("mesh")),
        scope_metrics: vec![ScopeMetrics { metrics: metrics_of(), ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }];
    let answer = metrics.export(ExportMetricsServiceRequest { resource_metrics }).await?.into_inner();
    println!("filled; refused: {:?}", answer.partial_success);
    Ok(())
}

fn metrics_of() -> Vec<Metric> {
    let rpc = |method| vec![pair(names::RPC_METHOD, method)];
    vec![
        histogram(
            names::MEMORY_QUERY_LATENCY.name,
            vec![pair(names::METHOD, "recall")],
            vec![0.004, 0.012, 0.03],
            400,
        ),
        histogram(
            names::LLM_RESPONSE_TIME.name,
            vec![pair(names::MODEL, "builtin/statistics")],
            vec![1.2, 2.4, 3.1],
            8,
        ),
        histogram(names::CYCLE_DURATION.name, Vec::new(), vec![0.4, 0.9], 12),
        histogram(names::RPC_SERVER_DURATION.name, rpc(RECALL), vec![0.01, 0.4, 0.7], 300),
        histogram(names::RPC_SERVER_DURATION.name, rpc(ANALYZE), vec![9.0], 300),
        counter(names::LLM_ITEMS.name, names::SERVED, "pattern", 40),
        counter(names::LLM_ITEMS.name, names::SERVED, "exact", 90),
        counter(names::LLM_ITEMS.name, names::SERVED, "coalesced", 12),
        counter(names::LLM_ITEMS.name, names::SERVED, "upstream", 160),
        counter(names::DEGENERATE_INPUT.name, names::KIND, "all_zero", 1),
    ]
}

fn spans_of(trace: u8, start: u64) -> Vec<ResourceSpans> {
    let cycle = |id, parent, kind, name: &str, from: u64, to: u64| {
        span(trace, id, parent, kind, name, start + from * MILLI / 2, start + to * MILLI / 2)
    };
    let mut orchestrator = vec![
        cycle(1, 0, 1, names::SPAN_CYCLE, 0, 900),
        cycle(2, 1, 1, names::SPAN_OBSERVE, 2, 90),
        cycle(3, 1, 1, names::SPAN_RECALL, 92, 380),
        cycle(4, 1, 1, names::SPAN_ANALYSE, 384, 720),
        cycle(5, 4, 3, ANALYZE, 386, 718),
        cycle(6, 1, 1, names::SPAN_STORE, 724, 890),
        cycle(7, 6, 3, WRITE, 726, 880),
    ];
    let mut memory = Vec::new();
    for recall in 0..9u8 {
        let begin = 94 + u64::from(recall) * 3;
        let end = begin + 40 + u64::from(recall) * 26;
        orchestrator.push(cycle(20 + recall, 3, 3, RECALL, begin, end));
        memory.push(cycle(60 + recall, 20 + recall, 2, RECALL, begin + 4, end - 3));
    }
    let mut gateway = vec![
        cycle(100, 5, 2, ANALYZE, 390, 712),
        cycle(101, 100, 1, "athena.llm.lookup", 392, 420),
        cycle(102, 100, 3, "builtin/statistics", 424, 700),
    ];
    let mut storage = vec![
        cycle(110, 7, 2, WRITE, 730, 876),
        cycle(111, 110, 1, "journal commit <fsync> & \"wait\"", 735, 870),
    ];
    if trace == 9 {
        storage[0].status = Some(Status { code: 2, message: "journal is full".to_owned() });
        gateway.push(span(trace, 120, 119, 1, "late work", start, start + MILLI));
    }
    memory[0].attributes = vec![pair("rpc.method", RECALL), pair("plan", "category ∧ time, exact scan")];
    let parts = [
        ("orchestrator", orchestrator),
        ("memory-service", memory),
        ("llm-gateway", gateway),
        ("storage-batcher", storage),
    ];
    let resource_spans = |(service, spans)| ResourceSpans {
        resource: Some(resource(service)),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    parts.into_iter().map(resource_spans).collect()
}

fn span(trace: u8, id: u8, parent: u8, kind: i32, name: &str, start: u64, end: u64) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind,
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

fn histogram(name: &str, attributes: Vec<KeyValue>, bounds: Vec<f64>, count: u64) -> Metric {
    let mut bucket_counts = vec![count / u64::try_from(bounds.len()).unwrap(); bounds.len()];
    bucket_counts.push(0);
    let point = HistogramDataPoint {
        attributes,
        count,
        bucket_counts,
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    };
    let data = Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: DELTA });
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

fn counter(name: &str, key: &str, value: &str, count: i64) -> Metric {
    let point = NumberDataPoint {
        attributes: vec![pair(key, value), pair(names::FIELD, "apr")],
        value: Some(number_data_point::Value::AsInt(count)),
        ..NumberDataPoint::default()
    };
    let data =
        Data::Sum(Sum { data_points: vec![point], aggregation_temporality: DELTA, is_monotonic: true });
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: &str) -> Resource {
    Resource { attributes: vec![pair(names::SERVICE_NAME, service)], ..Resource::default() }
}
