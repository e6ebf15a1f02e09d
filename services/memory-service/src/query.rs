//! What is looked for, in the one form in which two equal questions are equal.

use std::{
    hash::{Hash, Hasher},
    time::SystemTime,
};

#[cfg(test)]
use crate::memory::Memory;
use crate::{recall::fusion::Weights, vector::metric::Metric};

/// A question in canonical form: names are sorted and occur once, the limit is resolved. Its equality is the query cache's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// What the candidates are compared with.
    pub(crate) likeness: Likeness,
    /// How they are ordered.
    pub(crate) ranking: Ranking,
    /// How much each part counts where they are ordered by all of them.
    pub(crate) weights: Weights,
    /// Which memories are candidates.
    pub(crate) filter: Filter,
    /// Most memories returned, 1 or more.
    pub(crate) limit: usize,
    /// Whether the vectors are returned too.
    pub(crate) include_embedding: bool,
}

/// What the candidates are compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Likeness {
    /// Nothing.
    Newest,
    /// A text, which the service embeds.
    Text(String),
    /// A vector.
    Vector(Vec<f32>),
    /// A text, and a vector in place of the one that the service would make of it.
    Both(String, Vec<f32>),
}

/// How candidates are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Ranking {
    /// By all that speaks for them where there is a text, by their vectors where there is only a vector, else the newest first.
    #[default]
    Usual,
    /// The newest first.
    Newest,
    /// By all that speaks for them, weighted.
    Hybrid,
    /// By their vectors alone.
    Vector,
    /// By their words alone.
    Text,
    /// By their ranks by vector and by words.
    Ranks,
}

/// Which memories are candidates; every part has to let a memory pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    /// Only these categories; empty: every one.
    pub(crate) categories: Vec<String>,
    /// Only memories about at least one of these; empty: every one.
    pub(crate) pools: Vec<String>,
    /// Only memories of these agents; empty: every one.
    pub(crate) agents: Vec<String>,
    /// Only memories with at least one of these tags; empty: every one.
    pub(crate) tags: Vec<String>,
    /// Only memories of these threads; empty: every one.
    pub(crate) threads: Vec<String>,
    /// Only memories at or after this time.
    pub(crate) start: Option<SystemTime>,
    /// Only memories before this time.
    pub(crate) end: Option<SystemTime>,
    /// Only memories at least this sure; 0: all.
    pub(crate) min_confidence: f64,
}

#[cfg(test)]
impl Filter {
    /// Returns whether `memory` is a candidate at `now`, by a look at it.
    pub(crate) fn passes(&self, memory: &Memory, now: SystemTime) -> bool {
        let among = |names: &[String], own: &str| names.is_empty() || names.iter().any(|name| name == own);
        let any =
            |names: &[String], own: &[String]| names.is_empty() || own.iter().any(|own| among(names, own));
        let thread = memory.place.as_ref().map(|place| place.thread.as_str());
        among(&self.categories, &memory.category)
            && any(&self.pools, &memory.pools)
            && among(&self.agents, &memory.agent)
            && any(&self.tags, &memory.tags)
            && (self.threads.is_empty() || thread.is_some_and(|thread| among(&self.threads, thread)))
            && memory.expires.is_none_or(|at| now < at)
            && self.start.is_none_or(|start| start <= memory.time)
            && self.end.is_none_or(|end| memory.time < end)
            && memory.confidence >= self.min_confidence
    }
}

impl Likeness {
    /// Returns the text, if there is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Both(text, _) => Some(text),
            Self::Newest | Self::Vector(_) => None,
        }
    }

    /// Returns the vector that came with the question, if one did.
    pub(crate) fn vector(&self) -> Option<&[f32]> {
        match self {
            Self::Vector(vector) | Self::Both(_, vector) => Some(vector),
            Self::Newest | Self::Text(_) => None,
        }
    }
}

impl Ranking {
    /// Returns whether candidates are compared by their vectors.
    pub(crate) fn by_vector(self) -> bool {
        matches!(self, Self::Hybrid | Self::Vector | Self::Ranks)
    }

    /// Returns whether the words of the question count.
    pub(crate) fn by_words(self) -> bool {
        matches!(self, Self::Hybrid | Self::Text | Self::Ranks)
    }

    /// Returns how candidates are ordered where there is `no_vector` to compare them with.
    pub(crate) fn without(self, no_vector: bool) -> Self {
        match self {
            Self::Vector | Self::Usual if no_vector => Self::Newest,
            Self::Ranks if no_vector => Self::Text,
            other => other,
        }
    }
}

