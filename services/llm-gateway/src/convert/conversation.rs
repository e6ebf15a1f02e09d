//! A conversation to answer, checked.

use contracts::llm as wire;
use rpc::{At, Caller, Check, Fault};
use serde_json::{Value, json};

use super::question::{MODEL_BYTES, terms};
use crate::{
    conversation::{Content, Conversation, Message, Object, Parameters, Role, ToolCall},
    served::Terms,
};

/// Most turns of a conversation.
const MAX_MESSAGES: usize = 1_000;
/// Most tools, and most calls of a turn.
const MAX_TOOLS: usize = 128;
/// Most texts to stop at.
const MAX_STOPS: usize = 16;

/// Longest texts, in bytes.
const ID_BYTES: usize = 256;
const NAME_BYTES: usize = 64;
const STOP_BYTES: usize = 256;
const DESCRIPTION_BYTES: usize = 16 << 10;
const JSON_BYTES: usize = 64 << 10;

const ROLES: &str = "ROLE_SYSTEM, ROLE_DEVELOPER, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL";
const MODES: &str = "TOOL_MODE_AUTO, TOOL_MODE_NONE or TOOL_MODE_REQUIRED";

/// Parameters with a field of their own, or that are not a caller's to set.
const OWN: [&str; 14] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "response_format",
    "top_p",
    "stop",
    "seed",
];

/// Reads a conversation to answer.
pub(crate) fn generate(
    caller: Caller,
    request: wire::GenerateRequest,
) -> Result<(Terms, Conversation), Fault> {
    let mut check = Check::default();
    check.text("model", &request.model, 0..=MODEL_BYTES);
    let messages = messages(&mut check, request.messages);
    let mut parameters = further(&mut check, &request.parameters);
    if let Some(temperature) = request.temperature {
        check.within("temperature", temperature, 0.0..=2.0);
        parameters.set("temperature", temperature);
    }
    if let Some(most) = request.max_output_tokens {
        check.require("max_output_tokens", most > 0, "must be at least 1");
        parameters.set("max_tokens", most);
    }
    if let Some(share) = request.top_p {
        check.within("top_p", share, 0.0..=1.0);
        parameters.set("top_p", share);
    }
    if let Some(seed) = request.seed {
        parameters.set("seed", seed);
    }
    stops(&mut check, request.stop, &mut parameters);
    let names = tools(&mut check, request.tools, &mut parameters);
    choice(&mut check, request.tool_choice, &names, &mut parameters);
    format(&mut check, request.response_format, &mut parameters);
    let terms = terms(&mut check, caller, request.cache, request.max_cost_usd);
    check.end((terms, Conversation { model: request.model, messages, parameters }))
}

/// Reads a conversation to answer piece by piece.
pub(crate) fn generate_stream(
    caller: Caller,
    request: wire::GenerateStreamRequest,
) -> Result<(Terms, Conversation), Fault> {
    let wire::GenerateStreamRequest {
        model,
        messages,
        temperature,
        max_output_tokens,
        cache,
        max_cost_usd,
        tools,
        tool_choice,
        response_format,
        top_p,
        stop,
        seed,
        parameters,
    } = request;
    let request = wire::GenerateRequest {
        model,
        messages,
        temperature,
        max_output_tokens,
        cache,
        max_cost_usd,
        tools,
        tool_choice,
        response_format,
        top_p,
        stop,
        seed,
        parameters,
    };
    generate(caller, request)
}

fn messages(check: &mut Check, messages: Vec<wire::Message>) -> Vec<Message> {
    let at = At::from("messages");
    if !check.items(at, messages.len(), 1..=MAX_MESSAGES) {
        return Vec::new();
    }
    let last = messages.len() - 1;
    let read = messages.into_iter().enumerate().map(|(place, turn)| {
        let at = at.item(place);
        let role = check.one_of(at.field("role"), turn.role, ROLES).map(|role| match role {
            wire::Role::System => Role::System,
            wire::Role::Developer => Role::Developer,
            wire::Role::Assistant => Role::Assistant,
            wire::Role::Tool => Role::Tool,
            wire::Role::User | wire::Role::Unspecified => Role::User,
        });
        let role = role.unwrap_or(Role::User);
        let may_end = place != last || matches!(role, Role::User | Role::Tool);
        check.require(at.field("role"), may_end, "must be ROLE_USER or ROLE_TOOL in the last turn");
        message(check, at, role, turn)
    });
    read.collect()
}

