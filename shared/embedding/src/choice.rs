//! An embedder as a word: in a setting, or on a command line.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Embedder, Error, Hashing};

/// Components of a vector where the word names no number.
const DEFAULT: usize = 512;
/// Fewest and most components allowed. Below, unrelated words meet in most components; above, nothing is gained.
const ALLOWED: std::ops::RangeInclusive<usize> = 16..=16_384;

/// Which embedder to use. Written `hashing` (512 components) or `hashing-256` (16 to 16,384 components).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// [`Hashing`] with this many components.
    Hashing(usize),
}

/// The word is no embedder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no embedder is called {0:?}, known are hashing and hashing-N with N from 16 to 16384")]
pub struct Unknown(String);

impl Choice {
    /// Makes the embedder.
    ///
    /// # Errors
    /// Any [`Error`] that keeps it from being used.
    pub async fn embedder(&self) -> Result<Arc<dyn Embedder>, Error> {
        match self {
            Self::Hashing(dimensions) => Ok(Arc::new(Hashing::new(*dimensions))),
        }
    }

    /// Returns the number of components of its vectors where the word says it.
    #[must_use]
    pub fn dimensions(&self) -> Option<usize> {
        match self {
            Self::Hashing(dimensions) => Some(*dimensions),
        }
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self::Hashing(DEFAULT)
    }
}

impl FromStr for Choice {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        let dimensions = match word.strip_prefix("hashing") {
            Some("") => Some(DEFAULT),
            Some(rest) => rest.strip_prefix('-').and_then(|number| number.parse().ok()),
            None => None,
        };
        let allowed = dimensions.filter(|dimensions| ALLOWED.contains(dimensions));
        allowed.map(Self::Hashing).ok_or_else(|| Unknown(word.to_owned()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hashing(dimensions) => write!(out, "hashing-{dimensions}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_word_names_an_embedder_and_its_size() {
        for (word, dimensions) in [("hashing", 512), ("hashing-256", 256), ("hashing-16", 16)] {
            let choice: Choice = word.parse().unwrap();
            let embedder = choice.embedder().await.unwrap();
            assert_eq!((embedder.dimensions(), choice.dimensions()), (dimensions, Some(dimensions)));
            assert_eq!(embedder.name(), choice.to_string());
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn other_words_are_refused() {
        for word in
            ["", "hash", "hashing-", "hashing-15", "hashing-16385", "hashing256", "minilm", "hashing--16"]
        {
            assert_eq!(word.parse::<Choice>(), Err(Unknown(word.to_owned())), "{word}");
        }
    }
}
