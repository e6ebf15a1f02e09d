//! Writes a request.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    conversation::{Content, Conversation, Message, Object, Role, ToolCall},
    provider::Failure,
};

/// Fields of an earlier answer that only describe it.
const ECHOED: [&str; 5] = ["annotations", "content_blocks", "citations", "reasoning_content", "refusal"];

/// Writes the request.
pub(in crate::provider) fn body(
    model: &str,
    conversation: &Conversation,
    stream: bool,
    max_tokens: u32,
) -> Result<Bytes, Failure> {
    let mut request = Object::new();
    request.insert("model".into(), model.into());
    parameters(conversation.parameters.as_object(), max_tokens, &mut request)?;
    let (mut system, mut messages) = (Vec::new(), Vec::<Value>::new());
    for (place, message) in conversation.messages.iter().enumerate() {
        let at = At { place };
        match message.role {
            Role::System | Role::Developer => system.extend(at.blocks(message)?),
            Role::User => messages.push(json!({"role": "user", "content": at.blocks(message)?})),
            Role::Assistant => messages.push(json!({"role": "assistant", "content": at.said(message)?})),
            Role::Tool => match messages.last_mut().and_then(results) {
                // The answers to calls made together belong into one turn.
                Some(results) => results.push(at.result(message)?),
                None => messages.push(json!({"role": "user", "content": [at.result(message)?]})),
            },
        }
    }
    if !system.is_empty() {
        request.insert("system".into(), system.into());
    }
    request.insert("messages".into(), messages.into());
    if stream {
        request.insert("stream".into(), true.into());
    }
    serde_json::to_vec(&request).map(Bytes::from).map_err(|_| Failure::Malformed)
}

/// Returns the blocks of a turn that holds results of tools and nothing else.
fn results(turn: &mut Value) -> Option<&mut Vec<Value>> {
    let blocks = turn.get_mut("content")?.as_array_mut()?;
    blocks.iter().all(|block| block["type"] == "tool_result").then_some(blocks)
}

/// A turn on its way, for naming what cannot be carried.
struct At {
    place: usize,
}

impl At {
    fn cannot(&self, field: &str) -> Failure {
        Failure::Unsupported { field: format!("messages[{}].{field}", self.place) }
    }

    fn blocks(&self, message: &Message) -> Result<Vec<Value>, Failure> {
        let known: &[&str] = match message.role {
            Role::Assistant => &ECHOED,
            Role::Tool => &["name"],
            _ => &[],
        };
        let is_known = |name: &str| known.contains(&name) || name == "thinking_blocks";
        if let Some(name) = message.extra.keys().find(|name| !is_known(name)) {
            return Err(self.cannot(name));
        }
        match &message.content {
            Content::None => Ok(Vec::new()),
            Content::Text(text) if text.is_empty() => Ok(Vec::new()),
            Content::Text(text) => Ok(vec![json!({"type": "text", "text": text})]),
            Content::Parts(parts) => parts.iter().map(|part| self.block(part)).collect(),
        }
    }

    /// Writes a part: texts and images are translated, Anthropic's own blocks are sent as they are.
    fn block(&self, part: &Value) -> Result<Value, Failure> {
        match part["type"].as_str() {
            Some("text" | "image" | "document" | "search_result") => Ok(part.clone()),
            Some("image_url") => {
                let url = part["image_url"]["url"].as_str().ok_or_else(|| self.cannot("content"))?;
                Ok(json!({"type": "image", "source": source(url).ok_or_else(|| self.cannot("content"))?}))
            }
            Some("refusal") => Ok(json!({"type": "text", "text": part["refusal"]})),
            _ => Err(self.cannot("content")),
        }
    }

    /// Writes an earlier answer: its thinking, which is signed, its words, its calls.
    fn said(&self, message: &Message) -> Result<Vec<Value>, Failure> {
        let mut blocks =
            message.extra.get("thinking_blocks").and_then(Value::as_array).cloned().unwrap_or_default();
        blocks.extend(self.blocks(message)?);
        for ToolCall { id, name, arguments } in &message.tool_calls {
            let given = if arguments.trim().is_empty() { "{}" } else { arguments };
            let input = serde_json::from_str::<Object>(given).map_err(|_| self.cannot("tool_calls"))?;
            blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
        }
        Ok(blocks)
    }

    fn result(&self, message: &Message) -> Result<Value, Failure> {
        let id = message.tool_call_id.as_deref().ok_or_else(|| self.cannot("tool_call_id"))?;
        Ok(json!({"type": "tool_result", "tool_use_id": id, "content": self.blocks(message)?}))
    }
}

