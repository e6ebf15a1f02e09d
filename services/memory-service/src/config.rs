//! Settings of the memory service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use caching::Sizing;
use config::ByteSize;
use embedding::{Choice, Embedder};

use crate::{
    answers::Room,
    error::Error,
    hygiene::settle::{Duplicates, Manner},
    shape::Shape,
    store,
    upkeep::{Policy, prune::Quotas},
};

config::choice! {
    /// What is done with a memory that says what another one says.
    pub enum DuplicateHandling {
        /// It is stored beside it.
        Keep = "keep",
        /// The two become one.
        Merge = "merge",
    }
}

config::settings! {
    /// Settings of the memory service.
    pub struct Config {
        /// Port of the service; 0 takes any free one.
        pub memory_port: u16 = "7102", unit "port";
        /// Folder of the store; made if missing.
        pub memory_dir: PathBuf = "athena-data/memory", unit "folder";
        /// Folder that snapshots are written to; empty: none may be taken.
        pub memory_snapshot_dir: Option<PathBuf> = "", unit "folder";
        /// File of a snapshot that a store begins with where `memory_dir` holds none; passed over where it does. Empty: it begins without memories.
        pub memory_restore: Option<PathBuf> = "", unit "file";
        /// Memory that the store's page cache may take.
        pub memory_store_cache: ByteSize = "64MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Most answers kept in the query cache, over all tenants; at first, where `memory_query_cache_auto_resize` is on.
        pub memory_query_cache_size: u64 = "500", unit "entries", range "1" to "1000000";
        /// Most bytes that they take, about. It limits beside the number of answers, and is never passed by resizing.
        pub memory_query_cache_max_bytes: ByteSize = "64MiB", unit "bytes", range "64KiB" to "64GiB";
        /// Whether the query cache takes the size that its curve (`GetStats`) predicts nearly the best hit ratio for; otherwise it only shows the curve.
        pub memory_query_cache_auto_resize: bool = "true", unit "switch";
        /// Fewest answers the query cache may shrink to, and the smallest size of its curve; `memory_query_cache_size` where that is less.
        pub memory_query_cache_min_size: u64 = "50", unit "entries", range "1" to "1000000";
        /// Most answers the query cache may grow to, and the largest size of its curve; `memory_query_cache_size` where that is more.
        pub memory_query_cache_max_size: u64 = "8192", unit "entries", range "1" to "1000000";
        /// How long the answer of a frequent question, or the vector of a question's text, is served from its cache, on the agent clock. A write ends it for answers.
        pub memory_query_cache_ttl: Duration = "600s", unit "duration", range "1s" to "30d";
        /// How long the answer of any other question is; `memory_query_cache_ttl` where that is shorter.
        pub memory_query_cache_rare_ttl: Duration = "60s", unit "duration", range "1s" to "30d";
        /// How often a question has to be asked, within one to two `memory_query_cache_ttl`, to be frequent.
        pub memory_query_cache_frequent: u32 = "3", unit "recalls", range "1" to "1000000";
        /// How often what is in memory of a namespace is written down beside the store, where it has changed; sooner once half as many memories again were written, and
        /// at a graceful end. A start reads that and what was written since, in place of every memory.
        pub memory_checkpoint_interval: Duration = "5m", unit "duration", range "1s" to "30d";
        /// From how many memories of a namespace on; fewer are read in no time.
        pub memory_checkpoint_min: u64 = "10000", unit "memories", range "0" to "1000000000";
        /// Most namespaces of a tenant.
        pub memory_namespaces: u32 = "1000", unit "namespaces", range "1" to "1000000";
        /// Most decoded memories kept.
        pub memory_cache_size: u64 = "1000", unit "entries", range "1" to "1000000";
        /// How long a decoded memory is kept, on the agent clock.
        pub memory_cache_ttl: Duration = "3600s", unit "duration", range "1s" to "30d", development "60s", production "3600s";
        /// Most vectors of query texts kept.
        pub memory_embedding_cache_size: u64 = "4096", unit "entries", range "1" to "1000000";
        /// Who turns a text into a vector when the caller brings none: `hashing-` and the number of values; a folder with a
        /// sentence encoder (feature `minilm`), `FOLDER` or `FOLDER@HASH`; or `URL#MODEL`. A namespace keeps to the one that filled it, until `Reembed`.
        pub memory_embedder: String = "hashing-256", unit "name";
        /// Another embedder that runs beside `memory_embedder`, written as that is: `Reembed` moves namespaces to it, one by one, and then it
        /// can become `memory_embedder`. Empty: none.
        pub memory_reembed_with: Option<String> = "", unit "name";
        /// Values of a vector, the caller's and the embedder's. A store keeps to the number that filled it.
        pub memory_dimensions: usize = "256", unit "values", range "16" to "4096";
        /// Most candidates that a task of a scan takes; the threads of a scan take tasks one after the other.
        pub memory_query_batch_size: usize = "4096", unit "memories", range "1" to "1000000";
        /// Most full vectors that a recall reads from the store to prove that its answer is exact; where that is not enough, the answer says by how much
        /// it may be off. At least as many as it returns are read.
        pub memory_max_reads: usize = "4096", unit "vectors", range "1" to "1000000";
        /// After how long a memory is half as recent, where recency counts in the ranking, and in what is worth keeping.
        pub memory_half_life: Duration = "30d", unit "duration", range "1s" to "36500d";
        /// Whether a scan may use every core, where that pays; otherwise one.
        pub memory_parallel_queries: bool = "true", unit "switch";
        /// How long what was forgotten can be undone, on the agent clock; then its bytes go too. 0: it is gone at once.
        pub memory_undo_window: Duration = "24h", unit "duration", range "0s" to "30d";
        /// How long after the last time the store's file is written anew at the earliest, without what was removed for good; upkeep does it where something was. What
        /// is purged by `Purge` goes at once.
        pub memory_erase_interval: Duration = "24h", unit "duration", range "0s" to "30d";
        /// Most bytes of writes that are kept in memory while that is done, to be written to the new file too; more end it, and the next round tries again.
        pub memory_erase_bytes: ByteSize = "256MiB", unit "bytes", range "1MiB" to "64GiB";
        /// Most memories of a namespace: what is worth least beyond them goes. 0: there is no such limit.
        pub memory_max: u64 = "50000", unit "memories", range "0" to "1000000000";
        /// Most memories of single categories in a namespace, `category=number` with commas between. Empty: there is no such limit.
        pub memory_quotas: Option<String> = "", unit "category=memories";
        /// Time between two rounds of upkeep, on the agent clock: what has expired, is over a limit or can be undone no longer goes. The first
        /// one comes a minute after the start, or after this time where that is shorter.
        pub gc_interval: Duration = "3600s", unit "duration", range "1s" to "30d";
        /// Most memories that one commit of upkeep forgets or removes.
        pub memory_upkeep_batch: usize = "500", unit "memories", range "1" to "10000";
        /// Most forgettings of a namespace that stay listed after they were undone or can be undone no longer.
        pub memory_forgettings: usize = "1000", unit "forgettings", range "1" to "1000000";
        /// What becomes of a memory that comes without an id and says what another one says: `merge` makes one of both and stores no echo of a recall, `keep`
        /// stores it beside. A request can say otherwise.
        pub memory_duplicates: DuplicateHandling = "merge", unit "word";
        /// Likeness of two vectors from which two memories in nearly the same words are merged; below it only spellings of the same words are.
        pub memory_near_likeness: f64 = "0.9", unit "cosine", range "-1" to "1";
        /// Most memories in nearly the same words that one is compared with, the last written first.
        pub memory_near_candidates: usize = "16", unit "memories", range "1" to "10000";
        /// Most memories that recalls returned which are known as such, over all tenants, so that they are not stored back. 0: everything is stored.
        pub memory_echo_size: usize = "50000", unit "entries", range "0" to "10000000";
        /// For how long they are, on the agent clock: what an agent recalls in one cycle it may say in the same or the next.
        pub memory_echo_ttl: Duration = "10m", unit "duration", range "0s" to "30d";
        /// Likeness of two vectors from which an audit compares the words of their memories.
        pub memory_audit_likeness: f64 = "0.9", unit "cosine", range "-1" to "1";
        /// Most pairs of memories that an audit compares.
        pub memory_audit_pairs: usize = "100000", unit "pairs", range "0" to "100000000";
        /// How long a memory must neither have happened nor been recalled for an audit to call it idle.
        pub memory_audit_idle: Duration = "30d", unit "duration", range "1s" to "36500d";
        /// Memories a recall returns if the query does not say how many.
        pub query_default_limit: u32 = "100", unit "memories", range "1" to "10000";
        /// Most memories a query may ask for.
        pub query_max_limit: u32 = "1000", unit "memories", range "1" to "10000";
        /// How long a recall may take; what runs longer is stopped and answered with DEADLINE_EXCEEDED.
        pub query_timeout: Duration = "5s", unit "duration", range "1ms" to "10m";
    }
    groups {
        /// How the service is served.
        pub host: rpc::HostSettings;
        /// How an encoder from a folder, or a model behind a URL, works.
        pub embedder: embedding::Settings;
        /// How the store's file is written.
        pub journal: journal::Settings;
    }
}

