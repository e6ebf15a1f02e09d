//! The settings every host has.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use config::{ByteSize, Secret};
use telemetry::{Headers, LogSink, Options};

config::choice! {
    /// How a log line looks.
    pub enum LogFormat {
        /// Text for people.
        Pretty = "pretty",
        /// One JSON object a line.
        Json = "json",
    }
}

config::settings! {
    /// Settings of a host: where it listens, whom it lets in, what it bounds, where its telemetry goes.
    pub struct HostSettings {
        /// Address to listen on. Another one than loopback needs `auth_tokens`, or `allow_anonymous`.
        pub bind_address: IpAddr = "127.0.0.1", unit "address";
        /// Bearer tokens and whose they are: `token=tenant:role` or `token=tenant:role:name`, with commas between; roles are `agent` and
        /// `admin`, and costs are told by name.
        pub auth_tokens: Secret = "", unit "token=tenant:role";
        /// Lets in callers without a token, as the tenant `default` with the role `agent`.
        pub allow_anonymous: bool = "false", unit "switch";
        /// Certificate chain of the server in PEM, its own certificate first; empty serves plaintext. Read again when it changes.
        pub tls_cert: Option<PathBuf> = "", unit "path";
        /// Key of the certificate in PEM. Read again when it changes.
        pub tls_key: Option<PathBuf> = "", unit "path";
        /// Time a new connection has for its TLS handshake and until its first bytes tell HTTP/1.1 from HTTP/2; a head of HTTP/1.1 has 30 s then.
        pub handshake_timeout: Duration = "10s", unit "duration", range "100ms" to "10m";
        /// Connections at a time; the next ones wait in the backlog of the system.
        pub max_connections: u32 = "10000", unit "connections", range "1" to "1000000";
        /// Age, a tenth more or less, at which a connection is asked to end when its calls have; 0s for never.
        pub max_connection_age: Duration = "30m", unit "duration", range "0s" to "24h";
        /// Calls of one method at a time. Health, reflection and administration have no limit, nor have watches.
        pub max_concurrent_calls: u32 = "100", unit "calls", range "1" to "100000";
        /// Calls of one method that wait for one of those to end; the newest goes first. What does not fit is refused at once.
        /// A long queue lets more calls wait for their deadline in vain.
        pub max_queued_calls: u32 = "100", unit "calls", range "0" to "100000";
        /// Longest time a call waits for others to end.
        pub max_queue_wait: Duration = "1s", unit "duration", range "1ms" to "10m";
        /// Time between two checks that a service makes of itself, on the agent clock.
        pub health_check_interval: Duration = "60s", unit "duration", range "1s" to "1h";
        /// Time between two exports of metrics.
        pub metrics_export_interval: Duration = "30s", unit "duration", range "100ms" to "1h";
        /// Largest message, in and out.
        pub max_message_bytes: ByteSize = "16MiB", unit "bytes", range "64KiB" to "1GiB";
        /// Deadline of a call that brings none.
        pub request_timeout: Duration = "30s", unit "duration", range "10ms" to "1h";
        /// Time a shutdown goes on serving new calls after health says NOT_SERVING, so that balancers notice.
        pub drain_delay: Duration = "0s", unit "duration", range "0s" to "10m";
        /// Longest time a shutdown then waits for calls to finish.
        pub drain_timeout: Duration = "10s", unit "duration", range "0s" to "10m";
        /// PEM file of authorities that are believed beside the public ones, where this service calls others over `https`: its
        /// peers and the collector.
        pub tls_ca: Option<PathBuf> = "", unit "file";
        /// URL of the OpenTelemetry collector, gRPC; empty exports nothing.
        pub otlp_endpoint: Option<String> = "", unit "url";
        /// Bearer token for the collector; a monitor with `auth_tokens` wants one of them.
        pub otlp_token: Option<Secret> = "", unit "token";
        /// How log lines look.
        pub log_format: LogFormat = "pretty", unit "word", production "json";
        /// Which events are logged: a level, or `target=level` with commas between.
        pub log_filter: String = "info", unit "filter";
    }
}

impl HostSettings {
    /// Returns how the telemetry of `service` is set up by these settings.
    #[must_use]
    pub fn telemetry(&self, service: &'static str) -> Options {
        let format = match self.log_format {
            LogFormat::Pretty => telemetry::LogFormat::Pretty,
            LogFormat::Json => telemetry::LogFormat::Json,
        };
        let mut otlp_headers = Headers::default();
        if let Some(token) = &self.otlp_token {
            otlp_headers.set("authorization", format!("Bearer {}", token.expose()));
        }
        Options {
            otlp_endpoint: self.otlp_endpoint.clone(),
            otlp_headers,
            otlp_ca: self.tls_ca.clone(),
            export_interval: self.metrics_export_interval,
            log: LogSink::stderr(format),
            log_filter: self.log_filter.clone(),
            ..Options::new(service)
        }
    }

    /// Returns the largest message as the servers' and clients' own limits take it.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        usize::try_from(self.max_message_bytes.bytes()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_setting() {
        let settings = HostSettings::defaults();
        assert_eq!(settings.bind_address.to_string(), "127.0.0.1");
        assert_eq!(settings.message_limit(), 16 << 20);
        assert_eq!(settings.request_timeout, Duration::from_secs(30));
        assert_eq!(settings.otlp_endpoint, None);
    }

    #[test]
    fn telemetry_takes_the_interval_and_the_filter() {
        let settings = HostSettings { log_filter: "debug".into(), ..HostSettings::defaults() };
        let options = settings.telemetry("memory-service");
        assert_eq!(options.service, "memory-service");
        assert_eq!(options.export_interval, Duration::from_secs(30));
        assert_eq!(options.log_filter, "debug");
    }
}
