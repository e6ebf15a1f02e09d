//! Property: a fold does what its writes do in order.

use proptest::prelude::*;

use super::{Change, Node, Number, Transform, Tree, insert};
use crate::{
    codec::{Record, encode_fields, encode_whole},
    document::{Fields, Key, Priority, Value, size_of_fields},
};

/// Awkward names, few of them so that paths meet.
const NAMES: &[&str] = &["a", "0x12ab", "a.b", "a-b", "`", "\\", "é"];

/// Server time of every application.
const NOW: i64 = 1_795_342_500_123_000;

/// One step of a write, for the reference.
#[derive(Clone, Debug)]
enum Step {
    Put(Value),
    Remove,
    Now,
    Transform(Transform),
}

/// One write as callers ask for it.
#[derive(Clone, Debug)]
struct Asked {
    mode: u8,
    fields: Fields,
    mask: Vec<(Vec<String>, Option<Value>)>,
    transforms: Vec<(Vec<String>, Step)>,
}

impl Asked {
    /// The write as the service takes it; paths within others are left out of both this and the reference.
    fn change(&mut self) -> Change {
        let mut masked = Tree::new();
        self.mask.retain(|(path, value)| {
            insert(&mut masked, path, value.clone().map_or(Node::Remove, Node::value))
        });
        let mut transformed = Tree::new();
        self.transforms.retain(|(path, step)| {
            let node = match step {
                Step::Now => Node::Now,
                Step::Transform(transform) => Node::Transforms(vec![transform.clone()]),
                Step::Put(_) | Step::Remove => return false,
            };
            insert(&mut transformed, path, node)
        });
        let mut change = match self.mode {
            0 => Change::Delete,
            1 | 2 => Change::set(self.fields.clone()),
            3..=6 => Change::merge(self.fields.clone()),
            _ => Change::Patch(masked),
        };
        if self.mode > 0 {
            change.then(Change::Patch(transformed)).expect("one write is one write");
        }
        change
    }

    /// What a store does with it, step by step: the reference.
    fn apply(&self, before: Option<Fields>) -> Option<Fields> {
        let mut after = match self.mode {
            0 => return None,
            1 | 2 => self.fields.clone(),
            _ => before.unwrap_or_default(),
        };
        match self.mode {
            3..=6 => leaves(&self.fields, &mut Vec::new(), &mut after),
            7.. => {
                for (path, value) in &self.mask {
                    step(&mut after, path, &value.clone().map_or(Step::Remove, Step::Put));
                }
            }
            _ => {}
        }
        for (path, transform) in &self.transforms {
            step(&mut after, path, transform);
        }
        Some(after)
    }
}

fn leaves(fields: &Fields, path: &mut Vec<String>, after: &mut Fields) {
    for (name, value) in fields {
        path.push(name.clone());
        match value {
            Value::Map(inner) if !inner.is_empty() => leaves(inner, path, after),
            leaf => step(after, path, &Step::Put(leaf.clone())),
        }
        path.pop();
    }
}

fn step(fields: &mut Fields, path: &[String], what: &Step) {
    let [name, rest @ ..] = path else { return };
    if rest.is_empty() {
        let before = fields.get(name);
        let after = match what {
            Step::Put(value) => Some(value.clone()),
            Step::Remove => None,
            Step::Now => Some(Value::Moment(NOW)),
            Step::Transform(transform) => Some(transform.apply(before)),
        };
        match after {
            Some(value) => drop(fields.insert(name.clone(), value)),
            None => drop(fields.remove(name)),
        }
        return;
    }
    let is_map = matches!(fields.get(name), Some(Value::Map(_)));
    if !is_map {
        if matches!(what, Step::Remove) {
            return;
        }
        fields.insert(name.clone(), Value::Map(Fields::new()));
    }
    if let Some(Value::Map(inner)) = fields.get_mut(name) {
        step(inner, rest, what);
    }
}

fn any_name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn any_path() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop::sample::select(&NAMES[..3]).prop_map(str::to_owned), 1..4)
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        4 => (-3_i64..4).prop_map(Number::Integer),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, i64::MAX - 2]).prop_map(Number::Integer),
        // Multiples of a quarter: their sums are exact.
        2 => (-8_i32..9).prop_map(|quarters| Number::Double(f64::from(quarters) / 4.0)),
    ]
}

