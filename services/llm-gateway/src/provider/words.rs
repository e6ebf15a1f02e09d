//! The words of a conversation as the conventions' JSON, for a span, within a number of bytes.
//!
//! What does not fit is cut at the end of its text, or left out whole: the newest turns are kept, and the JSON is sound. Of images and whatever
//! else is no text, only the kind is told.

use serde_json::{Map, Value, json};

use crate::conversation::{Answer, Content, Conversation, Finish, Message, Role, ToolCall};

/// Returns the instructions, as an API takes them that wants them apart; `None` if there are none.
pub(super) fn instructions(conversation: &Conversation, most: usize) -> Option<String> {
    let mut room = Room::new(most);
    let own = conversation.messages.iter().filter(|message| is_instruction(message));
    let parts: Vec<Value> = own.flat_map(|message| room.content(message)).collect();
    (!parts.is_empty()).then(|| Value::from(parts).to_string())
}

/// Returns the turns; `apart` leaves the instructions out.
pub(super) fn asked(conversation: &Conversation, apart: bool, most: usize) -> String {
    let mut room = Room::new(most);
    let turns = conversation.messages.iter().rev().filter(|message| !(apart && is_instruction(message)));
    let mut told: Vec<Value> = turns.map_while(|message| room.turn(message)).collect();
    told.reverse();
    Value::from(told).to_string()
}

