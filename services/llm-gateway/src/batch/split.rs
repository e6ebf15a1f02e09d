//! Takes a model's answer about many observations apart.
//!
//! A model may drop, repeat, reorder, mix up or mangle entries, wrap the JSON in words, or stop in the middle. What can be read is
//! read entry by entry; what cannot is named. An entry counts for the observation whose tag it bears, and only if
//!
//! 1. it bears that observation's check too: words that moved to another tag are found out by the check that came with them;
//! 2. it does not speak of another observation of the call by name and leave out its own.
//!
//! Nothing can tell when a model copies both codes rightly, writes what is true of another observation, and names neither.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::prompt::Mark;
use crate::observation::{Analysis, Assessment, ItemFailure};

/// Most characters of a summary: more is not one or two sentences.
const MAX_SUMMARY_CHARS: usize = 2_000;
/// Fewest bytes of a subject that is looked for in a summary: a shorter one may be any word.
const LEAST_NAME_BYTES: usize = 3;

/// An answer taken apart.
#[derive(Debug, PartialEq)]
pub struct Split {
    /// What was said about each mark, in their order.
    pub items: Vec<Result<Analysis, ItemFailure>>,
    /// The assessment of each part asked for, in their order, if a whole one was given.
    pub assessments: Vec<Option<Assessment>>,
}

#[derive(Deserialize)]
struct RawAssessment {
    overall_assessment: String,
    correlations: Vec<String>,
    focus_areas: Vec<String>,
    risk_warnings: Vec<String>,
}

/// Takes `text` apart for those asked about and the codes of the parts to assess.
#[must_use]
pub fn split(text: &str, marks: &[Mark], parts: &[String]) -> Split {
    let places: BTreeMap<&str, usize> =
        marks.iter().enumerate().map(|(place, mark)| (mark.tag.as_str(), place)).collect();
    let mut items: Vec<Option<Result<Analysis, ItemFailure>>> = vec![None; marks.len()];
    let mut assessments = vec![None; parts.len()];
    for object in objects(text) {
        if let Some(tag) = word(&object, "tag") {
            let Some(place) = places.get(tag) else { continue };
            let entry = read_item(&object, *place, marks);
            if let Some(slot) = items.get_mut(*place) {
                *slot = Some(match slot.take() {
                    // Two different answers under one tag: nobody can say which is meant.
                    Some(earlier) if earlier != entry => Err(ItemFailure::Invalid),
                    _ => entry,
                });
            }
        } else if let Some(part) = word(&object, "part")
            && let Some(place) = parts.iter().position(|code| code == part)
            && let Some(slot) = assessments.get_mut(place)
            && slot.is_none()
        {
            *slot = read_assessment(object);
        }
    }
    Split {
        items: items.into_iter().map(|item| item.unwrap_or(Err(ItemFailure::Missing))).collect(),
        assessments,
    }
}