fn any_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        3 => any_number().prop_map(Number::value),
        1 => Just(Value::Text("x".to_owned())),
    ]
}

fn any_list() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(any_scalar(), 0..4)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![3 => any_scalar(), 1 => any_list().prop_map(Value::Array)];
    leaf.prop_recursive(3, 12, 3, |inner| any_fields_of(inner).prop_map(Value::Map))
}

fn any_fields_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Fields> {
    prop::collection::btree_map(any_name(), value, 0..3)
}

fn any_transform() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Now),
        4 => any_number().prop_map(|number| Step::Transform(Transform::Increment(number))),
        2 => any_number().prop_map(|number| Step::Transform(Transform::Maximum(number))),
        2 => any_number().prop_map(|number| Step::Transform(Transform::Minimum(number))),
        2 => any_list().prop_map(|list| Step::Transform(Transform::Union(list))),
        2 => any_list().prop_map(|list| Step::Transform(Transform::Subtract(list))),
    ]
}

fn any_asked() -> impl Strategy<Value = Asked> {
    (
        0_u8..11,
        any_fields_of(any_value()),
        prop::collection::vec((any_path(), prop::option::of(any_value())), 0..3),
        prop::collection::vec((any_path(), any_transform()), 0..4),
    )
        .prop_map(|(mode, fields, mask, transforms)| Asked { mode, fields, mask, transforms })
}

/// Equal, doubles up to their rounding: a saturated integer that becomes one is far from exact.
fn close(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Double(one), Value::Double(two)) => {
            (one - two).abs() <= 1e-9 * one.abs().max(two.abs()).max(1.0)
        }
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| close(one, two))
        }
        (Value::Map(one), Value::Map(two)) => same(Some(one), Some(two)),
        (one, two) => one == two,
    }
}

fn same(one: Option<&Fields>, two: Option<&Fields>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            one.len() == two.len()
                && one.iter().zip(two).all(|(one, two)| one.0 == two.0 && close(one.1, two.1))
        }
        (one, two) => one.is_none() && two.is_none(),
    }
}

fn through_the_journal(change: Change) -> Change {
    let key = Key::new("default", "pools", "0x12ab");
    let (priority, caller) = (Priority::Normal, "".into());
    let record = Record { key, change, priority, accepted: 1, samples: 0, buckets: 0, caller };
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    Record::decode(&bytes).expect("what was written is read").change
}

/// Folds as the queue does: what does not fold begins the next write.
fn fold(asked: &mut [Asked]) -> Vec<Change> {
    let mut folded: Vec<Change> = Vec::new();
    for asked in asked {
        let change = through_the_journal(asked.change());
        match folded.last_mut() {
            None => folded.push(change),
            Some(last) => {
                if let Err(apart) = last.then(change) {
                    folded.push(apart);
                }
            }
        }
    }
    folded
}

