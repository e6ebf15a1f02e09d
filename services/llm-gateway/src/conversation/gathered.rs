//! A streamed answer, put together again.

use serde_json::{Value, json, map::Entry};

use super::{Answer, Finish, Object, Piece, ToolCall, Usage};

/// Most bytes of an answer: more is malformed.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;
/// The field of a message that calls of other kinds than functions stay in.
pub const TOOL_CALLS: &str = "tool_calls";
/// The place of an entry that comes in pieces.
const INDEX: &str = "index";
/// Most tool calls of an answer.
const MAX_CALLS: u32 = 1_024;

/// What has come of an answer so far.
#[derive(Debug, Default)]
pub struct Gathered {
    text: String,
    calls: Vec<ToolCall>,
    extra: Object,
    bytes: usize,
}

/// The answer is longer than any that is kept: 16 MiB, 1,024 tool calls.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

impl Gathered {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`TooLong`] if it does not fit; what came before stays.
    pub fn take(&mut self, piece: &Piece) -> Result<(), TooLong> {
        self.bytes += match piece {
            Piece::Text(text) => text.len(),
            Piece::Call(call) => call.arguments.len(),
            Piece::Extra(extra) => extra.values().map(|value| value.as_str().map_or(64, str::len)).sum(),
        };
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(TooLong);
        }
        match piece {
            Piece::Text(text) => self.text.push_str(text),
            Piece::Call(piece) => {
                if piece.index >= MAX_CALLS {
                    return Err(TooLong);
                }
                let place = piece.index as usize;
                if self.calls.len() <= place {
                    self.calls.resize_with(place + 1, ToolCall::default);
                }
                let call = &mut self.calls[place];
                call.id.push_str(piece.id.as_deref().unwrap_or_default());
                call.name.push_str(piece.name.as_deref().unwrap_or_default());
                call.arguments.push_str(&piece.arguments);
            }
            Piece::Extra(extra) => {
                let calls = extra.get(TOOL_CALLS).and_then(Value::as_array).into_iter().flatten();
                if calls.filter_map(|call| call[INDEX].as_u64()).any(|index| index >= u64::from(MAX_CALLS)) {
                    return Err(TooLong);
                }
                extra.iter().for_each(|(name, value)| join(&mut self.extra, name, value));
            }
        }
        Ok(())
    }

    /// Returns the words so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the whole answer.
    #[must_use]
    pub fn answer(mut self, finish: Finish, usage: Usage) -> Answer {
        if let Some(Value::Array(others)) = self.extra.get_mut(TOOL_CALLS) {
            // Calls of all kinds stand in one list, each in its place.
            let is_free = |index: u64| others.iter().all(|other| other[INDEX] != index);
            let own = (0_u64..)
                .zip(self.calls.drain(..))
                .filter(|(index, call)| !call.name.is_empty() && is_free(*index));
            let own: Vec<Value> = own.map(|(index, ToolCall { id, name, arguments })| {
                json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
            }).collect();
            others.extend(own);
            others.sort_by_key(|call| call[INDEX].as_u64());
            others
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|call| drop(call.shift_remove(INDEX)));
        }
        Answer {
            text: self.text.into(),
            tool_calls: self.calls.into(),
            extra: self.extra.into(),
            finish,
            usage,
        }
    }
}

fn join(all: &mut Object, name: &str, value: &Value) {
    match all.entry(name) {
        Entry::Vacant(empty) => {
            empty.insert(value.clone());
        }
        Entry::Occupied(mut held) => match (held.get_mut(), value) {
            (Value::String(text), Value::String(more)) => text.push_str(more),
            (Value::Array(list), Value::Array(more)) if name == TOOL_CALLS => {
                more.iter().for_each(|call| add(list, call));
            }
            (Value::Array(list), Value::Array(more)) => list.extend(more.iter().cloned()),
            (Value::Object(object), Value::Object(more)) => {
                more.iter().for_each(|(name, value)| join(object, name, value));
            }
            (held, other) if !other.is_null() => *held = other.clone(),
            _ => {}
        },
    }
}

/// Adds a call, or the next piece of the one in its place: texts are joined but for what says which call it is.
fn add(calls: &mut Vec<Value>, call: &Value) {
    let place = call[INDEX].as_u64();
    let begun = calls.iter_mut().find(|held| place.is_some() && held[INDEX].as_u64() == place);
    match (begun, call) {
        (Some(Value::Object(begun)), Value::Object(more)) => {
            for (name, value) in more {
                if !([INDEX, "id", "type"].contains(&name.as_str()) && begun.contains_key(name)) {
                    join(begun, name, value);
                }
            }
        }
        _ => calls.push(call.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{Gathered, Piece, TooLong};
    use crate::conversation::{Answer, CallPiece, Finish, ToolCall, Usage};

    fn gathered(pieces: impl IntoIterator<Item = Piece>) -> Answer {
        let mut gathered = Gathered::default();
        for piece in pieces {
            gathered.take(&piece).unwrap();
        }
        gathered.answer(Finish::Stop, Usage::default())
    }

    #[test]
    fn calls_are_joined_by_their_place_and_further_fields_by_their_name() {
        let call = |index, id: &str, arguments: &str| {
            let first = !id.is_empty();
            let (id, name) = (first.then(|| id.to_owned()), first.then(|| "f".to_owned()));
            Piece::Call(CallPiece { index, id, name, arguments: arguments.into() })
        };
        let extra = |value: serde_json::Value| Piece::Extra(value.as_object().unwrap().clone());
        let details = || extra(json!({"reasoning_details": [{"index": 0, "type": "text", "text": "h"}]}));
        let answer = gathered([details(), details()]);
        assert_eq!(answer.extra["reasoning_details"].as_array().unwrap().len(), 2, "as they came");
        let answer = gathered([
            extra(json!({"reasoning_content": "hm", "logprobs": {"content": [1]}})),
            call(0, "a", "{\"x\":"),
            call(1, "b", "{}"),
            call(0, "", "1}"),
            extra(json!({"reasoning_content": "m", "logprobs": {"content": [2]}, "refusal": null})),
        ]);
        assert_eq!(
            answer.tool_calls[0],
            ToolCall { id: "a".into(), name: "f".into(), arguments: "{\"x\":1}".into() }
        );
        assert_eq!(answer.tool_calls[1].arguments, "{}");
        assert_eq!(answer.extra["reasoning_content"], "hmm");
        assert_eq!(answer.extra["logprobs"], json!({"content": [1, 2]}));
    }

    #[test]
    fn an_answer_without_end_is_too_long() {
        let mut gathered = Gathered::default();
        let piece = Piece::Text("x".repeat(1 << 20));
        let taken = (0..17).map(|_| gathered.take(&piece)).collect::<Vec<_>>();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 16);
        let far = Piece::Call(CallPiece { index: u32::MAX, ..CallPiece::default() });
        assert_eq!(Gathered::default().take(&far), Err(TooLong));
    }

    proptest! {
        #[test]
        fn a_replayed_answer_is_the_answer(text in ".{0,300}", arguments in proptest::collection::vec(".{0,20}", 0..4)) {
            let calls = arguments.into_iter().enumerate().map(|(place, arguments)| ToolCall {
                id: format!("c{place}"),
                name: "f".into(),
                arguments,
            });
            let extra = json!({"refusal": text});
            let answer = Answer {
                tool_calls: calls.collect(),
                extra: extra.as_object().unwrap().clone().into(),
                ..Answer::text(text, Usage::default())
            };
            prop_assert_eq!(gathered(answer.pieces()), answer);
        }
    }
}
