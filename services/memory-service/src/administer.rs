//! The engine's other half: namespaces are made, listed and dropped, memories moved in and out.

use std::{ops::ControlFlow, sync::Arc};

use crate::{
    backend::{Backend, Found, View},
    engine::Engine,
    error::Error,
    shape::{Metric, Shape, SpaceKey},
};

/// Bytes of a page of an export, about.
const PAGE_BYTES: usize = 1 << 20;
/// Bytes of a line beside its words and its vector, about.
const OVERHEAD_BYTES: usize = 256;

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

/// Some memories of a space, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The memories with their vectors.
    pub(crate) found: Vec<Found>,
    /// The number after which the next page begins; absent after the last one.
    pub(crate) after: Option<u64>,
}

impl<B: Backend> Engine<B> {
    /// Makes the space of `key`, or finds it of the same shape; also says whether it was made. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::Wish`] if there is no such shape, [`Error::Exists`], [`Error::Namespaces`], and those of a write.
    pub(crate) async fn create(self: &Arc<Self>, key: SpaceKey, wish: Wish) -> Result<(Listed, bool), Error> {
        let shape = self.shape_of(wish).map_err(|(field, must)| Error::Wish(field, must))?;
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let made = engine.store.create(&key, &shape).await?;
            Ok::<_, Error>((engine.list(&key.tenant, Some(&key.namespace)).pop(), made))
        };
        let (space, made) = self.telemetry.spawn(work).await.map_err(Error::Task)??;
        Ok((space.ok_or(Error::NoNamespace)?, made))
    }

    /// Returns the spaces of `tenant`, by name; only the one of a name, if one is given.
    pub(crate) fn list(&self, tenant: &str, namespace: Option<&str>) -> Vec<Listed> {
        let is_wanted =
            |key: &SpaceKey| *key.tenant == *tenant && namespace.is_none_or(|name| *key.namespace == *name);
        let wanted = self.store.all().into_iter().filter(|(key, _)| is_wanted(key));
        let mut listed: Vec<Listed> = wanted
            .map(|(key, space)| {
                let (memories, generation) = (space.memories(), space.generation());
                Listed { namespace: key.namespace, shape: space.shape().clone(), memories, generation }
            })
            .collect();
        listed.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        listed
    }

    /// Drops the space of `key` and returns how many memories it held. Goes on if the caller leaves.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], and those of a write.
    pub(crate) async fn drop_space(self: &Arc<Self>, key: SpaceKey) -> Result<u64, Error> {
        let (engine, room) = (Arc::clone(self), self.room().await?);
        let work = async move {
            let _room = room;
            let (number, memories) = engine.store.drop_space(&key).await?.ok_or(Error::NoNamespace)?;
            engine.answers.forget_all(number);
            engine.count_all();
            Ok(memories)
        };
        self.telemetry.spawn(work).await.map_err(Error::Task)?
    }

    /// Reads some memories of the space of `key`, whose vectors are of `shape`, after number `after`.
    ///
    /// A memory that is there from the first page to the last is on one of them; one that is written again meanwhile may be on two,
    /// as it was and later as it is.
    ///
    /// # Errors
    /// [`Error::Reembedded`] if they are others by now, [`Error::Store`] if they cannot be read.
    pub(crate) async fn page(&self, key: &SpaceKey, shape: &Shape, after: u64) -> Result<Page, Error> {
        let shape = shape.clone();
        let read = move |view: &dyn View| {
            if *view.shape() == shape { page(view, after, PAGE_BYTES) } else { Err(Error::Reembedded) }
        };
        Ok(self.store.look(key, read).await?.unwrap_or_default())
    }

    /// Returns what the vectors of the space of `key` are, or would be.
    pub(crate) fn shape(&self, key: &SpaceKey) -> Shape {
        self.store.find(key).map_or_else(|| self.shape.clone(), |space| space.shape().clone())
    }

    /// Makes sure that vectors of `shape` may be put into the space of `key`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Mixed`] if it is there of another shape, and those of a write.
    pub(crate) async fn admit(self: &Arc<Self>, key: &SpaceKey, shape: Shape) -> Result<(), Error> {
        let (given, room) = (shape.to_string(), self.room().await?);
        let made = self.store.create(key, &shape).await;
        drop(room);
        match made {
            Ok(_) => self.store.find(key).map(drop).ok_or(Error::NoNamespace),
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

/// Reads the memories after number `after` until they have about `bytes`.
fn page(view: &dyn View, after: u64, bytes: usize) -> Result<Page, Error> {
    // About as many digits as a vector takes in a line.
    let vector = view.shape().dimensions * 12;
    let (mut memories, mut taken, mut next) = (Vec::new(), 0, None);
    view.each(after, &mut |seq, memory| {
        taken += memory.bytes() + vector + OVERHEAD_BYTES;
        memories.push((seq, memory));
        if taken < bytes {
            return ControlFlow::Continue(());
        }
        next = Some(seq);
        ControlFlow::Break(())
    })?;
    let mut found = Vec::with_capacity(memories.len());
    for (seq, memory) in memories {
        // One whose vector cannot be read is left out, as it is of recalls.
        let vector = view.vector(seq)?;
        found.extend(vector.map(|vector| (Arc::new(memory), vector)));
    }
    Ok(Page { found, after: next })
}
