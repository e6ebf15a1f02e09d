//! Which space a memory is in, and what the vectors of a space are.

use std::{fmt, ops::RangeInclusive, sync::Arc};

pub(crate) use crate::vector::metric::Metric;

/// Whose memories, and which of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SpaceKey {
    /// The tenant.
    pub(crate) tenant: Arc<str>,
    /// The namespace, at most 128 bytes; empty: the tenant's default one.
    pub(crate) namespace: Arc<str>,
}

/// What the vectors of a space are; those of two shapes cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Who makes them, such as `hashing-256`; [`Shape::BROUGHT`] if only callers do.
    pub(crate) embedder: String,
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// How two of them are compared.
    pub(crate) metric: Metric,
}

impl SpaceKey {
    /// Names a space.
    pub(crate) fn new(tenant: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>) -> Self {
        Self { tenant: tenant.into(), namespace: namespace.into() }
    }
}

impl Shape {
    /// The name in place of an embedder's where callers bring every vector.
    pub(crate) const BROUGHT: &'static str = "none";
    /// Values that a vector may have.
    pub(crate) const DIMENSIONS: RangeInclusive<usize> = 16..=4096;

    /// Returns whether its vectors are made without a model, by what every service has.
    pub(crate) fn is_hashing(&self) -> bool {
        let Self { embedder, dimensions, .. } = self;
        Self::DIMENSIONS.contains(dimensions) && *embedder == format!("hashing-{dimensions}")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { embedder, dimensions, metric } = self;
        write!(f, "embedder {embedder}, {dimensions} dimensions, metric {metric:?}")
    }
}
