//! What a caller asks, checked.

use std::{collections::HashSet, time::Instant};

use contracts::llm as wire;
use rpc::{At, Caller, Check, Deadline, Fault};

use super::bands;
use crate::{
    analyze::Inquiry,
    cache::bands::Tolerances,
    cache::semantic::Mode,
    observation::Observation,
    served::{Control, Terms},
};

/// Largest cache.
const MAX_CAPACITY: u64 = 1_000_000;
/// Most values of an observation, and most labels.
const MAX_VALUES: usize = 256;
const MAX_LABELS: usize = 64;

/// Longest texts, in bytes.
pub(crate) const MODEL_BYTES: usize = 256;
const ANSWER_ID: usize = 32;
const QUESTION_BYTES: usize = 64 << 10;
pub(super) const ID_BYTES: usize = 256;
pub(super) const TYPE_BYTES: usize = 64;
pub(super) const SUBJECT_BYTES: usize = 1_024;
const NAME_BYTES: usize = 128;
const LABELS_BYTES: usize = 16 << 10;

/// Which answers are removed.
#[derive(Debug)]
pub(crate) enum Condemned {
    /// Those of a model; empty: of every model.
    Model(String),
    /// The one of this name.
    Answer(String),
}

/// Reads observations to analyse, at most `most`, with `bands` where the request asks for none of its own.
pub(crate) fn analyze(
    caller: Caller,
    request: wire::AnalyzeRequest,
    most: usize,
    bands: &Tolerances,
) -> Result<(Terms, Inquiry), Fault> {
    let mut check = Check::default();
    check.text("model", &request.model, 0..=MODEL_BYTES);
    check.text("question", &request.question, 0..=QUESTION_BYTES);
    let terms = terms(&mut check, caller, request.cache, request.max_cost_usd);
    let bands = bands::bands(&mut check, request.bands, bands);
    let at = At::from("observations");
    if !check.items(at, request.observations.len(), 1..=most) {
        return check.end((terms, Inquiry::default()));
    }
    let mut seen = HashSet::new();
    for (place, observation) in request.observations.iter().enumerate() {
        let is_fresh = seen.insert(observation.id.as_str());
        check.require(at.item(place).field("id"), is_fresh, "must be unique within the request");
    }
    let observations = request.observations.into_iter().enumerate();
    let observations =
        observations.map(|(place, seen)| observation(&mut check, at.item(place), seen)).collect();
    let (model, question) = (request.model, request.question);
    check.end((terms, Inquiry { model, question, observations, bands, watch_only: false }))
}

/// Reads the observation of a dry run; a given id and type are checked, an absent id is allowed.
pub(crate) fn observation_of(request: wire::EvaluateRequest) -> Result<Observation, Fault> {
    let mut given = request.observation.ok_or_else(|| Fault::invalid("observation", "must be given"))?;
    if given.id.is_empty() {
        "dry-run".clone_into(&mut given.id);
    }
    let mut check = Check::default();
    let read = observation(&mut check, At::from("observation"), given);
    check.end(read)
}

/// Reads a capacity of the cache.
pub(crate) fn capacity(request: wire::ResizeRequest) -> Result<u64, Fault> {
    let mut check = Check::default();
    check.within("capacity", request.capacity, 1..=MAX_CAPACITY);
    check.end(request.capacity)
}

/// Reads which answers are removed.
pub(crate) fn condemned(request: wire::InvalidateRequest) -> Result<Condemned, Fault> {
    let mut check = Check::default();
    check.text("model", &request.model, 0..=MODEL_BYTES);
    if request.answer_id.is_empty() {
        return check.end(Condemned::Model(request.model));
    }
    let id = request.answer_id.to_ascii_lowercase();
    let is_id = id.len() == ANSWER_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    check.require("answer_id", is_id, format_args!("must be {ANSWER_ID} hexadecimal digits"));
    check.require("model", request.model.is_empty(), "must be empty beside an `answer_id`");
    check.end(Condemned::Answer(id))
}

fn semantic(check: &mut Check, at: At<'_>, mode: i32) -> Option<Mode> {
    let mode = check.known::<wire::SemanticMode>(at, mode)?;
    match mode {
        wire::SemanticMode::Unspecified => None,
        wire::SemanticMode::Off => Some(Mode::Off),
        wire::SemanticMode::Shadow => Some(Mode::Shadow),
        wire::SemanticMode::On => Some(Mode::On),
    }
}

