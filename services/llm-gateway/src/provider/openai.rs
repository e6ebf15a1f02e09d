//! OpenAI's chat completions.
//!
//! Written by hand: what a caller sets reaches the upstream as it is, in its order, parameters nobody here has heard of among it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    conversation::{
        Answer, CallPiece, Content, Conversation, Finish, Message, Object, Piece, TOOL_CALLS, ToolCall, Usage,
    },
    provider::{Failure, delta::Delta, estimated},
};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(flatten)]
    parameters: &'a Object,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Words<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(flatten)]
    extra: &'a Object,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Words<'a> {
    None(()),
    Text(&'a str),
    Parts(&'a [Value]),
}

/// A call of a tool, as it is written.
#[derive(Serialize)]
pub(crate) struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Option<RawMessage>,
    finish_reason: Option<String>,
    logprobs: Option<Value>,
}

#[derive(Deserialize)]
struct RawMessage {
    content: Option<String>,
    tool_calls: Option<Vec<RawCall>>,
    #[serde(flatten)]
    extra: Object,
}

#[derive(Deserialize, Serialize)]
struct RawCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<RawFunction>,
    #[serde(flatten)]
    other: Object,
}

#[derive(Deserialize, Serialize)]
struct RawFunction {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct RawUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    prompt_tokens_details: Option<RawDetails>,
}

#[derive(Deserialize)]
struct RawDetails {
    cached_tokens: Option<u64>,
}

/// Writes the request.
pub(in crate::provider) fn body(
    model: &str,
    conversation: &Conversation,
    stream: bool,
) -> Result<Bytes, Failure> {
    let request = Request {
        model,
        messages: conversation.messages.iter().map(turn).collect(),
        parameters: conversation.parameters.as_object(),
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions { include_usage: true }),
    };
    serde_json::to_vec(&request).map(Bytes::from).map_err(|_| Failure::Malformed)
}

fn turn(message: &Message) -> Turn<'_> {
    Turn {
        role: message.role.as_str(),
        content: match &message.content {
            Content::None => Words::None(()),
            Content::Text(text) => Words::Text(text),
            Content::Parts(parts) => Words::Parts(parts),
        },
        tool_calls: message.tool_calls.iter().map(Call::from).collect(),
        tool_call_id: message.tool_call_id.as_deref(),
        extra: &message.extra,
    }
}

impl<'a> From<&'a ToolCall> for Call<'a> {
    fn from(ToolCall { id, name, arguments }: &'a ToolCall) -> Self {
        Self { id, r#type: "function", function: Function { name, arguments } }
    }
}

/// Reads a whole answer; its tokens are estimated where the upstream does not say.
pub(in crate::provider) fn answer(body: &[u8], asked: &Conversation) -> Result<Answer, Failure> {
    let completion: Completion = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
    let choice = completion.choices.into_iter().next().ok_or(Failure::Malformed)?;
    let message = choice.message.ok_or(Failure::Malformed)?;
    let text = message.content.unwrap_or_default();
    let usage = completion.usage.map_or_else(|| estimated(asked, &text), Usage::from);
    let mut calls = message.tool_calls.unwrap_or_default();
    let mut extra = extra(message.extra, choice.logprobs);
    if calls.iter().any(RawCall::is_foreign) {
        extra.insert(TOOL_CALLS.into(), told(std::mem::take(&mut calls))?);
    }
    let tool_calls = calls.into_iter().map(|call| {
        let function = call.function.ok_or(Failure::Malformed)?;
        Ok(ToolCall {
            id: call.id.unwrap_or_default(),
            name: function.name.ok_or(Failure::Malformed)?,
            arguments: function.arguments.unwrap_or_default(),
        })
    });
    Ok(Answer {
        text: text.into(),
        tool_calls: tool_calls.collect::<Result<_, _>>()?,
        extra: extra.into(),
        finish: finish(choice.finish_reason.as_deref()),
        usage,
    })
}

/// Reads one event of a streamed answer.
pub(in crate::provider) fn delta(data: &str) -> Result<Delta, Failure> {
    if data == "[DONE]" {
        return Ok(Delta { done: true, ..Delta::default() });
    }
    // An error in mid-stream has no `choices`.
    let completion: Completion = serde_json::from_str(data).map_err(|_| Failure::Malformed)?;
    let mut delta = Delta { usage: completion.usage.map(Usage::from), ..Delta::default() };
    let Some(choice) = completion.choices.into_iter().next() else { return Ok(delta) };
    delta.finish = choice.finish_reason.as_deref().map(|reason| finish(Some(reason)));
    let message =
        choice.message.unwrap_or(RawMessage { content: None, tool_calls: None, extra: Object::new() });
    let extra = extra(message.extra, choice.logprobs);
    if !extra.is_empty() {
        delta.pieces.push(Piece::Extra(extra));
    }
    delta.pieces.extend(message.content.filter(|text| !text.is_empty()).map(Piece::Text));
    for (place, mut call) in (0..).zip(message.tool_calls.into_iter().flatten()) {
        let index = call.index.unwrap_or(place);
        delta.pieces.push(if call.is_foreign() {
            call.index = Some(index);
            Piece::Extra(Object::from_iter([(TOOL_CALLS.to_owned(), told(vec![call])?)]))
        } else {
            let function = call.function.unwrap_or(RawFunction { name: None, arguments: None });
            let arguments = function.arguments.unwrap_or_default();
            Piece::Call(CallPiece { index, id: call.id, name: function.name, arguments })
        });
    }
    Ok(delta)
}

impl RawCall {
    /// Returns whether it calls something else than a function: that is the client's to read.
    fn is_foreign(&self) -> bool {
        let is_function = self.function.is_some() || self.r#type.as_deref() == Some("function");
        !is_function && !self.other.is_empty()
    }
}

