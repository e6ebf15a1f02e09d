//! The telemetry of one service instance.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, Sampler, SdkTracerProvider, SpanProcessor,
};
use tokio::sync::oneshot::{self, Receiver};
use tokio::task::JoinHandle;
use tracing::instrument::{Instrument as _, WithSubscriber as _};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Span};
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry};

use crate::captured::Captured;
use crate::error::Error;
use crate::export::{self, Reports, WatchedMetrics};
use crate::log::{Lines, LogFormat, LogSink};
use crate::metrics::{Counter, Gauge, Histogram, Meters, SCOPE};
use crate::names::{self, Metric};
use crate::options::{GenAi, Options};

/// Longest time [`Telemetry::flush`] and [`Telemetry::shutdown`] take, whatever the collector does.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Libraries whose spans are never recorded: the exporter itself speaks through them.
const UNTRACED_TARGETS: [&str; 7] =
    ["h2", "hyper", "hyper_util", "opentelemetry", "opentelemetry_sdk", "tonic", "tower"];

/// What [`Telemetry::captured`] keeps of log lines.
const CAPTURED: &str = "debug,h2=off,hyper=off,hyper_util=off,tonic=off,tower=off,opentelemetry=off";

/// The telemetry of one service instance: where its spans, log lines and measurements go. Cheap to clone.
///
/// Spans of level `info` and above are recorded; the log filter does not touch them.
///
/// Dropping the last clone exports what is left in the background; [`Telemetry::shutdown`] waits for it.
#[derive(Clone)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

struct Inner {
    service: &'static str,
    dispatch: Dispatch,
    tracers: SdkTracerProvider,
    meters: Meters,
    gen_ai: GenAi,
    /// Whether anything leaves the process.
    exporting: bool,
    closed: AtomicBool,
}

impl Telemetry {
    /// Sets up the telemetry of a service. Opens no connection: a collector that does not listen yet is reached
    /// when it does. Exporting needs a tokio runtime with its I/O and time drivers, which must live as long.
    ///
    /// # Errors
    ///
    /// Fails if the log filter, the collector's address or a header is not valid, or if a collector is named and
    /// no tokio runtime is running here.
    pub fn new(options: Options) -> Result<Self, Error> {
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .parse(&options.log_filter)
            .map_err(|source| Error::LogFilter { filter: options.log_filter.clone(), source })?;
        let reports = Reports::default();
        let spans = export::spans(&options, &reports)?;
        let metrics = export::metrics(&options, &reports)?;
        let exporting = spans.is_some() || metrics.is_some();
        let resource = resource(&options);
        let tracers = tracers(&resource, options.sampling.into(), spans);
        let meters = Meters::new(&resource, metrics);
        let (service, gen_ai) = (options.service, options.gen_ai);
        let dispatch = dispatch(&tracers, options.log.layer(service), filter);
        reports.connect(dispatch.downgrade(), meters.counter(names::SPANS_DROPPED));
        let telemetry = Self::assembled(service, gen_ai, dispatch, tracers, meters, exporting);
        telemetry.warn_about(&options.ignored);
        Ok(telemetry)
    }

    /// Returns telemetry of which nothing leaves the process and nothing is logged: for unit tests. Spans have
    /// valid trace ids, and metrics can be read by [`Telemetry::prometheus_text`].
    pub fn silent(service: &'static str) -> Self {
        Self::local(service, GenAi::default(), None::<Captured>, LogSink::off())
    }

    /// Returns telemetry without spans and without a log: for a caller outside of the mesh. A call made with it carries no
    /// trace context, so the trace begins at its server; with [`Telemetry::silent`] the server's span would name a parent that
    /// nobody ever sees.
    pub fn untraced(service: &'static str) -> Self {
        let options = Options::new(service);
        let tracers = tracers(&resource(&options), options.sampling.into(), None::<Captured>);
        let meters = Meters::new(&resource(&options), None::<PeriodicReader<WatchedMetrics>>);
        Self::assembled(service, GenAi::default(), Dispatch::none(), tracers, meters, false)
    }