/// Finds the entries and the assessments: in a whole answer by its shape, in a damaged one by trying every brace.
fn objects(text: &str) -> Vec<Value> {
    if let Ok(Value::Object(mut whole)) = serde_json::from_str::<Value>(text.trim())
        && let Some(Value::Array(mut found)) = whole.remove("items")
    {
        if let Some(Value::Array(assessments)) = whole.remove("assessments") {
            found.extend(assessments);
        }
        return found;
    }
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        rest = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) if value.get("tag").is_some() || value.get("part").is_some() => {
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

fn read_item(object: &Value, place: usize, marks: &[Mark]) -> Result<Analysis, ItemFailure> {
    let mark = marks.get(place).filter(|mark| word(object, "check") == Some(&mark.check));
    let summary = word(object, "summary")
        .filter(|text| !text.is_empty() && text.chars().count() <= MAX_SUMMARY_CHARS)
        .filter(|text| mark.is_some_and(|mark| !speaks_of_another(text, mark, marks)));
    let share =
        |name: &str| object.get(name).and_then(Value::as_f64).filter(|share| (0.0..=1.0).contains(share));
    match (summary, share("confidence"), share("salience")) {
        (Some(summary), Some(confidence), Some(salience)) => {
            Ok(Analysis { summary: summary.to_owned(), confidence, salience })
        }
        _ => Err(ItemFailure::Invalid),
    }
}

/// Returns whether `text` names the subject of another mark and not its own.
fn speaks_of_another(text: &str, mark: &Mark, marks: &[Mark]) -> bool {
    if mark.subject.is_empty() || text.contains(&mark.subject) {
        return false;
    }
    let others = marks.iter().map(|other| other.subject.as_str());
    // `WETH` is part of `WETH-USDC` and says nothing against it.
    let mut telling = others.filter(|name| name.len() >= LEAST_NAME_BYTES && !mark.subject.contains(name));
    telling.any(|name| names(text, name))
}

/// Returns whether `name` stands in `text` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + name.len()..].chars().next());
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
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

fn word<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Split, split};
    use crate::{batch::prompt::Mark, observation::ItemFailure};

    fn marks(count: usize) -> Vec<Mark> {
        let subjects = ["ALPHA", "BRAVO", "CHARLIE", "DELTA"];
        let mark = |(place, subject): (usize, &str)| Mark {
            tag: format!("t{place}"),
            check: format!("c{place}"),
            subject: subject.into(),
        };
        subjects.into_iter().enumerate().take(count).map(mark).collect()
    }

    fn item(place: usize, summary: &str) -> Value {
        json!({"tag": format!("t{place}"), "check": format!("c{place}"), "summary": summary, "confidence": 0.5, "salience": 0.25})
    }

    fn summaries(text: &str, count: usize) -> Vec<Result<String, ItemFailure>> {
        split(text, &marks(count), &[])
            .items
            .into_iter()
            .map(|item| item.map(|found| found.summary))
            .collect()
    }

    fn missing() -> Result<String, ItemFailure> {
        Err(ItemFailure::Missing)
    }

    fn invalid() -> Result<String, ItemFailure> {
        Err(ItemFailure::Invalid)
    }

    #[test]
    fn entries_go_to_their_tag_whatever_their_order() {
        let text = json!({"items": [item(2, "c"), item(0, "a")]}).to_string();
        assert_eq!(summaries(&text, 3), [Ok("a".into()), missing(), Ok("c".into())]);
    }

    #[test]
    fn an_entry_that_breaks_the_schema_is_invalid_and_spares_the_others() {
        let mut hot = item(1, "b");
        hot["confidence"] = json!(1.5);
        let text =
            json!({"items": [item(0, "a"), hot, item(2, "  "), {"tag": "t3", "check": "c3"}]}).to_string();
        assert_eq!(summaries(&text, 4), [Ok("a".into()), invalid(), invalid(), invalid()]);
    }

    #[test]
    fn a_repeated_entry_counts_once_and_a_contradiction_not_at_all() {
        let text = json!({"items": [item(0, "a"), item(0, "a"), item(1, "b"), item(1, "x"), item(1, "b")]})
            .to_string();
        assert_eq!(summaries(&text, 2), [Ok("a".into()), invalid()]);
    }

    #[test]
    fn words_under_another_tag_bring_the_wrong_check_with_them() {
        let (mut one, mut two) = (item(0, "about the first"), item(1, "about the second"));
        (one["tag"], two["tag"]) = (json!("t1"), json!("t0"));
        let text = json!({"items": [one, two, item(2, "c")]}).to_string();
        assert_eq!(summaries(&text, 3), [invalid(), invalid(), Ok("c".into())]);
    }

    #[test]
    fn a_tag_nobody_gave_out_and_a_check_in_place_of_a_tag_go_nowhere() {
        let mut invented = item(0, "a");
        invented["tag"] = json!("c0");
        let text = json!({"items": [invented, item(9, "x")]}).to_string();
        assert_eq!(summaries(&text, 1), [missing()]);
    }

    #[test]
    fn words_that_name_another_subject_and_not_their_own_are_invalid() {
        let text = |summary: &str| json!({"items": [item(0, summary)]}).to_string();
        assert_eq!(summaries(&text("BRAVO pays 12 %"), 2), [invalid(), missing()]);
        assert!(summaries(&text("ALPHA pays less than BRAVO"), 2)[0].is_ok());
        assert!(summaries(&text("it pays 12 %, BRAVOs do not"), 2)[0].is_ok());
        assert!(summaries(&text("BRAVO pays 12 %"), 1)[0].is_ok(), "nobody asked about BRAVO in this call");
    }

    #[test]
    fn what_stands_before_a_cut_is_kept() {
        let text = json!({"items": [item(0, "a {b"), item(1, "b")]}).to_string();
        let cut = &text[..text.len() - 10];
        assert_eq!(summaries(cut, 2), [Ok("a {b".into()), missing()]);
    }

    #[test]
    fn json_in_words_and_fences_is_found() {
        let text = format!("Here you are:\n```json\n{}\n```", json!({"items": [item(0, "a")]}));
        assert_eq!(summaries(&text, 1), [Ok("a".into())]);
    }

    #[test]
    fn a_mangled_entry_spares_those_after_it() {
        let text = format!("{{\"items\":[{{\"tag\":\"t0\",\"summ,{},{}]}}", item(1, "b"), item(2, "c"));
        assert_eq!(summaries(&text, 3), [missing(), Ok("b".into()), Ok("c".into())]);
    }

    #[test]
    fn an_assessment_is_whole_or_absent_and_goes_to_its_part() {
        let whole = json!({"part": "p1", "overall_assessment": "calm", "correlations": ["a"], "focus_areas": [], "risk_warnings": []});
        let parts = ["p0".to_owned(), "p1".to_owned()];
        let read = |assessment: &Value| {
            split(&json!({"items": [], "assessments": [assessment]}).to_string(), &[], &parts).assessments
        };
        let found = read(&whole);
        assert!(found[0].is_none());
        assert_eq!(found[1].as_ref().unwrap().overall, "calm");
        assert_eq!(read(&json!({"part": "p1", "overall_assessment": "calm"})), [None, None]);
        let fenced = format!("```{}```", json!({"items": [item(0, "a")], "assessments": [whole]}));
        let Split { items, assessments } = split(&fenced, &marks(1), &parts);
        assert!(items[0].is_ok());
        assert_eq!(assessments[1].as_ref().unwrap().correlations, ["a"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken_apart_without_a_panic(text in "[{}\\[\\]\":a-z,t01é ]{0,200}") {
            prop_assert_eq!(split(&text, &marks(2), &[]).items.len(), 2);
        }
    }
}
