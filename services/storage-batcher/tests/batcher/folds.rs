//! Random writes, folded and sent to an emulated Firestore, and the same writes one by one into the embedded store: the documents are
//! equal.

use std::collections::{BTreeSet, HashMap};

use contracts::storage::{field_transform::TransformType, value::Kind, *};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use storage_batcher::change::path;

use crate::{
    harness::{Client, Service, accept, flush, get, integer, write},
    project::Firestore,
};

/// Few, so that writes meet in the same fields.
const NAMES: &[&str] = &["a", "a.b", "`"];
const DOCUMENTS: usize = 120;
const ROUNDS: usize = 8;

fn any_path() -> impl Strategy<Value = String> {
    let names = prop::collection::vec(prop::sample::select(NAMES).prop_map(str::to_owned), 1..4);
    names.prop_map(|names| path::format(&names))
}

fn quoted(name: &str) -> String {
    path::format(&[name.to_owned()])
}

fn any_number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3_i64..4).prop_map(integer),
        prop::sample::select(vec![i64::MAX, i64::MIN]).prop_map(integer),
        // Halves, whose sums are exact.
        (-4_i32..5).prop_map(|halves| Value { kind: Some(Kind::DoubleValue(f64::from(halves) / 2.0)) }),
    ]
}

fn any_scalar() -> impl Strategy<Value = Value> {
    prop_oneof![any_number(), Just(Value { kind: Some(Kind::StringValue("x".to_owned())) })]
}

fn any_list() -> impl Strategy<Value = ArrayValue> {
    prop::collection::vec(any_scalar(), 0..4).prop_map(|values| ArrayValue { values })
}

fn any_fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = MapValue> {
    let named = (prop::sample::select(NAMES).prop_map(str::to_owned), value);
    prop::collection::vec(named, 0..3).prop_map(|fields| MapValue { fields: fields.into_iter().collect() })
}

fn any_value() -> impl Strategy<Value = Value> {
    let list = any_list().prop_map(|list| Value { kind: Some(Kind::ArrayValue(list)) });
    prop_oneof![any_scalar(), list].prop_recursive(3, 10, 3, |inner| {
        any_fields(inner).prop_map(|map| Value { kind: Some(Kind::MapValue(map)) })
    })
}

fn any_transform() -> impl Strategy<Value = FieldTransform> {
    let kind = prop_oneof![
        Just(TransformType::SetToServerValue(ServerValue::RequestTime.into())),
        any_number().prop_map(TransformType::Increment),
        any_number().prop_map(TransformType::Increment),
        any_number().prop_map(TransformType::Maximum),
        any_number().prop_map(TransformType::Minimum),
        any_list().prop_map(TransformType::AppendMissingElements),
        any_list().prop_map(TransformType::RemoveAllFromArray),
    ];
    let path = prop_oneof![prop::sample::select(NAMES).prop_map(quoted), any_path()];
    (path, kind).prop_map(|(field_path, kind)| FieldTransform { field_path, transform_type: Some(kind) })
}

fn any_write(id: String, key: String) -> impl Strategy<Value = DocumentWrite> {
    let transforms = prop::collection::vec(any_transform(), 0..3);
    let mask = prop::collection::vec(any_path(), 0..3);
    let value = prop_oneof![any_number(), any_value()];
    (0..8, any_fields(value), mask, transforms).prop_map(
        move |(mode, fields, field_paths, update_transforms)| {
            let keyed = DocumentWrite { idempotency_key: key.clone(), ..write(WriteMode::Delete, &id, &[]) };
            if mode == 0 {
                return keyed;
            }
            DocumentWrite {
                mode: if mode == 1 { WriteMode::Set } else { WriteMode::Merge }.into(),
                fields: fields.fields,
                update_mask: (mode > 5).then_some(DocumentMask { field_paths }),
                update_transforms,
                ..keyed
            }
        },
    )
}

/// Deletes what `before` gave by transforms and by leaves: maps that it made stay, with nothing in them.
fn undo(before: &DocumentWrite, key: String) -> DocumentWrite {
    fn leaves(fields: &HashMap<String, Value>, above: &[String], found: &mut BTreeSet<String>) {
        for (name, value) in fields {
            let names = [above, std::slice::from_ref(name)].concat();
            match &value.kind {
                Some(Kind::MapValue(map)) if !map.fields.is_empty() => leaves(&map.fields, &names, found),
                _ => drop(found.insert(path::format(&names))),
            }
        }
    }
    let mut field_paths: BTreeSet<_> =
        before.update_transforms.iter().map(|transform| transform.field_path.clone()).collect();
    // No path may lie within another: what transforms give is enough where there is both.
    if field_paths.is_empty() {
        leaves(&before.fields, &[], &mut field_paths);
    }
    let update_mask = Some(DocumentMask { field_paths: field_paths.into_iter().collect() });
    DocumentWrite { idempotency_key: key, update_mask, ..write(WriteMode::Merge, &before.document_id, &[]) }
}

/// A document without its moments, which are those of two clocks.
async fn timeless(client: &mut Client, id: &str) -> Option<Value> {
    fn forget(value: Value) -> Value {
        let kind = match value.kind {
            Some(Kind::TimestampValue(_)) => Some(Kind::StringValue("a moment".to_owned())),
            Some(Kind::MapValue(map)) => {
                let fields = map.fields.into_iter().map(|(name, value)| (name, forget(value)));
                Some(Kind::MapValue(MapValue { fields: fields.collect() }))
            }
            other => other,
        };
        Value { kind }
    }
    let fields = get(client, id).await?.fields;
    Some(forget(Value { kind: Some(Kind::MapValue(MapValue { fields })) }))
}

#[tokio::test]
async fn what_is_folded_for_firestore_is_what_comes_of_the_writes_one_by_one() {
    let firestore = Firestore::open().await;
    let (folding, stepping) = (firestore.batcher().await, Service::start().await);
    let (mut folded, mut stepped) = (folding.client(), stepping.client());
    let mut runner = TestRunner::deterministic();
    let ids: Vec<_> = (0..DOCUMENTS).map(|number| format!("document-{number}")).collect();
    let mut log: Vec<Vec<DocumentWrite>> = Vec::new();
    for round in 0..ROUNDS {
        let mut writes: Vec<_> = ids
            .iter()
            .map(|id| any_write(id.clone(), format!("{id} {round}")).new_tree(&mut runner).unwrap().current())
            .collect();
        if let Some(before) = log.last() {
            for (write, before) in writes.iter_mut().zip(before).skip(round % 4).step_by(4) {
                let undone = undo(before, write.idempotency_key.clone());
                if undone.update_mask.as_ref().is_some_and(|mask| !mask.field_paths.is_empty()) {
                    *write = undone;
                }
            }
        }
        accept(&mut folded, writes.clone()).await;
        accept(&mut stepped, writes.clone()).await;
        log.push(writes);
        assert!(flush(&mut stepped).await.refused.is_empty());
        for sent in [false, true] {
            if sent {
                // Four rounds fold into one.
                if round % (ROUNDS / 2) != ROUNDS / 2 - 1 {
                    continue;
                }
                assert!(flush(&mut folded).await.refused.is_empty());
            }
            for (place, id) in ids.iter().enumerate() {
                let writes: Vec<_> = log.iter().map(|round| &round[place]).collect();
                let (one, two) = (timeless(&mut folded, id).await, timeless(&mut stepped, id).await);
                assert_eq!(one, two, "sent: {sent}, {writes:#?}");
            }
        }
    }
    folding.stop().await;
    stepping.stop().await;
    firestore.stop().await;
}
