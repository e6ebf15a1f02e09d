//! What a write does: its fields, its mask and its transforms.

use std::collections::{BTreeMap, HashMap};

use contracts::storage::{self as wire, ServerValue, field_transform::TransformType};
use prost::Message as _;
use rpc::{At, Check};

use super::{MAX_NAME, unreserved, value};
use crate::{
    change::{self, Change, MAX_TRANSFORMS, Node, Number, Transform, Tree, path},
    document::{Fields, MAX_DOCUMENT_BYTES, Value},
};

/// Most paths of a mask.
const MAX_PATHS: usize = 5_000;

/// Most names of a path: a document and twenty maps within it.
const MAX_NAMES: usize = value::MAX_DEPTH + 1;

/// What a write holds beside its document's name.
pub(super) struct Given {
    pub(super) mode: Option<wire::WriteMode>,
    pub(super) fields: HashMap<String, wire::Value>,
    pub(super) mask: Option<wire::DocumentMask>,
    pub(super) transforms: Vec<wire::FieldTransform>,
}

impl Given {
    /// Checks all of it; `at` is the write.
    pub(super) fn check(self, check: &mut Check, at: At<'_>) -> Change {
        let is_delete = self.mode == Some(wire::WriteMode::Delete);
        let is_merge = self.mode == Some(wire::WriteMode::Merge);
        let at_fields = at.field("fields");
        check.require(at_fields, !is_delete || self.fields.is_empty(), "must be empty for a delete");
        let fields: Vec<_> = value::fields(check, at_fields, self.fields, 0);
        let at_mask = at.field("update_mask");
        check.require(at_mask, is_merge || self.mask.is_none(), "must only be given for a merge");
        let mask = self.mask.map(|mask| mask_paths(check, at_mask.field("field_paths"), mask.field_paths));
        let at_transforms = at.field("update_transforms");
        check.require(at_transforms, !is_delete || self.transforms.is_empty(), "must be empty for a delete");
        let mut change = match mask {
            _ if is_delete => return Change::Delete,
            Some(paths) => masked(fields.into_iter().collect(), paths),
            None if is_merge => Change::merge(fields),
            None => Change::set(fields),
        };
        for later in transforms(check, at_transforms, self.transforms) {
            if change.then(later).is_err() {
                check.wrong(at_transforms, "must be what one write can do");
            }
        }
        change
    }
}

/// Returns the merge of those `fields` that the mask names.
fn masked(mut fields: Fields, mut paths: Vec<Vec<String>>) -> Change {
    // One that others lie within comes before them and covers them.
    paths.sort();
    let mut tree = Tree::new();
    for path in paths {
        let node = take(&mut fields, &path).map_or(Node::Remove, Node::value);
        let _ = change::insert(&mut tree, &path, node);
    }
    Change::Patch(tree)
}

/// Takes the value at `path` out of `fields`.
fn take(fields: &mut BTreeMap<String, Value>, path: &[String]) -> Option<Value> {
    match path {
        [] => None,
        [name] => fields.remove(name),
        [name, rest @ ..] => match fields.get_mut(name)? {
            Value::Map(inner) => take(inner, rest),
            _ => None,
        },
    }
}

fn mask_paths(check: &mut Check, at: At<'_>, paths: Vec<String>) -> Vec<Vec<String>> {
    if !check.items(at, paths.len(), 0..=MAX_PATHS) {
        return Vec::new();
    }
    paths.iter().enumerate().filter_map(|(index, path)| field_path(check, at.item(index), path)).collect()
}

fn field_path(check: &mut Check, at: At<'_>, path: &str) -> Option<Vec<String>> {
    check.text(at, path, 1..=MAX_NAME);
    let names = path::parse(path).filter(|names| names.len() <= MAX_NAMES);
    match &names {
        Some(names) => names.iter().for_each(|name| unreserved(check, at, name)),
        None => check
            .wrong(at, "must be a field path of at most 21 names, in backquotes if they are no identifiers"),
    }
    names
}

fn transforms(check: &mut Check, at: At<'_>, given: Vec<wire::FieldTransform>) -> Vec<Change> {
    if !check.items(at, given.len(), 0..=MAX_TRANSFORMS) {
        return Vec::new();
    }
    let bytes: usize = given.iter().map(|transform| transform.encoded_len()).sum();
    check.require(at, bytes <= MAX_DOCUMENT_BYTES, "must be at most 1 MiB encoded");
    let checked = |(index, given)| transform(check, at.item(index), given);
    given.into_iter().enumerate().filter_map(checked).collect()
}

/// Checks one transform; returns it as a write of its own.
fn transform(check: &mut Check, at: At<'_>, given: wire::FieldTransform) -> Option<Change> {
    let path = field_path(check, at.field("field_path"), &given.field_path);
    let depth = path.as_ref().map_or(0, |path| path.len() - 1);
    let node = match given.transform_type {
        None => {
            check.wrong(at, "must hold a transform");
            None
        }
        Some(TransformType::SetToServerValue(kind)) => {
            let at = at.field("set_to_server_value");
            check.one_of::<ServerValue>(at, kind, "SERVER_VALUE_REQUEST_TIME").map(|_| Node::Now)
        }
        Some(TransformType::Increment(by)) => {
            number(check, at.field("increment"), by, depth).map(|by| one(Transform::Increment(by)))
        }
        Some(TransformType::Maximum(other)) => {
            number(check, at.field("maximum"), other, depth).map(|other| one(Transform::Maximum(other)))
        }
        Some(TransformType::Minimum(other)) => {
            number(check, at.field("minimum"), other, depth).map(|other| one(Transform::Minimum(other)))
        }
        Some(TransformType::AppendMissingElements(list)) => {
            let at = at.field("append_missing_elements");
            let values = value::list(check, at.field("values"), list.values, depth);
            Some(one(Transform::Union(values)))
        }
        Some(TransformType::RemoveAllFromArray(list)) => {
            let at = at.field("remove_all_from_array");
            let values = value::list(check, at.field("values"), list.values, depth);
            Some(one(Transform::Subtract(values)))
        }
    };
    let mut tree = Tree::new();
    change::insert(&mut tree, &path?, node?).then_some(Change::Patch(tree))
}

