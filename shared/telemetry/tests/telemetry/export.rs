use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use telemetry::{Error, FLUSH_LIMIT, KeyValue, LogSink, Options, Telemetry, names};
use tokio::net::{TcpListener, TcpSocket};
use tracing::info_span;

use crate::collector::{Collector, PATIENCE};

/// Options that export only when told to.
fn options(url: &str) -> Options {
    Options {
        otlp_endpoint: Some(url.to_owned()),
        export_interval: Duration::from_secs(3600),
        span_delay: Duration::from_secs(3600),
        log: LogSink::off(),
        ..Options::new("athena-test")
    }
}

/// A port where nobody listens, and its address. The socket keeps the port from other tests; connections are refused.
fn nowhere() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

fn work(service: &Telemetry, name: &str) {
    service.in_scope(|| drop(info_span!("work", otel.name = name).entered()));
}

fn find<'a>(metrics: &'a [Metric], name: &str) -> &'a Data {
    let metric = metrics.iter().find(|metric| metric.name == name);
    metric.unwrap_or_else(|| panic!("no {name} in {metrics:?}")).data.as_ref().unwrap()
}

#[tokio::test]
async fn spans_arrive_under_the_name_of_their_service_and_with_the_headers() {
    let mut collector = Collector::start().await;
    let mut given = options(&collector.url);
    given.otlp_headers.set("x-tenant", "blue");
    let service = Telemetry::new(given).unwrap();
    work(&service, "recall");
    service.flush().await;

    let (metadata, name, spans) = collector.spans().await;
    assert_eq!(metadata.get("x-tenant").unwrap(), "blue");
    assert_eq!(name, "athena-test");
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "recall");
    service.shutdown().await;
}

#[tokio::test]
async fn histograms_arrive_exponential_and_sums_as_deltas() {
    let mut collector = Collector::start().await;
    let service = Telemetry::new(options(&collector.url)).unwrap();
    let latency = service.histogram(names::MEMORY_QUERY_LATENCY);
    let items = service.counter(names::LLM_ITEMS);
    let rate = service.gauge(names::CACHE_HIT_RATE);
    rate.set(0.7, &[]);
    for (round, added) in [(1, 5), (2, 2)] {
        latency.record(0.1 * f64::from(round), &[KeyValue::new(names::METHOD, "Recall")]);
        items.add(added, &[]);
        service.flush().await;
        let (name, metrics) = collector.metrics().await;
        assert_eq!(name, "athena-test");

        let Data::ExponentialHistogram(histogram) = find(&metrics, "memory_query_latency") else {
            panic!("not exponential: {metrics:?}")
        };
        assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Delta);
        assert_eq!(histogram.data_points[0].count, 1, "round {round}");
        assert!(histogram.data_points[0].scale > 0, "a single value has the finest scale");

        let Data::Sum(sum) = find(&metrics, "athena.llm.items") else { panic!("not a sum: {metrics:?}") };
        assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Delta);
        assert!(sum.is_monotonic);
        let value = format!("{:?}", sum.data_points[0].value);
        assert_eq!(value, format!("Some(AsDouble({added}.0))"), "round {round}");

        assert!(matches!(find(&metrics, "cache_hit_rate"), Data::Gauge(_)), "a gauge stays, round {round}");
    }
    assert!(service.prometheus_text().contains("athena_llm_items_total 7"));
    service.shutdown().await;
}

#[tokio::test]
async fn what_is_left_is_sent_by_shutdown_and_metrics_stay_readable() {
    let mut collector = Collector::start().await;
    let service = Telemetry::new(options(&collector.url)).unwrap();
    work(&service, "last");
    service.counter(names::LLM_ITEMS).add(1, &[]);
    service.shutdown().await;
    service.shutdown().await;

    assert_eq!(collector.spans().await.2[0].name, "last");
    assert_eq!(collector.metrics().await.1[0].name, "athena.llm.items");
    assert!(service.prometheus_text().contains("athena_llm_items_total 1"));
}

#[tokio::test]
async fn what_is_left_is_sent_in_the_background_when_nobody_shuts_down() {
    let mut collector = Collector::start().await;
    let service = Telemetry::new(options(&collector.url)).unwrap();
    work(&service, "left");
    drop(service);
    assert_eq!(collector.spans().await.2[0].name, "left");
}

