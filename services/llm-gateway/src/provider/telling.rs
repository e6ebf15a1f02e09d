//! What is told of requests to upstreams: a client span each, and more where OpenTelemetry's conventions for generative models are opted into.
//!
//! 1. Without the opt-in a span has our own name and attributes, and nothing is measured under the conventions' names. Caches and patterns
//!    ask no upstream, so nothing here is told of what they answer.
//! 2. Every attempt is told of for itself. One that nobody waited for until its end is told of as `cancelled`.
//! 3. Words are in a span only where they are switched on: bounded, and as attributes, which no log line shows.
//! 4. Tokens are told as the upstream counted them; estimates are not.

use std::{sync::Arc, time::Instant};

use http::Uri;
use serde::Deserialize;
use telemetry::{Array, GenAi, Histogram, KeyValue, Telemetry, Value, annotate, names, names::gen_ai};
use tracing::{Span, field::Empty};

use super::{Dialect, Failure, transport::usual_port, words};
use crate::conversation::{Answer, Conversation, Finish, Gathered, Piece, Usage};

/// What a request ended with that nobody waited for.
const CANCELLED: &str = "cancelled";
/// Parameters that are told where they are set.
const PARAMETERS: [(&str, &str); 2] =
    [("temperature", gen_ai::REQUEST_TEMPERATURE), ("top_p", gen_ai::REQUEST_TOP_P)];

/// How much is told of requests to upstreams.
#[derive(Clone, Debug)]
pub struct Telling {
    conventions: Option<Instruments>,
    /// Most bytes of an attribute of words; `None`: no words.
    words: Option<usize>,
}

/// What the conventions measure.
#[derive(Clone, Debug)]
struct Instruments {
    duration: Histogram,
    first_chunk: Histogram,
    tokens: Histogram,
}

/// Tells of the requests to one upstream.
#[derive(Debug)]
pub(super) struct Teller {
    telling: Telling,
    upstream: Arc<str>,
    dialect: Dialect,
    server: [KeyValue; 2],
}

/// A request under way. Dropped before it was told how it ended, it was cancelled.
#[derive(Debug)]
pub(super) struct Told {
    span: Span,
    begun: Instant,
    is_over: bool,
    standard: Option<Box<Standard>>,
}

/// What is told by the conventions.
#[derive(Debug)]
struct Standard {
    instruments: Instruments,
    /// Attributes of every measurement.
    attributes: Vec<KeyValue>,
    is_stream: bool,
    has_begun: bool,
    is_named: bool,
    words: Option<Words>,
}

/// The words of an answer on its way.
#[derive(Debug)]
struct Words {
    most: usize,
    gathered: Gathered,
}

/// What an upstream calls an answer and the model that wrote it; in an event it may stand one level below.
#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    model: Option<String>,
    message: Option<Box<Named>>,
}

impl Telling {
    /// Tells what `telemetry` is set up to tell; `most_bytes` bounds each attribute of words.
    #[must_use]
    pub fn new(telemetry: &Telemetry, most_bytes: usize) -> Self {
        let GenAi { conventions, content } = telemetry.gen_ai();
        let instruments = || Instruments {
            duration: telemetry.histogram(gen_ai::OPERATION_DURATION),
            first_chunk: telemetry.histogram(gen_ai::TIME_TO_FIRST_CHUNK),
            tokens: telemetry.histogram(gen_ai::TOKEN_USAGE),
        };
        Self { conventions: conventions.then(instruments), words: content.then_some(most_bytes) }
    }

    /// Tells of the upstream called `upstream`.
    pub(super) fn of(&self, upstream: &str, dialect: Dialect, address: &Uri) -> Teller {
        let host = address.host().unwrap_or_default().to_owned();
        let port = i64::from(address.port_u16().unwrap_or_else(|| usual_port(address)));
        let server = [KeyValue::new(names::SERVER_ADDRESS, host), KeyValue::new(names::SERVER_PORT, port)];
        Teller { telling: self.clone(), upstream: upstream.into(), dialect, server }
    }
}