/// Returns whether a tree is of the form the sink can be sent.
fn is_sound(tree: &Tree, is_known: bool) -> bool {
    tree.values().all(|node| match node {
        Node::Put(value) => !matches!(value, Value::Map(_)),
        Node::Whole(inner) => is_sound(inner, true),
        Node::Within(inner) => !is_known && is_sound(inner, false),
        Node::Remove | Node::Transforms(_) => !is_known,
        Node::Now => true,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_fold_does_what_its_writes_do_in_order(
        before in prop::option::of(any_fields_of(any_value())),
        mut asked in prop::collection::vec(any_asked(), 1..8),
    ) {
        let folded: Vec<_> = fold(&mut asked).into_iter().map(through_the_journal).collect();
        let in_order = asked.iter().fold(before.clone(), |before, asked| asked.apply(before));
        let after = folded.iter().fold(before, |before, change| change.apply(before, NOW));
        prop_assert!(same(after.as_ref(), in_order.as_ref()), "{after:?}\n{in_order:?}\n{folded:?}");
        for change in &folded {
            let (tree, is_known) = match change {
                Change::Replace(tree) => (tree, true),
                Change::Patch(tree) => (tree, false),
                Change::Delete => continue,
            };
            prop_assert!(is_sound(tree, is_known), "{change:?}");
            if is_known && !change.is_timed() {
                let document = change.apply(None, NOW).map(|fields| encode_fields(&fields));
                prop_assert_eq!(encode_whole(change), document, "{:?}", change);
            }
        }
        if let Some(last) = folded.last().filter(|last| last.is_repeatable()) {
            prop_assert_eq!(last.apply(after.clone(), NOW), after, "sent twice is sent once");
        }
    }
}

fn tree(entries: &[(&str, Node)]) -> Tree {
    entries.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect()
}

fn increment(by: i64) -> Node {
    Node::Transforms(vec![Transform::Increment(Number::Integer(by))])
}

fn patch(entries: &[(&str, Node)]) -> Change {
    Change::Patch(tree(entries))
}

#[test]
fn a_map_that_is_empty_after_all_has_no_write_of_its_own() {
    let within = |node| Node::Within(tree(&[("b", node)]));
    let mut change = patch(&[("a", within(Node::Put(Value::Null)))]);
    let before = change.clone();
    let later = patch(&[("a", within(Node::Remove))]);
    assert_eq!(change.then(later.clone()), Err(later));
    assert_eq!(change, before);
    // Another field of the map says that it is one.
    let mut change = patch(&[("a", Node::Within(tree(&[("b", Node::Now), ("c", Node::Now)])))]);
    assert_eq!(change.then(patch(&[("a", within(Node::Remove))])), Ok(()));
}

#[test]
fn a_request_takes_five_hundred_transforms_of_a_document() {
    let mut change = Change::Patch(Tree::new());
    for number in 0..500 {
        change.then(patch(&[(&number.to_string(), increment(1))])).unwrap();
    }
    let one_more = patch(&[("more", increment(1))]);
    assert_eq!(change.then(one_more.clone()), Err(one_more));
    assert_eq!(change.then(patch(&[("0", increment(1))])), Ok(()), "joins the one that is there");
    assert_eq!(change.transforms(), 500);
    assert_eq!(change.then(Change::Delete), Ok(()));
}

#[test]
fn what_is_known_resolves_a_transform_and_a_parent_takes_what_was_below() {
    let mut change = Change::set(Fields::from([("n".to_owned(), Value::Integer(1))]));
    change.then(patch(&[("n", increment(2)), ("at", Node::Now)])).unwrap();
    change.then(patch(&[("at", increment(5))])).unwrap();
    let put = |number| Node::Put(Value::Integer(number));
    assert_eq!(change, Change::Replace(tree(&[("n", put(3)), ("at", put(5))])));
    let mut change = patch(&[("a", Node::Within(tree(&[("b", Node::Now)])))]);
    change.then(patch(&[("a", increment(1))])).unwrap();
    assert_eq!(change, patch(&[("a", put(1))]));
    change.then(patch(&[("a", Node::Within(tree(&[("c", Node::Now)])))])).unwrap();
    assert_eq!(change, patch(&[("a", Node::Whole(tree(&[("c", Node::Now)])))]));
    assert!(change.is_timed() && !change.is_repeatable());
    assert_eq!(change.then(Change::merge(Fields::new())), Ok(()));
}

#[test]
fn a_path_within_another_is_not_taken() {
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut tree = Tree::new();
    assert!(insert(&mut tree, &path(&["a", "b"]), Node::Now));
    assert!(insert(&mut tree, &path(&["a", "c"]), Node::Remove));
    for taken in [&["a"][..], &["a", "b"], &["a", "b", "c"], &[]] {
        assert!(!insert(&mut tree, &path(taken), Node::Remove), "{taken:?}");
    }
}

#[test]
fn a_server_time_has_whole_milliseconds() {
    let change = Change::Replace(Tree::from([("at".to_owned(), Node::Now)]));
    let at = |now| change.apply(None, now).and_then(|mut fields| fields.remove("at"));
    assert_eq!(at(1_234_567), Some(Value::Moment(1_234_000)));
    assert_eq!(at(-1), Some(Value::Moment(-1_000)));
}

#[test]
fn the_size_is_at_least_that_of_the_fields() {
    let inner = Fields::from([("deep".to_owned(), Value::Text("x".repeat(100)))]);
    let fields = Fields::from([("map".to_owned(), Value::Map(inner))]);
    for change in [Change::set(fields.clone()), Change::merge(fields.clone())] {
        assert!(change.size() >= size_of_fields(&fields), "{change:?}");
    }
}
