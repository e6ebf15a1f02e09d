//! Reads an answer, whole or event by event.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::{
    conversation::{Answer, CallPiece, Conversation, Finish, Gathered, Object, Piece, Usage},
    provider::{Failure, delta::Delta, estimated},
};

/// Reads the events of a streamed answer.
#[derive(Debug, Default)]
pub(in crate::provider) struct Reader {
    /// The blocks that have begun and not ended.
    open: HashMap<u64, Block>,
    /// Calls begun so far.
    calls: u32,
    counted: Option<Usage>,
}

/// A block of content on its way.
#[derive(Debug)]
enum Block {
    Text,
    /// A call, and whether any of its arguments came.
    Call {
        index: u32,
        has_arguments: bool,
    },
    /// Thinking with its signature, or what has no place of its own: handed on whole.
    Whole {
        block: Object,
        input: String,
    },
}

/// Reads a whole answer: the events that would have streamed it.
pub(in crate::provider) fn answer(body: &[u8], asked: &Conversation) -> Result<Answer, Failure> {
    let message: Value = serde_json::from_slice(body).map_err(|_| Failure::Malformed)?;
    let blocks = message["content"].as_array().ok_or(Failure::Malformed)?;
    let (mut reader, mut gathered) = (Reader::default(), Gathered::default());
    for (index, block) in (0..).zip(blocks) {
        let mut pieces = reader.begin(index, block)?;
        pieces.extend(reader.end(index));
        for piece in pieces {
            gathered.take(&piece).map_err(|_| Failure::Malformed)?;
        }
    }
    for piece in stop_sequence(&message) {
        gathered.take(&piece).map_err(|_| Failure::Malformed)?;
    }
    reader.count(&message["usage"]);
    let usage = reader.counted.unwrap_or_else(|| estimated(asked, gathered.text()));
    Ok(gathered.answer(finish(&message).unwrap_or(Finish::Unknown), usage))
}

impl Reader {
    /// Reads one event.
    pub(in crate::provider) fn read(&mut self, data: &str) -> Result<Delta, Failure> {
        let event: Value = serde_json::from_str(data).map_err(|_| Failure::Malformed)?;
        let index = event["index"].as_u64().unwrap_or_default();
        let mut delta = Delta::default();
        match event["type"].as_str().ok_or(Failure::Malformed)? {
            "message_start" => self.count(&event["message"]["usage"]),
            "content_block_start" => delta.pieces = self.begin(index, &event["content_block"])?,
            "content_block_delta" => delta.pieces = self.more(index, &event["delta"])?,
            "content_block_stop" => delta.pieces = self.end(index),
            "message_delta" => {
                self.count(&event["usage"]);
                delta.usage = self.counted;
                delta.finish = finish(&event["delta"]);
                delta.pieces = stop_sequence(&event["delta"]).collect();
            }
            "message_stop" => delta.done = true,
            "error" => return Err(failure(&event["error"])),
            // New kinds may come at any time, and are to be passed over.
            _ => {}
        }
        Ok(delta)
    }

    fn begin(&mut self, index: u64, block: &Value) -> Result<Vec<Piece>, Failure> {
        let (begun, pieces) = match block["type"].as_str().ok_or(Failure::Malformed)? {
            "text" => {
                let mut pieces = text(&block["text"]);
                pieces.extend(listed("citations", block["citations"].as_array()));
                (Block::Text, pieces)
            }
            "tool_use" => {
                let name = block["name"].as_str().ok_or(Failure::Malformed)?;
                // A streamed call begins with none, whatever the object says.
                let input = block["input"].as_object().filter(|input| !input.is_empty());
                let arguments = input.map(|input| json!(input).to_string()).unwrap_or_default();
                let call = Block::Call { index: self.calls, has_arguments: !arguments.is_empty() };
                let id = block["id"].as_str().unwrap_or_default().to_owned();
                let (index, id, name) = (self.calls, Some(id), Some(name.to_owned()));
                self.calls += 1;
                (call, vec![Piece::Call(CallPiece { index, id, name, arguments })])
            }
            kind => {
                let whole = block.as_object().cloned().unwrap_or_default();
                let thinking = if kind == "thinking" { reasoning(&block["thinking"]) } else { Vec::new() };
                (Block::Whole { block: whole, input: String::new() }, thinking)
            }
        };
        self.open.insert(index, begun);
        Ok(pieces)
    }