impl Teller {
    /// Opens the span of a request to `model`.
    pub(super) fn begin(&self, model: &str, conversation: &Conversation, is_stream: bool) -> Told {
        let (span, standard) = match &self.telling.conventions {
            None => (self.own(model), None),
            Some(instruments) => {
                let (span, attributes) = self.standard(model, conversation, is_stream);
                let words = self.telling.words.map(|most| {
                    self.asked(&span, conversation, most);
                    Words { most, gathered: Gathered::default() }
                });
                let instruments = instruments.clone();
                let (has_begun, is_named) = (false, false);
                let standard = Standard { instruments, attributes, is_stream, has_begun, is_named, words };
                (span, Some(Box::new(standard)))
            }
        };
        annotate(&span, gen_ai::UPSTREAM, self.upstream.clone());
        Told { span, begun: Instant::now(), is_over: false, standard }
    }

    fn own(&self, model: &str) -> Span {
        let span = tracing::info_span!(
            gen_ai::SPAN_REQUEST,
            otel.kind = "client",
            otel.status_code = Empty,
            error.type = Empty,
        );
        annotate(&span, gen_ai::MODEL, model.to_owned());
        span
    }

    fn standard(&self, model: &str, conversation: &Conversation, is_stream: bool) -> (Span, Vec<KeyValue>) {
        let span = tracing::info_span!(
            "chat",
            otel.name = format!("{} {model}", gen_ai::CHAT),
            otel.kind = "client",
            otel.status_code = Empty,
            error.type = Empty,
        );
        let [address, port] = self.server.clone();
        let attributes = vec![
            KeyValue::new(gen_ai::OPERATION_NAME, gen_ai::CHAT),
            KeyValue::new(gen_ai::PROVIDER_NAME, self.dialect.as_str()),
            KeyValue::new(gen_ai::REQUEST_MODEL, model.to_owned()),
            address,
            port,
        ];
        for KeyValue { key, value, .. } in attributes.iter().cloned() {
            annotate(&span, key, value);
        }
        if is_stream {
            annotate(&span, gen_ai::REQUEST_STREAM, true);
        }
        let parameters = &conversation.parameters;
        if let Some(most) = parameters.max_output_tokens() {
            annotate(&span, gen_ai::REQUEST_MAX_TOKENS, count(most));
        }
        let number = |name: &str| parameters.as_object().get(name)?.as_f64();
        for (name, key) in PARAMETERS {
            if let Some(value) = number(name) {
                annotate(&span, key, value);
            }
        }
        (span, attributes)
    }

    /// Tells what is asked; instructions stand apart where the API takes them apart.
    fn asked(&self, span: &Span, conversation: &Conversation, most: usize) {
        let apart = self.dialect == Dialect::Anthropic;
        if let Some(instructions) = apart.then(|| words::instructions(conversation, most)).flatten() {
            annotate(span, gen_ai::SYSTEM_INSTRUCTIONS, instructions);
        }
        annotate(span, gen_ai::INPUT_MESSAGES, words::asked(conversation, apart, most));
    }
}

impl Told {
    /// Returns the span of the request.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Takes a whole answer as it came, or an event of a streamed one.
    pub(super) fn received(&mut self, data: &[u8]) {
        let Some(standard) = &mut self.standard else { return };
        standard.name(&self.span, data);
        if standard.is_stream && !standard.has_begun {
            standard.has_begun = true;
            let waited = self.begun.elapsed().as_secs_f64();
            annotate(&self.span, gen_ai::RESPONSE_TIME_TO_FIRST_CHUNK, waited);
            standard.instruments.first_chunk.record(waited, &standard.attributes);
        }
    }

    /// Takes a piece that was read.
    pub(super) fn read(&mut self, piece: &Piece) {
        let words = self.standard.as_mut().and_then(|standard| standard.words.as_mut());
        if let Some(Words { most, gathered }) = words
            && gathered.text().len() < *most
        {
            // What is too long is cut in the end.
            let _ = gathered.take(piece);
        }
    }

