//! Requests made from their descriptors and the table: good ones, and those with one thing changed.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, OneofDescriptor};

use super::{
    holds::{Case, Verdict},
    table,
};

/// Most times a message stands in itself: a value in a list in a value.
const MOST_TIMES: usize = 2;

/// Makes a message of good values. Of a oneof the first is given.
#[must_use]
pub fn good(message: &MessageDescriptor) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    let is_given = |field: &FieldDescriptor| {
        choice_of(field).is_none_or(|choice| choice.fields().next().as_ref() == Some(field))
    };
    for field in message.fields().filter(is_given) {
        if let Some(holds) = table::holds(&field) {
            made.set_field(&field, holds.good(&field));
        }
    }
    made
}

/// Makes every case of every field of a message; `around` are the messages this one is in.
pub(super) fn cases(message: &MessageDescriptor, around: &[String]) -> Vec<Case<DynamicMessage>> {
    let own = message.full_name();
    if around.iter().filter(|other| *other == own).count() == MOST_TIMES {
        return Vec::new();
    }
    let around = [around, &[own.to_owned()]].concat();
    let mut all = Vec::new();
    for field in message.fields() {
        let Some(holds) = table::holds(&field) else { continue };
        for case in holds.cases(&field, &around) {
            // That none of a choice is given is a case of its own, below.
            if case.value.is_none() && choice_of(&field).is_some() {
                continue;
            }
            let mut made = good(message);
            match case.value {
                Some(value) => made.set_field(&field, value),
                None => made.clear_field(&field),
            }
            let verdict = match case.verdict {
                Verdict::Wrong(below) => Verdict::Wrong(format!("{}{below}", field.name())),
                Verdict::Beside(name) => Verdict::Wrong(name.to_owned()),
                other => other,
            };
            all.push(Case { what: format!("{} {}", field.name(), case.what), value: made, verdict });
        }
    }
    for choice in message.oneofs().filter(|choice| !choice.is_synthetic()) {
        let mut made = good(message);
        choice.fields().for_each(|field| made.clear_field(&field));
        let what = format!("no {}", choice.name());
        // In a message it is that message which is wrong; a request is wrong in its choice.
        let path = if around.len() == 1 { choice.name() } else { "" };
        let verdict =
            if table::is_optional(&choice) { Verdict::Legal } else { Verdict::Wrong(path.to_owned()) };
        all.push(Case { what, value: made, verdict });
    }
    all
}

/// Returns every field of our contracts that a request can carry, once, by its full name.
#[must_use]
pub fn fields(message: &MessageDescriptor) -> Vec<String> {
    let mut found = Vec::new();
    collect(message, &mut Vec::new(), &mut found);
    found
}

fn collect(message: &MessageDescriptor, seen: &mut Vec<String>, found: &mut Vec<String>) {
    if seen.iter().any(|name| name == message.full_name()) || !table::is_ours(message) {
        return;
    }
    seen.push(message.full_name().to_owned());
    for field in message.fields() {
        if !message.is_map_entry() {
            found.push(field.full_name().to_owned());
        }
        if let Some(inner) = field.kind().as_message() {
            collect(inner, seen, found);
        }
    }
}

fn choice_of(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field.containing_oneof().filter(|choice| !choice.is_synthetic())
}
