//! How embedders work, as settings; which one is used is a setting of the service that uses it.

use std::time::Duration;

config::settings! {
    /// Settings of every embedder that a [`Choice`](crate::Choice) makes: a folder's encoder, or a model behind a URL.
    pub struct Settings {
        /// Threads of an encoder that runs here, from a folder; 0: as many as there are cores.
        pub embedder_threads: usize = "0", unit "threads", range "0" to "256";
        /// Bearer key of an embedder behind a URL. Empty: none is sent.
        pub embedder_api_key: Option<config::Secret> = "", unit "secret";
        /// Longest, wall time, that a request to it may take; also the longest wait that it may ask for before the next.
        pub embedder_timeout: Duration = "10s", unit "duration", range "1ms" to "10m";
        /// Most times a request is repeated that it did not answer or throttled.
        pub embedder_max_retries: u32 = "2", unit "attempts", range "0" to "10";
        /// Most texts of one request to it; more are sent in several requests, one after the other.
        pub embedder_batch: usize = "256", unit "texts", range "1" to "2048";
    }
}
