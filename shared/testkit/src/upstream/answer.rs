//! Writes an answer in the OpenAI dialect.

use std::io;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::script::{Reply, Usage};

/// Writes `reply` as the request wants it: whole, or as a stream of events.
pub(super) fn render(reply: &Reply, request: &Value) -> Response {
    let is_streamed = request["stream"].as_bool() == Some(true);
    let model = request["model"].as_str().unwrap_or("fake");
    let mut response = if let Some(body) = &reply.body {
        with(reply.status, "application/json", Body::from(body.clone()))
    } else if reply.status != 200 {
        failure(reply.status, &reply.content)
    } else if let Some(texts) = request["input"].as_array() {
        with(200, "application/json", Body::from(embeddings(texts, request, model).to_string()))
    } else if is_streamed {
        let counts = request["stream_options"]["include_usage"].as_bool() == Some(true);
        with(200, "text/event-stream", events(reply, model, counts))
    } else {
        with(200, "application/json", Body::from(whole(reply, model).to_string()))
    };
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Writes an error.
pub(super) fn failure(status: u16, message: &str) -> Response {
    let body = json!({ "error": { "message": message, "type": "fake_error", "param": null, "code": null } });
    with(status, "application/json", Body::from(body.to_string()))
}

fn with(status: u16, kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn whole(reply: &Reply, model: &str) -> Value {
    let mut message = json!({ "role": "assistant", "content": reply.content });
    for (name, value) in &reply.further {
        message[name] = value.clone();
    }
    let mut answer = json!({
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": reply.finish_reason }],
    });
    if let Some(usage) = reply.usage {
        answer["usage"] = counted(usage);
    }
    answer
}

/// Writes a vector for each text, of 8 components or as many as asked for: how often each letter occurs, by its code.
fn embeddings(texts: &[Value], request: &Value, model: &str) -> Value {
    let dimensions =
        request["dimensions"].as_u64().map_or(8, |number| usize::try_from(number).unwrap_or(8)).max(1);
    let embedding = |(index, text): (usize, &Value)| {
        let mut vector = vec![0.0; dimensions];
        for byte in text.as_str().unwrap_or_default().bytes() {
            vector[usize::from(byte) % dimensions] += 1.0;
        }
        json!({ "object": "embedding", "index": index, "embedding": vector })
    };
    let data: Vec<Value> = texts.iter().enumerate().map(embedding).collect();
    json!({ "object": "list", "model": model, "data": data, "usage": { "prompt_tokens": 1, "total_tokens": 1 } })
}

/// Writes the text word by word, then the reason of the end, the tokens if they are wanted, and the mark of the end.
fn events(reply: &Reply, model: &str, counts: bool) -> Body {
    let chunk = |choices: Value| {
        json!({
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": model,
            "choices": choices,
        })
    };
    let delta = |delta: Value, reason: Option<&str>| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": reason }]))
    };
    let mut chunks = vec![delta(json!({ "role": "assistant", "content": "" }), None)];
    if !reply.further.is_empty() {
        let mut further = Value::Object(reply.further.clone());
        for (place, call) in further["tool_calls"].as_array_mut().into_iter().flatten().enumerate() {
            call["index"] = place.into();
        }
        chunks.push(delta(further, None));
    }
    chunks.extend(reply.content.split_inclusive(' ').map(|piece| delta(json!({ "content": piece }), None)));
    if let Some(pieces) = reply.cut_after {
        // The first chunk names the role only.
        chunks.truncate(pieces + 1);
    } else {
        chunks.push(delta(json!({}), Some(&reply.finish_reason)));
        if let (true, Some(usage)) = (counts, reply.usage) {
            let mut last = chunk(json!([]));
            last["usage"] = counted(usage);
            chunks.push(last);
        }
    }
    let mut events: Vec<io::Result<String>> =
        chunks.into_iter().map(|chunk| Ok(format!("data: {chunk}\n\n"))).collect();
    events.push(match reply.cut_after {
        Some(_) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        None => Ok("data: [DONE]\n\n".to_owned()),
    });
    // Without a pause between them, hyper would drop what is written before an error.
    Body::from_stream(stream::iter(events).then(|event| async move {
        tokio::task::yield_now().await;
        event
    }))
}

fn counted(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}