    /// Returns telemetry that keeps its spans and its log lines (`debug` and above) in memory, for tests.
    pub fn captured(service: &'static str) -> (Self, Captured) {
        Self::captured_telling(service, GenAi::default())
    }

    /// Returns telemetry as [`Telemetry::captured`], that tells this of calls to generative models.
    pub fn captured_telling(service: &'static str, gen_ai: GenAi) -> (Self, Captured) {
        let captured = Captured::default();
        let log = LogSink::writer(LogFormat::Json, captured.clone());
        (Self::local(service, gen_ai, Some(captured.clone()), log), captured)
    }

    /// Returns the name of the service.
    pub fn service(&self) -> &'static str {
        self.inner.service
    }

    /// Returns what is told of calls to generative models.
    pub fn gen_ai(&self) -> GenAi {
        self.inner.gen_ai
    }

    /// Returns where spans and events go. A binary may make it the process's default.
    pub fn dispatch(&self) -> Dispatch {
        self.inner.dispatch.clone()
    }

    /// Runs a future on the runtime, with this dispatch and inside the current span.
    ///
    /// Needs a tokio runtime, as `tokio::spawn` does.
    #[expect(clippy::disallowed_methods, reason = "the one home of the bare spawn")]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.carry(future))
    }

    /// Runs a future on the runtime, with this dispatch and in no span: for what outlives the call that began it, such as a
    /// connection that other calls will share.
    #[expect(clippy::disallowed_methods, reason = "the one home of the bare spawn")]
    pub fn spawn_apart<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future.with_subscriber(self.dispatch()))
    }

    /// Runs a closure on the runtime's blocking threads, with this dispatch and inside the current span.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (dispatch, span, context) = (self.dispatch(), Span::current(), Context::current());
        tokio::task::spawn_blocking(move || {
            tracing::dispatcher::with_default(&dispatch, || {
                span.in_scope(|| {
                    let _active = context.attach();
                    work()
                })
            })
        })
    }

    /// Wraps a future so that it runs with this dispatch and inside the current span, wherever it is polled: for a
    /// `JoinSet`, or a task of another library.
    pub fn carry<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        // The context as well: the current span may be one of another service's dispatch.
        future.with_current_context().instrument(Span::current()).with_subscriber(self.dispatch())
    }

    /// Runs a closure with this dispatch.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.inner.dispatch, work)
    }

    /// Returns the counter of a metric.
    pub fn counter(&self, metric: Metric) -> Counter {
        self.inner.meters.counter(metric)
    }

    /// Returns the histogram of a metric.
    pub fn histogram(&self, metric: Metric) -> Histogram {
        self.inner.meters.histogram(metric)
    }

    /// Returns the gauge of a metric.
    pub fn gauge(&self, metric: Metric) -> Gauge {
        self.inner.meters.gauge(metric)
    }

    /// Renders all metrics as Prometheus text (format 0.0.4, `text/plain; version=0.0.4`).
    pub fn prometheus_text(&self) -> String {
        self.inner.meters.prometheus_text()
    }

    /// Sends what is waiting to the collector; returns when it has arrived, has failed, or [`FLUSH_LIMIT`] is over.
    pub async fn flush(&self) {
        if self.inner.exporting {
            let (traces, metrics) = self.inner.providers();
            let traces = detached("flush of spans", move || traces.force_flush().is_ok());
            let metrics =
                detached("flush of metrics", move || metrics.is_none_or(|it| it.force_flush().is_ok()));
            self.bounded("flush", traces, metrics).await;
        }
    }

    /// Sends what is waiting and ends the export; returns within [`FLUSH_LIMIT`]. Spans made afterwards go nowhere,
    /// metrics can still be read as text. Further calls do nothing.
    pub async fn shutdown(&self) {
        if self.inner.exporting && !self.inner.closed.swap(true, Ordering::AcqRel) {
            let (traces, metrics) = self.inner.providers();
            let traces = detached("end of spans", move || traces.shutdown_with_timeout(FLUSH_LIMIT).is_ok());
            let metrics = detached("end of metrics", move || metrics.is_none_or(|it| it.shutdown().is_ok()));
            self.bounded("shutdown", traces, metrics).await;
        }
    }

    fn local(service: &'static str, gen_ai: GenAi, spans: Option<Captured>, log: LogSink) -> Self {
        let options = Options::new(service);
        let resource = resource(&options);
        let tracers = tracers(&resource, options.sampling.into(), spans);
        let meters = Meters::new(&resource, None::<PeriodicReader<WatchedMetrics>>);
        let dispatch = dispatch(&tracers, log.layer(service), EnvFilter::new(CAPTURED));
        Self::assembled(service, gen_ai, dispatch, tracers, meters, false)
    }

    fn assembled(
        service: &'static str,
        gen_ai: GenAi,
        dispatch: Dispatch,
        tracers: SdkTracerProvider,
        meters: Meters,
        exporting: bool,
    ) -> Self {
        let closed = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { service, gen_ai, dispatch, tracers, meters, exporting, closed }) }
    }

    /// Waits for both halves of a flush, but no longer than the limit.
    async fn bounded(&self, what: &'static str, traces: Receiver<bool>, metrics: Receiver<bool>) {
        let both = async { (traces.await, metrics.await) };
        if !matches!(tokio::time::timeout(FLUSH_LIMIT, both).await, Ok((Ok(true), Ok(true)))) {
            self.in_scope(|| tracing::warn!(what, "not all telemetry reached its collector"));
        }
    }

    fn warn_about(&self, ignored: &[String]) {
        for variable in ignored {
            self.in_scope(|| {
                tracing::warn!(variable, "environment variable has no usable value and is ignored")
            });
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("service", &self.inner.service)
            .field("exporting", &self.inner.exporting)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn providers(&self) -> (SdkTracerProvider, Option<SdkMeterProvider>) {
        (self.tracers.clone(), self.meters.push_provider().cloned())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The SDK's own drop would export on this thread, which may be the runtime's only one.
        if self.exporting && !self.closed.swap(true, Ordering::AcqRel) {
            let (traces, metrics) = self.providers();
            drop(detached("telemetry end", move || {
                let traces = traces.shutdown_with_timeout(FLUSH_LIMIT).is_ok();
                metrics.is_none_or(|it| it.shutdown().is_ok()) && traces
            }));
        }
    }
}

/// Runs blocking work on a thread of its own. Not on the runtime's blocking threads: a runtime waits for those when
/// it ends, and a collector that hangs would hold up the process.
fn detached(name: &str, work: impl FnOnce() -> bool + Send + 'static) -> Receiver<bool> {
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody listens any more once the limit is over.
        let _ = done.send(work());
    });
    // Without a thread the sender is gone, and the receiver says so.
    drop(thread);
    outcome
}

