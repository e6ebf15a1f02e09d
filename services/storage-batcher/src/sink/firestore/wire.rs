//! Documents and writes as Firestore's messages.

use std::collections::HashMap;

use ::firestore::gcloud_sdk::google::firestore::v1::{
    ArrayValue, Cursor, Document, DocumentMask, MapValue, RunQueryRequest, StructuredQuery, Value as Wire,
    Write,
    run_query_request::QueryType,
    structured_query::{CollectionSelector, Direction, FieldReference, Order},
    value::ValueType,
    write::Operation,
};
use prost_types::Timestamp;

use crate::{
    buckets::path_safe,
    document::{Fields, Key, Value},
    fold::Folded,
    queue::Entry,
    sink::Range,
};

/// The tenant whose documents lie at the root of the database.
const ROOT_TENANT: &str = "default";

/// Returns the write of `entry` in the database whose documents lie below `root`.
pub(super) fn write(root: &str, entry: &Entry) -> Write {
    let name = document_name(root, &entry.key);
    let (fields, update_mask) = match &entry.folded {
        Folded::Delete => return Write { operation: Some(Operation::Delete(name)), ..Default::default() },
        Folded::Replace(fields) => (fields_to(fields), None),
        Folded::Patch(patch) => {
            let mut fields = Fields::new();
            patch.apply(&mut fields);
            let field_paths = patch.leaves().map(|(path, _)| field_path(path)).collect();
            (fields_to(&fields), Some(DocumentMask { field_paths }))
        }
    };
    let document = Document { name, fields, ..Default::default() };
    Write { update_mask, operation: Some(Operation::Update(document)), ..Default::default() }
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
    let query = StructuredQuery {
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

/// Returns a field path for a mask: a name that is no plain identifier stands in backquotes, as pool addresses must.
fn field_path(path: &[String]) -> String {
    path.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(".")
}

fn quoted(name: &str) -> String {
    let starts_plain = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_plain && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return name.to_owned();
    }
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

#[cfg(test)]
mod tests {
    use super::{document_name, field_path, fields_from, fields_to};
    use crate::document::{Fields, Key, Value};

    #[test]
    fn names_that_are_no_identifiers_are_quoted_in_a_mask() {
        let path =
            |names: &[&str]| field_path(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(path(&["pools", "0x12", "apr_7d"]), "pools.`0x12`.apr_7d");
        assert_eq!(path(&["a-b", "aé", "a.b"]), "`a-b`.`aé`.`a.b`");
        assert_eq!(path(&["tick`\\"]), "`tick\\`\\\\`");
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
