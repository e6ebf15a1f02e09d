//! The JSON of chat completions.

use bytes::Bytes;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    conversation::{Conversation, Finish, Usage},
    provider::Failure,
};

/// A piece of a streamed answer.
#[derive(Debug, PartialEq)]
pub(super) struct Delta {
    pub(super) text: String,
    pub(super) finish: Option<Finish>,
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "delta")]
    message: Option<Content>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[derive(Deserialize)]
struct RawUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// Writes the request.
pub(super) fn body(model: &str, conversation: &Conversation, schema: Option<&Value>, stream: bool) -> Bytes {
    let messages: Vec<_> = conversation
        .messages
        .iter()
        .map(|message| json!({"role": message.role.as_str(), "content": message.content}))
        .collect();
    let mut body = json!({"model": model, "messages": messages});
    if let Some(temperature) = conversation.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(most) = conversation.max_output_tokens {
        body["max_tokens"] = json!(most);
    }
    if let Some(schema) = schema {
        let named = json!({"name": "analysis", "strict": true, "schema": schema});
        body["response_format"] = json!({"type": "json_schema", "json_schema": named});
    }
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    body.to_string().into()
}

/// Reads a whole answer: its words, why it ended, what it used.
pub(super) fn answer(body: &[u8]) -> Result<(String, Finish, Option<Usage>), Failure> {
    let completion: Completion = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
    let choice = completion.choices.into_iter().next().ok_or(Failure::Malformed)?;
    let text = choice.message.and_then(|message| message.content).unwrap_or_default();
    Ok((text, finish(choice.finish_reason.as_deref()), completion.usage.map(Usage::from)))
}

/// Reads one event of a streamed answer.
pub(super) fn delta(data: &str) -> Result<Delta, Failure> {
    // An error in mid-stream has no `choices`.
    let completion: Completion = serde_json::from_str(data).map_err(|_| Failure::Malformed)?;
    let choice = completion.choices.into_iter().next();
    let (message, reason) = choice.map_or((None, None), |choice| (choice.message, choice.finish_reason));
    Ok(Delta {
        text: message.and_then(|message| message.content).unwrap_or_default(),
        finish: reason.as_deref().map(|reason| finish(Some(reason))),
        usage: completion.usage.map(Usage::from),
    })
}

/// Returns which of our fields the upstream says is wrong.
pub(super) fn refused_field(status: StatusCode, body: &[u8]) -> Option<&'static str> {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = error["error"]["param"].as_str().unwrap_or_default();
    match named {
        "model" => Some("model"),
        "temperature" => Some("temperature"),
        "max_tokens" | "max_completion_tokens" => Some("max_output_tokens"),
        _ if named.starts_with("messages") => Some("messages"),
        _ => (status == StatusCode::NOT_FOUND).then_some("model"),
    }
}

/// Returns a reason to stop by its name in the API.
pub(super) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Unknown => "unknown",
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
    }
}

fn finish(reason: Option<&str>) -> Finish {
    match reason {
        Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some("content_filter") => Finish::Filter,
        _ => Finish::Unknown,
    }
}

impl From<RawUsage> for Usage {
    fn from(raw: RawUsage) -> Self {
        Self { input: raw.prompt_tokens, output: raw.completion_tokens, estimated: false }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::{Value, json};

    use super::{answer, body, delta, refused_field};
    use crate::{
        conversation::{Conversation, Finish, Message, Role, Usage},
        provider::Failure,
    };

    #[test]
    fn only_what_the_caller_set_is_sent() {
        let messages = vec![Message { role: Role::User, content: "hi".into() }];
        let mut asked = Conversation { messages, ..Conversation::default() };
        let sent =
            |asked: &Conversation| serde_json::from_slice::<Value>(&body("m", asked, None, false)).unwrap();
        assert_eq!(sent(&asked), json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}));
        asked.temperature = Some(0.0);
        asked.max_output_tokens = Some(5);
        assert_eq!(sent(&asked)["temperature"], 0.0);
        assert_eq!(sent(&asked)["max_tokens"], 5);
    }

    #[test]
    fn an_answer_without_choices_is_malformed() {
        assert_eq!(answer(b"{\"choices\":[]}"), Err(Failure::Malformed));
        assert_eq!(answer(b"<html>"), Err(Failure::Malformed));
        let (text, finish, usage) = answer(
            br#"{"choices":[{"message":{"content":"yes"},"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        )
        .unwrap();
        assert_eq!((text.as_str(), finish), ("yes", Finish::Length));
        assert_eq!(usage, Some(Usage { input: 3, output: 1, estimated: false }));
    }

    #[test]
    fn an_error_in_mid_stream_is_a_failure() {
        assert_eq!(delta(r#"{"error":{"message":"overloaded"}}"#), Err(Failure::Malformed));
        assert_eq!(delta(r#"{"choices":[{"delta":{"content":"a"}}]}"#).unwrap().text, "a");
        let end = delta(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#).unwrap();
        assert_eq!((end.finish, end.text.as_str()), (Some(Finish::Stop), ""));
    }

    #[test]
    fn a_refusal_names_our_field() {
        let field = |param: &str| {
            refused_field(StatusCode::BAD_REQUEST, json!({"error": {"param": param}}).to_string().as_bytes())
        };
        assert_eq!(field("max_completion_tokens"), Some("max_output_tokens"));
        assert_eq!(field("messages[2].content"), Some("messages"));
        assert_eq!(field("logit_bias"), None);
        assert_eq!(refused_field(StatusCode::NOT_FOUND, b"no such route"), Some("model"));
    }
}
