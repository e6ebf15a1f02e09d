//! The engine's other half: namespaces are made, listed and dropped, memories moved in and out.

use std::{sync::Arc, time::Duration};

use crate::{
    engine::Engine,
    error::Error,
    space::{Metric, Shape, SpaceKey},
    store::{Page, Snapshot},
};

/// Pause after a commit in the background that failed.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a page of an export, about.
const PAGE_BYTES: usize = 1 << 20;

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

/// Returns whether there is more to remove, where a commit removed some rows; at once unless it failed.
pub(crate) async fn goes_on(removed: Result<bool, Error>) -> bool {
    match removed {
        Ok(more) => more,
        Err(Error::NotReady) => false,
        Err(error) => {
            tracing::warn!(%error, "rows that nobody reads any more cannot be removed yet");
            // Real time: it is the disk that is waited for.
            tokio::time::sleep(AGAIN).await;
            true
        }
    }
}

impl Engine {
    /// Makes the space of `key`, or finds it of the same shape; also says whether it was made. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Wish`] if there is no such shape, [`Error::Exists`], [`Error::Namespaces`], and those of a write.
    pub(crate) async fn create(self: &Arc<Self>, key: SpaceKey, wish: Wish) -> Result<(Listed, bool), Error> {
        let shape = self.shape_of(wish).map_err(|(field, must)| Error::Wish(field, must))?;
        let (engine, room) = (Arc::clone(self), self.room().await?);
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
                engine.answers.forget_all(space.number());
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
        self.telemetry.spawn(async move { while goes_on(engine.store.sweep().await).await {} });
    }

    /// Writes a snapshot of the whole store under `name`. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::SnapshotDir`], [`Error::SnapshotExists`], [`Error::Snapshot`], [`Error::Store`].
    pub(crate) async fn snapshot(self: &Arc<Self>, name: &str) -> Result<Snapshot, Error> {
        let to = self.snapshots.as_ref().ok_or(Error::SnapshotDir)?.join(name);
        let engine = Arc::clone(self);
        let taken = self.telemetry.spawn_blocking(move || engine.store.snapshot(&to)).await;
        taken.map_err(Error::Task)?
    }

    /// Reads some memories of the space of `key`, whose vectors are of `shape`, after number `after`.
    ///
    /// # Errors
    /// [`Error::Reembedded`] if they are others by now, [`Error::Store`] if they cannot be read.
    pub(crate) async fn page(
        self: &Arc<Self>,
        key: &SpaceKey,
        shape: &Shape,
        after: u64,
    ) -> Result<Page, Error> {
        let (engine, space) = (Arc::clone(self), self.spaces.get(key));
        let Some(space) = space else { return Ok(Page::default()) };
        if space.shape() != shape {
            return Err(Error::Reembedded);
        }
        let read = move || engine.store.page(&space, after, PAGE_BYTES);
        self.telemetry.spawn_blocking(read).await.map_err(Error::Task)?
    }

    /// Returns what the vectors of the space of `key` are, or would be.
    pub(crate) fn shape(&self, key: &SpaceKey) -> Shape {
        self.spaces.get(key).map_or_else(|| self.shape.clone(), |space| space.shape().clone())
    }

    /// Makes sure that vectors of `shape` may be put into the space of `key`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Mixed`] if it is there of another shape, and those of a write.
    pub(crate) async fn admit(self: &Arc<Self>, key: &SpaceKey, shape: Shape) -> Result<(), Error> {
        if let Some(space) = self.spaces.get(key)
            && *space.shape() != shape
        {
            return Err(Error::Mixed { given: shape.to_string(), ours: space.shape().to_string() });
        }
        let (given, room) = (shape.to_string(), self.room().await?);
        let made = self.store.create(key, &shape).await;
        drop(room);
        match made {
            Ok((number, _)) => self.spaces.made(key, number, &shape).map(drop).ok_or(Error::NoNamespace),
            Err(Error::Exists(ours)) => Err(Error::Mixed { given, ours }),
            Err(error) => Err(error),
        }
    }

    /// Returns by what a space is re-embedded: by `embedder` (empty: that of the settings), of `dimensions` (0: as it has them).
    ///
    /// # Errors
    /// [`Error::Aim`] if nobody here makes such vectors.
    pub(crate) fn aim(&self, embedder: String, dimensions: usize) -> Result<Shape, Error> {
        if embedder == Shape::BROUGHT {
            return Err(Error::Aim("embedder", "must make vectors".to_owned()));
        }
        let wish = Wish { embedder, dimensions, metric: Metric::Cosine };
        self.shape_of(wish).map_err(|(field, must)| Error::Aim(field, must))
    }

    /// Returns what is wished for, or the field that says what cannot be, and what it must be.
    fn shape_of(&self, wish: Wish) -> Result<Shape, (&'static str, String)> {
        let Wish { embedder, dimensions, metric } = wish;
        let ours = [Some(self.shape.clone()), self.makers.next_shape()].into_iter().flatten();
        let ours = ours.into_iter().find(|shape| embedder.is_empty() || embedder == shape.embedder);
        let made = if let Some(shape) = ours {
            Shape { metric, ..shape }
        } else if embedder == Shape::BROUGHT {
            Shape { embedder, dimensions, metric }
        } else {
            let values = embedder.strip_prefix("hashing-").and_then(|values| values.parse().ok());
            let made = values.map(|dimensions| Shape { embedder, dimensions, metric });
            made.filter(Shape::is_hashing).ok_or(("embedder", "is not one that runs here".to_owned()))?
        };
        if !Shape::DIMENSIONS.contains(&made.dimensions) {
            return Err(("dimensions", "must be from 16 to 4,096".to_owned()));
        }
        if dimensions != 0 && dimensions != made.dimensions {
            let must = format!("must be {}, as the embedder {} says", made.dimensions, made.embedder);
            return Err(("dimensions", must));
        }
        Ok(made)
    }
}
