//! One span and its ids.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Identifies a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(u128);

/// Identifies a span within its trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(u64);

/// What a span describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Not given.
    #[default]
    Unspecified,
    /// Work within a service.
    Internal,
    /// The serving side of a call.
    Server,
    /// The calling side of a call.
    Client,
    /// Sending to a queue.
    Producer,
    /// Receiving from a queue.
    Consumer,
}

/// One span as held.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// Its parent's id; `None` of a root.
    pub parent: Option<SpanId>,
    /// Its name.
    pub name: Arc<str>,
    /// The service that recorded it.
    pub service: Arc<str>,
    /// What it describes.
    pub kind: Kind,
    /// When it began, wall time.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Whether it failed.
    pub failed: bool,
    /// What failed.
    pub status_message: Box<str>,
    /// Its attributes as text, sorted by key.
    pub attributes: Box<[(Arc<str>, Box<str>)]>,
}

/// One span on its way in.
#[derive(Clone, Debug)]
pub struct NewSpan {
    /// Its trace.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// Its parent's id; `None` of a root.
    pub parent: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// The service that recorded it.
    pub service: String,
    /// What it describes.
    pub kind: Kind,
    /// When it began, wall time.
    pub start: SystemTime,
    /// How long it took.
    pub duration: Duration,
    /// Whether it failed.
    pub failed: bool,
    /// What failed.
    pub status_message: String,
    /// Its attributes as text.
    pub attributes: Vec<(String, String)>,
}

impl TraceId {
    /// Reads 16 bytes; `None` if there are more or fewer, or all are zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id = u128::from_be_bytes(bytes.try_into().ok()?);
        (id != 0).then_some(Self(id))
    }

    /// Reads 32 hexadecimal digits; `None` if `text` is anything else or all zero.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
        (id != 0).then_some(Self(id))
    }
}

impl SpanId {
    /// Reads 8 bytes; `None` if there are more or fewer, or all are zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let id = u64::from_be_bytes(bytes.try_into().ok()?);
        (id != 0).then_some(Self(id))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl Span {
    /// Returns when it ended.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        self.start + self.duration
    }
}

#[cfg(test)]
mod tests {
    use super::{SpanId, TraceId};

    #[test]
    fn ids_read_what_they_print() {
        let id = TraceId::from_hex("0AF7651916cd43dd8448eb211c80319c").unwrap();
        assert_eq!(id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(SpanId::from_bytes(&[0, 0, 0, 0, 0, 0, 0, 9]).unwrap().to_string(), "0000000000000009");
    }

    #[test]
    fn ids_that_are_none_are_refused() {
        let zero = "0".repeat(32);
        for text in ["", "abc", "+af7651916cd43dd8448eb211c80319c", "zzf7651916cd43dd8448eb211c80319c", &zero]
        {
            assert_eq!(TraceId::from_hex(text), None, "{text}");
        }
        assert_eq!(TraceId::from_bytes(&[0; 16]), None);
        assert_eq!(SpanId::from_bytes(&[1; 7]), None);
    }
}
