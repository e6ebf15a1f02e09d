//! A request for a chat completion, checked.

use std::time::Duration;

use axum::{body::Bytes, extract::rejection::BytesRejection};
use http::{HeaderMap, header};
use rpc::{At, Caller, Check};
use serde_json::Value;

use super::fault::Refusal;
use crate::{
    cache::semantic::Mode,
    conversation::{Content, Conversation, Message, Object, Parameters, Role, ToolCall},
    convert,
    served::{Control, Terms},
};

/// Most turns of a conversation.
const MAX_MESSAGES: usize = 10_000;

/// What is asked, and how.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) terms: Terms,
    pub(super) conversation: Conversation,
    /// Whether the answer is a stream; and, if so, whether its tokens are told at its end.
    pub(super) stream: Option<bool>,
}

/// Reads the body of a request: the JSON of an object.
///
/// # Errors
/// If it is anything else, or too large.
pub(super) fn object(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Object, Refusal> {
    let body = body.map_err(|rejection| Refusal::body(rejection.status()))?;
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
    // A page of the browser on this machine may send other types to any address without asking.
    if !is_json {
        return Err(Refusal::content_type());
    }
    serde_json::from_slice(&body).map_err(|error| Refusal::json(&error))
}

/// Reads a request of `caller`.
///
/// # Errors
/// Names every wrong field.
pub(super) fn read(caller: Caller, headers: &HeaderMap, mut request: Object) -> Result<Question, Refusal> {
    let mut check = Check::default();
    let model = match request.shift_remove("model") {
        Some(Value::String(model)) => model,
        None => String::new(),
        Some(_) => {
            check.wrong("model", "must be text");
            String::new()
        }
    };
    check.text("model", &model, 0..=convert::MODEL_BYTES);
    let messages = messages(&mut check, request.shift_remove("messages"));
    let streams = flag(&mut check, "stream", request.shift_remove("stream").as_ref());
    let options = request.shift_remove("stream_options");
    let with_usage = options.as_ref().and_then(|options| options.get("include_usage"));
    let with_usage = flag(&mut check, "stream_options.include_usage", with_usage);
    let n = request.shift_remove("n").filter(|n| !n.is_null());
    check.require(
        "n",
        n.is_none_or(|n| n == 1),
        "must be 1: ask as often as samples are wanted, with `x-athena-coalesce: off` and `cache-control: no-cache`",
    );
    if let Some(temperature) = request.get("temperature").filter(|value| !value.is_null()) {
        check.within("temperature", temperature.as_f64().unwrap_or(f64::NAN), 0.0..=2.0);
    }
    let mut terms = terms(&mut check, caller, headers);
    if streams && !headers.contains_key("grpc-timeout") {
        // As a stream of gRPC: the host bounds the time until it begins, and it may go on for as long as it says something.
        terms.deadline = None;
    }
    let conversation = Conversation { model, messages, parameters: Parameters::new(request) };
    let stream = streams.then_some(with_usage);
    check.end(Question { terms, conversation, stream }).map_err(|fault| Refusal::of(&fault))
}

fn flag(check: &mut Check, name: &str, value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(value)) => *value,
        None | Some(Value::Null) => false,
        Some(_) => {
            check.wrong(name, "must be true or false");
            false
        }
    }
}

