//! Takes a model's answer about many observations apart.
//!
//! A model may drop, repeat, reorder or mangle entries, wrap the JSON in words, or stop in the middle. What can be read is
//! read entry by entry, by tag; what cannot is named.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::tag;
use crate::observation::{Analysis, Assessment, ItemFailure};

/// Most characters of a summary: more is not one or two sentences.
const MAX_SUMMARY_CHARS: usize = 2_000;

/// An answer taken apart.
#[derive(Debug, PartialEq)]
pub struct Split {
    /// What was said about each place asked for, in the order asked.
    pub items: Vec<Result<Analysis, ItemFailure>>,
    /// The assessment, if a whole one was given.
    pub assessment: Option<Assessment>,
}

#[derive(Deserialize)]
struct RawAssessment {
    overall_assessment: String,
    correlations: Vec<String>,
    focus_areas: Vec<String>,
    risk_warnings: Vec<String>,
}

/// Takes `text` apart for the `places` asked about.
#[must_use]
pub fn split(text: &str, places: &[usize]) -> Split {
    let mut said: BTreeMap<String, Result<Analysis, ItemFailure>> = BTreeMap::new();
    let mut assessment = None;
    for object in objects(text) {
        if let Some(tag) = object.get("tag").and_then(Value::as_str) {
            let entry = analysis(&object);
            said.entry(tag.to_owned())
                // Two different answers under one tag: nobody can say which is meant.
                .and_modify(|earlier| {
                    if *earlier != entry {
                        *earlier = Err(ItemFailure::Invalid);
                    }
                })
                .or_insert(entry);
        } else if assessment.is_none() {
            assessment = read_assessment(object);
        }
    }
    let items =
        places.iter().map(|place| said.remove(&tag(*place)).unwrap_or(Err(ItemFailure::Missing))).collect();
    Split { items, assessment }
}

/// Finds the entries and the assessment: in a whole answer by its shape, in a damaged one by trying every brace.
fn objects(text: &str) -> Vec<Value> {
    if let Ok(Value::Object(mut whole)) = serde_json::from_str::<Value>(text.trim())
        && let Some(Value::Array(mut items)) = whole.remove("items")
    {
        items.extend(whole.remove("assessment"));
        return items;
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) if value.get("tag").is_some() || value.get("overall_assessment").is_some() => {
                let read = values.byte_offset();
                found.push(value);
                rest = &rest[read..];
            }
            // Not an entry, or damaged: look for one inside or after it.
            _ => rest = &rest[1..],
        }
    }
    found
}

fn analysis(object: &Value) -> Result<Analysis, ItemFailure> {
    let share =
        |name: &str| object.get(name).and_then(Value::as_f64).filter(|share| (0.0..=1.0).contains(share));
    let summary = object
        .get("summary")
        .and_then(Value::as_str)
        .map(str::trim)
        .filter(|text| !text.is_empty() && text.chars().count() <= MAX_SUMMARY_CHARS);
    match (summary, share("confidence"), share("salience")) {
        (Some(summary), Some(confidence), Some(salience)) => {
            Ok(Analysis { summary: summary.to_owned(), confidence, salience })
        }
        _ => Err(ItemFailure::Invalid),
    }
}

fn read_assessment(object: Value) -> Option<Assessment> {
    let raw: RawAssessment = serde_json::from_value(object).ok()?;
    (!raw.overall_assessment.trim().is_empty()).then_some(Assessment {
        overall: raw.overall_assessment,
        correlations: raw.correlations,
        focus_areas: raw.focus_areas,
        risk_warnings: raw.risk_warnings,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::split;
    use crate::observation::ItemFailure;

    fn item(tag: &str, summary: &str) -> serde_json::Value {
        json!({"tag": tag, "summary": summary, "confidence": 0.5, "salience": 0.25})
    }

    fn summaries(text: &str, places: &[usize]) -> Vec<Result<String, ItemFailure>> {
        split(text, places).items.into_iter().map(|item| item.map(|found| found.summary)).collect()
    }

    #[test]
    fn entries_go_to_their_tag_whatever_their_order() {
        let text = json!({"items": [item("o3", "c"), item("o1", "a")]}).to_string();
        assert_eq!(summaries(&text, &[0, 1, 2]), [Ok("a".into()), Err(ItemFailure::Missing), Ok("c".into())]);
    }

    #[test]
    fn an_entry_that_breaks_the_schema_is_invalid_and_spares_the_others() {
        let mut hot = item("o2", "b");
        hot["confidence"] = json!(1.5);
        let text = json!({"items": [item("o1", "a"), hot, item("o3", "  "), {"tag": "o4"}]}).to_string();
        let invalid = || Err(ItemFailure::Invalid);
        assert_eq!(summaries(&text, &[0, 1, 2, 3]), [Ok("a".into()), invalid(), invalid(), invalid()]);
    }

    #[test]
    fn a_repeated_entry_counts_once_and_a_contradiction_not_at_all() {
        let text = json!({"items": [item("o1", "a"), item("o1", "a"), item("o2", "b"), item("o2", "x")]})
            .to_string();
        assert_eq!(summaries(&text, &[0, 1]), [Ok("a".into()), Err(ItemFailure::Invalid)]);
    }

    #[test]
    fn what_stands_before_a_cut_is_kept() {
        let text = json!({"items": [item("o1", "a {b"), item("o2", "b")]}).to_string();
        let cut = &text[..text.len() - 10];
        assert_eq!(summaries(cut, &[0, 1]), [Ok("a {b".into()), Err(ItemFailure::Missing)]);
    }

    #[test]
    fn json_in_words_and_fences_is_found() {
        let text = format!("Here you are:\n```json\n{}\n```", json!({"items": [item("o1", "a")]}));
        assert_eq!(summaries(&text, &[0]), [Ok("a".into())]);
    }

    #[test]
    fn a_mangled_entry_spares_those_after_it() {
        let text = format!("{{\"items\":[{{\"tag\":\"o1\",\"summ,{},{}]}}", item("o2", "b"), item("o3", "c"));
        assert_eq!(summaries(&text, &[0, 1, 2]), [Err(ItemFailure::Missing), Ok("b".into()), Ok("c".into())]);
    }

    #[test]
    fn an_assessment_is_whole_or_absent() {
        let whole = json!({"overall_assessment": "calm", "correlations": ["a"], "focus_areas": [], "risk_warnings": []});
        let read = |assessment: &serde_json::Value| {
            split(&json!({"items": [], "assessment": assessment}).to_string(), &[]).assessment
        };
        assert_eq!(read(&whole).unwrap().overall, "calm");
        assert!(read(&json!({"overall_assessment": "calm"})).is_none());
        let fenced = format!("```{}```", json!({"items": [item("o1", "a")], "assessment": whole}));
        assert_eq!(split(&fenced, &[0]).assessment.unwrap().correlations, ["a"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_a_panic(text in "[{}\\[\\]\":a-z,o1é ]{0,200}") {
            prop_assert_eq!(split(&text, &[0, 1]).items.len(), 2);
        }
    }
}
