//! Who can be asked: `builtin/statistics`, which is not a language model, and upstreams by the dialect they speak.

mod anthropic;
mod delta;
mod dialect;
mod endpoint;
mod openai;
mod reading;
mod sse;
pub mod statistics;
mod telling;
mod transport;
mod words;

use std::time::Duration;

pub(crate) use self::openai::Call;
pub use self::{
    dialect::Dialect,
    endpoint::{Endpoint, Options, Patience},
    reading::Reading,
    telling::Telling,
    transport::{SetupError, address},
};
use crate::{
    conversation::{Conversation, MAX_ANSWER_BYTES, Usage},
    price,
    tenant::Exceeded,
};

/// The provider that needs no key and no network.
pub const STATISTICS: &str = "builtin/statistics";

/// Why a model did not answer. Never holds what the upstream said: that may repeat the prompt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It could not be reached, timed out or failed, after all retries.
    #[error("the upstream could not be reached, failed, or did not answer in time")]
    Unreachable,
    /// It throttles, after all retries.
    #[error("the upstream throttles")]
    Throttled {
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It refuses this request, however often it is sent.
    #[error("the upstream refuses the request with status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The field of the request it names.
        field: Option<String>,
        /// Whether the conversation is longer than the model reads: a shorter one may pass.
        too_long: bool,
    },
    /// Its API has no way to say what the request says; it was not asked.
    #[error("the upstream's API cannot carry a field of the request")]
    Unsupported {
        /// The field.
        field: String,
    },
    /// It refuses the gateway's key.
    #[error("the upstream refuses the gateway's key")]
    Credentials,
    /// It answered something that is no answer of its dialect, or stopped in the middle.
    #[error("the upstream's answer is malformed or incomplete")]
    Malformed,
    /// It failed too often lately, so it was not asked.
    #[error("the upstream failed too often lately and is left alone for a moment")]
    Resting {
        /// When it is asked again.
        retry_after: Duration,
    },
    /// So many calls to it run and wait already that it was not asked.
    #[error("too many calls to the upstream are running")]
    Overloaded {
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The caller's tenant has used up what it may; it was not asked.
    #[error("{0}")]
    Limited(Exceeded),
    /// The caller's deadline came first.
    #[error("the deadline passed before the upstream answered")]
    Deadline,
}

/// The HTTP status of a model that an upstream does not know.
pub const UNKNOWN_MODEL: u16 = 404;

impl Failure {
    /// Returns whether asking again, by whomever, would fail the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Unsupported { .. } | Self::Credentials | Self::Limited(_))
    }

    /// Returns whether it concerns this caller alone.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Deadline)
    }

    /// Returns the stable word used as a metric attribute.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Throttled { .. } => "throttled",
            Self::Refused { .. } => "refused",
            Self::Unsupported { .. } => "unsupported",
            Self::Credentials => "credentials",
            Self::Malformed => "malformed",
            Self::Resting { .. } => "resting",
            Self::Overloaded { .. } => "overloaded",
            Self::Limited(_) => "limited",
            Self::Deadline => "deadline",
        }
    }
}

/// Estimates what a call used where the upstream did not say.
#[must_use]
pub fn estimated(conversation: &Conversation, text: &str) -> Usage {
    Usage {
        input: price::input_tokens(conversation),
        cached_input: 0,
        output: price::tokens(text),
        estimated: true,
    }
}
