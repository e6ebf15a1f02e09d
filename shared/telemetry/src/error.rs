//! What can go wrong when telemetry is set up.

/// Tells why a [`crate::Telemetry`] could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log filter is not in the syntax of `tracing_subscriber::EnvFilter`.
    #[error("log filter `{filter}` is not valid")]
    LogFilter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The address of the collector is not an `http` or `https` URL.
    #[error("collector address `{endpoint}` is not an http or https url")]
    Endpoint {
        /// The address as it was given.
        endpoint: String,
        /// What is wrong with it, where the parser said so.
        source: Option<tonic::transport::Error>,
    },
    /// The file of authorities for the collector cannot be read.
    #[error("cannot read the authorities in `{}`", path.display())]
    Authority {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A header for the collector has a name or a value that HTTP does not allow.
    #[error("header `{name}` for the collector is not valid")]
    Header {
        /// The name of the header; its value may be a secret and is not kept.
        name: String,
    },
    /// The exporter could not be built.
    #[error("exporter could not be built")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A collector is named, but no tokio runtime is running here to reach it.
    #[error("exporting telemetry needs a tokio runtime")]
    NoRuntime,
}
