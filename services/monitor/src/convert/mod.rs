//! Wire ⇄ domain: OpenTelemetry's messages in, the monitor's contract in and out.

pub(crate) mod otlp;
pub(crate) mod request;
pub(crate) mod response;
