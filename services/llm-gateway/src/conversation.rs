//! A conversation with a model, and its answer.
//!
//! What the gateway itself reads of a conversation is typed; everything else a caller sets travels as JSON under the names of chat
//! completions, so that a parameter nobody here has heard of reaches the upstream, in its order, and the exact key.

mod answer;
mod gathered;
mod parameters;

pub use self::{
    answer::{Answer, CallPiece, Finish, Piece, ToolCall, Usage},
    gathered::{Gathered, MAX_ANSWER_BYTES, TOOL_CALLS, TooLong},
    parameters::Parameters,
};

use serde_json::{Map, Value};

/// A JSON object, in the order it was written in.
pub type Object = Map<String, Value>;

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions to the model.
    System,
    /// Instructions of the application, below the system's.
    Developer,
    /// The caller's words.
    User,
    /// An earlier answer of the model.
    Assistant,
    /// What a tool answered.
    Tool,
}

/// The words of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// None: an assistant that only called tools.
    None,
    /// Text.
    Text(String),
    /// Texts, images and whatever else chat completions know, as JSON.
    Parts(Vec<Value>),
}

/// One turn of a conversation.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The words.
    pub content: Content,
    /// The tools that were called; only the assistant's.
    pub tool_calls: Vec<ToolCall>,
    /// The call that is answered; only a tool's.
    pub tool_call_id: Option<String>,
    /// Further fields, such as `name`.
    pub extra: Object,
}

/// A conversation to answer: at least one turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The model asked for; empty means the configured default.
    pub model: String,
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// How it is to be answered.
    pub parameters: Parameters,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];

    /// Returns the role's name in chat APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl Message {
    /// Makes a turn of `role` that says `text` and nothing else.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Content::Text(text.into()),
            tool_calls: Vec::new(),
            tool_call_id: None,
            extra: Object::new(),
        }
    }

    /// Returns the characters a model reads in it, by which tokens are estimated.
    pub(crate) fn characters(&self) -> usize {
        let called: usize = self
            .tool_calls
            .iter()
            .map(|call| call.name.chars().count() + call.arguments.chars().count())
            .sum();
        called
            + match &self.content {
                Content::None => 0,
                Content::Text(text) => text.chars().count(),
                Content::Parts(parts) => {
                    parts.iter().filter_map(text_of).map(|text| text.chars().count()).sum()
                }
            }
    }
}

impl Conversation {
    /// Makes a conversation of one turn of the user, for the default model.
    #[must_use]
    pub fn of(words: impl Into<String>) -> Self {
        Self { messages: vec![Message::text(Role::User, words)], ..Self::default() }
    }

    /// Returns the words of the last turn, if it is the user's and text alone.
    #[must_use]
    pub fn last_words(&self) -> Option<&str> {
        match self.messages.last()? {
            Message { role: Role::User, content: Content::Text(text), .. } => Some(text),
            _ => None,
        }
    }

    /// Returns the last words of the user; empty if there are none.
    #[must_use]
    pub fn last_user_words(&self) -> &str {
        let last = self.messages.iter().rev().find(|message| message.role == Role::User);
        match last.map(|message| &message.content) {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts.iter().find_map(text_of).unwrap_or_default(),
            Some(Content::None) | None => "",
        }
    }
}

/// Returns the text of a part that is one.
fn text_of(part: &Value) -> Option<&str> {
    part.get("text")?.as_str()
}

/// Shows everything but the words.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("role", &self.role)
            .field("characters", &self.characters())
            .field("tool_calls", &self.tool_calls.len())
            .finish_non_exhaustive()
    }
}
