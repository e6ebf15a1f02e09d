//! Log lines: one event a line, as pretty text or JSON, each with service, trace id and span id.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::Arc;

use opentelemetry::Context as TraceContext;
use opentelemetry::trace::TraceContextExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::Context;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people: time, level, service, target, message, fields.
    #[default]
    Pretty,
    /// One JSON object: `timestamp`, `level`, `service`, `target`, `message`, `trace_id`, `span_id`, `fields`.
    Json,
}

/// Says where log lines go, and in which form.
#[derive(Clone)]
pub struct LogSink {
    format: LogFormat,
    writer: Option<Arc<Mutex<dyn Write + Send>>>,
}

impl LogSink {
    /// Writes to standard error.
    pub fn stderr(format: LogFormat) -> Self {
        Self::writer(format, std::io::stderr())
    }

    /// Writes nothing.
    pub fn off() -> Self {
        Self { format: LogFormat::default(), writer: None }
    }

    /// Writes to `writer`: each line in one call, ended by a line feed.
    pub fn writer(format: LogFormat, writer: impl Write + Send + 'static) -> Self {
        Self { format, writer: Some(Arc::new(Mutex::new(writer))) }
    }

    /// Returns the layer that writes; `None` if nothing is written.
    pub(crate) fn layer(self, service: &'static str) -> Option<Lines> {
        Some(Lines { service, format: self.format, writer: self.writer? })
    }
}

impl Default for LogSink {
    fn default() -> Self {
        Self::stderr(LogFormat::Pretty)
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink")
            .field("format", &self.format)
            .field("writes", &self.writer.is_some())
            .finish_non_exhaustive()
    }
}

/// The layer that writes events as lines.
pub(crate) struct Lines {
    service: &'static str,
    format: LogFormat,
    writer: Arc<Mutex<dyn Write + Send>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = Line::of(event, self.service);
        let mut text = match self.format {
            LogFormat::Pretty => line.pretty(),
            LogFormat::Json => line.json(),
        };
        text.push('\n');
        // A log that cannot be written has nowhere to be reported.
        let _ = self.writer.lock().write_all(text.as_bytes());
    }
}

/// One event, taken apart.
struct Line {
    timestamp: String,
    level: &'static str,
    service: &'static str,
    target: String,
    message: String,
    fields: Map<String, Value>,
    /// Trace id and span id; none outside of a trace.
    ids: Option<(String, String)>,
}

impl Line {
    fn of(event: &Event<'_>, service: &'static str) -> Self {
        let mut timestamp = String::new();
        // Writing to a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Entering a span activates its context, so this is right even where the log filter hides the span.
        let context = TraceContext::current();
        let span = context.span();
        let span = span.span_context();
        Self {
            timestamp,
            level: event.metadata().level().as_str(),
            service,
            target: event.metadata().target().to_owned(),
            message: fields.message,
            fields: fields.others,
            ids: span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string())),
        }
    }

    fn json(self) -> String {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), self.timestamp.into());
        object.insert("level".to_owned(), self.level.into());
        object.insert("service".to_owned(), self.service.into());
        object.insert("target".to_owned(), self.target.into());
        object.insert("message".to_owned(), self.message.into());
        if let Some((trace_id, span_id)) = self.ids {
            object.insert("trace_id".to_owned(), trace_id.into());
            object.insert("span_id".to_owned(), span_id.into());
        }
        if !self.fields.is_empty() {
            object.insert("fields".to_owned(), self.fields.into());
        }
        Value::Object(object).to_string()
    }

    fn pretty(&self) -> String {
        let mut text = format!(
            "{} {:>5} {} {}: {}",
            self.timestamp,
            self.level,
            self.service,
            self.target,
            Plain(&self.message)
        );
        for (name, value) in &self.fields {
            // Writing to a string does not fail.
            let _ = match value {
                Value::String(value) => write!(text, " {name}={}", Quoted(value)),
                value => write!(text, " {name}={value}"),
            };
        }
        if let Some((trace_id, span_id)) = &self.ids {
            let _ = write!(text, " trace_id={trace_id} span_id={span_id}");
        }
        text
    }
}

/// Collects the fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            // Writing to a string does not fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        self.put(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// Shows text on one line: control characters are escaped, so that a value cannot forge a line.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Shows text bare where it is one word, quoted otherwise.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
        if !self.0.is_empty() && self.0.chars().all(bare) {
            f.write_str(self.0)
        } else {
            write!(f, "{:?}", self.0)
        }
    }
}