/// What a query may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// Memories returned if the query does not say.
    pub(crate) default: u32,
    /// Most memories returned.
    pub(crate) max: u32,
}

impl Config {
    /// Returns how the store is opened whose default namespaces are of `shape`, or of the `other`, or of hashing.
    pub(crate) fn store(&self, shape: &Shape, other: Option<Shape>) -> store::Options {
        // A store is large: one that was killed is not walked.
        let journal =
            journal::Options { quick_repair: true, ..self.journal.options(self.memory_store_cache) };
        store::Options {
            folder: self.memory_dir.clone(),
            restore: self.memory_restore.clone(),
            journal,
            shape: shape.clone(),
            other,
            namespaces: self.memory_namespaces,
            cached: self.memory_cache_size,
            cached_for: self.memory_cache_ttl,
        }
    }

    /// Returns how much the query cache keeps, and for how long.
    pub(crate) fn answers(&self) -> Room {
        let size = self.memory_query_cache_size;
        let sizing = Sizing {
            least: self.memory_query_cache_min_size.min(size),
            most: self.memory_query_cache_max_size.max(size),
            auto: self.memory_query_cache_auto_resize,
        };
        let ttl = self.memory_query_cache_ttl;
        Room {
            entries: size,
            bytes: self.memory_query_cache_max_bytes.bytes(),
            sizing,
            ttl,
            rare_ttl: self.memory_query_cache_rare_ttl.min(ttl),
            frequent: self.memory_query_cache_frequent,
        }
    }

