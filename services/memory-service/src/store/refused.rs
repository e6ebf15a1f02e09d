//! Why the store does not do what it is asked.

use super::bytes::Corrupt;
use crate::{shape::Shape, upkeep::forgettings};

/// Why the store refused a write.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The database failed.
    #[error(transparent)]
    Database(Box<redb::Error>),
    /// The space's own row cannot be read.
    #[error("the row of a namespace: {0}")]
    Corrupt(#[from] Corrupt),
    /// A vector has another length than those of its space.
    #[error("the vectors of the namespace have {0} values")]
    Dimensions(usize),
    /// The vectors that are put are of another shape than the space's.
    #[error("the vectors of the namespace are made by another by now")]
    Shape,
    /// There is no such space.
    #[error("there is no namespace of this name")]
    NoNamespace,
    /// The space was never re-embedded, or the re-embedding that is meant is over.
    #[error("there is no such re-embedding")]
    NoReembedding,
    /// The space is being re-embedded by another embedder.
    #[error("the namespace is being re-embedded by {0}")]
    Reembedding(String),
    /// The space is there, of another shape.
    #[error("the namespace is there, of another shape")]
    Exists(Box<Shape>),
    /// The tenant has as many spaces as it may.
    #[error("the tenant has as many namespaces as it may")]
    Full,
    /// What was forgotten cannot come back.
    #[error(transparent)]
    Forgetting(#[from] forgettings::Refused),
}

impl<E: Into<redb::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}
