//! Who can be asked: `builtin/statistics`, which is not a language model, and any OpenAI-compatible upstream.

pub mod openai;
pub mod statistics;

use std::{sync::Arc, time::Duration};

use crate::error::Error;

/// The provider that needs no key and no network.
pub const STATISTICS: &str = "builtin/statistics";

/// The prefix of a model of the OpenAI-compatible upstream.
const OPENAI: &str = "openai/";

/// The models that can be asked, and the one asked when a caller names none.
#[derive(Debug)]
pub struct Models {
    default: String,
    upstream: Option<openai::Upstream>,
}

/// One model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name with its provider, as answers state it.
    pub name: Arc<str>,
    /// Who is asked.
    pub kind: Kind,
}

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Deterministic statistics.
    Statistics,
    /// The upstream.
    OpenAi {
        /// The connection to it.
        upstream: openai::Upstream,
        /// The model as the upstream names it.
        model: String,
    },
}

/// Why a model did not answer. Never holds what the upstream said: that may repeat the prompt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It could not be reached, timed out or failed, after all retries.
    #[error("the upstream could not be reached")]
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
    },
    /// It refuses the gateway's key.
    #[error("the upstream refuses the gateway's key")]
    Credentials,
    /// It answered something that is no chat completion, or stopped in the middle.
    #[error("the upstream's answer is malformed or incomplete")]
    Malformed,
    /// The caller's deadline came first.
    #[error("the deadline passed before the upstream answered")]
    Deadline,
}

impl Models {
    /// Makes the set of models: `default` is asked when a caller names none.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] if `default` needs an upstream and there is none.
    pub fn new(default: &str, upstream: Option<openai::Upstream>) -> Result<Self, Error> {
        let models = Self { default: default.to_owned(), upstream };
        models.resolve("")?;
        Ok(models)
    }

    /// Returns the model called `name`; the default one for an empty name.
    ///
    /// A leading `openai/` names the provider and is not sent; the rest is the model as the upstream names it.
    ///
    /// # Errors
    /// [`Error::NoUpstream`] if it is not built in and no upstream is configured.
    pub fn resolve(&self, name: &str) -> Result<Model, Error> {
        let name = if name.is_empty() { &self.default } else { name };
        if name == STATISTICS {
            return Ok(Model { name: STATISTICS.into(), kind: Kind::Statistics });
        }
        let model = name.strip_prefix(OPENAI).unwrap_or(name);
        match &self.upstream {
            Some(upstream) if !model.is_empty() => Ok(Model {
                name: format!("{OPENAI}{model}").into(),
                kind: Kind::OpenAi { upstream: upstream.clone(), model: model.to_owned() },
            }),
            _ => Err(Error::NoUpstream),
        }
    }

    /// Returns the names that can be asked for: the default one first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let default = upstream_name(&self.default).to_owned();
        if default == STATISTICS { vec![default] } else { vec![default, STATISTICS.to_owned()] }
    }

    /// Returns the name by which answers of `model` are stored; empty stays empty.
    #[must_use]
    pub fn stored_name(&self, model: &str) -> String {
        if model.is_empty() || model == STATISTICS || model.starts_with(OPENAI) {
            model.to_owned()
        } else {
            format!("{OPENAI}{model}")
        }
    }
}

/// Returns a model's name as its upstream knows it.
#[must_use]
pub fn upstream_name(name: &str) -> &str {
    name.strip_prefix(OPENAI).unwrap_or(name)
}

impl Model {
    /// Returns whether asking costs nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        matches!(self.kind, Kind::Statistics)
    }
}

impl Failure {
    /// Returns whether asking again, by whomever, would fail the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Credentials)
    }

    /// Returns whether it concerns this caller alone.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::{Models, STATISTICS};

    #[test]
    fn without_an_upstream_only_statistics_can_be_asked() {
        let models = Models::new(STATISTICS, None).unwrap();
        assert_eq!(&*models.resolve("").unwrap().name, STATISTICS);
        assert!(models.resolve("gpt-x").is_err());
        assert!(Models::new("gpt-x", None).is_err());
    }
}
