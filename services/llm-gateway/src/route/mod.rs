//! Who answers for a model: upstreams with their weights, fallbacks and prices, and what holds calls to them back.
//!
//! 1. A call goes through a pure plan that is told the time: by weight among the healthy, again after a wait, then fallbacks
//!    in order. Nobody else is asked once a piece of an answer was shown, or where the failure is the request's own.
//! 2. Every upstream has a bounded queue, a breaker and a budget of repetitions, those of `shared/rpc`.
//! 3. A file (`llm_routes`) names upstreams, models, prices and tenants' limits; the settings `llm_upstream_*` make one upstream that
//!    takes every model the file does not name.

mod backoff;
mod error;
pub mod file;
mod plan;
mod prices;
mod table;
mod target;
mod upstream;

use std::{collections::HashMap, sync::Arc};

pub use self::{
    error::{FileError, NoUpstream},
    file::{Built, Routes},
    target::{Asked, Choice, Event, Target},
    upstream::{Bounding, Upstream},
};
use crate::{cache::semantic::Mode, price::Price, provider::STATISTICS};

/// The name of the upstream of the settings, and the prefix of its models.
pub const OPENAI: &str = "openai";

/// The models that can be asked, and the one asked when a caller names none.
#[derive(Debug)]
pub struct Models {
    default: String,
    /// The one of that name: most calls ask for it.
    prepared: Model,
    named: HashMap<String, Model>,
    any: Option<Any>,
}

/// An upstream that takes every model.
#[derive(Clone, Debug)]
pub struct Any {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// What it charges.
    pub price: Price,
    /// Most repetitions of a call.
    pub retries: u32,
}

/// One model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name, as answers state it.
    pub name: Arc<str>,
    /// Who is asked.
    pub kind: Kind,
}

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Deterministic statistics.
    Statistics,
    /// Upstreams.
    Target(Target),
}

impl Models {
    /// Makes the set of models: `default` is asked when a caller names none, `any` takes those that have no name in `named`.
    ///
    /// # Errors
    /// [`NoUpstream`] if `default` is none of them.
    pub fn new(
        default: &str,
        named: impl IntoIterator<Item = (String, Target)>,
        any: Option<Any>,
    ) -> Result<Self, NoUpstream> {
        let model = |(name, target): (String, Target)| {
            let model = Model { name: name.as_str().into(), kind: Kind::Target(target) };
            (name, model)
        };
        let named: HashMap<_, _> = named.into_iter().map(model).collect();
        let prepared = find(default, &named, any.as_ref())?;
        Ok(Self { default: default.to_owned(), prepared, named, any })
    }

    /// Returns the model called `name`; the default one for an empty name.
    ///
    /// A leading `openai/` names the upstream of the settings and is not sent; the rest is the model as the upstream names it.
    ///
    /// # Errors
    /// [`NoUpstream`] if nobody answers for it.
    pub fn resolve(&self, name: &str) -> Result<Model, NoUpstream> {
        if name.is_empty() || name == self.default {
            return Ok(self.prepared.clone());
        }
        find(name, &self.named, self.any.as_ref())
    }

    /// Returns the names that can be asked for: the default one first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let default = upstream_name(&self.default).to_owned();
        let mut named: Vec<String> = self.named.keys().filter(|name| **name != default).cloned().collect();
        named.sort_unstable();
        let statistics = (default != STATISTICS).then(|| STATISTICS.to_owned());
        std::iter::once(default).chain(named).chain(statistics).collect()
    }

    /// Returns the names by which answers of what can be asked for are stored.
    pub fn stored_names(&self) -> impl Iterator<Item = Arc<str>> {
        let named = self.named.values().chain([&self.prepared]).map(|model| model.name.clone());
        named.chain([STATISTICS.into()])
    }

    /// Returns the name by which answers of `model` are stored; empty stays empty.
    #[must_use]
    pub fn stored_name(&self, model: &str) -> String {
        if model.is_empty() || model == STATISTICS || self.named.contains_key(model) {
            model.to_owned()
        } else {
            format!("{OPENAI}/{}", upstream_name(model))
        }
    }
}

fn find(name: &str, named: &HashMap<String, Model>, any: Option<&Any>) -> Result<Model, NoUpstream> {
    if name == STATISTICS {
        return Ok(Model { name: STATISTICS.into(), kind: Kind::Statistics });
    }
    if let Some(model) = named.get(name) {
        return Ok(model.clone());
    }
    let model = upstream_name(name);
    match any {
        Some(Any { upstream, price, retries }) if !model.is_empty() => {
            let (upstream, price) = (upstream.clone(), *price);
            let choice = Choice { upstream, model: model.into(), weight: 1, stage: 0, price };
            let kind = Kind::Target(Target::new(vec![choice], *retries));
            Ok(Model { name: format!("{OPENAI}/{model}").into(), kind })
        }
        _ => Err(NoUpstream),
    }
}

/// Returns a model's name as the upstream of the settings knows it.
#[must_use]
pub fn upstream_name(name: &str) -> &str {
    name.strip_prefix(OPENAI).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}

impl Model {
    /// Returns whether answers to questions that ask the same serve, if its route says.
    #[must_use]
    pub fn semantic(&self) -> Option<Mode> {
        match &self.kind {
            Kind::Statistics => None,
            Kind::Target(target) => target.mode(),
        }
    }

    /// Returns whether asking costs nothing.
    #[must_use]
    pub fn is_free(&self) -> bool {
        matches!(self.kind, Kind::Statistics)
    }

    /// Returns the most that a call may be charged at.
    #[must_use]
    pub fn dearest(&self) -> Price {
        match &self.kind {
            Kind::Statistics => Price::default(),
            Kind::Target(target) => target.dearest(),
        }
    }

    /// Returns what a call is charged at on average.
    #[must_use]
    pub fn expected(&self) -> Price {
        match &self.kind {
            Kind::Statistics => Price::default(),
            Kind::Target(target) => target.expected(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Models, STATISTICS};

    #[test]
    fn without_an_upstream_only_statistics_can_be_asked() {
        let models = Models::new(STATISTICS, [], None).unwrap();
        assert_eq!(&*models.resolve("").unwrap().name, STATISTICS);
        assert!(models.resolve("gpt-x").is_err());
        assert!(Models::new("gpt-x", [], None).is_err());
    }
}