    fn more(&mut self, index: u64, delta: &Value) -> Result<Vec<Piece>, Failure> {
        let block = self.open.get_mut(&index).ok_or(Failure::Malformed)?;
        Ok(match (delta["type"].as_str(), block) {
            (Some("text_delta"), Block::Text) => text(&delta["text"]),
            (Some("citations_delta"), _) => listed("citations", Some(&vec![delta["citation"].clone()])),
            (Some("input_json_delta"), Block::Call { index, has_arguments }) => {
                let arguments = delta["partial_json"].as_str().ok_or(Failure::Malformed)?.to_owned();
                *has_arguments |= !arguments.is_empty();
                vec![Piece::Call(CallPiece { index: *index, arguments, ..CallPiece::default() })]
            }
            (Some("input_json_delta"), Block::Whole { input, .. }) => {
                input.push_str(delta["partial_json"].as_str().ok_or(Failure::Malformed)?);
                Vec::new()
            }
            (Some("thinking_delta"), Block::Whole { block, .. }) => {
                append(block, "thinking", &delta["thinking"]);
                reasoning(&delta["thinking"])
            }
            (Some("signature_delta"), Block::Whole { block, .. }) => {
                append(block, "signature", &delta["signature"]);
                Vec::new()
            }
            // New kinds may come at any time, and are to be passed over.
            _ => Vec::new(),
        })
    }

    fn end(&mut self, index: u64) -> Vec<Piece> {
        match self.open.remove(&index) {
            Some(Block::Call { index, has_arguments: false }) => {
                vec![Piece::Call(CallPiece { index, arguments: "{}".into(), ..CallPiece::default() })]
            }
            Some(Block::Whole { mut block, input }) => {
                if let Ok(input) = serde_json::from_str::<Object>(&input) {
                    block.insert("input".into(), input.into());
                }
                let is_thought = block["type"] == "thinking" || block["type"] == "redacted_thinking";
                let name = if is_thought { "thinking_blocks" } else { "content_blocks" };
                listed(name, Some(&vec![block.into()]))
            }
            _ => Vec::new(),
        }
    }

    /// Takes what is counted: the beginning of a stream counts what was read, its end what was written.
    fn count(&mut self, usage: &Value) {
        let of = |name: &str| usage[name].as_u64();
        let mut counted = self.counted.unwrap_or_default();
        if let Some(read) = of("input_tokens") {
            counted.cached_input = of("cache_read_input_tokens").unwrap_or_default();
            counted.input =
                read + counted.cached_input + of("cache_creation_input_tokens").unwrap_or_default();
        }
        if let Some(written) = of("output_tokens") {
            counted.output = written;
        }
        if usage.is_object() {
            self.counted = Some(counted);
        }
    }
}

fn text(words: &Value) -> Vec<Piece> {
    words
        .as_str()
        .filter(|words| !words.is_empty())
        .map(|words| Piece::Text(words.to_owned()))
        .into_iter()
        .collect()
}

fn reasoning(words: &Value) -> Vec<Piece> {
    let words = words.as_str().filter(|words| !words.is_empty());
    words.map(|words| extra("reasoning_content", words.into())).into_iter().collect()
}

fn listed(name: &str, list: Option<&Vec<Value>>) -> Vec<Piece> {
    list.filter(|list| !list.is_empty()).map(|list| extra(name, list.clone().into())).into_iter().collect()
}

fn extra(name: &str, value: Value) -> Piece {
    Piece::Extra(Object::from_iter([(name.to_owned(), value)]))
}

fn append(block: &mut Object, name: &str, more: &Value) {
    let so_far = block.get(name).and_then(Value::as_str).unwrap_or_default();
    let joined = format!("{so_far}{}", more.as_str().unwrap_or_default());
    block.insert(name.to_owned(), joined.into());
}

fn stop_sequence(message: &Value) -> impl Iterator<Item = Piece> {
    let stop = message["stop_sequence"].as_str();
    stop.map(|stop| extra("stop_sequence", stop.into())).into_iter()
}

fn finish(message: &Value) -> Option<Finish> {
    Some(match message["stop_reason"].as_str()? {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "tool_use" => Finish::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "refusal" => Finish::Filter,
        // Such as `pause_turn`: the server's own tools are not done.
        _ => Finish::Unknown,
    })
}

