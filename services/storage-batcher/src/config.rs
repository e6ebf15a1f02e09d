//! Settings of the storage batcher.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::ByteSize;

use crate::{
    aggregate::rules::Rules,
    budget, cache,
    error::Error,
    flush::ramp,
    keys, last_written,
    queue::{Limits, MAX_BATCH_BYTES},
    shared::Options,
    sink::firestore,
    stream,
};

config::settings! {
    /// Settings of the storage batcher.
    pub struct Config {
        /// Port of the service; 0 takes any free one.
        pub storage_port: u16 = "7103", unit "port";
        /// Folder of the journal and the embedded store; made if missing.
        pub storage_dir: PathBuf = "athena-data/storage", unit "folder";
        /// File of rules that say by collection how samples are aggregated and packed; a faulty one ends the start. Empty for buckets of 15
        /// minutes, each a document.
        pub storage_rules: Option<PathBuf> = "", unit "file";
        /// How long after its end a bucket waits for late samples, on the agent clock, where its rule does not say.
        pub storage_bucket_lateness: Duration = "60s", unit "duration", range "0s" to "1h";
        /// Longest wait, in wall time, for the sink to take what waits when the service stops; the rest stays in the journal.
        pub storage_drain_timeout: Duration = "10s", unit "duration", range "0s" to "10m";
        /// Most bytes of writes, samples and dead letters that are not at the sink; more are refused.
        pub journal_max_bytes: ByteSize = "256MiB", unit "bytes", range "1KiB" to "64GiB";
        /// Most writes, samples and dead letters that are not at the sink; more are refused.
        pub journal_max_writes: u64 = "1000000", unit "writes", range "1" to "1000000000";
        /// Memory that the journal's page cache may take.
        pub journal_cache_bytes: ByteSize = "16MiB", unit "bytes", range "1MiB" to "64GiB";
        /// How long an idempotency key is known, on the agent clock.
        pub storage_idempotency_window: Duration = "24h", unit "duration", range "1s" to "30d";
        /// Most idempotency keys known of one tenant; the oldest go first.
        pub storage_idempotency_keys: usize = "100000", unit "keys", range "1" to "10000000";
        /// Most `WriteStream`s at a time; more are refused.
        pub storage_streams: usize = "64", unit "streams", range "1" to "10000";
        /// Most writes of one stream that are not answered; no further one is read meanwhile.
        pub storage_stream_writes: u64 = "1024", unit "writes", range "1" to "100000";
        /// Most bytes of those writes; one larger write is taken by itself.
        pub storage_stream_bytes: ByteSize = "4MiB", unit "bytes", range "1KiB" to "1GiB";
        /// Google Cloud project of the Firestore database; empty stores in the embedded store.
        pub firestore_project: Option<String> = "", unit "name";
        /// Database within the project.
        pub firestore_database: String = "(default)", unit "name";
        /// Address of a Firestore emulator, such as `127.0.0.1:8080`; empty for Google's own service with the application default
        /// credentials.
        pub firestore_url: Option<String> = "", unit "url";
        /// Documents of a full batch, after folding.
        pub firestore_batch_size: usize = "500", unit "documents", range "1" to "500", production "500";
        /// How long a write waits for others, on the agent clock.
        pub firestore_flush_interval: Duration = "60s", unit "duration", range "1s" to "1h";
        /// Most batches on their way at once, one more for high priority; fewer while the sink cannot bear them.
        pub firestore_max_concurrent_writes: usize = "10", unit "batches", range "1" to "100";
        /// Longest wait for one answer of Firestore's, connecting included.
        pub firestore_request_timeout: Duration = "30s", unit "duration", range "10ms" to "5m";
        /// First pause after a batch that the sink did not take, 16 times as long where a quota or a permission is missing; it doubles up to
        /// 5 s, 30 s or 60 s by the reason, with jitter.
        pub firestore_retry_backoff: Duration = "250ms", unit "duration", range "1ms" to "30s";
        /// Times that a sink which answers may fail at one write before that is a dead letter.
        pub firestore_fault_tries: u32 = "10", unit "tries", range "1" to "1000";
        /// Documents a second at first, when what gathered during an outage or before a start is caught up with; Firestore's 500/50/5 rule.
        pub firestore_ramp_start: f64 = "500", unit "documents per second", range "1" to "100000";
        /// By how much of itself that rate grows with each step.
        pub firestore_ramp_growth: f64 = "0.5", unit "ratio", range "0" to "10";
        /// How long a step lasts, in wall time.
        pub firestore_ramp_step: Duration = "5m", unit "duration", range "1s" to "1h";
        /// Shortest outage of Firestore's after which that is done, in wall time.
        pub firestore_ramp_outage: Duration = "60s", unit "duration", range "0s" to "1h";
        /// Sends every batch with a ledger document, not only increments, unions and server times: then not even a request that Firestore
        /// applies after it was given up and sent again brings an older state back. Costs a document a batch.
        pub firestore_ledger_always: bool = "false", unit "switch";
        /// How long a ledger document is kept, on the agent clock: a TTL policy on its field `expire_at` may then delete it. Longer than
        /// Firestore is ever away.
        pub firestore_ledger_retention: Duration = "30d", unit "duration", range "1d" to "365d";
        /// How long a document that was read from Firestore, or a page of them, is served again, on the agent clock; 0s asks every time. What this
        /// service writes is seen at once, what others write to the same documents up to so much later.
        pub firestore_read_cache_ttl: Duration = "300s", unit "duration", range "0s" to "24h";
        /// Most documents and pages remembered for that.
        pub firestore_read_cache_entries: u64 = "10000", unit "entries", range "1" to "10000000";
        /// Most bytes of them.
        pub firestore_read_cache_bytes: ByteSize = "32MiB", unit "bytes", range "1KiB" to "64GiB";
        /// Leaves out writes after which a document would be as this service last wrote it. Only right while this service is the only writer.
        pub firestore_skip_unchanged: bool = "false", unit "switch";
        /// Most documents remembered for that.
        pub firestore_known_documents: usize = "10000", unit "documents", range "1" to "10000000";
        /// Most bytes of those documents.
        pub firestore_known_bytes: ByteSize = "32MiB", unit "bytes", range "1KiB" to "64GiB";
        /// Documents a minute that may be sent, deletes and ledger documents included, as a mean over any 15 minutes; 0 for no limit. What is
        /// beyond it waits and goes on folding; high priority overdraws it and the others wait until that is paid.
        pub firestore_documents_per_minute: u32 = "0", unit "documents per minute", range "0" to "1000000000";
        /// Cost of the documents of any 24 hours, at `firestore_price_per_100k_writes`; 0 for no limit. Else as
        /// `firestore_documents_per_minute`.
        pub firestore_usd_per_day: f64 = "0", unit "USD", range "0" to "1000000";
        /// Price of 100,000 documents written: for multi-regions on cloud.google.com/firestore/pricing, by an old copy of that page read on
        /// 2026-11-22; a single region costs about half, and a bill is by the page of its day. Deletes are counted as writes, which is too
        /// much: they cost 0.02 for the United States on firebase.google.com/docs/firestore/pricing, by an undated copy read on 2026-11-26.
        pub firestore_price_per_100k_writes: f64 = "0.18", unit "USD", range "0" to "1000";
        /// Price of 100,000 documents read, by which is told what the read cache saved: for the United States (multi-region) on
        /// firebase.google.com/docs/firestore/pricing, by an undated copy read on 2026-11-26, which has 0.18 for writes, too.
        pub firestore_price_per_100k_reads: f64 = "0.06", unit "USD", range "0" to "1000";
    }
    groups {
        /// How the service is served.
        pub host: rpc::HostSettings;
        /// How the journal is written.
        pub journal: journal::Settings;
    }
}