impl Query {
    /// Asks for the `limit` newest memories.
    pub(crate) fn newest(limit: usize) -> Self {
        Self {
            likeness: Likeness::Newest,
            ranking: Ranking::Newest,
            weights: Weights::default(),
            filter: Filter::default(),
            limit,
            include_embedding: false,
        }
    }

    /// Brings a question about vectors that are compared by `metric` into canonical form.
    #[must_use]
    pub(crate) fn canonical(mut self, metric: Metric) -> Self {
        let Filter { categories, pools, agents, tags, threads, .. } = &mut self.filter;
        for names in [categories, pools, agents, tags, threads] {
            names.sort_unstable();
            names.dedup();
        }
        if matches!(&self.likeness, Likeness::Text(text) if text.is_empty()) {
            self.likeness = Likeness::Newest;
        }
        if self.ranking == Ranking::Usual {
            self.ranking = match self.likeness {
                Likeness::Newest => Ranking::Newest,
                Likeness::Vector(_) => Ranking::Vector,
                // Only a cosine is of the size of the other parts.
                Likeness::Text(_) | Likeness::Both(..) if metric == Metric::Cosine => Ranking::Hybrid,
                Likeness::Text(_) | Likeness::Both(..) => Ranking::Ranks,
            };
        }
        if self.ranking != Ranking::Hybrid {
            self.weights = Weights::default();
        }
        self
    }

    /// Returns the text whose words count.
    pub(crate) fn words(&self) -> Option<&str> {
        self.likeness.text().filter(|_| self.ranking.by_words())
    }

    /// Returns how many bytes its words and vector take.
    pub(crate) fn bytes(&self) -> usize {
        let likeness =
            self.likeness.text().map_or(0, str::len) + self.likeness.vector().map_or(0, size_of_val);
        let Filter { categories, pools, agents, tags, threads, .. } = &self.filter;
        let names = [categories, pools, agents, tags, threads].into_iter().flatten();
        likeness + names.map(String::len).sum::<usize>()
    }
}

// No part can be NaN: `convert` refuses it. Hence the reflexive equality that a cache's key needs.
impl Eq for Query {}

impl Hash for Query {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(&self.likeness).hash(state);
        self.likeness.text().hash(state);
        // Adding zero turns -0.0 into 0.0: equal values have to hash alike.
        let vector = self.likeness.vector().unwrap_or_default();
        vector.iter().for_each(|value| (value + 0.0).to_bits().hash(state));
        self.ranking.hash(state);
        self.weights.values().into_iter().for_each(|weight| (weight + 0.0).to_bits().hash(state));
        self.filter.categories.hash(state);
        self.filter.pools.hash(state);
        self.filter.agents.hash(state);
        self.filter.tags.hash(state);
        self.filter.threads.hash(state);
        self.filter.start.hash(state);
        self.filter.end.hash(state);
        (self.filter.min_confidence + 0.0).to_bits().hash(state);
        self.limit.hash(state);
        self.include_embedding.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::{Filter, Likeness, Metric, Query, Ranking};

    fn about(categories: &[&str], vector: &[f32]) -> Query {
        let filter = Filter {
            categories: categories.iter().map(|name| (*name).to_owned()).collect(),
            ..Filter::default()
        };
        let likeness = Likeness::Vector(vector.to_vec());
        Query { likeness, ranking: Ranking::Usual, filter, ..Query::newest(10) }.canonical(Metric::Cosine)
    }

    #[test]
    fn order_and_repetition_of_names_do_not_matter() {
        let (left, right) = (about(&["b", "a", "b"], &[0.0]), about(&["a", "b"], &[-0.0]));
        assert_eq!(left, right);
        let state = RandomState::new();
        assert_eq!(state.hash_one(&left), state.hash_one(&right));
    }

    #[test]
    fn an_empty_text_asks_for_the_newest() {
        let likeness = Likeness::Text(String::new());
        let query = Query { likeness, ranking: Ranking::Usual, ..about(&[], &[]) }.canonical(Metric::Cosine);
        assert_eq!((query.likeness, query.ranking), (Likeness::Newest, Ranking::Newest));
    }

    #[test]
    fn another_limit_is_another_question() {
        assert_ne!(about(&[], &[1.0]), Query { limit: 11, ..about(&[], &[1.0]) });
        assert_ne!(about(&[], &[1.0]), Query { ranking: Ranking::Hybrid, ..about(&[], &[1.0]) });
    }
}
