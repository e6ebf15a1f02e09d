//! Exports of OpenTelemetry, to be made worse: the monitor takes them in from anyone.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use telemetry::names;

/// Rpcs that take exports, each with the exports that are made worse.
pub(super) fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", (0..8).map(trace).collect()),
        ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", (0..24).map(metric).collect()),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", vec![logs()]),
    ]
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.to_owned()))
}

fn resource() -> Option<Resource> {
    Some(Resource { attributes: vec![text(names::SERVICE_NAME, "storm")], ..Resource::default() })
}

fn trace(number: u8) -> Vec<u8> {
    let list = |inner: Value| Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(inner) }] });
    let deep = (0..u32::from(number) * 4).fold(Value::IntValue(1), |inner, _| list(inner));
    let times = [0, 1, 1_752_883_200_000_000_000, u64::MAX];
    let span = Span {
        trace_id: vec![number + 1; 16],
        span_id: vec![number + 1; 8],
        parent_span_id: vec![number; if number.is_multiple_of(2) { 8 } else { 3 }],
        name: "athena.memory.v1.MemoryService/Recall".to_owned(),
        kind: i32::from(number) - 1,
        start_time_unix_nano: times[usize::from(number) % 4],
        end_time_unix_nano: times[usize::from(number / 2) % 4],
        attributes: vec![pair("deep", deep), text("rpc.method", "x")],
        ..Span::default()
    };
    let scope = ScopeSpans { spans: vec![span.clone(), span], ..ScopeSpans::default() };
    let spans = ResourceSpans { resource: resource(), scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
}

fn metric(number: u8) -> Vec<u8> {
    let attributes = vec![text(names::METHOD, "recall"), text(names::SERVED, "exact")];
    let temporality = i32::from(number % 4);
    let odd = [0.0, -1.0, 1e308, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE][usize::from(number % 6)];
    let count = [0, 1, 7, u64::MAX][usize::from(number % 4)];
    let point = NumberDataPoint {
        attributes: attributes.clone(),
        value: Some(number_data_point::Value::AsDouble(odd)),
        ..NumberDataPoint::default()
    };
    let data = match number % 5 {
        0 => Data::Gauge(Gauge { data_points: vec![point] }),
        1 => Data::Sum(Sum {
            data_points: vec![point.clone(), point],
            aggregation_temporality: temporality,
            is_monotonic: number.is_multiple_of(2),
        }),
        2 => Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                attributes,
                count,
                sum: Some(odd),
                bucket_counts: vec![count, 1, count],
                explicit_bounds: vec![1.0, odd],
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: temporality,
        }),
        3 => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![ExponentialHistogramDataPoint {
                attributes,
                count,
                scale: [0, 20, -10, i32::MAX, i32::MIN][usize::from(number % 5)],
                zero_threshold: odd,
                positive: Some(Buckets {
                    offset: [0, i32::MAX, i32::MIN][usize::from(number % 3)],
                    bucket_counts: vec![count; 200],
                }),
                negative: Some(Buckets { offset: -1, bucket_counts: vec![1] }),
                ..ExponentialHistogramDataPoint::default()
            }],
            aggregation_temporality: temporality,
        }),
        _ => Data::Summary(Summary { data_points: vec![SummaryDataPoint::default()] }),
    };
    let known = [&names::MEMORY_QUERY_LATENCY, &names::LLM_ITEMS, &names::CYCLE_DURATION];
    let name = known[usize::from(number % 3)].name.to_owned();
    let metric = Metric { name, data: Some(data), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    let metrics =
        ResourceMetrics { resource: resource(), scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![metrics] }.encode_to_vec()
}

fn logs() -> Vec<u8> {
    let scope = ScopeLogs { log_records: vec![LogRecord::default(); 3], ..ScopeLogs::default() };
    let logs = ResourceLogs { resource: resource(), scope_logs: vec![scope], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec()
}