/// Returns where an image comes from: a `data:` address holds it.
fn source(url: &str) -> Option<Value> {
    let Some(inline) = url.strip_prefix("data:") else {
        return Some(json!({"type": "url", "url": url}));
    };
    let (media_type, data) = inline.split_once(";base64,")?;
    Some(json!({"type": "base64", "media_type": media_type, "data": data}))
}

/// Writes the parameters under Anthropic's names; those it shares, and those nobody here knows, as they are.
fn parameters(given: &Object, max_tokens: u32, request: &mut Object) -> Result<(), Failure> {
    let mut limit = Value::from(max_tokens);
    let (mut choice, mut one_call, mut output) = (None, false, Object::new());
    for (name, value) in given {
        match name.as_str() {
            "max_tokens" | "max_completion_tokens" => limit = value.clone(),
            "stop" => {
                let stops = if value.is_array() { value.clone() } else { json!([value]) };
                request.insert("stop_sequences".into(), stops);
            }
            "tools" => {
                let tools = value.as_array().ok_or_else(|| cannot("tools"))?;
                request.insert(name.clone(), tools.iter().map(tool).collect::<Result<Value, _>>()?);
            }
            "tool_choice" => choice = Some(tool_choice(value)?),
            "parallel_tool_calls" => one_call = value == false,
            "response_format" => match value["type"].as_str() {
                Some("text") => {}
                Some("json_schema") => {
                    let schema = &value["json_schema"]["schema"];
                    output.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
                }
                _ => return Err(cannot("response_format")),
            },
            "reasoning_effort" => {
                output.insert("effort".into(), value.clone());
            }
            "output_config" => output.extend(value.as_object().cloned().unwrap_or_default()),
            "user" => {
                request.insert("metadata".into(), json!({"user_id": value}));
            }
            // It knows none, and a caller's seed is a wish.
            "seed" => {}
            _ => {
                request.insert(name.clone(), value.clone());
            }
        }
    }
    if one_call {
        let choice = choice.get_or_insert_with(|| json!({"type": "auto"}));
        choice["disable_parallel_tool_use"] = true.into();
    }
    request.insert("max_tokens".into(), limit);
    request.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    if !output.is_empty() {
        request.insert("output_config".into(), output.into());
    }
    Ok(())
}

fn cannot(field: &str) -> Failure {
    Failure::Unsupported { field: field.to_owned() }
}

/// Writes a tool: functions are translated, the server's own are sent as they are.
fn tool(tool: &Value) -> Result<Value, Failure> {
    let Some(function) = tool.get("function") else { return Ok(tool.clone()) };
    let mut written = Object::new();
    written.insert("name".into(), function["name"].clone());
    for (name, value) in function.as_object().into_iter().flatten() {
        match name.as_str() {
            "name" => {}
            "parameters" => {
                written.insert("input_schema".into(), value.clone());
            }
            _ if value.is_null() || (name == "strict" && value == false) => {}
            _ => {
                written.insert(name.clone(), value.clone());
            }
        }
    }
    written.entry("input_schema").or_insert_with(|| json!({"type": "object"}));
    Ok(written.into())
}