/// Returns an answer.
pub(super) fn answer(answer: &Answer, most: usize) -> String {
    let finish = match answer.finish {
        Finish::ToolCalls => "tool_call",
        other => other.as_str(),
    };
    let mut room = Room::new(most);
    let mut turn = json!({"role": Role::Assistant.as_str(), "parts": [], "finish_reason": finish});
    if room.take(&turn) {
        let thought = answer.extra.get("reasoning_content").and_then(Value::as_str);
        let mut parts: Vec<Value> =
            thought.and_then(|thought| room.part("reasoning", thought)).into_iter().collect();
        if !answer.text.is_empty() {
            parts.extend(room.part("text", &answer.text));
        }
        parts.extend(answer.tool_calls.iter().map_while(|call| room.call(call)));
        turn["parts"] = parts.into();
        return json!([turn]).to_string();
    }
    "[]".to_owned()
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// Bytes of JSON that are left.
struct Room(usize);

impl Room {
    fn new(most: usize) -> Self {
        // The brackets around everything.
        Self(most.saturating_sub(2))
    }

    fn turn(&mut self, message: &Message) -> Option<Value> {
        let mut turn = json!({"role": message.role.as_str(), "parts": []});
        if !self.take(&turn) {
            return None;
        }
        let mut parts = match &message.tool_call_id {
            Some(id) => self.result(id, message).into_iter().collect(),
            None => self.content(message),
        };
        parts.extend(message.tool_calls.iter().map_while(|call| self.call(call)));
        turn["parts"] = parts.into();
        Some(turn)
    }

    fn content(&mut self, message: &Message) -> Vec<Value> {
        match &message.content {
            Content::None => Vec::new(),
            Content::Text(text) => self.part("text", text).into_iter().collect(),
            Content::Parts(parts) => parts.iter().map_while(|part| self.any(part)).collect(),
        }
    }

    fn any(&mut self, part: &Value) -> Option<Value> {
        match part["text"].as_str() {
            Some(text) => self.part("text", text),
            None => {
                let kind = json!({"type": part["type"].as_str().unwrap_or("unknown")});
                self.take(&kind).then_some(kind)
            }
        }
    }

    fn part(&mut self, kind: &str, text: &str) -> Option<Value> {
        self.cut(json!({"type": kind}), "content", text)
    }

    fn result(&mut self, id: &str, message: &Message) -> Option<Value> {
        let head = json!({"type": "tool_call_response", "id": id});
        match &message.content {
            Content::None => self.cut(head, "response", ""),
            Content::Text(text) => self.cut(head, "response", text),
            Content::Parts(parts) => self.cut(head, "response", &Value::from(parts.as_slice()).to_string()),
        }
    }

    fn call(&mut self, ToolCall { id, name, arguments }: &ToolCall) -> Option<Value> {
        let mut call = json!({"type": "tool_call", "id": id, "name": name});
        if let Ok(read) = serde_json::from_str::<Map<String, Value>>(arguments) {
            let mut whole = call.clone();
            whole["arguments"] = read.into();
            if self.take(&whole) {
                return Some(whole);
            }
        }
        call["arguments"] = "".into();
        self.cut(call, "arguments", arguments)
    }

    /// Puts as much of `text` under `key` as there is room for; `None` if there is none for the part itself.
    fn cut(&mut self, mut part: Value, key: &str, text: &str) -> Option<Value> {
        part[key] = "".into();
        if !self.take(&part) {
            return None;
        }
        let mut end = text.len();
        for (at, character) in text.char_indices() {
            let Some(left) = self.0.checked_sub(width(character)) else {
                end = at;
                break;
            };
            self.0 = left;
        }
        part[key] = text[..end].into();
        Some(part)
    }

    /// Takes the room of a value and the comma before it; returns whether there was enough.
    fn take(&mut self, value: &Value) -> bool {
        let left = self.0.checked_sub(value.to_string().len() + 1);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// Returns the bytes of a character within a string of JSON.
fn width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..'\u{20}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{answer, asked, instructions};
    use crate::conversation::{Answer, Content, Conversation, Finish, Message, Role, ToolCall, Usage};

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn conversation() -> Conversation {
        let call = ToolCall { id: "c1".into(), name: "price".into(), arguments: "{\"pool\": 1}".into() };
        let called =
            Message { content: Content::None, tool_calls: vec![call], ..Message::text(Role::Assistant, "") };
        let told = Message { tool_call_id: Some("c1".into()), ..Message::text(Role::Tool, "7 \"USD\"\n") };
        let parts =
            vec![json!({"type": "text", "text": "see"}), json!({"type": "image_url", "image_url": 1})];
        let shown = Message { content: Content::Parts(parts), ..Message::text(Role::User, "") };
        let messages = vec![Message::text(Role::System, "be brief"), shown, called, told];
        Conversation { messages, ..Conversation::default() }
    }

    #[test]
    fn turns_are_told_as_the_conventions_have_them() {
        let call = json!({"type": "tool_call", "id": "c1", "name": "price", "arguments": {"pool": 1}});
        let result = json!({"type": "tool_call_response", "id": "c1", "response": "7 \"USD\"\n"});
        let all = json!([
            {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
            {"role": "user", "parts": [{"type": "text", "content": "see"}, {"type": "image_url"}]},
            {"role": "assistant", "parts": [call]},
            {"role": "tool", "parts": [result]},
        ]);
        assert_eq!(read(&asked(&conversation(), false, 4096)), all);
        assert_eq!(read(&asked(&conversation(), true, 4096)).as_array().unwrap().len(), 3);
        let apart = instructions(&conversation(), 4096).unwrap();
        assert_eq!(read(&apart), json!([{"type": "text", "content": "be brief"}]));
        assert_eq!(instructions(&Conversation::of("?"), 4096), None);
    }

    #[test]
    fn an_answer_is_told_with_its_thoughts_its_words_and_its_calls() {
        let call = ToolCall { id: "c".into(), name: "f".into(), arguments: "half {".into() };
        let extra = json!({"reasoning_content": "hm"}).as_object().unwrap().clone();
        let whole = Answer {
            tool_calls: [call].into(),
            extra: extra.into(),
            finish: Finish::ToolCalls,
            ..Answer::text("yes", Usage::default())
        };
        let parts = json!([
            {"type": "reasoning", "content": "hm"},
            {"type": "text", "content": "yes"},
            {"type": "tool_call", "id": "c", "name": "f", "arguments": "half {"},
        ]);
        let expected = json!([{"role": "assistant", "parts": parts, "finish_reason": "tool_call"}]);
        assert_eq!(read(&answer(&whole, 4096)), expected);
    }

    #[test]
    fn whatever_the_limit_the_json_is_sound_and_no_longer() {
        let long = "a \"b\" \\ \n \u{1} é 𝄞 ".repeat(40);
        let mut asked_for = conversation();
        asked_for.messages.push(Message::text(Role::User, long.clone()));
        let answered = Answer::text(long, Usage::default());
        for most in 2..2_000 {
            for told in [
                asked(&asked_for, false, most),
                answer(&answered, most),
                instructions(&asked_for, most).unwrap_or("[]".into()),
            ] {
                assert!(told.len() <= most, "{} bytes of {most}", told.len());
                assert!(read(&told).is_array());
            }
        }
        let newest = read(&asked(&asked_for, false, 100));
        assert_eq!((newest.as_array().unwrap().len(), &newest[0]["role"]), (1, &json!("user")));
    }
}
