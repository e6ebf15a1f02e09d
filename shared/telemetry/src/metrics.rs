//! Instruments that record into both meter providers.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream,
    exporter::PushMetricExporter,
};
use prometheus::{Registry, TextEncoder};

use crate::names::Metric;

/// Most buckets of an exponential histogram, and its finest scale: the defaults of the OpenTelemetry
/// specification ("Base2 Exponential Bucket Histogram Aggregation").
const EXPONENTIAL_BUCKETS: u32 = 160;
const EXPONENTIAL_SCALE: i8 = 20;
/// Name of the instrumentation scope.
pub(crate) const SCOPE: &str = "athena";

/// Adds to a sum, in OTLP and in Prometheus text. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Counter(Both<opentelemetry::metrics::Counter<f64>>);

impl Counter {
    /// Adds a number of things.
    pub fn add(&self, value: u64, attributes: &[KeyValue]) {
        // Sums are kept as f64, exact up to 2^53, so that money and items are one kind of counter.
        self.add_f64(value as f64, attributes);
    }

    /// Adds an amount, such as money. Negative amounts are not for counters and are dropped.
    pub fn add_f64(&self, value: f64, attributes: &[KeyValue]) {
        if value >= 0.0 {
            self.0.each(|counter| counter.add(value, attributes));
        }
    }

    /// Returns the counter of one series, which adds without looking it up. It shows 0 until something is added.
    #[must_use]
    pub fn series(&self, attributes: &[KeyValue]) -> CounterSeries {
        CounterSeries(self.0.map(|counter| counter.bind(attributes)))
    }
}

/// Adds to one series of a [`Counter`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CounterSeries(Both<opentelemetry::metrics::BoundCounter<f64>>);

impl CounterSeries {
    /// Adds a number of things.
    pub fn add(&self, value: u64) {
        self.0.each(|counter| counter.add(value as f64));
    }
}

/// Records values of a distribution, in OTLP and in Prometheus text. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Histogram(Both<opentelemetry::metrics::Histogram<f64>>);

impl Histogram {
    /// Records a value, in the metric's unit.
    pub fn record(&self, value: f64, attributes: &[KeyValue]) {
        self.0.each(|histogram| histogram.record(value, attributes));
    }

    /// Returns the distribution of one series, which records without looking it up. It shows 0 values until one is recorded.
    #[must_use]
    pub fn series(&self, attributes: &[KeyValue]) -> HistogramSeries {
        HistogramSeries(self.0.map(|histogram| histogram.bind(attributes)))
    }
}

/// Records values of one series of a [`Histogram`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HistogramSeries(Both<opentelemetry::metrics::BoundHistogram<f64>>);

impl HistogramSeries {
    /// Records a value, in the metric's unit.
    pub fn record(&self, value: f64) {
        self.0.each(|histogram| histogram.record(value));
    }
}

/// Keeps the last value, in OTLP and in Prometheus text. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gauge(Both<opentelemetry::metrics::Gauge<f64>>);

impl Gauge {
    /// Sets the value, in the metric's unit.
    pub fn set(&self, value: f64, attributes: &[KeyValue]) {
        self.0.each(|gauge| gauge.record(value, attributes));
    }
}

/// One instrument of each provider; none for OTLP where nothing is exported.
#[derive(Clone, Debug)]
struct Both<I> {
    scraped: I,
    pushed: Option<I>,
}

impl<I> Both<I> {
    fn each(&self, record: impl Fn(&I)) {
        record(&self.scraped);
        if let Some(pushed) = &self.pushed {
            record(pushed);
        }
    }

    fn map<J>(&self, of: impl Fn(&I) -> J) -> Both<J> {
        Both { scraped: of(&self.scraped), pushed: self.pushed.as_ref().map(of) }
    }
}

/// The two meter providers.
#[derive(Debug)]
pub(crate) struct Meters {
    registry: Registry,
    scraped: Meter,
    // Instruments of a provider that is gone record nothing.
    _scrape_provider: SdkMeterProvider,
    pushed: Option<(SdkMeterProvider, Meter)>,
}

impl Meters {
    /// Builds the registry, and the push provider where there is a reader.
    pub(crate) fn new<E: PushMetricExporter>(resource: &Resource, reader: Option<PeriodicReader<E>>) -> Self {
        let registry = Registry::new();
        let provider = scrape_provider(&registry, resource);
        let pushed = reader.map(|reader| {
            let provider = SdkMeterProvider::builder()
                .with_resource(resource.clone())
                .with_reader(reader)
                .with_view(exponential)
                .build();
            let meter = provider.meter(SCOPE);
            (provider, meter)
        });
        Self { registry, scraped: provider.meter(SCOPE), _scrape_provider: provider, pushed }
    }

    pub(crate) fn counter(&self, metric: Metric) -> Counter {
        Counter(self.both(|meter| {
            meter.f64_counter(metric.name).with_unit(metric.unit).with_description(metric.description).build()
        }))
    }

    pub(crate) fn histogram(&self, metric: Metric) -> Histogram {
        Histogram(self.both(|meter| {
            meter
                .f64_histogram(metric.name)
                .with_unit(metric.unit)
                .with_description(metric.description)
                // The view of the push provider wins over these.
                .with_boundaries(metric.buckets.to_vec())
                .build()
        }))
    }

    pub(crate) fn gauge(&self, metric: Metric) -> Gauge {
        Gauge(self.both(|meter| {
            meter.f64_gauge(metric.name).with_unit(metric.unit).with_description(metric.description).build()
        }))
    }

    /// Returns the provider that pushes, where there is one.
    pub(crate) fn push_provider(&self) -> Option<&SdkMeterProvider> {
        self.pushed.as_ref().map(|(provider, _)| provider)
    }

    /// Renders the registry in Prometheus text format 0.0.4.
    pub(crate) fn prometheus_text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "metrics could not be rendered");
            String::new()
        })
    }

    fn both<I>(&self, build: impl Fn(&Meter) -> I) -> Both<I> {
        Both { scraped: build(&self.scraped), pushed: self.pushed.as_ref().map(|(_, meter)| build(meter)) }
    }
}

#[expect(clippy::expect_used, reason = "a new registry holds no collector that could clash with this one")]
fn scrape_provider(registry: &Registry, resource: &Resource) -> SdkMeterProvider {
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .expect("the first collector of a new registry is taken");
    SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(exporter).build()
}

/// The view that makes every histogram exponential.
fn exponential(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram {
        return None;
    }
    Stream::builder()
        .with_aggregation(Aggregation::Base2ExponentialHistogram {
            max_size: EXPONENTIAL_BUCKETS,
            max_scale: EXPONENTIAL_SCALE,
            record_min_max: true,
        })
        .build()
        .ok()
}
