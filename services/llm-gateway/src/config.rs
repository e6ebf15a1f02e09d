//! Settings of the gateway.

use std::{path::PathBuf, time::Duration};

use config::ByteSize;

use crate::{
    batch::Limits,
    cache::bands::{Tolerance, Tolerances},
    cache::semantic::Mode,
};

config::settings! {
    /// Settings of the llm-gateway.
    pub struct Config {
        /// Port of the gateway; 0 takes a free one.
        pub llm_port: u16 = "7101", unit "port";
        /// Model asked where a caller names none: `builtin/statistics` (not a language model), a model of `llm_routes`, or one of the upstream as it names it.
        pub llm_model: String = "builtin/statistics", unit "name";
        /// Base address of an OpenAI-compatible API, such as `https://api.openai.com/v1`; `/chat/completions` is added to it. Empty: none.
        pub llm_upstream_url: Option<String> = "", unit "url";
        /// Bearer key of the upstream. Empty: none is sent.
        pub llm_api_key: Option<config::Secret> = "", unit "secret";
        /// File of further upstreams, models, prices and tenants' limits in TOML. Empty: none.
        pub llm_routes: Option<PathBuf> = "", unit "file";
        /// Longest an attempt to ask the upstream may take, and a stream may pause; the caller's deadline bounds all attempts together.
        pub llm_timeout: Duration = "30s", unit "duration", range "100ms" to "10m";
        /// Most times a call is repeated that the upstream did not answer or throttled; each fallback of a route has as many.
        pub llm_max_retries: u32 = "2", unit "attempts", range "0" to "10";
        /// Share of the calls to an upstream over 10 s that may be repeated; one a second is allowed beside.
        pub llm_retry_percent: u32 = "20", unit "percent", range "0" to "100";
        /// Calls to the upstream at a time, streams until their end.
        pub llm_max_concurrent_calls: usize = "256", unit "calls", range "1" to "100000";
        /// Calls that wait for one of those to end; the newest goes first. What does not fit is refused at once.
        pub llm_max_queued_calls: usize = "256", unit "calls", range "0" to "100000";
        /// Longest time a call waits for others to end.
        pub llm_max_queue_wait: Duration = "5s", unit "duration", range "1ms" to "10m";
        /// Failures of an upstream in a row, or half of at least 20 calls within 10 s, after which it is left alone for a second, and longer each time up to 5 s.
        pub llm_breaker_failures: u32 = "5", unit "calls", range "1" to "1000";
        /// Most answers kept in the response cache, over all tenants; at first, where `llm_cache_auto_resize` is on. 0: the cache is off, and with it answers for like figures and other words; calls for the same at once still share one. `Resize` turns it on, without a curve.
        pub llm_cache_size: u64 = "1000", unit "entries", range "0" to "1000000", development "100", production "2000";
        /// Most bytes kept in the response cache, over all tenants: requests and answers, with 256 bytes for each entry. It limits beside the number of answers, and is never passed by resizing.
        pub llm_cache_max_bytes: ByteSize = "64MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Whether the response cache takes the size that its curve (`GetStats`) predicts nearly the best hit ratio for; otherwise it only shows the curve.
        pub llm_cache_auto_resize: bool = "true", unit "switch";
        /// Fewest answers the response cache may shrink to, and the smallest size of its curve; `llm_cache_size` where that is less.
        pub llm_cache_min_size: u64 = "100", unit "entries", range "1" to "1000000";
        /// Most answers the response cache may grow to, and the largest size of its curve; `llm_cache_size` where that is more.
        pub llm_cache_max_size: u64 = "16384", unit "entries", range "1" to "1000000";
        /// How long an answer is served from the response cache, on the agent clock.
        pub llm_cache_ttl: Duration = "24h", unit "duration", range "1s" to "30d";
        /// How far the figures of an observation may lie from those of an earlier one of the same entity for its answer to serve, as a share of the smaller figure, where the request does not say. 0: not at all, only the exact cache serves.
        pub llm_band_tolerance: f64 = "0", unit "ratio", range "0" to "1";
        /// How old such an answer may be, on the agent clock, where the request does not say; `llm_cache_ttl` bounds it too.
        pub llm_band_max_age: Duration = "24h", unit "duration", range "1s" to "30d";
        /// Most answers of an entity that are compared, those that served last.
        pub llm_band_answers: usize = "4", unit "answers", range "1" to "64";
        /// Most bytes kept of the figures that answers are about, over all tenants. The answers themselves are in the response cache.
        pub llm_band_max_bytes: ByteSize = "16MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Whether answers to questions that ask the same in other words serve, where neither the request nor the model's route says: `shadow` only counts how often they would, and whether the model agreed.
        pub llm_semantic: Mode = "off", unit "mode";
        /// Score from which such an answer serves; `CacheAdminService/Calibrate` says what each brings. Empty: what comes with the embedder's weights.
        pub llm_semantic_threshold: Option<f64> = "", unit "score", range "0" to "1";
        /// Model that is asked as well, before such an answer serves. Empty: none.
        pub llm_semantic_verifier: Option<String> = "", unit "name";
        /// Most questions kept to be compared with.
        pub llm_semantic_questions: usize = "10000", unit "questions", range "1" to "1000000", development "1000";
        /// Most of them that share tenant, model, instructions, history and parameters: all of these are looked at each time.
        pub llm_semantic_partition: usize = "2000", unit "questions", range "1" to "100000";
        /// Most bytes kept of them, with their vectors and all that must be equal, over all tenants. The answers are in the response cache.
        pub llm_semantic_max_bytes: ByteSize = "64MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Who turns texts into vectors, for the semantic cache and `/v1/embeddings`: `hashing` (no model, 512 components), or `hashing-` and
        /// their number; a folder with a sentence encoder (feature `minilm`), `FOLDER` or `FOLDER@HASH`; or `URL#MODEL`.
        pub llm_embedder: String = "hashing", unit "name";
        /// Most vectors kept of texts that may come again.
        pub llm_embedding_cache_size: u64 = "2000", unit "vectors", range "1" to "1000000", development "100";
        /// Most observations of one `Analyze`.
        pub llm_max_observations: usize = "1000", unit "observations", range "1" to "10000";
        /// Most observations of one call to the upstream: more are asked about in several calls side by side. `builtin/statistics` takes all at once.
        pub llm_merge_max_items: usize = "50", unit "observations", range "1" to "1000";
        /// Most tokens of one such call, asked and answered together, by estimate. An observation larger than that has a call of its own.
        pub llm_merge_max_tokens: u64 = "16000", unit "tokens", range "1000" to "1000000";
        /// Longest time an `Analyze` waits to share calls with others of its tenant, model and question, where one is under way already. `0s`: never.
        pub llm_merge_linger: Duration = "5ms", unit "duration", range "0s" to "1s";
        /// Most observations asked about singly, after two shared calls whose answers left them out or spoiled them; the others fail by name.
        pub llm_merge_max_singles: usize = "10", unit "observations", range "0" to "1000";
        /// File of pattern templates in TOML, read again when it changes. Empty: those that come with the gateway.
        pub llm_patterns: Option<PathBuf> = "", unit "file";
        /// Folder of what templates learn: history, matches and outcomes; made if missing. Empty: in memory, until the process ends.
        pub llm_dir: Option<PathBuf> = "", unit "folder";
        /// Memory that the page cache of that folder's database may take.
        pub llm_journal_cache: ByteSize = "4MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Most subjects, of each tenant, whose history templates can look at.
        pub llm_history_subjects: usize = "10000", unit "subjects", range "1" to "10000000";
        /// Days kept of a subject; must exceed the longest time that a template looks back.
        pub llm_history_points: usize = "40", unit "days", range "2" to "400";
        /// Memory that the history of a tenant may take, by estimate.
        pub llm_history_bytes: ByteSize = "64MiB", unit "bytes", range "64KiB" to "64GiB";
        /// Most matches kept of each tenant whose outcome is awaited or known.
        pub llm_pattern_matches: usize = "10000", unit "matches", range "1" to "10000000";
        /// Share of templates' answers about which a language model is asked as well, apart from the call, to count how often they agree.
        pub llm_pattern_verify: f64 = "0", unit "ratio", range "0" to "1";
        /// Most bytes of each attribute of a trace that holds words (what is asked, its instructions, the answer): the newest turns stay. None
        /// holds any unless `OTEL_SEMCONV_STABILITY_OPT_IN` and `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` say so.
        pub llm_told_bytes: ByteSize = "64KiB", unit "bytes", range "1KiB" to "16MiB";
        /// What the upstream charges for a million tokens read.
        pub llm_price_input_per_mtok: f64 = "0", unit "USD", range "0" to "100000";
        /// What the upstream charges for a million tokens read that it had cached. Empty: as for any other.
        pub llm_price_cached_input_per_mtok: Option<f64> = "", unit "USD", range "0" to "100000";
        /// What the upstream charges for a million tokens written.
        pub llm_price_output_per_mtok: f64 = "0", unit "USD", range "0" to "100000";
    }
    groups {
        /// What every service has.
        pub host: rpc::HostSettings;
        /// How an encoder from a folder, or a model behind a URL, works.
        pub embedder: embedding::Settings;
        /// How the database of what templates learn is written.
        pub journal: journal::Settings;
    }
}

impl Config {
    /// Returns how observations share calls to a language model.
    #[must_use]
    pub fn merging(&self) -> Limits {
        Limits {
            max_items: self.llm_merge_max_items,
            max_tokens: self.llm_merge_max_tokens,
            linger: self.llm_merge_linger,
            max_singles: self.llm_merge_max_singles,
        }
    }

    /// Returns how far answers may be off that serve a request which does not say.
    #[must_use]
    pub fn bands(&self) -> Tolerances {
        Tolerances {
            others: Tolerance::new(self.llm_band_tolerance, 0.0).unwrap_or_default(),
            max_age: Some(self.llm_band_max_age),
            ..Tolerances::default()
        }
    }
}
