//! Texts of a benchmark with their vectors, each embedded once.

use std::collections::{BTreeSet, HashMap};

use embedding::Embedder;
use serde_json::{Value, json};

use crate::cache::semantic::{Question, calibrate::Share};

/// Texts embedded at a time.
const BATCH: usize = 64;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has another shape.
    #[error("the pairs cannot be read")]
    Shape(#[from] serde_json::Error),
    /// The file holds no pair of a kind that is measured.
    #[error("the file holds {0}")]
    Empty(&'static str),
    /// The embedder failed.
    #[error("the embedder failed")]
    Embedder(#[from] embedding::Error),
}

/// The questions of some texts.
pub(super) struct Questions(HashMap<String, Question>);

impl Questions {
    /// Embeds every distinct text.
    pub(super) async fn embed<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        embedder: &dyn Embedder,
    ) -> Result<Self, Error> {
        let texts: Vec<&str> = texts.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut questions = HashMap::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            for (text, vector) in batch.iter().zip(embedder.embed(batch).await?) {
                questions.insert((*text).to_owned(), Question::new(text, vector));
            }
        }
        Ok(Self(questions))
    }

    /// Returns both questions of a pair, if both were embedded.
    pub(super) fn pair(&self, one: &str, other: &str) -> Option<(&Question, &Question)> {
        self.0.get(one).zip(self.0.get(other))
    }

    /// Returns the question of a text.
    pub(super) fn of(&self, text: &str) -> Option<&Question> {
        self.0.get(text)
    }
}

/// Returns the interval of a share as it is printed.
pub(super) fn interval(share: Share) -> Value {
    json!([share.low, share.high])
}
