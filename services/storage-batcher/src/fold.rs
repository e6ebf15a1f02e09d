//! Folding: any sequence of changes to one document becomes one write with the same effect.
//!
//! The rules follow Firestore's update mask. A merge is a set of leaf paths; a list and an empty map are leaves. A later leaf
//! replaces whatever an earlier one put below it, and goes into what an earlier one put above it: then the upper leaf stands for a
//! whole map. So no path of a [`Patch`] is a prefix of another, and the order of its leaves does not matter.

use std::{
    collections::BTreeMap,
    ops::Bound::{Included, Unbounded},
};

use crate::document::{Change, Fields, Value, size_of_fields};

/// Holds one write that stands for a sequence of changes to one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Folded {
    /// The document becomes exactly this.
    Replace(Fields),
    /// These leaves change, the others stay; the document is made if there is none.
    Patch(Patch),
    /// The document goes.
    Delete,
}

/// Holds leaf paths with the value each is given. No path is a prefix of another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch(BTreeMap<Vec<String>, Value>);

impl Folded {
    /// Adds `change` behind what is folded so far.
    #[must_use]
    pub fn then(self, change: Change) -> Self {
        match (self, change) {
            (_, Change::Set(fields)) => Self::Replace(fields),
            (_, Change::Delete) => Self::Delete,
            (Self::Replace(mut fields), Change::Merge(merge)) => {
                Patch::of(merge).apply(&mut fields);
                Self::Replace(fields)
            }
            (Self::Patch(mut patch), Change::Merge(merge)) => {
                patch.absorb(merge);
                Self::Patch(patch)
            }
            (Self::Delete, Change::Merge(merge)) => Self::Replace(merge),
        }
    }

    /// Returns the document after this write, given the one before; `None` where there is none.
    #[must_use]
    pub fn apply(&self, before: Option<Fields>) -> Option<Fields> {
        match self {
            Self::Replace(fields) => Some(fields.clone()),
            Self::Patch(patch) => {
                let mut fields = before.unwrap_or_default();
                patch.apply(&mut fields);
                Some(fields)
            }
            Self::Delete => None,
        }
    }

    /// Returns the bytes of this write in a request to the sink, at most, without the document's name.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Replace(fields) => size_of_fields(fields),
            Self::Patch(patch) => patch.size(),
            Self::Delete => 0,
        }
    }
}

impl From<Change> for Folded {
    fn from(change: Change) -> Self {
        match change {
            Change::Set(fields) => Self::Replace(fields),
            Change::Merge(fields) => Self::Patch(Patch::of(fields)),
            Change::Delete => Self::Delete,
        }
    }
}

impl Patch {
    /// Returns the leaves of `fields`.
    #[must_use]
    pub fn of(fields: Fields) -> Self {
        let mut patch = Self::default();
        patch.absorb(fields);
        patch
    }

    /// Returns the leaves: each path from the outermost name inwards, with its value.
    pub fn leaves(&self) -> impl Iterator<Item = (&[String], &Value)> {
        self.0.iter().map(|(path, value)| (path.as_slice(), value))
    }

    /// Gives every leaf its value in `fields`; what stands in the way of a path and is no map becomes one.
    pub fn apply(&self, fields: &mut Fields) {
        for (path, value) in &self.0 {
            place(fields, path, value.clone());
        }
    }

    fn absorb(&mut self, fields: Fields) {
        let mut leaves = Vec::new();
        collect_leaves(fields, &mut Vec::new(), &mut leaves);
        for (path, value) in leaves {
            self.put(path, value);
        }
    }

    fn put(&mut self, path: Vec<String>, value: Value) {
        for length in 1..path.len() {
            if let Some(above) = self.0.get_mut(&path[..length]) {
                place_within(above, &path[length..], value);
                return;
            }
        }
        let below: Vec<_> = self
            .0
            .range::<[String], _>((Included(path.as_slice()), Unbounded))
            .map(|(other, _)| other)
            .take_while(|other| other.starts_with(&path))
            .cloned()
            .collect();
        for other in below {
            self.0.remove(&other);
        }
        self.0.insert(path, value);
    }

    fn size(&self) -> usize {
        // Each leaf stands in the mask and, with the maps around it, in the document.
        self.leaves()
            .map(|(path, value)| {
                let names: usize = path.iter().map(|name| 2 * name.len() + 26).sum();
                names + value.size()
            })
            .sum()
    }
}

fn collect_leaves(fields: Fields, path: &mut Vec<String>, leaves: &mut Vec<(Vec<String>, Value)>) {
    for (name, value) in fields {
        path.push(name);
        match value {
            Value::Map(inner) if !inner.is_empty() => collect_leaves(inner, path, leaves),
            leaf => leaves.push((path.clone(), leaf)),
        }
        path.pop();
    }
}

fn place(fields: &mut Fields, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => {
            fields.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            let slot = fields.entry(name.clone()).or_insert_with(|| Value::Map(Fields::new()));
            place_within(slot, rest, value);
        }
    }
}

