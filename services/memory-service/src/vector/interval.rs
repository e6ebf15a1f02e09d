//! What is known of a score before its full vector is read.

/// Between what a score lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    /// The score is not below it.
    pub(crate) lower: f32,
    /// The score is not above it.
    pub(crate) upper: f32,
}