/// What the service is called towards collectors: never read from the process's environment.
fn resource(options: &Options) -> Resource {
    let name = options.service_name.clone().unwrap_or_else(|| options.service.to_owned());
    let instance = RandomIdGenerator::default().new_trace_id().to_string();
    let given = options.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new(names::SERVICE_INSTANCE_ID, instance))
        .with_attributes(given)
        .with_attribute(KeyValue::new(names::SERVICE_NAME, name))
        .build()
}

fn tracers(
    resource: &Resource,
    sampler: Sampler,
    processor: Option<impl SpanProcessor + 'static>,
) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource.clone()).with_sampler(sampler);
    match processor {
        Some(processor) => builder.with_span_processor(processor),
        None => builder,
    }
    .build()
}

/// Builds the subscriber: spans of level `info` and above, log lines as the filter says.
fn dispatch(tracers: &SdkTracerProvider, lines: Option<Lines>, filter: EnvFilter) -> Dispatch {
    let traced = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(UNTRACED_TARGETS.map(|target| (target, LevelFilter::OFF)));
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracers.tracer(SCOPE))
        // Where a span was made is of no use to its reader, and these cost more than all other attributes.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(traced);
    Dispatch::new(Registry::default().with(spans).with(lines.map(|lines| lines.with_filter(filter))))
}