fn message(check: &mut Check, at: At<'_>, role: Role, turn: wire::Message) -> Message {
    let silent = role == Role::Tool || (role == Role::Assistant && !turn.tool_calls.is_empty());
    check.require(at.field("content"), silent || !turn.content.is_empty(), "must not be empty");
    let calls = at.field("tool_calls");
    check.items(calls, turn.tool_calls.len(), 0..=MAX_TOOLS);
    let may_call = role == Role::Assistant || turn.tool_calls.is_empty();
    check.require(calls, may_call, "must be empty but in a turn of ROLE_ASSISTANT");
    for (place, call) in turn.tool_calls.iter().enumerate() {
        check.text(calls.item(place).field("id"), &call.id, 1..=ID_BYTES);
        check.text(calls.item(place).field("name"), &call.name, 1..=NAME_BYTES);
    }
    let answered = if role == Role::Tool { 1..=ID_BYTES } else { 0..=0 };
    check.text(at.field("tool_call_id"), &turn.tool_call_id, answered);
    let call = |call: wire::ToolCall| ToolCall { id: call.id, name: call.name, arguments: call.arguments };
    let only_called = turn.content.is_empty() && role == Role::Assistant;
    Message {
        role,
        content: if only_called { Content::None } else { Content::Text(turn.content) },
        tool_calls: turn.tool_calls.into_iter().map(call).collect(),
        tool_call_id: (role == Role::Tool).then_some(turn.tool_call_id),
        extra: Object::new(),
    }
}

/// Reads further parameters.
fn further(check: &mut Check, text: &str) -> Parameters {
    let object = object(check, At::from("parameters"), text).unwrap_or_default();
    if let Some(own) = object.keys().find(|name| OWN.contains(&name.as_str())) {
        check.wrong("parameters", format_args!("must not hold `{own}`"));
    }
    Parameters::new(object)
}

fn stops(check: &mut Check, stop: Vec<String>, parameters: &mut Parameters) {
    let at = At::from("stop");
    if check.items(at, stop.len(), 0..=MAX_STOPS) && !stop.is_empty() {
        for (place, text) in stop.iter().enumerate() {
            check.text(at.item(place), text, 1..=STOP_BYTES);
        }
        parameters.set("stop", stop);
    }
}

/// Reads tools and returns their names.
fn tools(check: &mut Check, tools: Vec<wire::Tool>, parameters: &mut Parameters) -> Vec<String> {
    let at = At::from("tools");
    if !check.items(at, tools.len(), 0..=MAX_TOOLS) || tools.is_empty() {
        return Vec::new();
    }
    let (mut names, mut written) = (Vec::<String>::new(), Vec::new());
    for (place, tool) in tools.into_iter().enumerate() {
        let at = at.item(place);
        named(check, at.field("name"), &tool.name);
        check.require(at.field("name"), !names.contains(&tool.name), "must be unique within the request");
        check.text(at.field("description"), &tool.description, 0..=DESCRIPTION_BYTES);
        let schema = object(check, at.field("parameters"), &tool.parameters);
        let mut function = json!({"name": tool.name});
        if !tool.description.is_empty() {
            function["description"] = tool.description.into();
        }
        if let Some(schema) = schema {
            function["parameters"] = Value::Object(schema);
        }
        if tool.strict {
            function["strict"] = true.into();
        }
        written.push(json!({"type": "function", "function": function}));
        names.push(tool.name);
    }
    parameters.set("tools", written);
    names
}

fn choice(
    check: &mut Check,
    choice: Option<wire::ToolChoice>,
    names: &[String],
    parameters: &mut Parameters,
) {
    let Some(choice) = choice else { return };
    let at = At::from("tool_choice");
    if !choice.name.is_empty() {
        check.require(at.field("name"), names.contains(&choice.name), "must be the name of one of `tools`");
        let fits = matches!(choice.mode(), wire::ToolMode::Unspecified | wire::ToolMode::Required);
        check.require(at.field("mode"), fits, "must be TOOL_MODE_REQUIRED, or left out, beside a `name`");
        parameters.set("tool_choice", json!({"type": "function", "function": {"name": choice.name}}));
    } else if choice.mode != 0
        && let Some(mode) = check.one_of(at.field("mode"), choice.mode, MODES)
    {
        let word = match mode {
            wire::ToolMode::None => "none",
            wire::ToolMode::Required => "required",
            wire::ToolMode::Auto | wire::ToolMode::Unspecified => "auto",
        };
        parameters.set("tool_choice", word);
    }
}

fn format(check: &mut Check, format: Option<wire::ResponseFormat>, parameters: &mut Parameters) {
    use wire::response_format::Kind;
    let at = At::from("response_format");
    match format.map(|format| format.kind) {
        None => {}
        Some(None) => check.wrong(at, "must set one of its fields"),
        Some(Some(Kind::JsonObject(_))) => parameters.set("response_format", json!({"type": "json_object"})),
        Some(Some(Kind::JsonSchema(schema))) => {
            let at = at.field("json_schema");
            named(check, at.field("name"), &schema.name);
            match object(check, at.field("schema"), &schema.schema) {
                Some(object) => parameters.set_schema(&schema.name, Value::Object(object), schema.strict),
                None => check.require(at.field("schema"), !schema.schema.is_empty(), "must not be empty"),
            }
        }
    }
}

