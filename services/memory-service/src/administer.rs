//! The engine's other half: namespaces are made, listed and dropped.

use std::{sync::Arc, time::Duration};

use embedding::Embedder as _;
use embedding::Hashing;

use crate::{
    engine::Engine,
    error::Error,
    space::{Metric, Shape, SpaceKey},
};

/// Pause after a commit of a sweep that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What a space is to be, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Who makes its vectors; empty: the embedder of the settings.
    pub(crate) embedder: String,
    /// Values of a vector; 0: as the embedder has it.
    pub(crate) dimensions: usize,
    /// How they are compared.
    pub(crate) metric: Metric,
}

/// A space as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) namespace: Arc<str>,
    /// What its vectors are.
    pub(crate) shape: Shape,
    /// Memories held.
    pub(crate) memories: u64,
    /// The number of its last write.
    pub(crate) generation: u64,
}

impl Engine {
    /// Makes the space of `key`, or finds it of the same shape; also says whether it was made. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Wish`] if there is no such shape, [`Error::Exists`], [`Error::Namespaces`], and those of a write.
    pub(crate) async fn create(self: &Arc<Self>, key: SpaceKey, wish: Wish) -> Result<(Listed, bool), Error> {
        let (engine, room, shape) = (Arc::clone(self), self.room().await?, self.shape_of(wish)?);
        let work = async move {
            let _room = room;
            let (number, made) = engine.store.create(&key, &shape).await?;
            engine.spaces.made(&key, number, &shape);
            Ok::<_, Error>((engine.list(&key.tenant, Some(&key.namespace)).pop(), made))
        };
        let (space, made) = self.telemetry.spawn(work).await.map_err(Error::Task)??;
        Ok((space.ok_or(Error::NoNamespace)?, made))
    }

    /// Returns the spaces of `tenant`, by name; only the one of a name, if one is given.
    pub(crate) fn list(&self, tenant: &str, namespace: Option<&str>) -> Vec<Listed> {
        let spaces = self.spaces.of_tenant(tenant).into_iter();
        let wanted = spaces.filter(|(key, _)| namespace.is_none_or(|name| *key.namespace == *name));
        let listed = wanted.map(|(key, space)| {
            let (memories, generation) = (space.index().len(), space.generation());
            Listed { namespace: key.namespace, shape: space.shape().clone(), memories, generation }
        });
        listed.collect()
    }

    /// Drops the space of `key` and returns how many memories it held. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], and those of a write.
    pub(crate) async fn drop_space(self: &Arc<Self>, key: SpaceKey) -> Result<u64, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let number = engine.store.drop_space(&key).await?.ok_or(Error::NoNamespace)?;
            let space = engine.spaces.get(&key).filter(|space| space.number() == number);
            engine.spaces.dropped(&key, number);
            let memories = space.map_or(0, |space| {
                engine.purge(&space, u64::MAX);
                space.index().len()
            });
            engine.count_all();
            engine.sweep();
            Ok(memories)
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Removes the rows of dropped spaces in the background, a few in each commit, so that writers go on meanwhile.
    pub(crate) fn sweep(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        self.telemetry.spawn(async move {
            loop {
                match engine.store.sweep().await {
                    Ok(true) => {}
                    Ok(false) | Err(Error::NotReady) => break,
                    Err(error) => {
                        tracing::warn!(%error, "the rows of a dropped namespace cannot be removed yet");
                        // Real time: it is the disk that is waited for.
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    fn shape_of(&self, wish: Wish) -> Result<Shape, Error> {
        let Wish { embedder, dimensions, metric } = wish;
        let ours = embedder.is_empty() || embedder == self.shape.embedder;
        let made = if ours {
            Shape { metric, ..self.shape.clone() }
        } else if embedder == Shape::BROUGHT {
            Shape { embedder, dimensions, metric }
        } else {
            let values = embedder.strip_prefix("hashing-").and_then(|values| values.parse().ok());
            let values = values.filter(|values| Shape::DIMENSIONS.contains(values));
            let values = values.ok_or(Error::Wish("embedder", "is not one that runs here".to_owned()))?;
            Shape { embedder: Hashing::new(values).name().to_owned(), dimensions: values, metric }
        };
        if !Shape::DIMENSIONS.contains(&made.dimensions) {
            return Err(Error::Wish("dimensions", "must be from 16 to 4,096".to_owned()));
        }
        if dimensions != 0 && dimensions != made.dimensions {
            let must = format!("must be {}, as the embedder {} says", made.dimensions, made.embedder);
            return Err(Error::Wish("dimensions", must));
        }
        Ok(made)
    }
}