    /// Returns how memories are forgotten.
    ///
    /// # Errors
    /// [`Error::Setting`] if the quotas cannot be read.
    pub(crate) fn policy(&self) -> Result<Policy, Error> {
        let total = if self.memory_max == 0 { u64::MAX } else { self.memory_max };
        let quota = |text: &str| {
            let (category, most) = text.rsplit_once('=')?;
            Some((category.trim().to_owned(), most.trim().parse::<u64>().ok()?))
                .filter(|(name, _)| !name.is_empty())
        };
        let quotas = self.memory_quotas.iter().flat_map(|all| all.split(','));
        let categories = quotas.map(quota).collect::<Option<_>>().ok_or_else(|| {
            let must = "must be `category=number` with commas between".to_owned();
            Error::Setting { name: "memory_quotas", must }
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "a threshold needs no more than f32")]
        let likeness = self.memory_audit_likeness as f32;
        Ok(Policy {
            window: self.memory_undo_window,
            quotas: Quotas { total, categories },
            every: self.gc_interval,
            batch: self.memory_upkeep_batch,
            listed: self.memory_forgettings,
            likeness,
            pairs: self.memory_audit_pairs,
            idle: self.memory_audit_idle,
        })
    }

    /// Returns how what is handed in is settled where a request does not say.
    pub(crate) fn manner(&self) -> Manner {
        let otherwise = match self.memory_duplicates {
            DuplicateHandling::Keep => Duplicates::Keep,
            DuplicateHandling::Merge => Duplicates::Merge,
        };
        #[expect(clippy::cast_possible_truncation, reason = "a threshold needs no more than f32")]
        let threshold = self.memory_near_likeness as f32;
        Manner { asked: None, otherwise, threshold, most: self.memory_near_candidates }
    }

    /// Returns what a query may ask for.
    ///
    /// # Errors
    /// [`Error::Setting`] if the default limit is above the greatest.
    pub(crate) fn limits(&self) -> Result<Limits, Error> {
        if self.query_default_limit > self.query_max_limit {
            let must = format!("must be at most query_max_limit, which is {}", self.query_max_limit);
            return Err(Error::Setting { name: "query_default_limit", must });
        }
        let (dimensions, default, max) =
            (self.memory_dimensions, self.query_default_limit, self.query_max_limit);
        Ok(Limits { dimensions, default, max })
    }

