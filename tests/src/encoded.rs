//! Messages as bytes that are the same each time: a map of the library's own comes out in another order in each process.

use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage as _, Value};

/// Writes a message with its fields by number and its maps by key.
#[must_use]
pub fn encoded(message: &DynamicMessage) -> Vec<u8> {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(|(field, _)| field.number());
    let mut bytes = Vec::new();
    for (field, value) in fields {
        match value {
            Value::Message(inner) => delimited(&field, &encoded(inner), &mut bytes),
            Value::List(values) if values.iter().all(|value| value.as_message().is_some()) => {
                for inner in values.iter().filter_map(Value::as_message) {
                    delimited(&field, &encoded(inner), &mut bytes);
                }
            }
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| order(key));
                for (key, value) in entries {
                    entry(&field, key, value, &mut bytes);
                }
            }
            value => alone(message, &field, value.clone(), &mut bytes),
        }
    }
    bytes
}

fn delimited(field: &FieldDescriptor, inner: &[u8], bytes: &mut Vec<u8>) {
    encode_key(field.number(), WireType::LengthDelimited, bytes);
    encode_varint(inner.len() as u64, bytes);
    bytes.extend_from_slice(inner);
}

/// Writes an entry of a map, which is a message of a key and a value.
fn entry(field: &FieldDescriptor, key: &MapKey, value: &Value, bytes: &mut Vec<u8>) {
    let kind = field.kind();
    let Some(kind) = kind.as_message() else { return };
    let mut made = DynamicMessage::new(kind.clone());
    made.set_field(&kind.map_entry_key_field(), key.clone().into());
    made.set_field(&kind.map_entry_value_field(), value.clone());
    delimited(field, &encoded(&made), bytes);
}

/// Writes a field as the library does that has no map in it.
fn alone(of: &DynamicMessage, field: &FieldDescriptor, value: Value, bytes: &mut Vec<u8>) {
    let mut made = DynamicMessage::new(of.descriptor());
    made.set_field(field, value);
    bytes.extend(made.encode_to_vec());
}

fn order(key: &MapKey) -> String {
    format!("{key:?}")
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn a_message_says_the_same_each_time() {
        let pool = DescriptorPool::decode(contracts::DESCRIPTOR_SET).unwrap();
        let request = pool.get_message_by_name("athena.memory.v1.RememberBatchRequest").unwrap();
        let memory = pool.get_message_by_name("athena.memory.v1.Memory").unwrap();
        let made = || {
            let mut one = DynamicMessage::new(memory.clone());
            let entry = |n: u32| (MapKey::String(format!("key-{n}")), Value::String(n.to_string()));
            one.set_field_by_name("metadata", Value::Map((0..50).map(entry).collect()));
            one.set_field_by_name("content", Value::String("words".to_owned()));
            one.set_field_by_name("embedding", Value::List(vec![Value::F32(1.0), Value::F32(2.0)]));
            let mut all = DynamicMessage::new(request.clone());
            all.set_field_by_name("memories", Value::List(vec![Value::Message(one)]));
            all
        };
        assert_eq!(encoded(&made()), encoded(&made()));
        assert_eq!(DynamicMessage::decode(request.clone(), &encoded(&made())[..]).unwrap(), made());
    }
}
