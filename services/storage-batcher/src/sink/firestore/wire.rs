//! Documents and writes as Firestore's messages.

use std::{collections::HashMap, time::SystemTime};

use ::firestore::gcloud_sdk::google::firestore::v1::{
    ArrayValue, Cursor, Document, DocumentMask, MapValue, Precondition, RunQueryRequest, StructuredQuery,
    Value as Wire, Write,
    document_transform::{
        FieldTransform,
        field_transform::{ServerValue, TransformType},
    },
    precondition::ConditionType,
    run_query_request::QueryType,
    structured_query::{CollectionSelector, Direction, FieldReference, Order, Projection},
    value::ValueType,
    write::Operation,
};
use prost_types::Timestamp;

use crate::{
    buckets::path_safe,
    change::{Change, Node, Number, Transform, Tree, path},
    document::{Fields, Key, Value},
    queue::Entry,
    sink::{LEDGER_COLLECTION, LEDGER_EXPIRY, Range},
};

/// The tenant whose documents lie at the root of the database.
const ROOT_TENANT: &str = "default";

/// A write in the making: the parts beside the document's own fields.
#[derive(Default)]
struct Parts {
    mask: Vec<String>,
    transforms: Vec<FieldTransform>,
}

/// Returns the write of `entry` in the database whose documents lie below `root`.
pub(super) fn write(root: &str, entry: &Entry) -> Write {
    let name = document_name(root, &entry.key);
    let change = entry.change();
    let (tree, is_patch) = match &*change {
        Change::Delete => return Write { operation: Some(Operation::Delete(name)), ..Default::default() },
        Change::Replace(tree) => (tree, false),
        Change::Patch(tree) => (tree, true),
    };
    let mut parts = Parts::default();
    let fields = parts.collect(tree, &mut Vec::new(), is_patch);
    Write {
        update_mask: is_patch.then_some(DocumentMask { field_paths: parts.mask }),
        update_transforms: parts.transforms,
        operation: Some(Operation::Update(Document { name, fields, ..Default::default() })),
        ..Default::default()
    }
}

/// Returns the write of the ledger document `id`, which fails if it is there already. A TTL policy may delete it after `expires`.
pub(super) fn ledger(root: &str, id: &str, expires: SystemTime) -> Write {
    let expires = Wire { value_type: Some(ValueType::TimestampValue(rpc::time::to_proto(expires))) };
    let document = Document {
        name: format!("{root}/{LEDGER_COLLECTION}/{id}"),
        fields: HashMap::from([(LEDGER_EXPIRY.to_owned(), expires)]),
        ..Default::default()
    };
    Write {
        current_document: Some(Precondition { condition_type: Some(ConditionType::Exists(false)) }),
        operation: Some(Operation::Update(document)),
        ..Default::default()
    }
}

impl Parts {
    /// Returns the fields of the document that `tree`, at `path`, puts; each of them and what is removed stands in the mask if it
    /// `is_masked`: a map that is put as a whole does, and not what is in it.
    fn collect(&mut self, tree: &Tree, path: &mut Vec<String>, is_masked: bool) -> HashMap<String, Wire> {
        let mut fields = HashMap::new();
        for (name, node) in tree {
            path.push(name.clone());
            if is_masked && matches!(node, Node::Put(_) | Node::Whole(_) | Node::Remove) {
                self.mask.push(path::format(path));
            }
            match node {
                Node::Put(value) => drop(fields.insert(name.clone(), value_to(value))),
                Node::Whole(inner) => {
                    let inner = self.collect(inner, path, false);
                    fields.insert(name.clone(), map(inner));
                }
                Node::Within(inner) => {
                    let inner = self.collect(inner, path, is_masked);
                    if !inner.is_empty() {
                        fields.insert(name.clone(), map(inner));
                    }
                }
                Node::Remove => {}
                Node::Now => {
                    self.transform(path, TransformType::SetToServerValue(ServerValue::RequestTime as i32));
                }
                Node::Transforms(list) => {
                    list.iter().for_each(|transform| self.transform(path, transform_to(transform)));
                }
            }
            path.pop();
        }
        fields
    }

