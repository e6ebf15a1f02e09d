//! What is particular to an API: where it is asked, what is sent, how its answer is read.

use bytes::Bytes;
use http::{
    StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue},
};
use serde_json::Value;

use super::{Failure, anthropic, delta::Delta, openai};
use crate::conversation::{Answer, Conversation};

/// The version of Anthropic's API that is spoken.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// The API of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Chat completions: OpenAI, vLLM, Ollama, Gemini's compatible endpoint and many more.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}

/// Reads the events of one streamed answer.
#[derive(Debug)]
pub(super) enum Reader {
    OpenAi,
    Anthropic(anthropic::Reader),
}

impl Dialect {
    /// Returns the stable word of its provider, by OpenTelemetry's conventions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/chat/completions",
            Self::Anthropic => "/messages",
        }
    }

    pub(super) fn headers(self, key: Option<&str>) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Self::Anthropic {
            headers.insert(HeaderName::from_static("anthropic-version"), ANTHROPIC_VERSION);
        }
        if let Some(key) = key {
            let (name, value) = match self {
                Self::OpenAi => (header::AUTHORIZATION, format!("Bearer {key}")),
                Self::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
            };
            let mut value = HeaderValue::from_str(&value)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// Writes a request; `max_tokens` is sent where the dialect demands a limit and the caller sets none.
    pub(super) fn body(
        self,
        model: &str,
        conversation: &Conversation,
        stream: bool,
        max_tokens: u32,
    ) -> Result<Bytes, Failure> {
        match self {
            Self::OpenAi => openai::body(model, conversation, stream),
            Self::Anthropic => anthropic::body(model, conversation, stream, max_tokens),
        }
    }

    pub(super) fn answer(self, body: &[u8], asked: &Conversation) -> Result<Answer, Failure> {
        match self {
            Self::OpenAi => openai::answer(body, asked),
            Self::Anthropic => anthropic::answer(body, asked),
        }
    }

    pub(super) fn reader(self) -> Reader {
        match self {
            Self::OpenAi => Reader::OpenAi,
            Self::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
        }
    }

    /// Reads why the upstream refuses a request, and which of our fields it says is wrong.
    pub(super) fn refused(self, status: StatusCode, body: &[u8]) -> Failure {
        let error: Value = serde_json::from_slice(body).unwrap_or_default();
        let (field, too_long) = (self.refused_field(status, &error), is_too_long(&error));
        Failure::Refused { status: status.as_u16(), field, too_long }
    }

    /// It is a name of fields and nothing a caller could have written.
    fn refused_field(self, status: StatusCode, error: &Value) -> Option<String> {
        let named = match self {
            Self::OpenAi => error["error"]["param"].as_str(),
            Self::Anthropic => {
                error["error"]["message"].as_str().and_then(|text| Some(text.split_once(':')?.0))
            }
        };
        match named {
            Some("max_tokens" | "max_completion_tokens") => Some("max_output_tokens".to_owned()),
            Some(name) if !name.is_empty() && name.len() <= 64 && name.bytes().all(is_of_a_name) => {
                Some(name.to_owned())
            }
            _ => (status == StatusCode::NOT_FOUND).then(|| "model".to_owned()),
        }
    }
}

/// Returns whether an upstream finds a conversation too long: by a code of OpenAI's, else the beginnings of its, vLLM's and Anthropic's words.
fn is_too_long(error: &Value) -> bool {
    let begins = |words| error["error"]["message"].as_str().is_some_and(|text| text.starts_with(words));
    error["error"]["code"] == "context_length_exceeded"
        || begins("This model's maximum context length")
        || begins("prompt is too long")
}

impl Reader {
    pub(super) fn read(&mut self, data: &str) -> Result<Delta, Failure> {
        match self {
            Self::OpenAi => openai::delta(data),
            Self::Anthropic(reader) => reader.read(data),
        }
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::{Dialect, Failure, is_too_long};

    #[test]
    fn a_refusal_names_our_field_and_never_repeats_words() {
        let field = |dialect: Dialect, error: Value| {
            dialect.refused_field(StatusCode::BAD_REQUEST, &json!({"error": error}))
        };
        let openai = |param: &str| field(Dialect::OpenAi, json!({"param": param}));
        assert_eq!(openai("max_completion_tokens").as_deref(), Some("max_output_tokens"));
        assert_eq!(openai("messages.[2].content").as_deref(), Some("messages.[2].content"));
        assert_eq!(openai("My secret is 12"), None);
        let anthropic = |message: &str| field(Dialect::Anthropic, json!({"message": message}));
        assert_eq!(anthropic("max_tokens: 9 > 8").as_deref(), Some("max_output_tokens"));
        assert_eq!(anthropic("top_k: Extra inputs are not permitted").as_deref(), Some("top_k"));
        assert_eq!(anthropic("My secret: 12"), None);
        let gone = Dialect::OpenAi.refused(StatusCode::NOT_FOUND, b"no such route");
        assert_eq!(gone, Failure::Refused { status: 404, field: Some("model".into()), too_long: false });
    }

    #[test]
    fn a_conversation_that_is_too_long_is_told_by_every_upstream_in_its_own_way() {
        let too_long = |error: Value| is_too_long(&json!({"error": error}));
        for said in [
            json!({"code": "context_length_exceeded", "message": "too many"}),
            json!({"code": 400, "message": "This model's maximum context length is 4096 tokens. However, you"}),
            json!({"type": "invalid_request_error", "message": "prompt is too long: 200001 tokens > 200000 maximum"}),
        ] {
            assert!(too_long(said));
        }
        assert!(!too_long(json!({"message": "you asked: prompt is too long"})));
    }

    #[test]
    fn a_key_stands_where_the_dialect_wants_it_and_is_not_shown() {
        let openai = Dialect::OpenAi.headers(Some("k1")).unwrap();
        assert_eq!(openai["authorization"], "Bearer k1");
        let anthropic = Dialect::Anthropic.headers(Some("k1")).unwrap();
        assert_eq!(
            (&anthropic["x-api-key"], anthropic.contains_key("authorization")),
            (&"k1".parse().unwrap(), false)
        );
        assert!(!format!("{openai:?}{anthropic:?}").contains("k1"));
        assert!(Dialect::OpenAi.headers(Some("a\nb")).is_err());
    }
}
