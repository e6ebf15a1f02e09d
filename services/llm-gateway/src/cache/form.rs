//! The canonical form of a request: what means the same is the same bytes, and what does not is not.
//!
//! 1. Every part is tagged and, where its length varies, preceded by it: no two requests share a form by where one part ends.
//! 2. Maps are sorted by name; a number is the same however it is written (`1`, `1.0`, `1e0`), and so is zero of either sign.
//! 3. Texts are in Unicode's normal form C (UAX #15): an `é` of one code point and one of two are the same word.

use std::borrow::Cow;

use serde_json::{Number, Value};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use crate::conversation::{Content, Message, Object};

/// Integers up to here are exact as floating point numbers.
const EXACT: u64 = 1 << 53;

/// A canonical form under construction.
pub(super) struct Form(Vec<u8>);

impl Form {
    pub(super) fn new(kind: &str, tenant: &str, model: &str) -> Self {
        let mut form = Self(Vec::with_capacity(512));
        // As they are: two tenants are never one.
        for text in [kind, tenant, model] {
            form.bytes(text.as_bytes());
        }
        form
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(normal(text).as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Adds a count: one byte where it is small, as most are, since every byte of a form is hashed for every call.
    pub(super) fn count(&mut self, count: usize) {
        match u8::try_from(count) {
            Ok(small) if small < u8::MAX => self.0.push(small),
            _ => {
                self.0.push(u8::MAX);
                self.bits(u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
    }

    pub(super) fn number(&mut self, value: f64) {
        // One zero.
        self.bits(if value == 0.0 { 0.0_f64.to_bits() } else { value.to_bits() });
    }

    /// Adds a turn but its words.
    pub(super) fn turn(&mut self, message: &Message) {
        self.text(message.role.as_str());
        self.count(message.tool_calls.len());
        for call in &message.tool_calls {
            self.text(&call.id);
            self.text(&call.name);
            self.text(&call.arguments);
        }
        self.text(message.tool_call_id.as_deref().unwrap_or_default());
        self.object(&message.extra);
    }

    /// Adds the words of a turn.
    pub(super) fn content(&mut self, content: &Content) {
        match content {
            Content::None => self.0.push(b'0'),
            Content::Text(text) => {
                self.0.push(b't');
                self.text(text);
            }
            Content::Parts(parts) => {
                self.0.push(b'p');
                self.count(parts.len());
                parts.iter().for_each(|part| self.json(part));
            }
        }
    }

    pub(super) fn object(&mut self, object: &Object) {
        let mut entries: Vec<_> = object.iter().map(|(name, value)| (normal(name), value)).collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.count(entries.len());
        for (name, value) in entries {
            self.bytes(name.as_bytes());
            self.json(value);
        }
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.push(b'0'),
            Value::Bool(value) => self.0.extend_from_slice(&[b'b', u8::from(*value)]),
            Value::Number(number) => self.json_number(number),
            Value::String(text) => {
                self.0.push(b't');
                self.text(text);
            }
            Value::Array(list) => {
                self.0.push(b'l');
                self.count(list.len());
                list.iter().for_each(|value| self.json(value));
            }
            Value::Object(object) => {
                self.0.push(b'm');
                self.object(object);
            }
        }
    }

    fn json_number(&mut self, number: &Number) {
        match (number.as_i64(), number.as_u64(), number.as_f64()) {
            // Beyond what floating point holds exactly, neighbours must stay apart.
            (Some(whole), ..) if whole.unsigned_abs() > EXACT => {
                self.0.push(b'i');
                self.0.extend_from_slice(&whole.to_le_bytes());
            }
            (None, Some(whole), _) => {
                self.0.push(b'u');
                self.bits(whole);
            }
            (.., value) => {
                self.0.push(b'f');
                self.number(value.unwrap_or_default());
            }
        }
    }

    fn bits(&mut self, bits: u64) {
        self.0.extend_from_slice(&bits.to_le_bytes());
    }
}

fn normal(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Form;

    fn form(text: &str) -> Vec<u8> {
        let mut form = Form::new("k", "t", "m");
        form.json(&serde_json::from_str::<Value>(text).unwrap());
        form.finish()
    }

    #[test]
    fn what_means_the_same_is_the_same() {
        for (one, other) in [
            (r#"{"a": 1, "b": [1.0, 0.0]}"#, r#"{"b": [1e0, -0.0], "a": 1.0}"#),
            (r#"{"caf\u00e9": "\u00e9"}"#, "{\"cafe\\u0301\": \"e\\u0301\"}"),
            ("3", "3.0"),
        ] {
            assert_eq!(form(one), form(other), "{one}");
        }
    }

    #[test]
    fn what_does_not_is_not() {
        let different = [
            "null",
            "0",
            "\"0\"",
            "false",
            "[]",
            "{}",
            "[0]",
            "[[0]]",
            r#"{"a":0}"#,
            r#"{"a":[0]}"#,
            "25",
            "250",
            "-25",
            "0.25",
            "9007199254740993",
            "9007199254740994",
            "18446744073709551615",
            "18446744073709551614",
            "\"a\"",
            "\"A\"",
            "\"a \"",
        ];
        for (place, one) in different.iter().enumerate() {
            for other in &different[place + 1..] {
                assert_ne!(form(one), form(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_list_does_not_run_into_the_next() {
        assert_ne!(form(&json!([["a"], ["b"]]).to_string()), form(&json!([["a", "b"], []]).to_string()));
    }
}
