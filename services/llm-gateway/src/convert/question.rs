//! What a caller asks, checked.

use std::{collections::HashSet, time::Instant};

use contracts::llm as wire;
use rpc::{Caller, Deadline, Fault};

use crate::{
    analyze::Inquiry,
    conversation::{Conversation, Message, Role},
    observation::Observation,
    served::{Control, Terms},
};

/// Most turns of a conversation.
const MAX_MESSAGES: usize = 1_000;
/// Longest id of an observation, in bytes.
const MAX_ID: usize = 256;
/// Longest type of an observation, in bytes.
const MAX_TYPE: usize = 64;
/// Largest cache.
const MAX_CAPACITY: u64 = 1_000_000;

/// Most wrong fields that are named: a status travels in headers, which are small.
const MAX_FAULTS: usize = 16;

/// Wrong fields so far.
#[derive(Default)]
struct Faults {
    fault: Option<Fault>,
    count: usize,
}

impl Faults {
    fn check(&mut self, holds: bool, field: &str, must: &str) {
        if holds {
            return;
        }
        self.count += 1;
        if self.count <= MAX_FAULTS {
            self.fault = Some(match self.fault.take() {
                None => Fault::invalid(field, must),
                Some(fault) => fault.and(field, must),
            });
        }
    }

    fn end<T>(self, value: T) -> Result<T, Fault> {
        match self.fault {
            None => Ok(value),
            Some(fault) => Err(fault),
        }
    }
}

/// Reads a conversation to answer.
pub(crate) fn generate(
    caller: Caller,
    request: wire::GenerateRequest,
) -> Result<(Terms, Conversation), Fault> {
    let mut faults = Faults::default();
    let terms = terms(&mut faults, caller, request.cache, request.max_cost_usd);
    let conversation = Conversation {
        model: request.model,
        messages: messages(&mut faults, request.messages),
        temperature: request.temperature,
        max_output_tokens: request.max_output_tokens,
    };
    let temperature = conversation.temperature.is_none_or(|value| (0.0..=2.0).contains(&value));
    faults.check(temperature, "temperature", "must be 0 to 2");
    faults.check(conversation.max_output_tokens != Some(0), "max_output_tokens", "must be at least 1");
    faults.end((terms, conversation))
}

/// Reads a conversation to answer piece by piece.
pub(crate) fn generate_stream(
    caller: Caller,
    request: wire::GenerateStreamRequest,
) -> Result<(Terms, Conversation), Fault> {
    let wire::GenerateStreamRequest { model, messages, temperature, max_output_tokens, cache, max_cost_usd } =
        request;
    generate(
        caller,
        wire::GenerateRequest { model, messages, temperature, max_output_tokens, cache, max_cost_usd },
    )
}

/// Reads observations to analyse, at most `most`, and returns their ids beside them.
pub(crate) fn analyze(
    caller: Caller,
    request: wire::AnalyzeRequest,
    most: usize,
) -> Result<(Terms, Inquiry), Fault> {
    let mut faults = Faults::default();
    let terms = terms(&mut faults, caller, request.cache, request.max_cost_usd);
    let count = request.observations.len();
    faults.check((1..=most).contains(&count), "observations", &format!("must be 1 to {most}"));
    if count > most {
        return faults.end((terms, Inquiry::default()));
    }
    let mut seen = HashSet::new();
    for (place, observation) in request.observations.iter().enumerate() {
        let fresh = seen.insert(observation.id.as_str());
        faults.check(fresh, &format!("observations[{place}].id"), "must be unique within the request");
    }
    let observations = request.observations.into_iter().enumerate();
    let observations =
        observations.map(|(place, seen)| observation(&mut faults, &format!("observations[{place}]"), seen));
    let observations = observations.collect();
    faults.end((terms, Inquiry { model: request.model, question: request.question, observations }))
}

/// Reads the observation of a dry run; a given id and type are checked, an absent id is allowed.
pub(crate) fn observation_of(request: wire::EvaluateRequest) -> Result<Observation, Fault> {
    let mut faults = Faults::default();
    let Some(mut given) = request.observation else {
        return Err(Fault::invalid("observation", "must be given"));
    };
    if given.id.is_empty() {
        "dry-run".clone_into(&mut given.id);
    }
    let read = observation(&mut faults, "observation", given);
    faults.end(read)
}

/// Reads a capacity of the cache.
pub(crate) fn capacity(request: wire::ResizeRequest) -> Result<u64, Fault> {
    let mut faults = Faults::default();
    faults.check((1..=MAX_CAPACITY).contains(&request.capacity), "capacity", "must be 1 to 1,000,000");
    faults.end(request.capacity)
}

