//! What the fake answers.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Map, Value};

/// By what the fake answers.
#[derive(Clone)]
pub enum Script {
    /// The text of the last message.
    Echo,
    /// Always this text.
    Fixed(String),
    /// What this function makes of the request's body.
    Function(Arc<dyn Fn(&Value) -> Reply + Send + Sync>),
}

/// One answer of the fake.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// HTTP status; 200 by default. Any other turns `content` into the message of an error.
    pub status: u16,
    /// How long the answer takes, on tokio's time; nothing by default.
    pub delay: Duration,
    /// The answer's text. An embedding that was asked for is none: it counts letters.
    pub content: String,
    /// Further fields of the message, such as `tool_calls`; streamed, they come before the text as one piece.
    pub further: Map<String, Value>,
    /// Tokens counted; by default one for every four characters. `None`: the fake does not say.
    pub usage: Option<Usage>,
    /// Why the answer ends; `stop` by default.
    pub finish_reason: String,
    /// Further headers of the response.
    pub headers: Vec<(String, String)>,
    /// The whole body instead of the one that the dialect wants: for answers that are broken.
    pub body: Option<String>,
    /// Breaks the connection after so many pieces of a streamed answer.
    pub cut_after: Option<usize>,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the question.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
}

impl Script {
    /// Answers by a function of the request's body.
    pub fn function(answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::Function(Arc::new(answer))
    }

    /// Answers every call with this HTTP status and message.
    #[must_use]
    pub fn failing(status: u16, message: &str) -> Self {
        let reply = Reply::failure(status, message);
        Self::function(move |_| reply.clone())
    }

    /// Returns the answer to a request.
    #[must_use]
    pub fn reply(&self, request: &Value) -> Reply {
        let content = match self {
            Self::Echo => last_message(request).to_owned(),
            Self::Fixed(content) => content.clone(),
            Self::Function(answer) => return answer(request),
        };
        let usage = Usage {
            prompt_tokens: prompt_characters(request).div_ceil(4),
            completion_tokens: (content.chars().count() as u64).div_ceil(4),
        };
        Reply { usage: Some(usage), ..Reply::text(content) }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => out.write_str("Echo"),
            Self::Fixed(content) => out.debug_tuple("Fixed").field(content).finish(),
            Self::Function(_) => out.write_str("Function(..)"),
        }
    }
}

impl Reply {
    /// Makes an answer of this text, at once, for one token in and one for every four characters out.
    #[must_use]
    pub fn text(content: impl Into<String>) -> Self {
        let content = content.into();
        let completion_tokens = (content.chars().count() as u64).div_ceil(4);
        Self {
            status: 200,
            delay: Duration::ZERO,
            content,
            further: Map::new(),
            usage: Some(Usage { prompt_tokens: 1, completion_tokens }),
            finish_reason: "stop".to_owned(),
            headers: Vec::new(),
            body: None,
            cut_after: None,
        }
    }

    /// Makes an answer of this JSON document as text, as a model does that was asked for a schema.
    #[must_use]
    pub fn json(content: &Value) -> Self {
        Self::text(content.to_string())
    }

    /// Makes an error of this HTTP status.
    #[must_use]
    pub fn failure(status: u16, message: impl Into<String>) -> Self {
        Self { status, usage: None, ..Self::text(message) }
    }

    /// Lets it take `delay`, on tokio's time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Lets it end for another reason, such as `length` or `content_filter`.
    #[must_use]
    pub fn finished(self, reason: &str) -> Self {
        Self { finish_reason: reason.to_owned(), ..self }
    }

    /// Counts these tokens.
    #[must_use]
    pub fn counted(self, prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { usage: Some(Usage { prompt_tokens, completion_tokens }), ..self }
    }

    /// Adds a header, such as `retry-after`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps only the first half of the text: JSON in it is then broken.
    #[must_use]
    pub fn mangled(self) -> Self {
        let half = self.content.chars().count() / 2;
        Self { content: self.content.chars().take(half).collect(), ..self }
    }
}

/// Returns the text of the last message of a request; nothing if there is none.
pub(super) fn last_message(request: &Value) -> &str {
    request["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .and_then(|last| last["content"].as_str())
        .unwrap_or("")
}

fn prompt_characters(request: &Value) -> u64 {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages
        .iter()
        .filter_map(|message| message["content"].as_str())
        .map(|text| text.chars().count() as u64)
        .sum()
}