fn place_within(slot: &mut Value, path: &[String], value: Value) {
    if !matches!(slot, Value::Map(_)) {
        *slot = Value::Map(Fields::new());
    }
    if let Value::Map(fields) = slot {
        place(fields, path, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Folded, Patch, place};
    use crate::document::{Change, Fields, Value};

    fn fields(entries: &[(&str, Value)]) -> Fields {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(fields(entries))
    }

    fn paths(patch: &Patch) -> Vec<String> {
        patch.leaves().map(|(path, _)| path.join(".")).collect()
    }

    /// What a store does with one change, written without the patch: the reference of the property below.
    fn apply_one(before: Option<Fields>, change: &Change) -> Option<Fields> {
        fn merge(into: &mut Fields, from: &Fields) {
            for (name, value) in from {
                match value {
                    Value::Map(inner) if !inner.is_empty() => {
                        let mut below = match into.remove(name) {
                            Some(Value::Map(below)) => below,
                            _ => Fields::new(),
                        };
                        merge(&mut below, inner);
                        into.insert(name.clone(), Value::Map(below));
                    }
                    leaf => {
                        into.insert(name.clone(), leaf.clone());
                    }
                }
            }
        }
        match change {
            Change::Set(fields) => Some(fields.clone()),
            Change::Merge(fields) => {
                let mut after = before.unwrap_or_default();
                merge(&mut after, fields);
                Some(after)
            }
            Change::Delete => None,
        }
    }

    #[test]
    fn a_merge_becomes_its_leaf_paths_with_lists_and_empty_maps_whole() {
        let patch = Patch::of(fields(&[
            ("a", map(&[("b", Value::Integer(1)), ("c", map(&[]))])),
            ("list", Value::Array(vec![map(&[("x", Value::Null)])])),
        ]));
        assert_eq!(paths(&patch), ["a.b", "a.c", "list"]);
    }

    #[test]
    fn a_later_parent_replaces_earlier_children() {
        let folded = Folded::from(Change::Merge(fields(&[("a", map(&[("b", Value::Integer(1))]))])))
            .then(Change::Merge(fields(&[("a", Value::Integer(2))])));
        assert_eq!(folded, Folded::from(Change::Merge(fields(&[("a", Value::Integer(2))]))));
    }

    #[test]
    fn a_later_child_goes_into_an_earlier_parent_which_stays_a_whole() {
        let folded = Folded::from(Change::Merge(fields(&[("a", map(&[]))])))
            .then(Change::Merge(fields(&[("a", map(&[("b", Value::Integer(1))]))])));
        let Folded::Patch(patch) = &folded else { panic!("{folded:?}") };
        assert_eq!(paths(patch), ["a"]);
        let before = fields(&[("a", map(&[("old", Value::Null)]))]);
        assert_eq!(folded.apply(Some(before)), Some(fields(&[("a", map(&[("b", Value::Integer(1))]))])));
    }

    #[test]
    fn a_merge_after_a_delete_starts_an_empty_document() {
        let folded = Folded::from(Change::Delete).then(Change::Merge(fields(&[("a", Value::Null)])));
        assert_eq!(folded, Folded::Replace(fields(&[("a", Value::Null)])));
    }

    #[test]
    fn a_path_through_a_scalar_makes_it_a_map() {
        let mut document = fields(&[("a", Value::Integer(1))]);
        place(&mut document, &["a".to_owned(), "b".to_owned()], Value::Null);
        assert_eq!(document, fields(&[("a", map(&[("b", Value::Null)]))]));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            "[a-c]{0,2}".prop_map(Value::Text),
            Just(Value::Array(vec![Value::Integer(1)])),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| any_fields_of(inner).prop_map(Value::Map))
    }

    fn any_fields_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Fields> {
        // Few names, so that paths meet.
        prop::collection::btree_map("[a-c]", value, 0..3)
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            2 => any_fields_of(any_value()).prop_map(Change::Set),
            6 => any_fields_of(any_value()).prop_map(Change::Merge),
            1 => Just(Change::Delete),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_fold_does_what_its_changes_do_in_order(
            before in prop::option::of(any_fields_of(any_value())),
            changes in prop::collection::vec(any_change(), 1..8),
        ) {
            let in_order = changes.iter().fold(before.clone(), apply_one);
            let mut rest = changes.into_iter();
            let first = Folded::from(rest.next().expect("at least one"));
            let folded = rest.fold(first, Folded::then);
            prop_assert_eq!(folded.apply(before), in_order.clone());
            // Sending a fold twice is sending it once: a lost reply is safe to retry.
            prop_assert_eq!(folded.apply(in_order.clone()), in_order);
            if let Folded::Patch(patch) = &folded {
                let paths: Vec<_> = patch.leaves().map(|(path, _)| path.to_vec()).collect();
                for (place, path) in paths.iter().enumerate() {
                    prop_assert!(!paths.iter().skip(place + 1).any(|other| other.starts_with(path)));
                }
            }
        }
    }
}
