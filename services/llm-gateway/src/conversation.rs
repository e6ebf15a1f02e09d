//! A conversation with a model and its answer.

use std::sync::Arc;

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The caller's words.
    User,
    /// An earlier answer of the model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The words.
    pub content: String,
}

/// A conversation to answer: at least one turn, the last one the user's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The model asked for; empty means the configured default.
    pub model: String,
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Most tokens of the answer.
    pub max_output_tokens: Option<u32>,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It did not say.
    Unknown,
    /// The answer is complete.
    Stop,
    /// The token limit cut the answer.
    Length,
    /// The upstream's filter cut the answer.
    Filter,
}

/// Tokens a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Whether the counts are an estimate.
    pub estimated: bool,
}

/// What a model answered.
#[derive(Clone, PartialEq)]
pub struct Answer {
    /// The words.
    pub text: Arc<str>,
    /// Why the model stopped.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
}

impl Role {
    /// Returns the role's name in chat APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input + other.input,
            output: self.output + other.output,
            estimated: self.estimated || other.estimated,
        }
    }
}

impl Conversation {
    /// Returns the last words of the user; empty if there are none.
    #[must_use]
    pub fn last_user_words(&self) -> &str {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .map_or("", |message| &message.content)
    }
}

/// Shows everything but the words.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("role", &self.role).field("bytes", &self.content.len()).finish()
    }
}

/// Shows everything but the words.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("bytes", &self.text.len())
            .field("finish", &self.finish)
            .field("usage", &self.usage)
            .finish()
    }
}