    fn transform(&mut self, path: &[String], transform: TransformType) {
        let (field_path, transform_type) = (path::format(path), Some(transform));
        self.transforms.push(FieldTransform { field_path, transform_type });
    }
}

fn transform_to(transform: &Transform) -> TransformType {
    let number = |number: &Number| value_to(&number.value());
    let list = |values: &[Value]| ArrayValue { values: values.iter().map(value_to).collect() };
    match transform {
        Transform::Increment(by) => TransformType::Increment(number(by)),
        Transform::Maximum(other) => TransformType::Maximum(number(other)),
        Transform::Minimum(other) => TransformType::Minimum(number(other)),
        Transform::Union(values) => TransformType::AppendMissingElements(list(values)),
        Transform::Subtract(values) => TransformType::RemoveAllFromArray(list(values)),
    }
}

fn map(fields: HashMap<String, Wire>) -> Wire {
    Wire { value_type: Some(ValueType::MapValue(MapValue { fields })) }
}

/// Returns the full name of a document.
pub(super) fn document_name(root: &str, key: &Key) -> String {
    format!("{}/{}/{}", parent(root, &key.tenant), key.collection, key.id)
}

/// Returns the query for `range`, one document more than asked for: whether it comes tells whether there is more.
pub(super) fn query(root: &str, range: &Range) -> RunQueryRequest {
    let parent = parent(root, &range.tenant);
    let place = |id: &str| Wire {
        value_type: Some(ValueType::ReferenceValue(format!("{parent}/{}/{id}", range.collection))),
    };
    let by_name = Order {
        field: Some(FieldReference { field_path: "__name__".to_owned() }),
        direction: Direction::Ascending as i32,
    };
    let field = |path: &String| FieldReference { field_path: path.clone() };
    let only = Projection { fields: range.only.iter().map(field).collect() };
    let query = StructuredQuery {
        select: (!range.only.is_empty()).then_some(only),
        from: vec![CollectionSelector {
            collection_id: range.collection.to_string(),
            all_descendants: false,
        }],
        order_by: vec![by_name],
        start_at: (!range.after.is_empty())
            .then(|| Cursor { values: vec![place(&range.after)], before: false }),
        end_at: range.before.as_deref().map(|id| Cursor { values: vec![place(id)], before: true }),
        limit: Some(i32::try_from(range.limit).unwrap_or(i32::MAX).saturating_add(1)),
        ..Default::default()
    };
    RunQueryRequest { parent, query_type: Some(QueryType::StructuredQuery(query)), ..Default::default() }
}

/// Returns the values of a document.
///
/// Kinds that only others write become the nearest kind of ours: a reference its name, a place a map; what else there is, null.
pub(super) fn fields_from(fields: HashMap<String, Wire>) -> Fields {
    fields.into_iter().map(|(name, value)| (name, value_from(value))).collect()
}

fn parent(root: &str, tenant: &str) -> String {
    if tenant == ROOT_TENANT { root.to_owned() } else { format!("{root}/tenants/{}", path_safe(tenant)) }
}

fn fields_to(fields: &Fields) -> HashMap<String, Wire> {
    fields.iter().map(|(name, value)| (name.clone(), value_to(value))).collect()
}

fn value_to(value: &Value) -> Wire {
    let kind = match value {
        Value::Null => ValueType::NullValue(0),
        Value::Boolean(boolean) => ValueType::BooleanValue(*boolean),
        Value::Integer(integer) => ValueType::IntegerValue(*integer),
        Value::Double(double) => ValueType::DoubleValue(*double),
        Value::Text(text) => ValueType::StringValue(text.clone()),
        Value::Bytes(bytes) => ValueType::BytesValue(bytes.clone()),
        Value::Moment(micros) => ValueType::TimestampValue(Timestamp {
            seconds: micros.div_euclid(1_000_000),
            nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
        }),
        Value::Array(values) => {
            ValueType::ArrayValue(ArrayValue { values: values.iter().map(value_to).collect() })
        }
        Value::Map(fields) => ValueType::MapValue(MapValue { fields: fields_to(fields) }),
    };
    Wire { value_type: Some(kind) }
}

