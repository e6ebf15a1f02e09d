//! An answer in the dialect, and how it came about.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::{
    conversation::{Answer, Finish, ToolCall, Usage},
    gateway::Generated,
    route,
    served::{Phases, Served},
};

const SERVED: HeaderName = HeaderName::from_static("x-athena-served");
const MODEL: HeaderName = HeaderName::from_static("x-athena-model");
/// Who was asked, as `upstream/model`.
const UPSTREAM: HeaderName = HeaderName::from_static("x-athena-upstream");
const ANSWER: HeaderName = HeaderName::from_static("x-athena-answer-id");
/// Of the nearest question answered before, and the guard that objects to its answer.
const SIMILARITY: HeaderName = HeaderName::from_static("x-athena-similarity");
const GUARD: HeaderName = HeaderName::from_static("x-athena-guard");
const AGE: HeaderName = HeaderName::from_static("x-athena-age-seconds");
const COST: HeaderName = HeaderName::from_static("x-athena-cost-usd");
const SAVED: HeaderName = HeaderName::from_static("x-athena-saved-usd");
/// Milliseconds by phase (W3C Server Timing).
const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What all parts of an answer share.
pub(super) struct Frame {
    id: String,
    created: u64,
    model: String,
}

impl Frame {
    pub(super) fn new(served: &Served, now: SystemTime) -> Self {
        Self {
            id: format!("chatcmpl-{:032x}", rand::random::<u128>()),
            created: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            model: route::upstream_name(&served.model).to_owned(),
        }
    }

    /// Returns an object of this kind with these choices.
    pub(super) fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// Returns a whole answer.
pub(super) fn whole(generated: &Generated, now: SystemTime) -> Response {
    let Generated { answer, served } = generated;
    let (message, logprobs) = message(answer);
    let choice = json!({
        "index": 0,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": finish(answer.finish),
    });
    let mut body = Frame::new(served, now).object("chat.completion", json!([choice]));
    body["usage"] = usage(answer.usage);
    let mut response = Response::new(axum::body::Body::from(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    describe(headers, served, true);
    response
}

/// Writes the message, and beside it the probabilities of its tokens.
fn message(answer: &Answer) -> (Value, Value) {
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let silent = answer.text.is_empty() && !answer.tool_calls.is_empty();
    message.insert("content".into(), if silent { Value::Null } else { (*answer.text).into() });
    if !answer.tool_calls.is_empty() {
        message.insert("tool_calls".into(), answer.tool_calls.iter().map(call).collect());
    }
    let mut logprobs = Value::Null;
    for (name, value) in answer.extra.iter() {
        if name == "logprobs" {
            logprobs = value.clone();
        } else {
            message.insert(name.clone(), value.clone());
        }
    }
    (message.into(), logprobs)
}

fn call(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// Writes why a model stopped; what it did not say counts as its end.
pub(super) fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Unknown => Finish::Stop.as_str(),
        known => known.as_str(),
    }
}

/// Writes the tokens of an answer: those it took when it was made, whoever is served it now.
pub(super) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input},
    })
}

/// Says in headers how an answer came about; what it cost only once it is known.
pub(super) fn describe(headers: &mut HeaderMap, served: &Served, is_whole: bool) {
    headers.insert(SERVED, HeaderValue::from_static(served.by.as_str()));
    if let Ok(model) = HeaderValue::from_str(&served.model) {
        headers.insert(MODEL, model);
    }
    if !served.upstream.is_empty() {
        headers.extend(HeaderValue::from_str(&served.upstream).map(|upstream| (UPSTREAM, upstream)));
    }
    if let Some(near) = &served.near {
        headers.extend(
            HeaderValue::from_str(&format!("{:.4}", near.verdict.similarity)).map(|it| (SIMILARITY, it)),
        );
        if let Some((guard, ..)) = near.objection() {
            headers.insert(GUARD, HeaderValue::from_static(guard));
        }
    }
    headers.extend(HeaderValue::from_str(&served.answer_id).map(|id| (ANSWER, id)));
    headers.insert(AGE, HeaderValue::from(served.age.as_secs()));
    if is_whole {
        for (name, usd) in [(COST, served.cost_usd), (SAVED, served.saved_usd)] {
            // Digits and a point are always a header's value.
            headers.extend(HeaderValue::from_str(&format!("{usd:.9}")).map(|usd| (name, usd)));
        }
    }
    headers.extend(HeaderValue::from_str(&timing(&served.phases)).map(|timing| (TIMING, timing)));
}

fn timing(phases: &Phases) -> String {
    let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
    let spent = phases.named().into_iter().filter_map(|(name, took)| Some((name, took?)));
    let parts: Vec<_> = spent.map(|(name, took)| format!("{name};dur={:.3}", milliseconds(took))).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde_json::json;

    use super::{message, timing, whole};
    use crate::{
        conversation::{Answer, Finish, ToolCall, Usage},
        gateway::Generated,
        served::{By, Phases, Served},
    };

    #[test]
    fn headers_say_how_an_answer_came_about() {
        let phases = Phases { cache: Some(Duration::from_micros(12)), ..Phases::default() };
        let mut served = Served::by(By::Exact, &Arc::from("openai/small"), phases);
        served.age = Duration::from_secs(61);
        served.saved_usd = 0.000_25;
        let response = whole(
            &Generated { answer: Answer::text("yes", Usage::default()), served },
            std::time::UNIX_EPOCH,
        );
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-athena-served"), "exact");
        assert_eq!(header("x-athena-model"), "openai/small");
        assert_eq!(header("x-athena-age-seconds"), "61");
        assert_eq!(
            (header("x-athena-cost-usd"), header("x-athena-saved-usd")),
            ("0.000000000".into(), "0.000250000".into())
        );
        assert_eq!(header("server-timing"), "cache;dur=0.012");
    }

    #[test]
    fn a_message_keeps_calls_and_further_fields() {
        let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() };
        let extra = json!({"reasoning_content": "hm", "logprobs": {"content": []}});
        let answer = Answer {
            tool_calls: [call].into(),
            extra: extra.as_object().unwrap().clone().into(),
            finish: Finish::ToolCalls,
            ..Answer::text("", Usage::default())
        };
        let (message, logprobs) = message(&answer);
        let function = json!({"name": "f", "arguments": "{}"});
        let expected = json!({"role": "assistant", "content": null, "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": function}]});
        assert_eq!((message, logprobs), (expected, json!({"content": []})));
    }

    #[test]
    fn only_phases_that_happened_are_told() {
        assert_eq!(timing(&Phases::default()), "");
    }
}