impl Config {
    /// Returns how the batcher behaves, which aggregates by `rules`.
    pub(crate) fn options(&self, rules: Rules) -> Options {
        Options {
            limits: Limits {
                documents: self.firestore_batch_size,
                bytes: MAX_BATCH_BYTES,
                interval: self.firestore_flush_interval,
            },
            concurrency: self.firestore_max_concurrent_writes,
            rules: Arc::new(rules),
            journal_max_bytes: self.journal_max_bytes.bytes(),
            journal_max_writes: self.journal_max_writes,
            keys: keys::Limits { count: self.storage_idempotency_keys, age: self.storage_idempotency_window },
            last_written: self.firestore_skip_unchanged.then(|| last_written::Limits {
                documents: self.firestore_known_documents,
                bytes: usize::try_from(self.firestore_known_bytes.bytes()).unwrap_or(usize::MAX),
            }),
            price: self.firestore_price_per_100k_writes,
            read_price: self.firestore_price_per_100k_reads,
            retry_backoff: self.firestore_retry_backoff,
            fault_tries: self.firestore_fault_tries,
            ledger_always: self.firestore_ledger_always,
            budget: budget::Limits::new(
                f64::from(self.firestore_documents_per_minute),
                self.firestore_usd_per_day,
                self.firestore_price_per_100k_writes,
            ),
            // The embedded store's own pages are in memory, and reading them is free.
            cache: (self.firestore_project.is_some() && !self.firestore_read_cache_ttl.is_zero()).then(
                || cache::Limits {
                    ttl: self.firestore_read_cache_ttl,
                    entries: self.firestore_read_cache_entries,
                    bytes: self.firestore_read_cache_bytes.bytes(),
                },
            ),
            ramp: self.firestore_project.is_some().then_some(ramp::Limits {
                start: self.firestore_ramp_start,
                growth: self.firestore_ramp_growth,
                step: self.firestore_ramp_step,
                outage: self.firestore_ramp_outage,
            }),
        }
    }

    /// Reads the rules of aggregation.
    ///
    /// # Errors
    /// [`Error::Rules`] if there is a file of them and it is refused.
    pub(crate) fn rules(&self) -> Result<Rules, Error> {
        let lateness = self.storage_bucket_lateness;
        match &self.storage_rules {
            None => Ok(Rules::built_in(lateness)),
            Some(path) => Rules::load(path, lateness).map_err(|error| Error::Rules(Arc::new(error))),
        }
    }

    /// Returns how much of streams may be on its way.
    pub(crate) fn streams(&self) -> stream::Limits {
        stream::Limits {
            streams: self.storage_streams,
            writes: self.storage_stream_writes,
            bytes: self.storage_stream_bytes.bytes(),
        }
    }

    /// Returns how the journal is opened.
    pub(crate) fn journal(&self) -> journal::Options {
        self.journal.options(self.journal_cache_bytes)
    }

    /// Returns where Firestore is, if documents go there.
    pub(crate) fn firestore(&self) -> Option<firestore::Options> {
        self.firestore_project.clone().map(|project| firestore::Options {
            project,
            database: self.firestore_database.clone(),
            emulator: self.firestore_url.clone(),
            timeout: self.firestore_request_timeout,
            ledger_retention: self.firestore_ledger_retention,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Config;

    #[test]
    fn the_defaults_are_the_plans_and_store_locally() {
        let config = Config::defaults();
        let options = config.options(config.rules().unwrap());
        assert_eq!((options.limits.documents, options.limits.interval), (500, Duration::from_secs(60)));
        assert_eq!((options.concurrency, options.journal_max_bytes), (10, 256 << 20));
        assert!(config.firestore().is_none());
    }
}
