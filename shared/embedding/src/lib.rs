//! Turns text into vectors.
//!
//! An [`Embedder`] maps a text to a vector of length 1, so that the dot product of two vectors is their cosine similarity.
//! [`Hashing`] needs no model and no download; its documentation says what it can and what it cannot do. [`Choice`] is the
//! embedder as a word in a setting or on a command line.

mod choice;
mod hashing;
mod text;

pub use choice::{Choice, Unknown};
pub use hashing::Hashing;

/// Maps text to vectors; equal text gives equal vectors.
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// Names the embedder and everything that its vectors depend on. Vectors of different names must not be compared: store
    /// the name beside them.
    fn name(&self) -> &str;

    /// Returns the number of components of each vector.
    fn dimensions(&self) -> usize;

    /// Maps `text` to a vector of [`dimensions`](Embedder::dimensions) components and Euclidean length 1.
    fn embed(&self, text: &str) -> Vec<f32>;
}