fn value_from(value: Wire) -> Value {
    match value.value_type {
        Some(ValueType::BooleanValue(boolean)) => Value::Boolean(boolean),
        Some(ValueType::IntegerValue(integer)) => Value::Integer(integer),
        Some(ValueType::DoubleValue(double)) => Value::Double(double),
        Some(ValueType::StringValue(text) | ValueType::ReferenceValue(text)) => Value::Text(text),
        Some(ValueType::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(ValueType::TimestampValue(time)) => {
            Value::Moment(time.seconds.saturating_mul(1_000_000) + i64::from(time.nanos) / 1_000)
        }
        Some(ValueType::ArrayValue(array)) => {
            Value::Array(array.values.into_iter().map(value_from).collect())
        }
        Some(ValueType::MapValue(map)) => Value::Map(fields_from(map.fields)),
        Some(ValueType::GeoPointValue(place)) => Value::Map(Fields::from([
            ("latitude".to_owned(), Value::Double(place.latitude)),
            ("longitude".to_owned(), Value::Double(place.longitude)),
        ])),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{Operation, document_name, fields_from, fields_to, write};
    use crate::{
        change::{Change, Node, Number, Transform},
        document::{Fields, Key, Priority, Value},
        ledger::Weight,
        queue::{Accepted, Entry},
    };

    #[test]
    fn a_change_is_one_write_of_mask_values_and_transforms() {
        let tree = |nodes: Vec<(&str, Node)>| {
            nodes.into_iter().map(|(name, node)| (name.to_owned(), node)).collect()
        };
        let put = |number| Node::Put(Value::Integer(number));
        let increment = Node::Transforms(vec![Transform::Increment(Number::Integer(1))]);
        let within = tree(vec![("a.b", put(1)), ("gone", Node::Remove), ("n", increment)]);
        let whole = tree(vec![("at", Node::Now), ("x", put(2))]);
        let change = Change::Patch(tree(vec![("0x12", Node::Within(within)), ("m", Node::Whole(whole))]));
        let entry = |change| {
            Entry::from(Accepted {
                sequence: 1,
                key: Key::new("default", "pools", "0x1"),
                change,
                priority: Priority::Normal,
                at: UNIX_EPOCH,
                weight: Weight::default(),
                caller: "".into(),
                journal_bytes: 1,
            })
        };
        let sent = write("r", &entry(change));
        assert_eq!(sent.update_mask.unwrap().field_paths, ["`0x12`.`a.b`", "`0x12`.gone", "m"]);
        let transforms: Vec<_> =
            sent.update_transforms.into_iter().map(|transform| transform.field_path).collect();
        assert_eq!(transforms, ["`0x12`.n", "m.at"]);
        let Some(Operation::Update(document)) = sent.operation else { panic!("an update") };
        let map = |name: &str, number| Value::Map(Fields::from([(name.to_owned(), Value::Integer(number))]));
        let expected = Fields::from([("0x12".to_owned(), map("a.b", 1)), ("m".to_owned(), map("x", 2))]);
        assert_eq!(fields_from(document.fields), expected);
        let set = write("r", &entry(Change::set(Fields::new())));
        assert!(set.update_mask.is_none(), "a set replaces the document");
        let merge = write("r", &entry(Change::merge(Fields::new())));
        assert!(merge.update_mask.is_some_and(|mask| mask.field_paths.is_empty()), "a merge never does");
    }

    #[test]
    fn only_the_default_tenant_lies_at_the_root() {
        assert_eq!(document_name("r", &Key::new("default", "pools", "0x1")), "r/pools/0x1");
        assert_eq!(document_name("r", &Key::new("a/b", "pools", "0x1")), "r/tenants/a%2Fb/pools/0x1");
    }

    #[test]
    fn every_kind_of_value_comes_back() {
        let all = [
            Value::Null,
            Value::Boolean(true),
            Value::Integer(-7),
            Value::Double(0.1),
            Value::Text("é".to_owned()),
            Value::Bytes(vec![0, 255]),
            Value::Moment(-1_500_001),
            Value::Array(vec![Value::Integer(1)]),
            Value::Map(Fields::from([("inner".to_owned(), Value::Null)])),
        ];
        let fields: Fields = (0..).map(|number: u32| number.to_string()).zip(all).collect();
        assert_eq!(fields_from(fields_to(&fields)), fields);
    }
}