fn told(calls: Vec<RawCall>) -> Result<Value, Failure> {
    serde_json::to_value(calls).map_err(|_| Failure::Malformed)
}

/// Gathers what else a message holds; the probabilities of its tokens stand beside it.
fn extra(mut extra: Object, logprobs: Option<Value>) -> Object {
    extra.remove("role");
    extra.extend(logprobs.map(|logprobs| ("logprobs".to_owned(), logprobs)));
    extra.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    extra
}

fn finish(reason: Option<&str>) -> Finish {
    match reason {
        Some("stop") => Finish::Stop,
        Some("tool_calls" | "function_call") => Finish::ToolCalls,
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Filter,
        _ => Finish::Unknown,
    }
}

impl From<RawUsage> for Usage {
    fn from(raw: RawUsage) -> Self {
        Self {
            input: raw.prompt_tokens,
            cached_input: raw
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens)
                .unwrap_or_default(),
            output: raw.completion_tokens,
            estimated: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{answer, body, delta};
    use crate::{
        conversation::{
            CallPiece, Content, Conversation, Finish, Gathered, Message, Piece, Role, ToolCall, Usage,
        },
        provider::Failure,
    };

    fn sent(asked: &Conversation) -> Value {
        serde_json::from_slice(&body("m", asked, false).unwrap()).unwrap()
    }

    #[test]
    fn only_what_the_caller_set_is_sent_and_all_of_it() {
        let mut asked = Conversation::of("hi");
        assert_eq!(sent(&asked), json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}));
        asked.parameters.set("temperature", 0.0);
        asked.parameters.set("a_parameter_of_tomorrow", json!({"z": 1, "a": [2]}));
        assert_eq!(sent(&asked)["temperature"], 0.0);
        assert!(
            sent(&asked).to_string().contains(r#""a_parameter_of_tomorrow":{"z":1,"a":[2]}"#),
            "in its order"
        );
    }

    #[test]
    fn tools_and_their_answers_are_sent_as_they_came() {
        let call = ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"x\": 1}".into() };
        let called =
            Message { content: Content::None, tool_calls: vec![call], ..Message::text(Role::Assistant, "") };
        let told = Message { tool_call_id: Some("c1".into()), ..Message::text(Role::Tool, "7") };
        let asked = Conversation { messages: vec![called, told], ..Conversation::default() };
        let function = json!({"name": "f", "arguments": "{\"x\": 1}"});
        let expected = json!([
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
        ]);
        assert_eq!(sent(&asked)["messages"], expected);
    }

    #[test]
    fn an_answer_without_choices_is_malformed() {
        let asked = Conversation::of("?");
        assert_eq!(answer(b"{\"choices\":[]}", &asked), Err(Failure::Malformed));
        assert_eq!(answer(b"<html>", &asked), Err(Failure::Malformed));
        let read = answer(
            br#"{"choices":[{"message":{"role":"assistant","content":"yes","reasoning_content":"hm","refusal":null},"finish_reason":"length"}],
                "usage":{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}}"#,
            &asked,
        );
        let read = read.unwrap();
        assert_eq!((&*read.text, read.finish), ("yes", Finish::Length));
        assert_eq!(read.usage, Usage { input: 3, cached_input: 2, output: 1, estimated: false });
        assert_eq!(json!(*read.extra), json!({"reasoning_content": "hm"}));
        assert!(answer(br#"{"choices":[{"message":{"content":"yes"}}]}"#, &asked).unwrap().usage.estimated);
    }

    #[test]
    fn an_error_in_mid_stream_is_a_failure() {
        assert_eq!(delta(r#"{"error":{"message":"overloaded"}}"#), Err(Failure::Malformed));
        assert_eq!(
            delta(r#"{"choices":[{"delta":{"content":"a"}}]}"#).unwrap().pieces,
            [Piece::Text("a".into())]
        );
        let end = delta(r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#).unwrap();
        assert_eq!((end.finish, end.pieces.len()), (Some(Finish::ToolCalls), 0));
        let call = r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}"#;
        let piece =
            CallPiece { index: 1, id: Some("c".into()), name: Some("f".into()), arguments: "{".into() };
        assert_eq!(delta(call).unwrap().pieces, [Piece::Call(piece)]);
    }

    #[test]
    fn calls_of_another_kind_than_functions_are_the_clients_to_read() {
        let custom = json!({"id": "c1", "type": "custom", "custom": {"name": "g", "input": "x"}});
        let function = json!({"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let whole = json!({"choices": [{"message": {"tool_calls": [custom, function]}, "finish_reason": "tool_calls"}]});
        let read = answer(whole.to_string().as_bytes(), &Conversation::of("?")).unwrap();
        assert_eq!((read.tool_calls.len(), &read.extra["tool_calls"]), (0, &json!([custom, function])));
        let mut gathered = Gathered::default();
        for told in [
            json!({"index": 1, "id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}),
            json!({"index": 0, "id": "c1", "type": "custom", "custom": {"name": "g", "input": ""}}),
            json!({"index": 0, "id": "c1", "type": "custom", "custom": {"input": "x"}}),
            json!({"index": 0, "id": "c1"}),
            json!({"index": 1, "type": "function", "extra_content": {}}),
        ] {
            let event = json!({"choices": [{"delta": {"tool_calls": [told]}}]});
            delta(&event.to_string()).unwrap().pieces.iter().for_each(|piece| gathered.take(piece).unwrap());
        }
        let read = gathered.answer(Finish::ToolCalls, Usage::default());
        assert_eq!((read.tool_calls.len(), &read.extra["tool_calls"]), (0, &json!([custom, function])));
    }
}
