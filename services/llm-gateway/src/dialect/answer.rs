//! An answer in the dialect, and how it came about.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

use crate::{
    conversation::{Answer, Finish, TOOL_CALLS, Usage},
    journey::Generated,
    provider::Call,
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
/// How many of these there are: room is made for them once.
const MOST_HEADERS: usize = 10;
/// Milliseconds by phase (W3C Server Timing).
const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The name under which an answer holds the probabilities of its tokens.
const LOGPROBS: &str = "logprobs";

/// What all parts of an answer share.
pub(super) struct Frame {
    id: String,
    created: u64,
    model: String,
}

/// One object of the dialect. Written from what it is made of, since a tree of JSON in between costs ten times as much.
#[derive(Serialize)]
pub(super) struct Told<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Tokens>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<&'a Value>,
    finish_reason: &'static str,
}

/// The message of an answer, without the probabilities of its tokens, which stand beside it.
struct Message<'a>(&'a Answer);

#[derive(Serialize)]
struct Tokens {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: Details,
}

#[derive(Serialize)]
struct Details {
    cached_tokens: u64,
}

impl Frame {
    pub(super) fn new(served: &Served, now: SystemTime) -> Self {
        Self {
            id: format!("chatcmpl-{}", telemetry::hex(rand::random())),
            created: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            model: route::upstream_name(&served.model).to_owned(),
        }
    }

    /// Returns an object of this kind with these choices, and with the tokens if it tells them: those the answer took when it was
    /// made, whoever is served it now.
    pub(super) fn object<C: Serialize>(
        &self,
        object: &'static str,
        choices: C,
        usage: Option<Usage>,
    ) -> Told<'_, C> {
        let usage = usage.map(Tokens::from);
        Told { id: &self.id, object, created: self.created, model: &self.model, choices, usage }
    }
}

/// Returns a whole answer.
pub(super) fn whole(generated: &Generated, now: SystemTime) -> Response {
    let Generated { answer, served } = generated;
    let choice = Choice {
        index: 0,
        message: Message(answer),
        logprobs: answer.extra.get(LOGPROBS),
        finish_reason: finish(answer.finish),
    };
    let body = json(&Frame::new(served, now).object("chat.completion", [choice], Some(answer.usage)));
    let mut response = Response::new(axum::body::Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    describe(headers, served, true);
    response
}

/// Writes JSON. What is written here has texts as names, and so cannot fail.
pub(super) fn json(told: &impl Serialize) -> String {
    serde_json::to_string(told).unwrap_or_default()
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { text, tool_calls, extra, .. } = self.0;
        let silent = text.is_empty() && (!tool_calls.is_empty() || extra.contains_key(TOOL_CALLS));
        let mut message = serializer.serialize_map(None)?;
        message.serialize_entry("role", "assistant")?;
        message.serialize_entry("content", &(!silent).then_some(&**text))?;
        if !tool_calls.is_empty() {
            let calls: Vec<Call<'_>> = tool_calls.iter().map(Call::from).collect();
            message.serialize_entry("tool_calls", &calls)?;
        }
        for (name, value) in extra.iter().filter(|(name, _)| *name != LOGPROBS) {
            message.serialize_entry(name, value)?;
        }
        message.end()
    }
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: Details { cached_tokens: usage.cached_input },
        }
    }
}

/// Writes why a model stopped; what it did not say counts as its end.
pub(super) fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Unknown => Finish::Stop.as_str(),
        known => known.as_str(),
    }
}

/// Says in headers how an answer came about; what it cost only once it is known.
pub(super) fn describe(headers: &mut HeaderMap, served: &Served, is_whole: bool) {
    headers.reserve(MOST_HEADERS);
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
            headers.extend(HeaderValue::from_str(&money(usd)).map(|usd| (name, usd)));
        }
    }
    headers.extend(HeaderValue::from_str(&timing(&served.phases)).map(|timing| (TIMING, timing)));
}

/// Writes USD to a billionth, by whole numbers: exact decimals of floating point are dear, and every answer has two of them.
fn money(usd: f64) -> String {
    const BILLION: u64 = 1_000_000_000;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates: neither negative nor that dear"
    )]
    let billionths = (usd * BILLION as f64).round() as u64;
    format!("{}.{:09}", billionths / BILLION, billionths % BILLION)
}

fn timing(phases: &Phases) -> String {
    let mut text = String::new();
    for (name, took) in phases.named().into_iter().filter_map(|(name, took)| Some((name, took?))) {
        let comma = if text.is_empty() { "" } else { ", " };
        // To a thousandth.
        let micros = u64::try_from((took.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
        // A text takes whatever is written.
        let _ = write!(text, "{comma}{name};dur={}.{:03}", micros / 1_000, micros % 1_000);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use serde_json::json;

    use super::{LOGPROBS, Message, money, timing, whole};
    use crate::{
        conversation::{Answer, Finish, ToolCall, Usage},
        journey::Generated,
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
        let message = serde_json::to_value(Message(&answer)).unwrap();
        let function = json!({"name": "f", "arguments": "{}"});
        let expected = json!({"role": "assistant", "content": null, "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": function}]});
        assert_eq!((message, &answer.extra[LOGPROBS]), (expected, &json!({"content": []})));
    }

    #[test]
    fn money_and_times_are_rounded_to_their_last_digit() {
        for (usd, written) in [(0.0, "0.000000000"), (1.5, "1.500000000"), (0.000_000_000_6, "0.000000001")] {
            assert_eq!(money(usd), written);
        }
        let phases = Phases {
            cache: Some(Duration::from_nanos(1_234_567)),
            upstream: Some(Duration::from_secs(2)),
            ..Phases::default()
        };
        assert_eq!(timing(&phases), "cache;dur=1.235, upstream;dur=2000.000");
    }

    #[test]
    fn only_phases_that_happened_are_told() {
        assert_eq!(timing(&Phases::default()), "");
    }
}
