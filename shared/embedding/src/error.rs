//! What can go wrong with an embedder.

use std::time::Duration;

/// Why an embedder cannot be made, or why texts could not be turned into vectors.
///
/// No variant carries a text that was to be embedded, nor a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files of a model are missing, are not those expected, or are of a kind we do not read.
    #[error("the model cannot be used: {0}")]
    Model(String),
    /// The encoder failed on texts that it should have taken.
    #[error("the encoder failed: {0}")]
    Encoder(String),
    /// Nobody answers at the address, or the connection broke.
    #[error("the embedder cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The embedder did not answer in time.
    #[error("the embedder did not answer within {0:?}")]
    TimedOut(Duration),
    /// The embedder takes no request now: HTTP status 429 or 5xx.
    #[error("the embedder takes no requests now, status {status}")]
    Busy {
        /// HTTP status.
        status: u16,
        /// When it says that it will.
        retry_after: Option<Duration>,
    },
    /// The embedder does not take this request, or not from us: any other HTTP status.
    #[error("the embedder refused the request, status {status}")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// What was answered are not the vectors that were asked for.
    #[error("the embedder answered something else than the vectors asked for: {0}")]
    Malformed(String),
}

impl Error {
    /// Returns whether the same request may succeed later without anything being changed here.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_) | Self::Busy { .. })
    }

    /// Returns when the embedder wants to be asked again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
