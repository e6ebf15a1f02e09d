//! The way to a collector: a lazy channel, a bounded queue of spans, and a report when the collector is away.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, Temporality};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter as ExportSpans, SpanProcessor,
};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tracing::dispatcher::WeakDispatch;

use crate::error::Error;
use crate::metrics::Counter;
use crate::names;
use crate::options::{Headers, Options};

/// Longest time to open a connection to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time without an answer after which the collector is asked whether it lives, and the time it has for that. Without it the
/// channel stays stuck after a partition.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Builds the processor that sends spans to the collector; `None` if there is none.
pub(crate) fn spans(options: &Options, reports: &Reports) -> Result<Option<Bounded>, Error> {
    let Some(url) = options.traces_to() else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(url, options)?)
        .with_metadata(metadata(&options.otlp_headers)?)
        .with_timeout(options.export_timeout)
        .build()?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(options.span_queue)
        .with_scheduled_delay(options.span_delay)
        .build();
    let watched = Watched { exporter, waiting: waiting.clone(), collector: Collector::new("spans", reports) };
    let inner = BatchSpanProcessor::builder(watched).with_batch_config(config).build();
    Ok(Some(Bounded { inner, waiting, limit: options.span_queue, reports: reports.clone() }))
}

/// Builds the reader that sends metrics to the collector; `None` if there is none.
pub(crate) fn metrics(
    options: &Options,
    reports: &Reports,
) -> Result<Option<PeriodicReader<WatchedMetrics>>, Error> {
    let Some(url) = options.metrics_to() else { return Ok(None) };
    let exporter = MetricExporter::builder()
        // "Low memory" is delta for counters and histograms; a gauge keeps its last value, which delta would lose.
        .with_temporality(Temporality::LowMemory)
        .with_tonic()
        .with_channel(channel(url, options)?)
        .with_metadata(metadata(&options.otlp_headers)?)
        .with_timeout(options.export_timeout)
        .build()?;
    let watched = WatchedMetrics { exporter, collector: Collector::new("metrics", reports) };
    Ok(Some(PeriodicReader::builder(watched).with_interval(options.export_interval).build()))
}

/// Where the exporters report to; filled in once the dispatch and the meters exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports(Arc<Sinks>);

#[derive(Debug, Default)]
struct Sinks {
    // Weak: the dispatch owns the span layer, and through it the exporter.
    dispatch: OnceLock<WeakDispatch>,
    dropped: OnceLock<Counter>,
}

impl Reports {
    /// Connects the exporters with log and metrics; only the first call counts.
    pub(crate) fn connect(&self, dispatch: WeakDispatch, dropped: Counter) {
        let _ = self.0.dispatch.set(dispatch);
        let _ = self.0.dropped.set(dropped);
    }

    fn dropped(&self, spans: usize, reason: &'static str) {
        if let Some(counter) = self.0.dropped.get() {
            counter.add(spans as u64, &[KeyValue::new(names::REASON, reason)]);
        }
    }

    fn log(&self, write: impl FnOnce()) {
        if let Some(dispatch) = self.0.dispatch.get().and_then(WeakDispatch::upgrade) {
            tracing::dispatcher::with_default(&dispatch, write);
        }
    }
}

/// Tells once that a collector went away, and once that it came back.
#[derive(Debug)]
struct Collector {
    signal: &'static str,
    away: AtomicBool,
    reports: Reports,
}

impl Collector {
    fn new(signal: &'static str, reports: &Reports) -> Self {
        Self { signal, away: AtomicBool::new(false), reports: reports.clone() }
    }

    fn note(&self, result: &OTelSdkResult) {
        let was_away = self.away.swap(result.is_err(), Ordering::Relaxed);
        match (result, was_away) {
            (Err(error), false) => self.reports.log(|| {
                tracing::warn!(
                    signal = self.signal,
                    error = error as &dyn std::error::Error,
                    "telemetry is not reaching its collector"
                );
            }),
            (Ok(()), true) => self.reports.log(|| {
                tracing::info!(signal = self.signal, "telemetry is reaching its collector again");
            }),
            _ => {}
        }
    }
}

/// A batch processor whose queue counts what it drops.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    limit: usize,
    reports: Reports,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.limit {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.reports.dropped(1, "queue_full");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// A span exporter that reports failures.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
    collector: Collector,
}

impl ExportSpans for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        if result.is_err() {
            self.collector.reports.dropped(spans, "export_failed");
        }
        self.collector.note(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A metric exporter that reports failures. What one interval could not deliver is lost: deltas are not kept.
#[derive(Debug)]
pub(crate) struct WatchedMetrics {
    exporter: MetricExporter,
    collector: Collector,
}

impl PushMetricExporter for WatchedMetrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.collector.note(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// Prepares a connection that is opened by its first call, and again after each loss.
fn channel(url: &str, options: &Options) -> Result<Channel, Error> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(Error::NoRuntime);
    }
    // `host:port` without a scheme is common in OTEL_ variables and means plaintext.
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let fault = |source| Error::Endpoint { endpoint: url.clone(), source };
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|source| fault(Some(source)))?;
    let endpoint = match endpoint.uri().scheme_str() {
        Some("http") => endpoint,
        Some("https") => {
            let tls = believed(options.otlp_ca.as_deref())?;
            endpoint.tls_config(tls).map_err(|source| fault(Some(source)))?
        }
        _ => return Err(fault(None)),
    };
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(options.export_timeout).connect_lazy())
}

/// Returns the public authorities and those of the file at `ca`.
fn believed(ca: Option<&Path>) -> Result<ClientTlsConfig, Error> {
    let tls = ClientTlsConfig::new().with_webpki_roots();
    let Some(path) = ca else { return Ok(tls) };
    let pem = std::fs::read(path).map_err(|source| Error::Authority { path: path.to_owned(), source })?;
    Ok(tls.ca_certificate(Certificate::from_pem(pem)))
}

fn metadata(headers: &Headers) -> Result<MetadataMap, Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let fault = || Error::Header { name: name.to_owned() };
        let mut value = HeaderValue::from_str(value).map_err(|_| fault())?;
        value.set_sensitive(true);
        map.insert(HeaderName::try_from(name).map_err(|_| fault())?, value);
    }
    Ok(MetadataMap::from_headers(map))
}
