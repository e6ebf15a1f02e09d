//! How a service's telemetry is set up.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::trace::Sampler;

use crate::log::LogSink;

/// Says how a service's telemetry is set up.
///
/// Start from [`Options::new`]; [`Options::with_otel_env`] applies the standard `OTEL_*` variables.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the service.
    pub service: &'static str,
    /// `service.name` to report instead of `service` (`OTEL_SERVICE_NAME`). Leave it empty where several services
    /// share a process.
    pub service_name: Option<String>,
    /// URL of the collector, gRPC, for both signals. Nothing is exported without one. It need not listen yet.
    pub otlp_endpoint: Option<String>,
    /// URL of the collector of spans, where it is another one.
    pub traces_endpoint: Option<String>,
    /// URL of the collector of metrics, where it is another one.
    pub metrics_endpoint: Option<String>,
    /// Headers of each call to the collector.
    pub otlp_headers: Headers,
    /// PEM file of authorities that the collector's certificate may come from, beside the public ones.
    pub otlp_ca: Option<PathBuf>,
    /// Time between two exports of metrics. Default 30 s.
    pub export_interval: Duration,
    /// Longest time an attempt to export may take. Default 10 s.
    pub export_timeout: Duration,
    /// Most spans waiting for export; more are dropped and counted. Default 16384: the 2048 of the SDK lose most
    /// spans of a busy service.
    pub span_queue: usize,
    /// Time between two exports of spans. Default 1 s.
    pub span_delay: Duration,
    /// Which traces are recorded. Default [`Sampling::ParentAlwaysOn`].
    pub sampling: Sampling,
    /// Further attributes of the resource, such as `deployment.environment.name`.
    pub resource: BTreeMap<String, String>,
    /// Where log lines go, and in which form. Default: pretty text on standard error.
    pub log: LogSink,
    /// Which events are logged, as `tracing_subscriber::EnvFilter` reads it. Default `info`.
    pub log_filter: String,
    /// What is told of calls to generative models.
    pub gen_ai: GenAi,
    /// Switches every export off (`OTEL_SDK_DISABLED`); trace ids, logs and `/metrics` stay.
    pub disabled: bool,
    /// Names of `OTEL_*` variables whose value could not be used; logged once at the start.
    pub ignored: Vec<String>,
}

/// What is told of calls to generative models, whose conventions are not stable yet and whose words are nobody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenAi {
    /// Whether spans and metrics by OpenTelemetry's conventions are made (`OTEL_SEMCONV_STABILITY_OPT_IN` with
    /// `gen_ai_latest_experimental` in it).
    pub conventions: bool,
    /// Whether their spans carry the words themselves (`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`: `true`, or
    /// `SPAN_ONLY`).
    pub content: bool,
}

impl Options {
    /// Returns the defaults: no export, pretty log lines on standard error.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            service_name: None,
            otlp_endpoint: None,
            traces_endpoint: None,
            metrics_endpoint: None,
            otlp_headers: Headers::default(),
            otlp_ca: None,
            export_interval: Duration::from_secs(30),
            export_timeout: Duration::from_secs(10),
            span_queue: 16_384,
            span_delay: Duration::from_secs(1),
            sampling: Sampling::default(),
            resource: BTreeMap::new(),
            log: LogSink::default(),
            log_filter: "info".to_owned(),
            gen_ai: GenAi::default(),
            disabled: false,
            ignored: Vec::new(),
        }
    }

    /// Returns where spans go; `None` if nowhere.
    pub(crate) fn traces_to(&self) -> Option<&str> {
        self.target(self.traces_endpoint.as_deref())
    }

    /// Returns where metrics go; `None` if nowhere.
    pub(crate) fn metrics_to(&self) -> Option<&str> {
        self.target(self.metrics_endpoint.as_deref())
    }

    fn target<'a>(&'a self, own: Option<&'a str>) -> Option<&'a str> {
        if self.disabled { None } else { own.or(self.otlp_endpoint.as_deref()) }
    }
}

/// Headers for the collector. `Debug` shows their names only: they carry keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// Sets a header; a later value replaces an earlier one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into().to_ascii_lowercase(), value.into());
    }

    /// Lists names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Says which traces are recorded. A trace that is not recorded still has an id.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampling {
    /// Follows the caller; records what begins here.
    #[default]
    ParentAlwaysOn,
    /// Follows the caller; does not record what begins here.
    ParentAlwaysOff,
    /// Follows the caller; records this share (0 to 1) of what begins here.
    ParentRatio(f64),
    /// Records everything.
    AlwaysOn,
    /// Records nothing.
    AlwaysOff,
    /// Records this share (0 to 1), whatever the caller did.
    Ratio(f64),
}

impl From<Sampling> for Sampler {
    fn from(sampling: Sampling) -> Self {
        let parent = |root: Sampler| Self::ParentBased(Box::new(root));
        match sampling {
            Sampling::ParentAlwaysOn => parent(Self::AlwaysOn),
            Sampling::ParentAlwaysOff => parent(Self::AlwaysOff),
            Sampling::ParentRatio(share) => parent(Self::TraceIdRatioBased(share)),
            Sampling::AlwaysOn => Self::AlwaysOn,
            Sampling::AlwaysOff => Self::AlwaysOff,
            Sampling::Ratio(share) => Self::TraceIdRatioBased(share),
        }
    }
}
