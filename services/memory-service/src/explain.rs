//! The tree of a plan: what was expected of each step, and what it did.

use std::time::Duration;

/// A step of a plan and the steps it consists of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Its name, such as `filter.pool`.
    pub(crate) name: &'static str,
    /// What it does, in words.
    pub(crate) detail: String,
    /// Memories expected to come out of it; of a scan, those it compares.
    pub(crate) estimated_rows: f64,
    /// How long it was expected to take; absent where nothing is known beforehand.
    pub(crate) estimated: Option<Duration>,
    /// Memories that came out of it; absent if it was not run.
    pub(crate) rows: Option<u64>,
    /// How long it took; absent if it was not run, or not apart from its parent.
    pub(crate) duration: Option<Duration>,
    /// Its steps, in the order in which they run.
    pub(crate) children: Vec<Self>,
}

impl Node {
    /// Makes a step that has not run.
    pub(crate) fn new(
        name: &'static str,
        detail: impl Into<String>,
        rows: f64,
        cost: Option<Duration>,
    ) -> Self {
        Self {
            name,
            detail: detail.into(),
            estimated_rows: rows,
            estimated: cost,
            rows: None,
            duration: None,
            children: Vec::new(),
        }
    }

    /// Returns the first step of `name`, this one or one below.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn find(&self, name: &str) -> Option<&Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    /// Notes what came out of the step called `name`, and how long it took where that was measured.
    pub(crate) fn note(&mut self, name: &str, rows: u64, duration: Option<Duration>) {
        if let Some(node) = self.find_mut(name) {
            (node.rows, node.duration) = (Some(rows), duration);
        }
    }

    /// Returns the first step of `name`, to be changed.
    pub(crate) fn find_mut(&mut self, name: &str) -> Option<&mut Self> {
        if self.name == name {
            return Some(self);
        }
        self.children.iter_mut().find_map(|child| child.find_mut(name))
    }
}

/// Says which bitmaps a filter joined; of several names only their number, as there may be many.
#[must_use]
pub(crate) fn named(what: &str, names: &[String]) -> String {
    match names {
        [] => format!("every one of the {what}"),
        [name] => format!("bitmap of {name}"),
        names => format!("union of the bitmaps of {} {what}", names.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Node, named};

    #[test]
    fn a_filter_says_what_it_joined() {
        assert_eq!(named("pools", &[]), "every one of the pools");
        assert_eq!(named("pools", &["weth".into()]), "bitmap of weth");
        assert_eq!(named("pools", &["a".into(), "b".into()]), "union of the bitmaps of 2 pools");
    }

    #[test]
    fn what_a_step_did_is_noted_wherever_it_is() {
        let mut root = Node::new("full_scan", "", 1.0, None);
        root.children.push(Node::new("select", "", 5.0, None));
        root.children[0].children.push(Node::new("filter.pool", "", 5.0, None));
        root.note("filter.pool", 4, Some(Duration::from_micros(1)));
        root.note("unknown", 9, None);
        assert_eq!(root.find("filter.pool").and_then(|node| node.rows), Some(4));
        assert_eq!(root.find("select").and_then(|node| node.rows), None);
    }
}
