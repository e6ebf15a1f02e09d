//! Values.

use std::collections::HashMap;

use contracts::storage::{self as wire, value::Kind};
use rpc::{At, Check};

use super::{MAX_NAME, field_name};
use crate::document::{Fields, MAX_DOCUMENT_BYTES, Value};

/// Deepest nesting of maps: Firestore's limit.
pub(super) const MAX_DEPTH: usize = 20;

/// Longest text or bytes: Firestore's limit.
const MAX_VALUE_BYTES: usize = MAX_DOCUMENT_BYTES - 89;
const BYTES: &str = "must be at most 1 MiB - 89 bytes";

/// Checks named values; `depth` is the number of maps around them.
pub(super) fn fields<F: FromIterator<(String, Value)>>(
    check: &mut Check,
    at: At<'_>,
    fields: HashMap<String, wire::Value>,
    depth: usize,
) -> F {
    let checked = fields.into_iter().map(|(name, given)| {
        field_name(check, at.key(&name), &name, MAX_NAME);
        let value = value(check, at.key(&name), given, depth);
        (name, value)
    });
    checked.collect()
}

/// Returns values for the wire.
pub(super) fn fields_to_wire(fields: Fields) -> HashMap<String, wire::Value> {
    fields.into_iter().map(|(name, value)| (name, value_to_wire(value))).collect()
}

/// Checks a value; null stands in for one that is wrong.
pub(super) fn value(check: &mut Check, at: At<'_>, given: wire::Value, depth: usize) -> Value {
    let fits = |length: usize| length <= MAX_VALUE_BYTES;
    match given.kind {
        None => check.wrong(at, "must hold a value"),
        Some(Kind::NullValue(_)) => {}
        Some(Kind::BooleanValue(boolean)) => return Value::Boolean(boolean),
        Some(Kind::IntegerValue(integer)) => return Value::Integer(integer),
        Some(Kind::DoubleValue(double)) => {
            check.finite(at.field("double_value"), double);
            return Value::Double(double);
        }
        Some(Kind::StringValue(text)) => {
            check.require(at.field("string_value"), fits(text.len()), BYTES);
            return Value::Text(text);
        }
        Some(Kind::BytesValue(bytes)) => {
            check.require(at.field("bytes_value"), fits(bytes.len()), BYTES);
            return Value::Bytes(bytes);
        }
        Some(Kind::TimestampValue(time)) => {
            if check.time(at.field("timestamp_value"), Some(&time)).is_some() {
                return Value::Moment(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000);
            }
        }
        Some(Kind::ArrayValue(array)) => {
            return Value::Array(list(check, at.field("array_value").field("values"), array.values, depth));
        }
        Some(Kind::MapValue(map)) if depth < MAX_DEPTH => {
            return Value::Map(fields(check, at.field("map_value").field("fields"), map.fields, depth + 1));
        }
        Some(Kind::MapValue(_)) => {
            check.wrong(at.field("map_value"), "must not be nested more than 20 maps deep")
        }
    }
    Value::Null
}

pub(super) fn list(check: &mut Check, at: At<'_>, values: Vec<wire::Value>, depth: usize) -> Vec<Value> {
    let numbered = values.into_iter().enumerate();
    let checked = numbered.map(|(index, given)| {
        if matches!(given.kind, Some(Kind::ArrayValue(_))) {
            check.wrong(at.item(index), "must not be a list within a list");
            return Value::Null;
        }
        value(check, at.item(index), given, depth)
    });
    checked.collect()
}

fn value_to_wire(value: Value) -> wire::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(true),
        Value::Boolean(boolean) => Kind::BooleanValue(boolean),
        Value::Integer(integer) => Kind::IntegerValue(integer),
        Value::Double(double) => Kind::DoubleValue(double),
        Value::Text(text) => Kind::StringValue(text),
        Value::Bytes(bytes) => Kind::BytesValue(bytes),
        Value::Moment(micros) => Kind::TimestampValue(timestamp(micros)),
        Value::Array(values) => {
            Kind::ArrayValue(wire::ArrayValue { values: values.into_iter().map(value_to_wire).collect() })
        }
        Value::Map(fields) => Kind::MapValue(wire::MapValue { fields: fields_to_wire(fields) }),
    };
    wire::Value { kind: Some(kind) }
}

/// Returns microseconds since the epoch as a time.
pub(super) fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