/// Reads how the cache may be used: HTTP's own `Cache-Control` (RFC 9111: `no-cache`, `no-store`, `max-age` in seconds), and our headers.
fn terms(check: &mut Check, caller: Caller, headers: &HeaderMap) -> Terms {
    let mut control = Control::default();
    // On several lines as on one.
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for directive in lines.flat_map(|line| line.split(',')) {
        match directive.trim().to_ascii_lowercase().split_once('=') {
            None if directive.trim().eq_ignore_ascii_case("no-cache") => control.read = false,
            None if directive.trim().eq_ignore_ascii_case("no-store") => control.store = false,
            Some(("max-age", seconds)) => match seconds.parse() {
                Ok(seconds) => control.max_age = Some(Duration::from_secs(seconds)),
                Err(_) => check.wrong("cache-control", "must have a `max-age` in whole seconds"),
            },
            _ => {}
        }
    }
    match text(headers, "x-athena-coalesce") {
        None | Some("on") => {}
        Some("off") => control.coalesce = false,
        Some(_) => check.wrong("x-athena-coalesce", "must be `on` or `off`"),
    }
    control.semantic = text(headers, "x-athena-semantic").and_then(|word| {
        let mode = <Mode as config::Value>::parse(word);
        check.require("x-athena-semantic", mode.is_some(), "must be `off`, `shadow` or `on`");
        mode
    });
    let max_cost_usd = text(headers, "x-athena-max-cost-usd").map(|limit| limit.parse().unwrap_or(f64::NAN));
    Terms { control, ..convert::within(check, caller, ("x-athena-max-cost-usd", max_cost_usd)) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // What is no text is read as a word that nobody knows.
    headers.get(name).map(|value| value.to_str().unwrap_or("?").trim())
}

fn messages(check: &mut Check, messages: Option<Value>) -> Vec<Message> {
    let at = At::from("messages");
    let Some(Value::Array(messages)) = messages else {
        check.wrong(at, "must be a list of messages");
        return Vec::new();
    };
    if !check.items(at, messages.len(), 1..=MAX_MESSAGES) {
        return Vec::new();
    }
    let read = messages.into_iter().enumerate().filter_map(|(place, message)| {
        let at = at.item(place);
        let Value::Object(message) = message else {
            check.wrong(at, "must be an object");
            return None;
        };
        read_message(check, at, message)
    });
    read.collect()
}

fn read_message(check: &mut Check, at: At<'_>, mut message: Object) -> Option<Message> {
    let named = message.shift_remove("role");
    let role = Role::ALL.into_iter().find(|role| named.as_ref().is_some_and(|named| named == role.as_str()));
    if role.is_none() {
        check.wrong(at.field("role"), "must be `system`, `developer`, `user`, `assistant` or `tool`");
    }
    let content = match message.shift_remove("content") {
        None | Some(Value::Null) => Content::None,
        Some(Value::String(text)) => Content::Text(text),
        Some(Value::Array(parts)) => Content::Parts(parts),
        Some(_) => {
            check.wrong(at.field("content"), "must be text or a list of parts");
            Content::None
        }
    };
    let mut tool_calls = Vec::new();
    match message.shift_remove("tool_calls") {
        None | Some(Value::Null) => {}
        Some(Value::Array(calls)) => match calls.iter().map(tool_call).collect() {
            Some(read) => tool_calls = read,
            // Calls of another kind than functions: for the upstream to read.
            None => {
                message.insert("tool_calls".into(), Value::Array(calls));
            }
        },
        Some(_) => check.wrong(at.field("tool_calls"), "must be a list of calls"),
    }
    let tool_call_id = match message.shift_remove("tool_call_id") {
        Some(Value::String(id)) => Some(id),
        None | Some(Value::Null) => None,
        Some(_) => {
            check.wrong(at.field("tool_call_id"), "must be text");
            None
        }
    };
    message.retain(|_, value| !value.is_null());
    Some(Message { role: role?, content, tool_calls, tool_call_id, extra: message })
}

fn tool_call(call: &Value) -> Option<ToolCall> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let object = call.as_object()?;
    let function = object.get("function")?.as_object()?;
    let whole = object.get("type").is_none_or(|kind| kind == "function")
        && object.keys().all(|name| matches!(name.as_str(), "id" | "type" | "function" | "index"));
    whole.then_some(ToolCall {
        id: text(object.get("id")?)?,
        name: text(function.get("name")?)?,
        arguments: text(function.get("arguments")?)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use rpc::{Caller, Role};
    use serde_json::{Value, json};

    use super::{Question, Refusal, read};
    use crate::conversation::Content;

    fn ask(body: &Value, headers: &[(&'static str, &'static str)]) -> Result<Question, Refusal> {
        let mut all = HeaderMap::new();
        for (name, value) in [("content-type", "application/json; charset=utf-8")].iter().chain(headers) {
            all.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let request = super::object(&all, Ok(body.to_string().into()))?;
        read(Caller::new("t", Role::Agent), &all, request)
    }

    fn minimal() -> Value {
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    }

    #[test]
    fn what_is_unknown_is_carried_in_its_order_and_what_is_null_is_not_set() {
        let mut body = minimal();
        body["tomorrow"] = json!({"z": 1, "a": 2});
        body["stop"] = Value::Null;
        body["n"] = json!(1);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let question = ask(&body, &[]).unwrap();
        let parameters = serde_json::to_string(question.conversation.parameters.as_object()).unwrap();
        assert_eq!(parameters, r#"{"tomorrow":{"z":1,"a":2}}"#);
        assert_eq!(question.stream, Some(true));
    }

    #[test]
    fn messages_keep_parts_calls_and_names() {
        let body = json!({"model": "m", "messages": [
            {"role": "developer", "content": "be brief", "name": "app"},
            {"role": "user", "content": [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:"}}]},
            {"role": "assistant", "content": null, "refusal": null,
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "assistant", "tool_calls": [{"id": "d", "type": "custom", "custom": {"name": "g", "input": "x"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "7"},
        ]});
        let messages = ask(&body, &[]).unwrap().conversation.messages;
        assert_eq!(messages[0].extra["name"], "app");
        assert!(matches!(&messages[1].content, Content::Parts(parts) if parts.len() == 2));
        assert_eq!((messages[2].tool_calls[0].name.as_str(), messages[2].extra.len()), ("f", 0));
        assert_eq!(messages[3].extra["tool_calls"][0]["custom"]["name"], "g");
        assert_eq!(messages[4].tool_call_id.as_deref(), Some("c"));
    }

    #[test]
    fn headers_say_how_the_cache_may_be_used() {
        let headers = [
            ("cache-control", "no-store, Max-Age=60"),
            ("x-athena-coalesce", "off"),
            ("x-athena-max-cost-usd", "0.5"),
        ];
        let terms = ask(&minimal(), &headers).unwrap().terms;
        assert!(terms.control.read && !terms.control.store && !terms.control.coalesce);
        assert_eq!((terms.control.max_age, terms.max_cost_usd), (Some(Duration::from_secs(60)), Some(0.5)));
        assert!(!ask(&minimal(), &[("cache-control", "no-cache")]).unwrap().terms.control.read);
    }

    #[test]
    fn every_wrong_field_is_named() {
        let body = json!({"model": 7, "messages": [{"role": "robot"}, 3, {"role": "user", "content": 3}], "stream": "yes", "n": 2, "temperature": 9});
        let headers = [
            ("x-athena-coalesce", "maybe"),
            ("x-athena-max-cost-usd", "-1"),
            ("cache-control", "max-age=soon"),
        ];
        let message = ask(&body, &headers).unwrap_err().message().to_owned();
        for field in [
            "model",
            "messages[0].role",
            "messages[1]",
            "messages[2].content",
            "stream",
            "n must",
            "temperature",
            "cache-control",
            "x-athena-coalesce",
            "x-athena-max-cost-usd",
        ] {
            assert!(message.contains(field), "{field}: {message}");
        }
        assert!(ask(&json!({"messages": []}), &[]).is_err());
        assert!(ask(&json!({}), &[]).is_err());
        assert!(ask(&json!([]), &[]).is_err());
    }

    #[test]
    fn only_json_is_read() {
        let read = super::object(&HeaderMap::new(), Ok(minimal().to_string().into()));
        assert_eq!(read.unwrap_err().status(), 415);
    }
}
