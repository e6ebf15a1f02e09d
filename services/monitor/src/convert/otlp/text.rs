//! Attribute values as bounded text.

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value::Value};

/// Most attributes kept of a span or a series.
pub(super) const MOST_ATTRIBUTES: usize = 64;

/// Most bytes kept of a text; a longer one ends in `…`.
const MOST_BYTES: usize = 1_024;

/// How deep lists in lists are written.
const MOST_LEVELS: usize = 4;

/// Returns a value as text: lists as `[a, b]`, maps as `{k: v}`, bytes as hexadecimal digits.
pub(super) fn of(value: &AnyValue) -> String {
    let mut text = String::new();
    write(&mut text, value, MOST_LEVELS);
    cut(&text)
}

/// Returns `text`, shortened to what is kept.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= MOST_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MOST_BYTES);
    format!("{}…", &text[..end])
}

fn write(text: &mut String, value: &AnyValue, levels: usize) {
    // Whatever follows would be cut off; an attacker's nested list is not even walked.
    if text.len() > MOST_BYTES {
        return;
    }
    match &value.value {
        Some(Value::StringValue(string)) => text.push_str(string),
        Some(Value::BoolValue(switch)) => text.push_str(if *switch { "true" } else { "false" }),
        Some(Value::IntValue(number)) => text.push_str(&number.to_string()),
        Some(Value::DoubleValue(number)) => text.push_str(&number.to_string()),
        Some(Value::BytesValue(bytes)) => {
            bytes.iter().take(MOST_BYTES).for_each(|byte| text.push_str(&format!("{byte:02x}")));
        }
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) if levels == 0 => text.push('…'),
        Some(Value::ArrayValue(list)) => {
            text.push('[');
            for (place, value) in list.values.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { ", " });
                write(text, value, levels - 1);
            }
            text.push(']');
        }
        Some(Value::KvlistValue(map)) => {
            text.push('{');
            for (place, pair) in map.values.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { ", " });
                text.push_str(&pair.key);
                text.push_str(": ");
                if let Some(value) = &pair.value {
                    write(text, value, levels - 1);
                }
            }
            text.push('}');
        }
        // The last one points into a table that only profiles have.
        None | Some(Value::StringValueStrindex(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value::Value};

    use super::{MOST_BYTES, cut, of};

    fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    #[test]
    fn values_of_every_kind_become_text() {
        let list = vec![any(Value::IntValue(1)), any(Value::BoolValue(true)), any(Value::DoubleValue(0.5))];
        assert_eq!(of(&any(Value::ArrayValue(ArrayValue { values: list }))), "[1, true, 0.5]");
        assert_eq!(of(&any(Value::BytesValue(vec![0, 255]))), "00ff");
        assert_eq!(of(&AnyValue::default()), "");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = cut(&"é".repeat(MOST_BYTES));
        assert!(text.len() <= MOST_BYTES + '…'.len_utf8() && text.ends_with("é…"));
    }

    #[test]
    fn lists_in_lists_end() {
        let nested = (0..100).fold(any(Value::IntValue(1)), |inner, _| {
            any(Value::ArrayValue(ArrayValue { values: vec![inner] }))
        });
        assert_eq!(of(&nested), "[[[[…]]]]");
    }
}