#[tokio::test]
async fn a_collector_may_start_after_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Telemetry::new(options(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
    work(&service, "early");
    let mut collector = Collector::on(listener);
    service.flush().await;
    assert_eq!(collector.spans().await.2[0].name, "early");
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dead_collector_holds_up_neither_flush_nor_shutdown() {
    let (_socket, url) = nowhere();
    let service = Telemetry::new(options(&url)).unwrap();
    let inner = service.clone();
    let began = Instant::now();
    // On the only worker, where the SDK's own calls can deadlock.
    let task = service.spawn(async move {
        work(&inner, "lost");
        inner.counter(names::LLM_ITEMS).add(1, &[]);
        inner.flush().await;
        work(&inner, "lost too");
        inner.shutdown().await;
    });
    tokio::time::timeout(PATIENCE, task).await.expect("flush and shutdown return").unwrap();
    assert!(began.elapsed() < 2 * FLUSH_LIMIT + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_never_answers_holds_up_shutdown_no_longer_than_the_limit() {
    // Connections wait in the backlog, nobody accepts them.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let given = Options { export_timeout: Duration::from_secs(600), ..options(&url) };
    let service = Telemetry::new(given).unwrap();
    work(&service, "stuck");
    service.counter(names::LLM_ITEMS).add(1, &[]);
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, service.shutdown()).await.expect("shutdown returns");
    assert!(began.elapsed() < FLUSH_LIMIT + Duration::from_secs(2), "{:?}", began.elapsed());
    drop(listener);
}

#[tokio::test]
async fn a_dead_collector_is_reported_once_and_its_spans_are_counted() {
    let (sink, captured) = {
        let (_, captured) = Telemetry::captured("athena-log");
        (LogSink::writer(telemetry::LogFormat::Json, captured.clone()), captured)
    };
    let (_socket, url) = nowhere();
    let service = Telemetry::new(Options { log: sink, ..options(&url) }).unwrap();
    for _ in 0..2 {
        work(&service, "lost");
        service.flush().await;
    }
    let reports: Vec<_> = captured
        .log_lines()
        .into_iter()
        .filter(|line| line.contains("telemetry is not reaching its collector") && line.contains("\"spans\""))
        .collect();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let text = service.prometheus_text();
    let line = "athena_telemetry_spans_dropped_total{reason=\"export_failed\"} 2";
    assert!(text.contains(line), "no {line} in\n{text}");
    service.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = Telemetry::new(Options { span_queue: 4, ..options(&url) }).unwrap();
    // A full queue is also a full batch, and the exporter takes one batch; then it waits for the collector.
    for _ in 0..40 {
        work(&service, "busy");
    }
    let text = service.prometheus_text();
    let line = text.lines().find(|line| line.contains("reason=\"queue_full\"")).unwrap_or_default();
    let dropped: f64 = line.rsplit(' ').next().unwrap().parse().unwrap_or_default();
    assert!((20.0..=36.0).contains(&dropped), "{dropped} dropped");

    let mut collector = Collector::on(listener);
    service.shutdown().await;
    let mut arrived = collector.spans().await.2.len();
    while arrived + (dropped as usize) < 40 {
        arrived += collector.spans().await.2.len();
    }
    assert_eq!(arrived + dropped as usize, 40);
}

#[test]
fn the_exporters_own_calls_are_not_traced() {
    let (url, arrived) = std::sync::mpsc::channel();
    let (spans_in, spans) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut collector = Collector::start().await;
            url.send(collector.url.clone()).unwrap();
            while spans_in.send(collector.spans().await.2).is_ok() {}
        });
    });
    let url = arrived.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_, captured) = Telemetry::captured("athena-log");
        let log = LogSink::writer(telemetry::LogFormat::Json, captured);
        let given = Options { log, log_filter: "trace".to_owned(), ..options(&url) };
        let service = Telemetry::new(given).unwrap();
        // The dispatch is the default of the runtime's thread, as in a binary that installs it for the process:
        // the connection's tasks run under it.
        let _default = tracing::dispatcher::set_default(&service.dispatch());
        for round in ["one", "two", "three"] {
            work(&service, round);
            service.flush().await;
            let names: Vec<_> = spans.recv_timeout(PATIENCE).unwrap().into_iter().map(|it| it.name).collect();
            assert_eq!(names, [round]);
        }
        service.shutdown().await;
    });
}

#[tokio::test]
async fn the_sdk_can_be_disabled_and_ids_stay() {
    let (_socket, url) = nowhere();
    let service = Telemetry::new(Options { disabled: true, ..options(&url) }).unwrap();
    let began = Instant::now();
    assert!(service.in_scope(|| info_span!("work").in_scope(telemetry::trace_id)).is_some());
    service.flush().await;
    service.shutdown().await;
    assert!(began.elapsed() < FLUSH_LIMIT, "nothing is waited for: {:?}", began.elapsed());
}

#[tokio::test]
async fn an_address_without_scheme_is_plaintext_and_other_schemes_are_refused() {
    let mut collector = Collector::start().await;
    let bare = collector.url.trim_start_matches("http://").to_owned();
    let service = Telemetry::new(options(&bare)).unwrap();
    work(&service, "bare");
    service.flush().await;
    assert_eq!(collector.spans().await.2[0].name, "bare");
    service.shutdown().await;

    assert!(matches!(Telemetry::new(options("ftp://collector")), Err(Error::Endpoint { .. })));
    assert!(matches!(Telemetry::new(options("http://not a host")), Err(Error::Endpoint { .. })));
    Telemetry::new(options("https://collector.example:4317")).unwrap();
}

#[test]
fn exporting_without_a_runtime_is_refused() {
    assert!(matches!(Telemetry::new(options("http://127.0.0.1:4317")), Err(Error::NoRuntime)));
}

#[tokio::test]
async fn a_header_that_http_does_not_allow_is_refused_without_its_value() {
    let mut given = options("http://127.0.0.1:4317");
    given.otlp_headers.set("api-key", "s3cret\n");
    let error = Telemetry::new(given).unwrap_err();
    assert!(matches!(error, Error::Header { .. }));
    assert!(!format!("{error:?} {error}").contains("s3cret"));
}
