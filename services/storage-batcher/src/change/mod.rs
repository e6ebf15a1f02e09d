//! What one write, or several folded into one, does to a document.
//!
//! A change is a tree of field names, as the document is. So no path lies within another, names need no quoting, and it maps one to one
//! onto a Firestore `Write`: values and removals are its document and mask, server times and transforms its `update_transforms`, which
//! come after. [`Change::then`] folds.

mod fold;
pub mod path;
#[cfg(test)]
mod tests;
pub mod transform;

use std::collections::BTreeMap;

pub use self::transform::{Number, Transform};
use crate::document::{Fields, Value};

/// Most transforms of one document in one request: Firestore's limit.
pub const MAX_TRANSFORMS: usize = 500;

/// Bytes of a name beside its letters: twice the frame of a field and of a mask's path.
const NAME_OVERHEAD: usize = 26;

/// Bytes of a transform beside its path and operand.
const TRANSFORM_OVERHEAD: usize = 24;

/// What is done to named fields.
pub type Tree = BTreeMap<String, Node>;

/// Holds one write that stands for a sequence of writes to one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The document becomes exactly this: [`Node::Put`], [`Node::Whole`] and [`Node::Now`] only.
    Replace(Tree),
    /// These fields change, the others stay; the document is made if there is none.
    Patch(Tree),
    /// The document goes.
    Delete,
}

/// What is done to one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// It gets this value, which is no map.
    Put(Value),
    /// It becomes a map of exactly these: [`Node::Put`], [`Node::Whole`] and [`Node::Now`] only.
    Whole(Tree),
    /// These fields of its map change, the others stay. What is no map becomes one, unless all of them are removals.
    Within(Tree),
    /// It goes.
    Remove,
    /// It gets the time at which the sink applies the write.
    Now,
    /// It is made from what is there, by these in order; all of them of numbers, or all of lists.
    Transforms(Vec<Transform>),
}

impl Change {
    /// Replaces the document by `fields`.
    #[must_use]
    pub fn set(fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self::Replace(whole(fields))
    }

    /// Changes the leaves of `fields`: a list and an empty map are leaves.
    #[must_use]
    pub fn merge(fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self::Patch(fields.into_iter().map(|(name, value)| (name, Node::leaf(value))).collect())
    }

    /// Returns the document after this write, given the one before; `None` where there is none. `now`, in microseconds since the
    /// epoch, is the server's time.
    #[must_use]
    pub fn apply(&self, before: Option<Fields>, now: i64) -> Option<Fields> {
        let (tree, mut fields) = match self {
            Self::Replace(tree) => (tree, Fields::new()),
            Self::Patch(tree) => (tree, before.unwrap_or_default()),
            Self::Delete => return None,
        };
        apply(tree, &mut fields, now);
        Some(fields)
    }

    /// Returns whether this write decides the document whatever was there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !matches!(self, Self::Patch(_))
    }

    /// Returns whether applying this write twice in a row is applying it once.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        let repeats = |node: &Node| match node {
            Node::Now => false,
            Node::Transforms(list) => list.iter().all(Transform::is_repeatable),
            _ => true,
        };
        self.tree().is_none_or(|tree| every(tree, &repeats))
    }

    /// Returns whether the result depends on when the sink applies the write.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.tree().is_some_and(|tree| !every(tree, &|node| !matches!(node, Node::Now)))
    }

    /// Returns the paths of up to `most` fields that this write touches, in order of name.
    #[must_use]
    pub fn paths(&self, most: usize) -> Vec<String> {
        let mut paths = Vec::new();
        if let Some(tree) = self.tree() {
            collect(tree, &mut Vec::new(), most, &mut paths);
        }
        paths
    }

    /// Returns how many transforms this write carries.
    #[must_use]
    pub fn transforms(&self) -> usize {
        self.tree().map_or(0, count_transforms)
    }

    /// Returns the bytes of this write in a request to the sink, at most, without the document's name.
    #[must_use]
    pub fn size(&self) -> usize {
        self.tree().map_or(0, |tree| size(tree, 0))
    }

    fn tree(&self) -> Option<&Tree> {
        match self {
            Self::Replace(tree) | Self::Patch(tree) => Some(tree),
            Self::Delete => None,
        }
    }
}

impl Node {
    /// Makes a field exactly `value`.
    #[must_use]
    pub fn value(value: Value) -> Self {
        match value {
            Value::Map(fields) => Self::Whole(whole(fields)),
            other => Self::Put(other),
        }
    }