fn named(check: &mut Check, at: At<'_>, name: &str) {
    let fits = (1..=NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    check.require(at, fits, format_args!("must be 1 to {NAME_BYTES} letters, digits, `_` or `-`"));
}

/// Reads the JSON text of an object; `None` for an empty text.
fn object(check: &mut Check, at: At<'_>, text: &str) -> Option<Object> {
    if text.is_empty() {
        return None;
    }
    check.text(at, text, 0..=JSON_BYTES);
    let read = serde_json::from_str(text).ok();
    check.require(at, read.is_some() || text.len() > JSON_BYTES, "must be the JSON text of an object");
    read
}

#[cfg(test)]
mod tests {
    use contracts::llm as wire;
    use rpc::{Caller, Fault};
    use serde_json::json;

    fn caller() -> Caller {
        Caller::new("t", rpc::Role::Agent)
    }

    fn fields<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> Vec<String> {
        outcome.unwrap_err().violations().iter().map(|violation| violation.field.clone()).collect()
    }

    fn turn(role: wire::Role, content: &str) -> wire::Message {
        wire::Message { role: role.into(), content: content.into(), ..wire::Message::default() }
    }

    #[test]
    fn every_wrong_field_of_a_conversation_is_named_at_once() {
        let request = wire::GenerateRequest {
            messages: vec![
                turn(wire::Role::Unspecified, "x"),
                turn(wire::Role::User, ""),
                turn(wire::Role::Tool, "7"),
                turn(wire::Role::Assistant, "x"),
            ],
            temperature: Some(f64::NAN),
            max_output_tokens: Some(0),
            top_p: Some(1.5),
            stop: vec![String::new()],
            max_cost_usd: Some(-1.0),
            cache: Some(wire::CacheControl {
                max_age: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
                ..wire::CacheControl::default()
            }),
            parameters: "[1]".into(),
            ..wire::GenerateRequest::default()
        };
        assert_eq!(
            fields(super::generate(caller(), request)),
            [
                "messages[0].role",
                "messages[1].content",
                "messages[2].tool_call_id",
                "messages[3].role",
                "parameters",
                "temperature",
                "max_output_tokens",
                "top_p",
                "stop[0]",
                "max_cost_usd",
                "cache.max_age"
            ]
        );
        assert_eq!(fields(super::generate(caller(), wire::GenerateRequest::default())), ["messages"]);
    }

    #[test]
    fn every_wrong_field_of_tools_and_formats_is_named() {
        let tool = |name: &str, parameters: &str| wire::Tool {
            name: name.into(),
            parameters: parameters.into(),
            ..wire::Tool::default()
        };
        let schema = wire::JsonSchema { name: "no spaces".into(), ..wire::JsonSchema::default() };
        let request = wire::GenerateRequest {
            messages: vec![turn(wire::Role::User, "x")],
            tools: vec![tool("f", "{}"), tool("f", "{"), tool("", "")],
            tool_choice: Some(wire::ToolChoice { name: "g".into(), mode: wire::ToolMode::None.into() }),
            response_format: Some(wire::ResponseFormat {
                kind: Some(wire::response_format::Kind::JsonSchema(schema)),
            }),
            parameters: r#"{"temperature": 1}"#.into(),
            ..wire::GenerateRequest::default()
        };
        assert_eq!(
            fields(super::generate(caller(), request)),
            [
                "parameters",
                "tools[1].name",
                "tools[1].parameters",
                "tools[2].name",
                "tool_choice.name",
                "tool_choice.mode",
                "response_format.json_schema.name",
                "response_format.json_schema.schema"
            ]
        );
    }

    #[test]
    fn what_is_set_travels_under_the_names_of_chat_completions() {
        let tool = wire::Tool {
            name: "price".into(),
            description: "of a pool".into(),
            parameters: r#"{"type": "object", "properties": {"z": {}, "a": {}}}"#.into(),
            strict: true,
        };
        let request = wire::GenerateRequest {
            messages: vec![turn(wire::Role::User, "x")],
            seed: Some(7),
            stop: vec!["END".into()],
            tools: vec![tool],
            tool_choice: Some(wire::ToolChoice { name: "price".into(), ..wire::ToolChoice::default() }),
            parameters: r#"{"reasoning_effort": "low"}"#.into(),
            ..wire::GenerateRequest::default()
        };
        let (_, conversation) = super::generate(caller(), request).unwrap();
        let written = serde_json::to_value(conversation.parameters.as_object()).unwrap();
        let function = json!({"name": "price", "description": "of a pool", "strict": true,
            "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}});
        let expected = json!({
            "reasoning_effort": "low", "seed": 7, "stop": ["END"],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "price"}},
        });
        assert_eq!(written, expected);
        assert!(written.to_string().contains(r#"{"z":{},"a":{}}"#), "a schema keeps its order");
    }
}