    /// Returns which embedder is used.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is none of that name, or if its vectors are known not to have `memory_dimensions` values.
    pub(crate) fn choice(&self) -> Result<Choice, Error> {
        let unknown = |fault: embedding::Unknown| Error::Setting {
            name: "memory_embedder",
            must: format!("cannot be used: {fault}"),
        };
        let choice: Choice = self.memory_embedder.parse().map_err(unknown)?;
        choice.dimensions().map_or(Ok(()), |dimensions| self.agree(dimensions))?;
        Ok(choice)
    }

    /// Makes the embedder.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Config::choice`], [`Error::Embedder`] if it cannot be made.
    pub(crate) async fn make_embedder(&self) -> Result<Arc<dyn Embedder>, Error> {
        let embedder = self.choice()?.embedder(&self.embedder, Some(self.memory_dimensions)).await?;
        self.agree(embedder.dimensions())?;
        Ok(embedder)
    }

    /// Returns which embedder namespaces are moved to.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is none of that name.
    pub(crate) fn next_choice(&self) -> Result<Option<Choice>, Error> {
        let unknown = |fault: embedding::Unknown| Error::Setting {
            name: "memory_reembed_with",
            must: format!("cannot be used: {fault}"),
        };
        self.memory_reembed_with.as_deref().map(|word| word.parse().map_err(unknown)).transpose()
    }

    /// Makes the embedder that namespaces are moved to.
    ///
    /// # Errors
    /// [`Error::Setting`] as [`Config::next_choice`], or if its vectors are too long; [`Error::Embedder`] if it cannot be made.
    pub(crate) async fn make_next_embedder(&self) -> Result<Option<Arc<dyn Embedder>>, Error> {
        let Some(choice) = self.next_choice()? else { return Ok(None) };
        let embedder = choice.embedder(&self.embedder, None).await?;
        if Shape::DIMENSIONS.contains(&embedder.dimensions()) {
            return Ok(Some(embedder));
        }
        let must = format!("must have 16 to 4,096 values, not {}", embedder.dimensions());
        Err(Error::Setting { name: "memory_reembed_with", must })
    }

    fn agree(&self, dimensions: usize) -> Result<(), Error> {
        if dimensions == self.memory_dimensions {
            return Ok(());
        }
        let must = format!("must be {dimensions}, as memory_embedder = {} says", self.memory_embedder);
        Err(Error::Setting { name: "memory_dimensions", must })
    }
}

#[cfg(test)]
mod tests {
    use super::Config;
    use crate::error::Error;

    #[test]
    fn a_default_above_the_greatest_limit_is_refused_by_name() {
        let config = Config { query_default_limit: 11, query_max_limit: 10, ..Config::defaults() };
        assert!(matches!(config.limits(), Err(Error::Setting { name: "query_default_limit", .. })));
    }

    #[test]
    fn quotas_are_read_category_by_category() {
        let policy = |quotas: Option<&str>, memory_max| {
            let memory_quotas = quotas.map(str::to_owned);
            Config { memory_quotas, memory_max, ..Config::defaults() }.policy()
        };
        let none = policy(None, 0).unwrap().quotas;
        assert_eq!((none.total, none.categories.len()), (u64::MAX, 0));
        let some = policy(Some("decision=1000, a=b=0"), 7).unwrap().quotas;
        let expected = [("a=b".to_owned(), 0), ("decision".to_owned(), 1000)];
        assert_eq!((some.total, some.categories.into_iter().collect::<Vec<_>>()), (7, expected.to_vec()));
        for wrong in ["decision", "decision=", "=5", "a=1,", "a=-1"] {
            let refused = policy(Some(wrong), 0);
            assert!(matches!(refused, Err(Error::Setting { name: "memory_quotas", .. })), "{wrong}");
        }
    }

    #[test]
    fn embedder_and_dimensions_have_to_agree() {
        let faulty = |embedder: &str, dimensions| {
            let config = Config {
                memory_embedder: embedder.to_owned(),
                memory_dimensions: dimensions,
                ..Config::defaults()
            };
            match config.choice() {
                Ok(_) => None,
                Err(Error::Setting { name, .. }) => Some(name),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(faulty("hashing-256", 256), None);
        assert_eq!(faulty("hashing-256", 384), Some("memory_dimensions"));
        assert_eq!(faulty("word2vec", 256), Some("memory_embedder"));
    }
}