    /// Gives the leaves of `value` their values and keeps what is beside them.
    fn leaf(value: Value) -> Self {
        match value {
            Value::Map(fields) if !fields.is_empty() => {
                Self::Within(fields.into_iter().map(|(name, value)| (name, Self::leaf(value))).collect())
            }
            other => Self::value(other),
        }
    }

    /// Returns whether there is something at the field's place afterwards, so that all around it are maps.
    fn creates(&self) -> bool {
        match self {
            Self::Remove => false,
            Self::Within(tree) => creates(tree),
            Self::Put(_) | Self::Whole(_) | Self::Now | Self::Transforms(_) => true,
        }
    }
}

/// Puts `node` at `path`, where `tree` does nothing yet; returns whether it could: no path may lie within another.
#[must_use]
pub fn insert(tree: &mut Tree, path: &[String], node: Node) -> bool {
    match path {
        [] => false,
        [name] if tree.contains_key(name) => false,
        [name] => {
            tree.insert(name.clone(), node);
            true
        }
        [name, rest @ ..] => match tree.entry(name.clone()).or_insert_with(|| Node::Within(Tree::new())) {
            Node::Within(inner) => insert(inner, rest, node),
            _ => false,
        },
    }
}

fn whole(fields: impl IntoIterator<Item = (String, Value)>) -> Tree {
    fields.into_iter().map(|(name, value)| (name, Node::value(value))).collect()
}

fn creates(tree: &Tree) -> bool {
    tree.values().any(Node::creates)
}

fn every(tree: &Tree, holds: &impl Fn(&Node) -> bool) -> bool {
    tree.values().all(|node| match node {
        Node::Whole(inner) | Node::Within(inner) => every(inner, holds),
        leaf => holds(leaf),
    })
}

fn collect(tree: &Tree, above: &mut Vec<String>, most: usize, paths: &mut Vec<String>) {
    for (name, node) in tree {
        if paths.len() >= most {
            return;
        }
        above.push(name.clone());
        match node {
            Node::Within(inner) => collect(inner, above, most, paths),
            _ => paths.push(path::format(above)),
        }
        above.pop();
    }
}

fn count_transforms(tree: &Tree) -> usize {
    let count = |node: &Node| match node {
        Node::Whole(inner) | Node::Within(inner) => count_transforms(inner),
        Node::Now => 1,
        Node::Transforms(list) => list.len(),
        Node::Put(_) | Node::Remove => 0,
    };
    tree.values().map(count).sum()
}

/// Returns the bytes of `tree`, whose fields' paths have `above` bytes before their names.
fn size(tree: &Tree, above: usize) -> usize {
    let of = |(name, node): (&String, &Node)| {
        let path = above + name.len() + NAME_OVERHEAD;
        match node {
            Node::Put(value) => path + name.len() + value.size(),
            Node::Whole(inner) | Node::Within(inner) => path + name.len() + size(inner, path),
            Node::Remove => path,
            Node::Now => path + TRANSFORM_OVERHEAD,
            Node::Transforms(list) => {
                list.iter().map(|transform| path + TRANSFORM_OVERHEAD + transform.size()).sum()
            }
        }
    };
    tree.iter().map(of).sum()
}

fn apply(tree: &Tree, fields: &mut Fields, now: i64) {
    for (name, node) in tree {
        match node {
            Node::Put(value) => drop(fields.insert(name.clone(), value.clone())),
            Node::Whole(inner) => {
                let mut map = Fields::new();
                apply(inner, &mut map, now);
                fields.insert(name.clone(), Value::Map(map));
            }
            Node::Within(inner) => match fields.get_mut(name) {
                Some(Value::Map(map)) => apply(inner, map, now),
                _ if creates(inner) => {
                    let mut map = Fields::new();
                    apply(inner, &mut map, now);
                    fields.insert(name.clone(), Value::Map(map));
                }
                _ => {}
            },
            Node::Remove => drop(fields.remove(name)),
            // Firestore's time has whole milliseconds.
            Node::Now => drop(fields.insert(name.clone(), Value::Moment(now - now.rem_euclid(1_000)))),
            Node::Transforms(list) => {
                let value = transform::apply_all(list, fields.get(name));
                fields.insert(name.clone(), value);
            }
        }
    }
}

impl Transform {
    fn size(&self) -> usize {
        match self {
            Self::Increment(_) | Self::Maximum(_) | Self::Minimum(_) => 11,
            Self::Union(values) | Self::Subtract(values) => values.iter().map(|value| 6 + value.size()).sum(),
        }
    }
}
