//! Turns text into vectors.
//!
//! An [`Embedder`] maps texts to vectors of length 1, so that the dot product of two vectors is their cosine similarity.
//! [`Hashing`] needs no model and no download; its documentation says what it can and what it cannot do. `Encoder`, behind the
//! feature `minilm`, is a sentence encoder from a local folder, and [`Remote`] a model behind a URL. [`Cached`] keeps the
//! vectors of texts that come again. [`Choice`] is the embedder as a word in a setting or on a command line.

#[cfg(feature = "minilm")]
mod bert;
mod cached;
mod choice;
mod error;
mod hashing;
mod remote;
mod settings;
mod text;

use std::fmt;

use futures::{FutureExt as _, future::BoxFuture};

#[cfg(feature = "minilm")]
pub use bert::Encoder;
pub use cached::{Cached, Digest};
pub use choice::{Choice, Unknown};
pub use error::Error;
pub use hashing::Hashing;
pub use remote::Remote;
pub use settings::Settings;

/// Maps texts to vectors; equal texts give equal vectors.
pub trait Embedder: Send + Sync + fmt::Debug {
    /// Names the embedder and everything that its vectors depend on. Vectors of different names must not be compared: store
    /// the name beside them.
    fn name(&self) -> &str;

    /// Returns the number of components of each vector.
    fn dimensions(&self) -> usize;

    /// Maps each of `texts`, in their order, to a vector of [`dimensions`](Embedder::dimensions) components and Euclidean
    /// length 1; none for none. May take any number of texts of any length: what an embedder can take at a time is its own
    /// affair, and what is too long for it is cut at the end. Does not hold up the async thread it is polled on.
    ///
    /// # Errors
    /// Any [`Error`] of the embedder; no vector is returned then.
    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, Error>>;

    /// Maps one text to its vector.
    ///
    /// # Errors
    /// As [`Embedder::embed`].
    fn embed_one<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vec<f32>, Error>> {
        async move {
            let vector = self.embed(&[text]).await?.pop();
            vector.ok_or_else(|| Error::Malformed("no vector for a text".to_owned()))
        }
        .boxed()
    }
}

/// Scales to length 1; returns false and does nothing if all components are 0.
fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    if length == 0.0 {
        return false;
    }
    vector.iter_mut().for_each(|component| *component /= length);
    true
}
