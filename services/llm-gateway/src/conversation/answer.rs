//! What a model answers, whole or in pieces.

use std::sync::Arc;

use super::Object;

/// Characters of a piece of a replayed answer, at least; it ends at the next space.
const REPLAYED_CHARS: usize = 48;

/// A call of a tool, by the model.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id within the conversation.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as the model wrote them.
    pub arguments: String,
}

/// Why a model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It did not say.
    Unknown,
    /// The answer is complete.
    Stop,
    /// The answer is complete: tools are to be called.
    ToolCalls,
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
    /// Those of them that the upstream had cached.
    pub cached_input: u64,
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
    /// The tools it wants called.
    pub tool_calls: Arc<[ToolCall]>,
    /// Further fields of its message, such as `reasoning_content` or `refusal`.
    pub extra: Arc<Object>,
    /// Why the model stopped.
    pub finish: Finish,
    /// What it used.
    pub usage: Usage,
}

/// A piece of an answer.
#[derive(Clone, PartialEq)]
pub enum Piece {
    /// The next words.
    Text(String),
    /// The next piece of a tool call.
    Call(CallPiece),
    /// Further fields: texts of one name are joined, lists appended (calls in `tool_calls` joined by their `index`), anything else replaced.
    Extra(Object),
}

/// A piece of a tool call.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CallPiece {
    /// Which call of the answer, from 0.
    pub index: u32,
    /// The call, in its first piece: its id and the tool's name.
    pub id: Option<String>,
    /// The tool, in the first piece.
    pub name: Option<String>,
    /// The next piece of the arguments.
    pub arguments: String,
}

impl Finish {
    /// Returns whether the answer is all that the model had to say.
    #[must_use]
    pub fn is_complete(self) -> bool {
        matches!(self, Self::Stop | Self::ToolCalls)
    }

    /// Returns its name in chat completions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::Filter => "content_filter",
        }
    }
}

impl Usage {
    /// Returns the tokens read and written.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached_input: self.cached_input.saturating_add(other.cached_input),
            output: self.output.saturating_add(other.output),
            estimated: self.estimated || other.estimated,
        }
    }
}

impl Answer {
    /// Makes a complete answer of words alone.
    #[must_use]
    pub fn text(text: impl Into<Arc<str>>, usage: Usage) -> Self {
        Self { text: text.into(), tool_calls: [].into(), extra: Arc::default(), finish: Finish::Stop, usage }
    }

    /// Returns about how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let calls = self.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len());
        let extra = self.extra.iter().map(|(name, value)| name.len() + value.to_string().len());
        self.text.len() + calls.sum::<usize>() + extra.sum::<usize>()
    }

    /// Returns the answer piece by piece, as a model would have sent it: further fields, words, calls.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        let extra = (!self.extra.is_empty()).then(|| Piece::Extra((*self.extra).clone()));
        let calls = (0..).zip(self.tool_calls.iter()).map(|(index, call)| {
            Piece::Call(CallPiece {
                index,
                id: Some(call.id.clone()),
                name: Some(call.name.clone()),
                arguments: call.arguments.clone(),
            })
        });
        extra.into_iter().chain(words(&self.text)).chain(calls)
    }
}

/// Cuts a text behind spaces into pieces of about [`REPLAYED_CHARS`].
fn words(text: &str) -> impl Iterator<Item = Piece> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = rest.char_indices().nth(REPLAYED_CHARS).map_or(rest.len(), |(at, _)| at);
        let end = rest[from..].find(' ').map_or(rest.len(), |space| from + space + 1);
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        Some(Piece::Text(piece.to_owned()))
    })
}

/// Shows everything but the words.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("bytes", &self.text.len())
            .field("tool_calls", &self.tool_calls.len())
            .field("finish", &self.finish)
            .field("usage", &self.usage)
            .finish_non_exhaustive()
    }
}

/// Shows the tool, never the arguments.
impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolCall").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Shows what kind of piece it is, never the words.
impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Call(_) => "Call",
            Self::Extra(_) => "Extra",
        })
    }
}

/// Shows which call it belongs to, never the arguments.
impl std::fmt::Debug for CallPiece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallPiece").field("index", &self.index).finish_non_exhaustive()
    }
}