fn failure(error: &Value) -> Failure {
    match error["type"].as_str() {
        Some("overloaded_error" | "rate_limit_error") => Failure::Throttled { retry_after: None },
        Some("api_error" | "timeout_error") => Failure::Unreachable,
        _ => Failure::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(message: &Value) -> Result<Answer, Failure> {
        answer(message.to_string().as_bytes(), &Conversation::of("?"))
    }

    fn streamed(events: &[Value]) -> Result<(Answer, bool), Failure> {
        let (mut reader, mut gathered) = (Reader::default(), Gathered::default());
        let (mut end, mut used, mut is_done) = (None, None, false);
        for event in events {
            let Delta { pieces, finish, usage, done } = reader.read(&event.to_string())?;
            pieces.iter().for_each(|piece| gathered.take(piece).unwrap());
            (end, used, is_done) = (finish.or(end), usage.or(used), done);
        }
        Ok((gathered.answer(end.unwrap(), used.unwrap()), is_done))
    }

    fn message(content: Value, reason: &str) -> Value {
        let usage = json!({"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 7});
        json!({"type": "message", "role": "assistant", "content": content, "stop_reason": reason, "usage": usage})
    }

    #[test]
    fn words_calls_thoughts_and_whatever_else_are_kept() {
        let search =
            json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}});
        let answer = whole(&message(
            json!([
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                search,
                {"type": "text", "text": "a ", "citations": [{"cited_text": "x"}]},
                {"type": "text", "text": "b"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1, "a": 2}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            ]),
            "tool_use",
        ))
        .unwrap();
        assert_eq!((&*answer.text, answer.finish), ("a b", Finish::ToolCalls));
        let calls: Vec<_> =
            answer.tool_calls.iter().map(|call| (&*call.id, &*call.name, &*call.arguments)).collect();
        assert_eq!(calls, [("t1", "f", "{\"z\":1,\"a\":2}"), ("t2", "g", "{}")]);
        assert_eq!(answer.usage, Usage { input: 10, cached_input: 3, output: 7, estimated: false });
        assert_eq!(answer.extra["thinking_blocks"][0]["signature"], "sig");
        assert_eq!(answer.extra["reasoning_content"], "hm");
        assert_eq!(
            (&answer.extra["citations"][0]["cited_text"], &answer.extra["content_blocks"][0]),
            (&json!("x"), &search)
        );
    }

    #[test]
    fn a_stream_is_the_answer_it_streams() {
        let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let more =
            |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let stop = |index: u64| json!({"type": "content_block_stop", "index": index});
        let (answer, is_done) = streamed(&[
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 1}}}),
            start(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
            more(0, json!({"type": "thinking_delta", "thinking": "hm"})),
            more(0, json!({"type": "signature_delta", "signature": "sig"})),
            stop(0),
            start(1, json!({"type": "text", "text": ""})),
            json!({"type": "ping"}),
            more(1, json!({"type": "text_delta", "text": "a b"})),
            more(1, json!({"type": "citations_delta", "citation": {"cited_text": "x"}})),
            stop(1),
            start(2, json!({"type": "tool_use", "id": "t1", "name": "f", "input": {}})),
            more(2, json!({"type": "input_json_delta", "partial_json": "{\"z\":1"})),
            more(2, json!({"type": "input_json_delta", "partial_json": ",\"a\":2}"})),
            stop(2),
            json!({"type": "an_event_of_tomorrow"}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
            json!({"type": "message_stop"}),
        ])
        .unwrap();
        let expected = whole(&message(
            json!([
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "text", "text": "a b", "citations": [{"cited_text": "x"}]},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"z": 1, "a": 2}},
            ]),
            "tool_use",
        ))
        .unwrap();
        assert_eq!((answer, is_done), (expected, true));
    }

    #[test]
    fn ends_are_told_apart() {
        let end =
            |reason: &str| whole(&message(json!([{"type": "text", "text": "x"}]), reason)).unwrap().finish;
        let ends = ["end_turn", "max_tokens", "refusal", "pause_turn"].map(end);
        assert_eq!(ends, [Finish::Stop, Finish::Length, Finish::Filter, Finish::Unknown]);
        let mut message = message(json!([]), "stop_sequence");
        message["stop_sequence"] = json!("END");
        assert_eq!(whole(&message).unwrap().extra["stop_sequence"], "END");
    }

    #[test]
    fn what_is_no_answer_is_a_failure() {
        assert_eq!(answer(b"<html>", &Conversation::of("?")), Err(Failure::Malformed));
        assert_eq!(whole(&json!({"type": "error"})), Err(Failure::Malformed));
        let error = |kind: &str| streamed(&[json!({"type": "error", "error": {"type": kind}})]).unwrap_err();
        assert_eq!(error("overloaded_error"), Failure::Throttled { retry_after: None });
        assert_eq!(error("api_error"), Failure::Unreachable);
    }
}
