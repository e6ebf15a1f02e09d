//! What is looked for, in the one form in which two equal questions are equal.

use std::{
    hash::{Hash, Hasher},
    time::SystemTime,
};

/// A question in canonical form: names are sorted and occur once, the limit is resolved. Its equality is the query cache's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// What the candidates are ranked by.
    pub(crate) likeness: Likeness,
    /// Which memories are candidates.
    pub(crate) filter: Filter,
    /// Most memories returned, 1 or more.
    pub(crate) limit: usize,
    /// Whether the vectors are returned too.
    pub(crate) include_embedding: bool,
}

/// What the candidates are ranked by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Likeness {
    /// Nothing: newest first.
    Newest,
    /// Likeness to a text, which the service embeds.
    Text(String),
    /// Likeness to a vector.
    Vector(Vec<f32>),
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

impl Query {
    /// Brings a question into canonical form.
    #[must_use]
    pub(crate) fn canonical(mut self) -> Self {
        let Filter { categories, pools, agents, tags, threads, .. } = &mut self.filter;
        for names in [categories, pools, agents, tags, threads] {
            names.sort_unstable();
            names.dedup();
        }
        if matches!(&self.likeness, Likeness::Text(text) if text.is_empty()) {
            self.likeness = Likeness::Newest;
        }
        self
    }
}

impl Query {
    /// Returns how many bytes its words and vector take.
    pub(crate) fn bytes(&self) -> usize {
        let likeness = match &self.likeness {
            Likeness::Newest => 0,
            Likeness::Text(text) => text.len(),
            Likeness::Vector(vector) => size_of_val(vector.as_slice()),
        };
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
        match &self.likeness {
            Likeness::Newest => {}
            Likeness::Text(text) => text.hash(state),
            // Adding zero turns -0.0 into 0.0: equal values have to hash alike.
            Likeness::Vector(vector) => vector.iter().for_each(|value| (value + 0.0).to_bits().hash(state)),
        }
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

    use super::{Filter, Likeness, Query};

    fn about(categories: &[&str], vector: &[f32]) -> Query {
        let filter = Filter {
            categories: categories.iter().map(|name| (*name).to_owned()).collect(),
            ..Filter::default()
        };
        Query { likeness: Likeness::Vector(vector.to_vec()), filter, limit: 10, include_embedding: false }
            .canonical()
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
        let query = Query { likeness: Likeness::Text(String::new()), ..about(&[], &[]) };
        assert_eq!(query.canonical().likeness, Likeness::Newest);
    }

    #[test]
    fn another_limit_is_another_question() {
        assert_ne!(about(&[], &[1.0]), Query { limit: 11, ..about(&[], &[1.0]) });
    }
}