fn one(transform: Transform) -> Node {
    Node::Transforms(vec![transform])
}

fn number(check: &mut Check, at: At<'_>, given: wire::Value, depth: usize) -> Option<Number> {
    let number = Number::of(&value::value(check, at, given, depth));
    check.require(at, number.is_some(), "must be an integer or a double");
    number
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use contracts::storage::{self as wire, field_transform::TransformType, value::Kind};
    use rpc::{At, Check, Fault};

    use super::Given;
    use crate::{
        change::Change,
        document::{Fields, Value},
    };

    fn integer(number: i64) -> wire::Value {
        wire::Value { kind: Some(Kind::IntegerValue(number)) }
    }

    fn merge(fields: &[(&str, wire::Value)], mask: Option<&[&str]>) -> Given {
        let field_paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Given {
            mode: Some(wire::WriteMode::Merge),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            mask: mask.map(|paths| wire::DocumentMask { field_paths: field_paths(paths) }),
            transforms: Vec::new(),
        }
    }

    fn increment(path: &str, by: wire::Value) -> wire::FieldTransform {
        let transform_type = Some(TransformType::Increment(by));
        wire::FieldTransform { field_path: path.to_owned(), transform_type }
    }

    fn checked(given: Given) -> Result<Change, Fault> {
        let mut check = Check::default();
        let change = given.check(&mut check, At::from("write"));
        check.end(change)
    }

    fn wrong(given: Given) -> String {
        checked(given).expect_err("must be refused").violations()[0].field.clone()
    }

    #[test]
    fn a_mask_deletes_what_has_no_value_and_takes_maps_whole() {
        let map = |name: &str, value| {
            let fields = HashMap::from([(name.to_owned(), value)]);
            wire::Value { kind: Some(Kind::MapValue(wire::MapValue { fields })) }
        };
        let fields =
            [("0x1", map("a.b", integer(1))), ("ignored", integer(2)), ("whole", map("n", integer(3)))];
        let paths = ["`0x1`.`a.b`", "`0x1`.gone", "whole", "whole.n", "absent"];
        let change = checked(merge(&fields, Some(&paths))).expect("good");
        let before = |name: &str| Value::Map(Fields::from([(name.to_owned(), Value::Null)]));
        let stored = Fields::from([
            ("0x1".to_owned(), before("gone")),
            ("absent".to_owned(), Value::Null),
            ("whole".to_owned(), before("old")),
        ]);
        let one = |name: &str, number| Value::Map(Fields::from([(name.to_owned(), Value::Integer(number))]));
        let expected = Fields::from([("0x1".to_owned(), one("a.b", 1)), ("whole".to_owned(), one("n", 3))]);
        assert_eq!(change.apply(Some(stored), 0), Some(expected));
    }

    #[test]
    fn transforms_come_after_the_fields_and_in_order() {
        let mut given = merge(&[("n", integer(1))], None);
        given.transforms = vec![increment("n", integer(2)), increment("n", integer(3))];
        let after = checked(given).expect("good").apply(None, 0);
        assert_eq!(after, Some(Fields::from([("n".to_owned(), Value::Integer(6))])));
    }

    #[test]
    fn the_wrong_part_is_named() {
        let transformed = |transform| Given { transforms: vec![transform], ..merge(&[], None) };
        let text = wire::Value { kind: Some(Kind::StringValue("1".to_owned())) };
        assert_eq!(wrong(transformed(increment("n", text))), "write.update_transforms[0].increment");
        assert_eq!(wrong(transformed(increment("0x1", integer(1)))), "write.update_transforms[0].field_path");
        assert_eq!(
            wrong(transformed(increment("a.__b__", integer(1)))),
            "write.update_transforms[0].field_path"
        );
        let none = wire::FieldTransform { field_path: "n".to_owned(), transform_type: None };
        assert_eq!(wrong(transformed(none)), "write.update_transforms[0]");
        let deep = vec!["a"; 22].join(".");
        assert_eq!(wrong(merge(&[], Some(&[&deep]))), "write.update_mask.field_paths[0]");
        let many = Given { transforms: vec![increment("n", integer(1)); 501], ..merge(&[], None) };
        assert_eq!(wrong(many), "write.update_transforms");
        let set = Given { mode: Some(wire::WriteMode::Set), ..merge(&[], Some(&["a"])) };
        assert_eq!(wrong(set), "write.update_mask");
        let mut delete = transformed(increment("n", integer(1)));
        delete.mode = Some(wire::WriteMode::Delete);
        assert_eq!(wrong(delete), "write.update_transforms");
    }
}
