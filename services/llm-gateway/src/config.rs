//! Settings of the gateway.

use std::{path::PathBuf, time::Duration};

use config::ByteSize;

use crate::batch::Limits;

config::settings! {
    /// Settings of the llm-gateway.
    pub struct Config {
        /// Port of the gateway; 0 takes a free one.
        pub llm_port: u16 = "7101", unit "port";
        /// Model asked where a caller names none: `builtin/statistics` (not a language model), or a model of the upstream as it names it.
        pub llm_model: String = "builtin/statistics", unit "name";
        /// Base address of an OpenAI-compatible API, such as `https://api.openai.com/v1`; `/chat/completions` is added to it. Empty: none.
        pub llm_upstream_url: Option<String> = "", unit "url";
        /// Bearer key of the upstream. Empty: none is sent.
        pub llm_api_key: Option<config::Secret> = "", unit "secret";
        /// Longest an attempt to ask the upstream may take, and a stream may pause; the caller's deadline bounds all attempts together.
        pub llm_timeout: Duration = "30s", unit "duration", range "100ms" to "10m";
        /// Most times a call is repeated that the upstream did not answer or throttled.
        pub llm_max_retries: u32 = "2", unit "attempts", range "0" to "10";
        /// Most answers kept in the response cache, over all tenants; at first, where `llm_cache_auto_resize` is on.
        pub llm_cache_size: u64 = "1000", unit "entries", range "1" to "1000000", development "100", production "2000";
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
        /// Who turns texts into vectors, for the semantic cache and `/v1/embeddings`: `hashing` (no model, 512 components), or `hashing-` and
        /// their number.
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
}
