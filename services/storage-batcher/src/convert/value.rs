//! Values.

use std::collections::HashMap;

use contracts::storage::{self as wire, value::Kind};
use rpc::Fault;

use super::{MAX_NAME, is_reserved};
use crate::document::{Fields, MAX_DOCUMENT_BYTES, Value};

/// Deepest nesting of maps: Firestore's limit.
const MAX_DEPTH: usize = 20;

/// Longest text or bytes: Firestore's limit.
const MAX_VALUE_BYTES: usize = MAX_DOCUMENT_BYTES - 89;

/// Checks named values; `depth` is the number of maps around them.
pub(super) fn fields(
    fields: HashMap<String, wire::Value>,
    path: &str,
    depth: usize,
) -> Result<Fields, Fault> {
    fields
        .into_iter()
        .map(|(name, given)| {
            let path = format!("{path}.{name}");
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(Fault::invalid(path, "must have a name of 1 to 1500 bytes"));
            }
            if is_reserved(&name) {
                return Err(Fault::invalid(
                    path,
                    "must not have a name of the form __x__, which is reserved",
                ));
            }
            let value = value(given, &path, depth)?;
            Ok((name, value))
        })
        .collect()
}

/// Returns values for the wire.
pub(super) fn fields_to_wire(fields: Fields) -> HashMap<String, wire::Value> {
    fields.into_iter().map(|(name, value)| (name, value_to_wire(value))).collect()
}

fn value(given: wire::Value, path: &str, depth: usize) -> Result<Value, Fault> {
    let wrong = |must: &str| Err(Fault::invalid(path, must));
    Ok(match given.kind {
        None => return wrong("must hold a value"),
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BooleanValue(boolean)) => Value::Boolean(boolean),
        Some(Kind::IntegerValue(integer)) => Value::Integer(integer),
        Some(Kind::DoubleValue(double)) if double.is_finite() => Value::Double(double),
        Some(Kind::DoubleValue(_)) => return wrong("must be a finite number"),
        Some(Kind::StringValue(text)) if text.len() <= MAX_VALUE_BYTES => Value::Text(text),
        Some(Kind::BytesValue(bytes)) if bytes.len() <= MAX_VALUE_BYTES => Value::Bytes(bytes),
        Some(Kind::StringValue(_) | Kind::BytesValue(_)) => {
            return wrong("must be at most 1 MiB - 89 bytes");
        }
        Some(Kind::TimestampValue(time)) => {
            rpc::time::from_proto(&time, path)?;
            Value::Moment(time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000)
        }
        Some(Kind::ArrayValue(array)) => Value::Array(list(array.values, path, depth)?),
        Some(Kind::MapValue(_)) if depth >= MAX_DEPTH => {
            return wrong("must not be nested more than 20 maps deep");
        }
        Some(Kind::MapValue(map)) => Value::Map(fields(map.fields, path, depth + 1)?),
    })
}

fn list(values: Vec<wire::Value>, path: &str, depth: usize) -> Result<Vec<Value>, Fault> {
    values
        .into_iter()
        .enumerate()
        .map(|(index, given)| {
            let path = format!("{path}[{index}]");
            if matches!(given.kind, Some(Kind::ArrayValue(_))) {
                return Err(Fault::invalid(path, "must not be a list within a list"));
            }
            value(given, &path, depth)
        })
        .collect()
}

fn value_to_wire(value: Value) -> wire::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(true),
        Value::Boolean(boolean) => Kind::BooleanValue(boolean),
        Value::Integer(integer) => Kind::IntegerValue(integer),
        Value::Double(double) => Kind::DoubleValue(double),
        Value::Text(text) => Kind::StringValue(text),
        Value::Bytes(bytes) => Kind::BytesValue(bytes),
        Value::Moment(micros) => Kind::TimestampValue(super::answer::timestamp(micros)),
        Value::Array(values) => {
            Kind::ArrayValue(wire::ArrayValue { values: values.into_iter().map(value_to_wire).collect() })
        }
        Value::Map(fields) => Kind::MapValue(wire::MapValue { fields: fields_to_wire(fields) }),
    };
    wire::Value { kind: Some(kind) }
}