fn tool_choice(choice: &Value) -> Result<Value, Failure> {
    match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("auto"), _) => Ok(json!({"type": "auto"})),
        (Some("none"), _) => Ok(json!({"type": "none"})),
        (Some("required"), _) => Ok(json!({"type": "any"})),
        (_, Some(name)) => Ok(json!({"type": "tool", "name": name})),
        _ => Err(cannot("tool_choice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(asked: &Conversation) -> Value {
        serde_json::from_slice(&body("m", asked, false, 100).unwrap()).unwrap()
    }

    fn given(parameters: Value) -> Value {
        let mut asked = Conversation::of("hi");
        parameters
            .as_object()
            .unwrap()
            .iter()
            .for_each(|(name, value)| asked.parameters.set(name, value.clone()));
        sent(&asked)
    }

    #[test]
    fn a_question_is_sent_with_the_limit_that_is_demanded() {
        let words = json!([{"type": "text", "text": "hi"}]);
        let expected =
            json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": words}]});
        assert_eq!(sent(&Conversation::of("hi")), expected);
        assert_eq!(given(json!({"max_completion_tokens": 7}))["max_tokens"], 7);
    }

    #[test]
    fn instructions_calls_and_results_find_their_places() {
        let call =
            |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: "{\"b\": 1, \"a\": 2}".into() };
        let thought = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
        let mut called = Message {
            tool_calls: vec![call("1"), call("2")],
            ..Message::text(Role::Assistant, "let me see")
        };
        called.extra =
            json!({"thinking_blocks": thought, "reasoning_content": "hm"}).as_object().unwrap().clone();
        let told = |id: &str| Message { tool_call_id: Some(id.into()), ..Message::text(Role::Tool, "7") };
        let messages = vec![
            Message::text(Role::System, "be brief"),
            Message::text(Role::User, "?"),
            called,
            told("1"),
            told("2"),
        ];
        let sent = sent(&Conversation { messages, ..Conversation::default() });
        assert_eq!(sent["system"], json!([{"type": "text", "text": "be brief"}]));
        let said = &sent["messages"][1]["content"];
        assert_eq!((&said[0]["signature"], &said[1]["text"]), (&json!("s"), &json!("let me see")));
        assert_eq!(said[2].to_string(), r#"{"type":"tool_use","id":"1","name":"f","input":{"b":1,"a":2}}"#);
        let results = sent["messages"][2]["content"].as_array().unwrap();
        assert_eq!((results.len(), &results[1]["tool_use_id"]), (2, &json!("2")));
        assert_eq!(sent["messages"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn images_are_sent_by_address_or_whole() {
        let part = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let parts = vec![part("https://x/y.png"), part("data:image/png;base64,AAAA")];
        let seen = Message { content: Content::Parts(parts), ..Message::text(Role::User, "") };
        let sent = sent(&Conversation { messages: vec![seen], ..Conversation::default() });
        assert_eq!(
            sent["messages"][0]["content"][0]["source"],
            json!({"type": "url", "url": "https://x/y.png"})
        );
        let whole = json!({"type": "base64", "media_type": "image/png", "data": "AAAA"});
        assert_eq!(sent["messages"][0]["content"][1]["source"], whole);
    }

    #[test]
    fn parameters_get_anthropics_names_and_unknown_ones_stay() {
        let function = json!({"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": true});
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
        let sent = given(json!({
            "stop": "END", "tools": [{"type": "function", "function": function}, {"type": "web_search_20250305", "name": "web_search"}],
            "tool_choice": "required", "parallel_tool_calls": false, "response_format": format, "reasoning_effort": "low",
            "user": "u", "seed": 3, "top_k": 5, "a_parameter_of_tomorrow": {"z": 1, "a": 2},
        }));
        assert_eq!(sent["stop_sequences"], json!(["END"]));
        assert_eq!(sent["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
        assert_eq!(
            (&sent["tools"][0]["strict"], &sent["tools"][1]["name"]),
            (&json!(true), &json!("web_search"))
        );
        let one_call = json!({"type": "any", "disable_parallel_tool_use": true});
        assert_eq!(sent["tool_choice"], one_call);
        let other_way_round = given(json!({"parallel_tool_calls": false, "tool_choice": "required"}));
        assert_eq!(other_way_round["tool_choice"], one_call);
        let output =
            json!({"format": {"type": "json_schema", "schema": {"type": "object"}}, "effort": "low"});
        assert_eq!(sent["output_config"], output);
        assert_eq!((&sent["metadata"]["user_id"], &sent["top_k"]), (&json!("u"), &json!(5)));
        assert_eq!(sent["a_parameter_of_tomorrow"].to_string(), r#"{"z":1,"a":2}"#);
        assert!(sent.get("seed").is_none());
    }

    #[test]
    fn what_cannot_be_said_names_its_field() {
        let field = |messages, parameters: Value| {
            let mut asked = Conversation { messages, ..Conversation::default() };
            parameters
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(name, value)| asked.parameters.set(name, value.clone()));
            match body("m", &asked, false, 1) {
                Err(Failure::Unsupported { field }) => field,
                other => panic!("{other:?}"),
            }
        };
        let user = || Message::text(Role::User, "?");
        assert_eq!(
            field(vec![user()], json!({"response_format": {"type": "json_object"}})),
            "response_format"
        );
        let heard = Content::Parts(vec![json!({"type": "input_audio", "input_audio": {}})]);
        assert_eq!(field(vec![Message { content: heard, ..user() }], json!({})), "messages[0].content");
        let named = Message { extra: json!({"name": "Ann"}).as_object().unwrap().clone(), ..user() };
        assert_eq!(field(vec![user(), named], json!({})), "messages[1].name");
        let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "no object".into() };
        let called = Message { tool_calls: vec![call], ..Message::text(Role::Assistant, "") };
        assert_eq!(field(vec![called], json!({})), "messages[0].tool_calls");
    }
}
