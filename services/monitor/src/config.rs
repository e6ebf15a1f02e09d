//! Settings of the monitor.

use std::time::Duration;

config::settings! {
    /// Settings of the monitor.
    pub struct Config {
        /// Port of gRPC, OTLP and the dashboard; 0 takes any free one.
        pub monitor_port: u16 = "7104", unit "port";
        /// How long points of metrics are kept, on the agent clock.
        pub monitor_retention: Duration = "24h", unit "duration", range "1h" to "30d";
        /// Most series of metrics; a new one beyond is refused and counted.
        pub monitor_max_series: usize = "2000", unit "series", range "10" to "1000000";
        /// Most traces held; the one that arrived first makes room.
        pub monitor_max_traces: usize = "10000", unit "traces", range "1" to "1000000";
        /// Most spans held in all traces.
        pub monitor_max_spans: usize = "200000", unit "spans", range "100" to "10000000";
        /// Most spans held of one trace.
        pub monitor_max_trace_spans: usize = "10000", unit "spans", range "10" to "1000000";
    }
    groups {
        /// Where it listens, whom it lets in, where its telemetry goes.
        pub host: rpc::HostSettings;
    }
}
