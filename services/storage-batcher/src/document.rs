//! Documents, and how they are named.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Most bytes of one document: Firestore's limit of 1 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// Bytes a protobuf field of variable length costs at most beside its content: a tag and a five-byte length.
const FRAME: usize = 6;

/// The named values of a document or of a map within it, in order of name.
pub type Fields = BTreeMap<String, Value>;

/// Holds one value: Firestore's types without references and places.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A double.
    Double(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A moment, in microseconds since the epoch.
    Moment(i64),
    /// A list; never directly within a list.
    Array(Vec<Self>),
    /// A map.
    Map(Fields),
}

/// Names one document of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The tenant; documents of one are never seen by another.
    pub tenant: Arc<str>,
    /// The collection.
    pub collection: Arc<str>,
    /// The document's id within the collection.
    pub id: Arc<str>,
}

/// Says how soon a write must reach the sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// With the next batch.
    #[default]
    Normal,
    /// At once, in a batch of such documents only.
    High,
}

impl Key {
    /// Returns the tenant and the collection.
    #[must_use]
    pub fn row(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.tenant), Arc::clone(&self.collection))
    }

    /// Names the document `id` of `collection` of `tenant`.
    #[must_use]
    pub fn new(tenant: &str, collection: &str, id: &str) -> Self {
        Self { tenant: tenant.into(), collection: collection.into(), id: id.into() }
    }
}

impl Value {
    /// Returns the bytes of this value in a request to the sink, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::Boolean(_) => 2,
            Self::Integer(_) => 11,
            Self::Double(_) => 9,
            Self::Text(text) => FRAME + text.len(),
            Self::Bytes(bytes) => FRAME + bytes.len(),
            Self::Moment(_) => 23,
            Self::Array(values) => FRAME + values.iter().map(|value| FRAME + value.size()).sum::<usize>(),
            Self::Map(fields) => FRAME + size_of_fields(fields),
        }
    }
}

/// Returns the bytes of `fields` in a request to the sink, at most.
#[must_use]
pub fn size_of_fields(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| 3 * FRAME + name.len() + value.size()).sum()
}

/// Returns the bytes of a document by the rules of Firestore's limit, rounded up where they leave a choice.
#[must_use]
pub fn stored_size(key: &Key, fields: &Fields) -> usize {
    fn map(fields: &Fields) -> usize {
        32 + fields.iter().map(|(name, value)| name.len() + 1 + size(value)).sum::<usize>()
    }
    fn size(value: &Value) -> usize {
        match value {
            Value::Null | Value::Boolean(_) => 1,
            Value::Integer(_) | Value::Double(_) | Value::Moment(_) => 8,
            Value::Text(text) => text.len() + 1,
            Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) => values.iter().map(size).sum(),
            Value::Map(fields) => map(fields),
        }
    }
    16 + key.collection.len() + 1 + key.id.len() + 1 + map(fields)
}

/// Returns `time` in microseconds since the epoch.
pub(crate) fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Fields, Value, size_of_fields};

    #[test]
    fn the_size_counts_names_values_and_nesting() {
        let inner = Fields::from([("deep".to_owned(), Value::Text("x".repeat(100)))]);
        let fields = Fields::from([("map".to_owned(), Value::Map(inner))]);
        let size = size_of_fields(&fields);
        assert!((107..200).contains(&size), "{size}");
    }
}
