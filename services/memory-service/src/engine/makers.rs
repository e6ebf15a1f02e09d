//! Who makes vectors here: the embedder of the settings, one to move to, and hashing of any length.

use std::{sync::Arc, time::Duration};

use caching::Cache;
use clock::Clock;
use embedding::{Cached, Embedder, Hashing};

use crate::{
    config::Config,
    error::Error,
    shape::{Metric, Shape},
};

/// Everybody who makes vectors here.
#[derive(Debug)]
pub(crate) struct Makers {
    /// That of the settings.
    ours: Maker,
    /// That which namespaces are moved to.
    next: Option<Maker>,
}

/// Who makes vectors, with what it made of questions: they come again.
#[derive(Debug)]
struct Maker {
    embedder: Arc<dyn Embedder>,
    questions: Arc<Cached>,
}

impl Makers {
    /// Makes them as the settings say.
    ///
    /// # Errors
    /// [`Error::Setting`] or [`Error::Embedder`] where one cannot be made.
    pub(crate) async fn of_settings(config: &Config, clock: &Clock) -> Result<Self, Error> {
        let (ours, next) = (config.make_embedder().await?, config.make_next_embedder().await?);
        Ok(Self::new(ours, next, config, clock))
    }

    /// Takes `ours`, and one that namespaces are moved to.
    pub(crate) fn new(
        ours: Arc<dyn Embedder>,
        next: Option<Arc<dyn Embedder>>,
        config: &Config,
        clock: &Clock,
    ) -> Self {
        let (most, ttl) = (config.memory_embedding_cache_size, config.memory_query_cache_ttl);
        let maker = |embedder| Maker::new(embedder, most, ttl, clock.clone());
        Self { ours: maker(ours), next: next.map(maker) }
    }

    /// Returns what a space is made of unless it is said.
    pub(crate) fn shape(&self) -> Shape {
        self.ours.shape()
    }

    /// Returns what the vectors of the other embedder are.
    pub(crate) fn next_shape(&self) -> Option<Shape> {
        self.next.as_ref().map(Maker::shape)
    }

    /// Returns who makes the vectors of `shape`; for questions, who also keeps them.
    ///
    /// # Errors
    /// [`Error::Brought`] if nobody here does.
    pub(crate) fn of(&self, shape: &Shape, is_question: bool) -> Result<Arc<dyn Embedder>, Error> {
        let fits = |maker: &&Maker| {
            maker.embedder.name() == shape.embedder && maker.embedder.dimensions() == shape.dimensions
        };
        if let Some(maker) = [Some(&self.ours), self.next.as_ref()].into_iter().flatten().find(fits) {
            let questions: Arc<dyn Embedder> = Arc::clone(&maker.questions) as Arc<dyn Embedder>;
            return Ok(if is_question { questions } else { Arc::clone(&maker.embedder) });
        }
        // Made in no time, and from the name alone.
        let hashing = || Arc::new(Hashing::new(shape.dimensions)) as Arc<dyn Embedder>;
        shape.is_hashing().then(hashing).ok_or_else(|| Error::Brought(shape.embedder.clone()))
    }

    /// Returns the embedder of the settings.
    pub(crate) fn ours(&self) -> Arc<dyn Embedder> {
        Arc::clone(&self.ours.embedder)
    }
}

impl Maker {
    fn new(embedder: Arc<dyn Embedder>, most: u64, ttl: Duration, clock: Clock) -> Self {
        let questions = Arc::new(Cached::new(Arc::clone(&embedder), Cache::new(most, ttl, clock)));
        Self { embedder, questions }
    }

    fn shape(&self) -> Shape {
        let (embedder, dimensions) = (self.embedder.name().to_owned(), self.embedder.dimensions());
        Shape { embedder, dimensions, metric: Metric::Cosine }
    }
}