pub(super) fn terms(
    check: &mut Check,
    caller: Caller,
    cache: Option<wire::CacheControl>,
    max_cost_usd: Option<f64>,
) -> Terms {
    let cache = cache.unwrap_or_default();
    let within = within(check, caller, ("max_cost_usd", max_cost_usd));
    Terms {
        control: Control {
            read: !cache.skip_read,
            store: !cache.skip_store,
            coalesce: !cache.skip_coalescing,
            max_age: check.duration(At::from("cache").field("max_age"), cache.max_age.as_ref()),
            semantic: semantic(check, At::from("cache").field("semantic"), cache.semantic),
        },
        ..within
    }
}

/// Returns the terms of a caller that says nothing of the cache, within the deadline of its call and what it may cost by the
/// field of this name.
pub(crate) fn within(check: &mut Check, caller: Caller, (field, usd): (&str, Option<f64>)) -> Terms {
    let is_affordable = usd.is_none_or(|limit| limit.is_finite() && limit >= 0.0);
    check.require(field, is_affordable, "must be a finite number of at least 0");
    Terms {
        tenant: caller.tenant,
        deadline: Deadline::current().map(|deadline| Instant::now() + deadline.remaining()),
        control: Control::default(),
        max_cost_usd: usd,
    }
}

fn observation(check: &mut Check, at: At<'_>, seen: wire::Observation) -> Observation {
    check.text(at.field("id"), &seen.id, 1..=ID_BYTES);
    check.text(at.field("type"), &seen.r#type, 1..=TYPE_BYTES);
    check.text(at.field("subject"), &seen.subject, 0..=SUBJECT_BYTES);
    let time = check.time(at.field("time"), seen.time.as_ref());
    let values = at.field("values");
    if check.items(values, seen.values.len(), 0..=MAX_VALUES) {
        for (name, value) in &seen.values {
            named(check, values.key(name), name);
            check.finite(values.key(name), *value);
        }
    }
    let labels = at.field("labels");
    if check.items(labels, seen.labels.len(), 0..=MAX_LABELS) {
        seen.labels.keys().for_each(|name| named(check, labels.key(name), name));
        let bytes: usize = seen.labels.iter().map(|(name, text)| name.len() + text.len()).sum();
        check.require(
            labels,
            bytes <= LABELS_BYTES,
            format_args!("must have at most {LABELS_BYTES} bytes in all"),
        );
    }
    Observation {
        id: seen.id,
        kind: seen.r#type,
        subject: seen.subject,
        values: seen.values.into_iter().collect(),
        labels: seen.labels.into_iter().collect(),
        time,
    }
}

fn named(check: &mut Check, at: At<'_>, name: &str) {
    let must = format_args!("must have a name of 1 to {NAME_BYTES} bytes");
    check.require(at, (1..=NAME_BYTES).contains(&name.len()), must);
}

#[cfg(test)]
mod tests {
    use contracts::llm as wire;
    use rpc::{Caller, Fault};

    use crate::cache::bands::Tolerances;

    fn caller() -> Caller {
        Caller::new("t", rpc::Role::Agent)
    }

    fn fields<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> Vec<String> {
        outcome.unwrap_err().violations().iter().map(|violation| violation.field.clone()).collect()
    }

    #[test]
    fn every_wrong_field_of_an_observation_is_named() {
        let good =
            wire::Observation { id: "1".into(), r#type: "pool".into(), ..wire::Observation::default() };
        let bad = wire::Observation {
            r#type: "x".repeat(65),
            time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
            values: [("apr".to_owned(), f64::INFINITY)].into(),
            ..good.clone()
        };
        let request =
            wire::AnalyzeRequest { observations: vec![good, bad], ..wire::AnalyzeRequest::default() };
        assert_eq!(
            fields(super::analyze(caller(), request, 10, &Tolerances::default())),
            [
                "observations[1].id",
                "observations[1].type",
                "observations[1].time",
                r#"observations[1].values["apr"]"#
            ]
        );
        assert_eq!(
            fields(super::analyze(caller(), wire::AnalyzeRequest::default(), 10, &Tolerances::default())),
            ["observations"]
        );
    }

    #[test]
    fn too_many_observations_are_refused_before_they_are_read() {
        let observations = vec![wire::Observation::default(); 3];
        let request = wire::AnalyzeRequest { observations, ..wire::AnalyzeRequest::default() };
        assert_eq!(fields(super::analyze(caller(), request, 2, &Tolerances::default())), ["observations"]);
    }
}