fn terms(
    faults: &mut Faults,
    caller: Caller,
    cache: Option<wire::CacheControl>,
    max_cost_usd: Option<f64>,
) -> Terms {
    let affordable = max_cost_usd.is_none_or(|limit| limit.is_finite() && limit >= 0.0);
    faults.check(affordable, "max_cost_usd", "must be finite and at least 0");
    let cache = cache.unwrap_or_default();
    let max_age = cache.max_age.map(|age| rpc::time::duration_from_proto(&age, "cache.max_age"));
    faults.check(
        !matches!(max_age, Some(Err(_))),
        "cache.max_age",
        "must be a duration from 0 to 10000 years",
    );
    Terms {
        tenant: caller.tenant,
        deadline: Deadline::current().map(|deadline| Instant::now() + deadline.remaining()),
        control: Control {
            read: !cache.skip_read,
            store: !cache.skip_store,
            coalesce: !cache.skip_coalescing,
            max_age: max_age.and_then(Result::ok),
        },
        max_cost_usd,
    }
}

fn messages(faults: &mut Faults, messages: Vec<wire::Message>) -> Vec<Message> {
    faults.check((1..=MAX_MESSAGES).contains(&messages.len()), "messages", "must be 1 to 1,000 turns");
    let last = messages.len().saturating_sub(1);
    let read = messages.into_iter().enumerate().map(|(place, message)| {
        let role = match message.role() {
            wire::Role::System => Some(Role::System),
            wire::Role::User => Some(Role::User),
            wire::Role::Assistant => Some(Role::Assistant),
            wire::Role::Unspecified => None,
        };
        let field = format!("messages[{place}].role");
        faults.check(role.is_some(), &field, "must be ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT");
        faults.check(
            place != last || role.is_none_or(|role| role == Role::User),
            &field,
            "must be ROLE_USER in the last turn",
        );
        faults.check(!message.content.is_empty(), &format!("messages[{place}].content"), "must not be empty");
        Message { role: role.unwrap_or(Role::User), content: message.content }
    });
    read.collect()
}

fn observation(faults: &mut Faults, field: &str, seen: wire::Observation) -> Observation {
    let field = |name: &str| format!("{field}.{name}");
    faults.check((1..=MAX_ID).contains(&seen.id.len()), &field("id"), "must be 1 to 256 bytes");
    faults.check((1..=MAX_TYPE).contains(&seen.r#type.len()), &field("type"), "must be 1 to 64 bytes");
    let time = seen.time.as_ref().is_none_or(|time| rpc::time::from_proto(time, "time").is_ok());
    faults.check(time, &field("time"), "must be a valid time");
    for (name, value) in &seen.values {
        faults.check(value.is_finite(), &field(&format!("values[{name}]")), "must be finite");
    }
    Observation {
        id: seen.id,
        kind: seen.r#type,
        subject: seen.subject,
        values: seen.values.into_iter().collect(),
        labels: seen.labels.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use contracts::llm as wire;
    use rpc::{Caller, Fault};

    fn caller() -> Caller {
        Caller::new("t", rpc::Role::Agent)
    }

    fn fields<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> Vec<String> {
        outcome.unwrap_err().violations().iter().map(|violation| violation.field.clone()).collect()
    }

    fn turn(role: wire::Role, content: &str) -> wire::Message {
        wire::Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn every_wrong_field_of_a_conversation_is_named_at_once() {
        let request = wire::GenerateRequest {
            messages: vec![
                turn(wire::Role::Unspecified, "x"),
                turn(wire::Role::User, ""),
                turn(wire::Role::Assistant, "x"),
            ],
            temperature: Some(f64::NAN),
            max_output_tokens: Some(0),
            max_cost_usd: Some(-1.0),
            cache: Some(wire::CacheControl {
                max_age: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..wire::CacheControl::default()
            }),
            ..wire::GenerateRequest::default()
        };
        assert_eq!(
            fields(super::generate(caller(), request)),
            [
                "max_cost_usd",
                "cache.max_age",
                "messages[0].role",
                "messages[1].content",
                "messages[2].role",
                "temperature",
                "max_output_tokens"
            ]
        );
        assert_eq!(fields(super::generate(caller(), wire::GenerateRequest::default())), ["messages"]);
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
            fields(super::analyze(caller(), request, 10)),
            [
                "observations[1].id",
                "observations[1].type",
                "observations[1].time",
                "observations[1].values[apr]"
            ]
        );
        assert_eq!(fields(super::analyze(caller(), wire::AnalyzeRequest::default(), 10)), ["observations"]);
    }

    #[test]
    fn too_many_observations_are_refused_before_they_are_read() {
        let observations = vec![wire::Observation::default(); 3];
        let request = wire::AnalyzeRequest { observations, ..wire::AnalyzeRequest::default() };
        assert_eq!(fields(super::analyze(caller(), request, 2)), ["observations"]);
    }

    #[test]
    fn not_more_wrong_fields_are_named_than_a_status_can_carry() {
        let observations = vec![wire::Observation::default(); 100];
        let request = wire::AnalyzeRequest { observations, ..wire::AnalyzeRequest::default() };
        assert_eq!(fields(super::analyze(caller(), request, 100)).len(), super::MAX_FAULTS);
    }
}
