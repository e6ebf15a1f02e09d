//! Makes records of drafts, and vectors of their contents for the space that they go to.

use super::Engine;
use crate::{
    backend::Backend,
    error::Error,
    memory::{Draft, Record},
    shape::{Shape, SpaceKey},
};

/// How the vectors of records came about.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// For what: a write to a space of another shape is refused.
    pub(super) shape: Shape,
    /// Which records brought theirs.
    brought: Vec<bool>,
    /// Whether those are known to be of that shape, and of no other.
    is_fixed: bool,
}

impl<B: Backend> Engine<B> {
    /// Completes `drafts` for the space of `key`; what comes without a vector is embedded in one batch. Those that come with one say of
    /// which `shape` it is, or that it is of the space's.
    pub(super) async fn complete(
        &self,
        key: &SpaceKey,
        drafts: Vec<Draft>,
        shape: Option<Shape>,
    ) -> Result<(Vec<Record>, Made), Error> {
        let (brought, is_fixed) =
            (drafts.iter().map(|draft| draft.embedding.is_some()).collect(), shape.is_some());
        let shape = shape.unwrap_or_else(|| self.shape(key));
        let bare = drafts.iter().filter(|draft| draft.embedding.is_none());
        let texts: Vec<&str> = bare.map(|draft| draft.content.as_str()).collect();
        let mut vectors = self.embed(&shape, &texts).await?.into_iter();
        let now = self.clock.now();
        let complete = |draft: Draft| {
            let vector = || vectors.next().unwrap_or_default();
            draft.complete(now, || ulid::Ulid::from_datetime(now).to_string(), vector)
        };
        let records = drafts.into_iter().map(complete).collect();
        Ok((records, Made { shape, brought, is_fixed }))
    }

    /// Makes the vectors of records anew, since the space of `key` changed to others after they were made.
    ///
    /// # Errors
    /// [`Error::Reembedded`] if they may be of no other shape, and those of the embedder.
    pub(super) async fn make_anew<'r>(
        &self,
        key: &SpaceKey,
        made: &mut Made,
        records: impl Iterator<Item = &'r mut Record>,
    ) -> Result<(), Error> {
        if made.is_fixed {
            return Err(Error::Reembedded);
        }
        made.shape = self.shape(key);
        let ours: Vec<&mut Record> =
            records.zip(&made.brought).filter(|(_, brought)| !**brought).map(|(record, _)| record).collect();
        let texts: Vec<&str> = ours.iter().map(|record| record.memory.content.as_str()).collect();
        let vectors = self.embed(&made.shape, &texts).await?;
        ours.into_iter().zip(vectors).for_each(|(record, vector)| record.embedding = vector);
        Ok(())
    }

    /// Embeds `texts` for `shape`.
    ///
    /// # Errors
    /// [`Error::Brought`] if nobody here makes such vectors, and those of the embedder.
    pub(super) async fn embed(&self, shape: &Shape, texts: &[&str]) -> Result<Vec<Vec<f32>>, Error> {
        if texts.is_empty() { Ok(Vec::new()) } else { Ok(self.makers.of(shape, false)?.embed(texts).await?) }
    }
}
