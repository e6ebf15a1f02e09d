//! An answer as server-sent events.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    answer::{self, Frame, describe, finish},
    fault::Refusal,
};
use crate::{
    conversation::{Conversation, Piece, TOOL_CALLS},
    error::Error,
    gateway::Gateway,
    served::Terms,
    stream::Part,
};

const KIND: &str = "chat.completion.chunk";
const DONE: &str = "data: [DONE]\n\n";

/// One stream on its way.
struct Telling {
    parts: UnboundedReceiver<Result<Part, Error>>,
    frame: Frame,
    with_usage: bool,
    /// Whether the last event was sent.
    over: bool,
}

/// Answers with a stream, once its beginning is known.
///
/// # Errors
/// What failed before the first piece.
pub(super) async fn answer(
    gateway: &Arc<Gateway>,
    terms: Terms,
    conversation: Conversation,
    with_usage: bool,
) -> Result<Response, Refusal> {
    let mut parts = gateway.generate_stream(terms, conversation)?;
    let served = match parts.recv().await {
        Some(Ok(Part::Begin(served))) => served,
        Some(Err(error)) => return Err(error.into()),
        // The task that sends was ended from outside: the host is going away.
        Some(Ok(_)) | None => {
            return Err(Refusal::of(&rpc::Fault::new(rpc::Code::Unavailable, "the stream did not begin")));
        }
    };
    let frame = Frame::new(&served, gateway.clock.now());
    let first = event(&frame.object(KIND, choice(json!({"role": "assistant", "content": ""}), None), None));
    let telling = Telling { parts, frame, with_usage, over: false };
    let rest = stream::unfold(telling, |mut telling| async move {
        let events = telling.next().await?;
        Some((Ok::<_, std::convert::Infallible>(events), telling))
    });
    let events = futures::StreamExt::chain(stream::iter([Ok(Bytes::from(first))]), rest);
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that gather a response would take its pieces away.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    describe(headers, &served, false);
    Ok(response)
}

impl Telling {
    /// Returns the next events, or `None` after the last.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let text = match self.parts.recv().await? {
            Ok(Part::Begin(_)) => String::new(),
            Ok(Part::Piece(piece)) => event(&self.frame.object(KIND, pieces(piece), None)),
            Ok(Part::End { finish: reason, usage: used, .. }) => {
                self.over = true;
                let mut events =
                    event(&self.frame.object(KIND, choice(json!({}), Some(finish(reason))), None));
                if self.with_usage {
                    let no_choices: [Value; 0] = [];
                    events.push_str(&event(&self.frame.object(KIND, no_choices, Some(used))));
                }
                events + DONE
            }
            Err(error) => {
                self.over = true;
                // No end follows: what was cut must not look whole.
                event(&Refusal::from(error).body_json())
            }
        };
        Some(text.into())
    }
}

fn pieces(piece: Piece) -> Value {
    match piece {
        Piece::Text(text) => choice(json!({"content": text}), None),
        Piece::Call(call) => {
            let mut function = Map::new();
            function.extend(call.name.map(|name| ("name".to_owned(), name.into())));
            function.insert("arguments".to_owned(), call.arguments.into());
            let mut told = json!({"index": call.index, "function": function});
            if let Some(id) = call.id {
                told["id"] = id.into();
                told["type"] = "function".into();
            }
            choice(json!({"tool_calls": [told]}), None)
        }
        Piece::Extra(mut extra) => {
            let logprobs = extra.shift_remove("logprobs");
            if let Some(Value::Array(calls)) = extra.get_mut(TOOL_CALLS) {
                // One that was read whole says no place.
                for (place, call) in calls.iter_mut().enumerate().filter(|(_, call)| call["index"].is_null())
                {
                    call["index"] = place.into();
                }
            }
            let mut choices = choice(extra.into(), None);
            if let Some(logprobs) = logprobs {
                choices[0]["logprobs"] = logprobs;
            }
            choices
        }
    }
}

fn choice(delta: Value, finish_reason: Option<&str>) -> Value {
    json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}])
}

fn event(data: &impl Serialize) -> String {
    format!("data: {}\n\n", answer::json(data))
}