    /// Tells of a failure, and hands the outcome on.
    pub(super) fn checked<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            self.failed(failure.as_str());
        }
        outcome
    }

    /// Tells of a whole answer.
    pub(super) fn answered(&mut self, answer: &Answer) {
        if let Some(Words { most, .. }) = self.standard.as_ref().and_then(|standard| standard.words.as_ref())
        {
            annotate(&self.span, gen_ai::OUTPUT_MESSAGES, words::answer(answer, *most));
        }
        self.over(answer.finish, Some(answer.usage));
    }

    /// Tells of the end of a streamed answer; a second end is none.
    pub(super) fn ended(&mut self, finish: Finish, usage: Option<Usage>) {
        if self.is_over {
            return;
        }
        let words = self.standard.as_mut().and_then(|standard| standard.words.take());
        if let Some(Words { most, gathered }) = words {
            let answer = gathered.answer(finish, usage.unwrap_or_default());
            annotate(&self.span, gen_ai::OUTPUT_MESSAGES, words::answer(&answer, most));
        }
        self.over(finish, usage);
    }

    fn over(&mut self, finish: Finish, usage: Option<Usage>) {
        let usage = usage.filter(|usage| !usage.estimated);
        let keys = match &self.standard {
            None => [gen_ai::INPUT_TOKENS, gen_ai::CACHED_TOKENS, gen_ai::OUTPUT_TOKENS],
            Some(_) => [gen_ai::USAGE_INPUT_TOKENS, gen_ai::USAGE_CACHED_TOKENS, gen_ai::USAGE_OUTPUT_TOKENS],
        };
        if let Some(usage) = usage {
            for (key, tokens) in keys.into_iter().zip([usage.input, usage.cached_input, usage.output]) {
                annotate(&self.span, key, count(tokens));
            }
        }
        match &self.standard {
            None => annotate(&self.span, gen_ai::FINISH, finish.as_str()),
            Some(standard) => {
                let reasons = Array::String(vec![finish.as_str().into()]);
                annotate(&self.span, gen_ai::RESPONSE_FINISH_REASONS, Value::Array(reasons));
                if let Some(usage) = usage {
                    standard.count(usage);
                }
            }
        }
        self.close(None);
    }

    fn failed(&mut self, word: &'static str) {
        if !self.is_over {
            self.span.record("otel.status_code", "ERROR");
            self.span.record(names::ERROR_TYPE, word);
            self.close(Some(KeyValue::new(names::ERROR_TYPE, word)));
        }
    }

    fn close(&mut self, error: Option<KeyValue>) {
        self.is_over = true;
        if let Some(standard) = &mut self.standard {
            standard.attributes.extend(error);
            standard.instruments.duration.record(self.begun.elapsed().as_secs_f64(), &standard.attributes);
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.failed(CANCELLED);
    }
}

impl Standard {
    /// Looks for the names of the answer and its model, until they were found.
    fn name(&mut self, span: &Span, data: &[u8]) {
        if self.is_named {
            return;
        }
        let Ok(Named { id, model, message }) = serde_json::from_slice::<Named>(data) else { return };
        let below = message.map(|below| (below.id, below.model)).unwrap_or_default();
        let (id, model) = (id.or(below.0), model.or(below.1));
        self.is_named = id.is_some() || model.is_some();
        if let Some(id) = id {
            annotate(span, gen_ai::RESPONSE_ID, id);
        }
        if let Some(model) = model {
            annotate(span, gen_ai::RESPONSE_MODEL, model.clone());
            self.attributes.push(KeyValue::new(gen_ai::RESPONSE_MODEL, model));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^52")]
    fn count(&self, usage: Usage) {
        for (kind, tokens) in [(gen_ai::INPUT, usage.input), (gen_ai::OUTPUT, usage.output)] {
            let kind = KeyValue::new(gen_ai::TOKEN_TYPE, kind);
            let attributes: Vec<_> = self.attributes.iter().cloned().chain([kind]).collect();
            self.instruments.tokens.record(tokens as f64, &attributes);
        }
    }
}

fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
