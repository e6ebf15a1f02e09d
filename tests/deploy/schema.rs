//! A manifest's fields against a schema that is data: `cloud_run.json` says what it was taken from.

use serde_json::{Map, Value};

/// The messages of a schema by name, and their fields.
pub(crate) struct Schema(Map<String, Value>);

impl Schema {
    /// Reads a schema.
    pub(crate) fn read(text: &str) -> Self {
        let schema: Value = serde_json::from_str(text).expect("a schema in JSON");
        Self(schema["messages"].as_object().expect("messages").clone())
    }

    /// Returns a line for each field of `value` that the message has not, that is missing, or of another type or value.
    pub(crate) fn faults(&self, message: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.check(&message.into(), value, "", &mut faults);
        faults
    }

    fn check(&self, wanted: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        let mut unless = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("{place}: {value} is no {what}"));
            }
        };
        let Some(name) = wanted.as_str() else {
            return unless(is_within(wanted, value), &format!("value of {wanted}"));
        };
        match name {
            "string" => unless(value.is_string(), name),
            "boolean" => unless(value.is_boolean(), name),
            "integer" => unless(value.is_i64(), name),
            "digits" => {
                unless(value.as_str().is_some_and(|text| text.parse::<u32>().is_ok()), "text of digits")
            }
            _ => match (name.strip_prefix('['), name.strip_prefix('{')) {
                (Some(inner), _) => {
                    unless(value.is_array(), "list");
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(
                            &inner.trim_end_matches(']').into(),
                            item,
                            &format!("{place}[{index}]"),
                            faults,
                        );
                    }
                }
                (_, Some(inner)) => {
                    unless(value.is_object(), "map");
                    for (key, item) in value.as_object().into_iter().flatten() {
                        self.check(
                            &inner.trim_end_matches('}').into(),
                            item,
                            &format!("{place}.{key}"),
                            faults,
                        );
                    }
                }
                _ => self.check_message(name, value, place, faults),
            },
        }
    }

    fn check_message(&self, name: &str, value: &Value, place: &str, faults: &mut Vec<String>) {
        let fields = self.0[name].as_object().expect("fields");
        let Some(given) = value.as_object() else {
            return faults.push(format!("{place}: {value} is no {name}"));
        };
        for (field, item) in given {
            match fields.get(field).or_else(|| fields.get(&format!("{field}!"))) {
                Some(wanted) => self.check(wanted, item, &format!("{place}.{field}"), faults),
                None => faults.push(format!("{place}: {name} has no field {field}")),
            }
        }
        let required = fields.keys().filter_map(|field| field.strip_suffix('!'));
        for field in required.filter(|field| !given.contains_key(*field)) {
            faults.push(format!("{place}: {name} needs {field}"));
        }
    }
}

/// Returns whether a value is one of those listed, or lies in the range given.
fn is_within(wanted: &Value, value: &Value) -> bool {
    match (&wanted["one_of"], &wanted["from"], &wanted["to"]) {
        (Value::Array(words), ..) => words.contains(value),
        (_, low, high) => value.as_i64() >= low.as_i64() && value.is_i64() && value.as_i64() <= high.as_i64(),
    }
}

#[test]
fn what_a_schema_does_not_have_is_found() {
    let schema = Schema::read(
        r#"{"messages": {
            "A": {"name!": "string", "count": {"from": 1, "to": 3}, "kind": {"one_of": ["x", "y"]}, "bs": "[B]", "texts": "{string}"},
            "B": {"on": "boolean", "size": "integer", "scale": "digits"}
        }}"#,
    );
    let faults = |text: &str| schema.faults("A", &serde_json::from_str(text).expect("JSON"));
    let sound = r#"{"name": "a", "count": 3, "kind": "y", "bs": [{"on": true, "size": 1, "scale": "2"}], "texts": {"a": "b"}}"#;
    assert_eq!(faults(sound), [""; 0]);
    for (text, expected) in [
        ("{}", ": A needs name"),
        (r#"{"name": 1}"#, ".name: 1 is no string"),
        (r#"{"name": "a", "nome": 1}"#, ": A has no field nome"),
        (r#"{"name": "a", "count": 4}"#, r#".count: 4 is no value of {"from":1,"to":3}"#),
        (r#"{"name": "a", "count": "2"}"#, r#".count: "2" is no value of {"from":1,"to":3}"#),
        (r#"{"name": "a", "kind": "z"}"#, r#".kind: "z" is no value of {"one_of":["x","y"]}"#),
        (r#"{"name": "a", "bs": {}}"#, ".bs: {} is no list"),
        (r#"{"name": "a", "bs": [{"on": "true"}]}"#, r#".bs[0].on: "true" is no boolean"#),
        (r#"{"name": "a", "bs": [{"size": 1.5}]}"#, ".bs[0].size: 1.5 is no integer"),
        (r#"{"name": "a", "bs": [{"scale": 2}]}"#, ".bs[0].scale: 2 is no text of digits"),
        (r#"{"name": "a", "bs": [1]}"#, ".bs[0]: 1 is no B"),
        (r#"{"name": "a", "texts": {"b": 1}}"#, ".texts.b: 1 is no string"),
    ] {
        assert_eq!(faults(text), [expected], "{text}");
    }
}
