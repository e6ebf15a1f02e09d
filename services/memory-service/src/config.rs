//! Settings of the memory service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::ByteSize;
use embedding::{Choice, Embedder};

use crate::{error::Error, space::Shape, store};

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
        /// Most namespaces of a tenant.
        pub memory_namespaces: u32 = "1000", unit "namespaces", range "1" to "1000000";
        /// Most decoded memories kept, and most recall answers in the query cache.
        pub memory_cache_size: u64 = "1000", unit "entries", range "1" to "1000000";
        /// How long a memory, an answer, or the vector of a query's text, is served from its cache, on the agent clock.
        pub memory_cache_ttl: Duration = "3600s", unit "duration", range "1s" to "30d", development "60s", production "3600s";
        /// Most vectors of query texts kept.
        pub memory_embedding_cache_size: u64 = "4096", unit "entries", range "1" to "1000000";
        /// Who turns a text into a vector when the caller brings none: `hashing-` and the number of values; a folder with a
        /// sentence encoder (feature `minilm`), `FOLDER` or `FOLDER@HASH`; or `URL#MODEL`. A store keeps to the one that filled it.
        pub memory_embedder: String = "hashing-256", unit "name";
        /// Values of a vector, the caller's and the embedder's. A store keeps to the number that filled it.
        pub memory_dimensions: usize = "256", unit "values", range "16" to "4096";
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
    /// Returns how the store is opened whose default namespaces are of `shape`.
    pub(crate) fn store(&self, shape: &Shape) -> store::Options {
        // A store is large: one that was killed is not walked.
        let journal =
            journal::Options { quick_repair: true, ..self.journal.options(self.memory_store_cache) };
        store::Options {
            folder: self.memory_dir.clone(),
            restore: self.memory_restore.clone(),
            journal,
            shape: shape.clone(),
            namespaces: self.memory_namespaces,
            cached: self.memory_cache_size,
            cached_for: self.memory_cache_ttl,
        }
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
    use std::time::Duration;

    use config::{Profile, Sources};

    use super::Config;
    use crate::error::Error;

    #[test]
    fn profiles_set_how_long_answers_are_served() {
        let ttl = |profile| Config::load(&Sources::none().with_profile(profile)).unwrap().memory_cache_ttl;
        assert_eq!(ttl(Profile::Development), Duration::from_secs(60));
        assert_eq!(ttl(Profile::Production), Duration::from_secs(3600));
    }

    #[test]
    fn a_default_above_the_greatest_limit_is_refused_by_name() {
        let config = Config { query_default_limit: 11, query_max_limit: 10, ..Config::defaults() };
        assert!(matches!(config.limits(), Err(Error::Setting { name: "query_default_limit", .. })));
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
