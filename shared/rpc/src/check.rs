//! One way to check a request: every wrong field by its path, as many at once as a status can carry.

use std::{
    fmt::{self, Display, Write as _},
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use prost_types::Timestamp;

use crate::{Fault, time};

/// Most wrong fields that are named, and about how many bytes may be said of them. A status travels in headers, twice in full: with
/// more, a client that takes 8 KiB of them (grpc-java) would see a broken connection in place of what is wrong.
const MOST: usize = 16;
const MOST_BYTES: usize = 1024;
/// Longest path that is told, in bytes, and most characters of a map's key in it: keys are the caller's own words.
const PATH_BYTES: usize = 256;
const KEY_CHARACTERS: usize = 48;

/// Where in a request a value stands. Costs nothing until it is written down: `memories[3].metadata["source"]`.
///
/// ```
/// let memories = rpc::At::from("memories");
/// assert_eq!(memories.item(3).field("metadata").key("source").to_string(), r#"memories[3].metadata["source"]"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    above: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    /// Returns the place of a field of the message here.
    #[must_use]
    pub const fn field(&'a self, name: &'a str) -> Self {
        Self { above: Some(self), step: Step::Field(name) }
    }

    /// Returns the place of an element of the list here, counted from 0.
    #[must_use]
    pub const fn item(&'a self, index: usize) -> Self {
        Self { above: Some(self), step: Step::Item(index) }
    }

    /// Returns the place of an entry of the map here.
    #[must_use]
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { above: Some(self), step: Step::Key(key) }
    }
}

impl<'a> From<&'a str> for At<'a> {
    /// Names a field of the request itself.
    fn from(name: &'a str) -> Self {
        Self { above: None, step: Step::Field(name) }
    }
}

impl Display for At<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            above.fmt(out)?;
        }
        match self.step {
            Step::Field(name) if self.above.is_none() => out.write_str(name),
            Step::Field(name) => write!(out, ".{name}"),
            Step::Item(index) => write!(out, "[{index}]"),
            Step::Key(key) => {
                let shown = key.char_indices().nth(KEY_CHARACTERS).map_or(key, |(end, _)| &key[..end]);
                let more = if shown.len() < key.len() { "…" } else { "" };
                write!(out, "[\"{}{more}\"]", shown.escape_debug())
            }
        }
    }
}

/// Collects what is wrong with a request, to say it all at once.
///
/// Each check takes where the value stands, the value, and what it must be. A check that reads returns `None` where the
/// value is wrong; the caller goes on with whatever stands in for it, and [`Check::end`] refuses the whole.
///
/// ```
/// let mut check = rpc::Check::default();
/// check.text("id", "", 1..=256);
/// check.within("min_confidence", f64::NAN, 0.0..=1.0);
/// let fault = check.end(()).unwrap_err();
/// assert_eq!(fault.to_string(), "id must have 1 to 256 bytes; min_confidence must be 0 to 1");
/// ```
#[derive(Debug, Default)]
pub struct Check {
    fault: Option<Fault>,
    named: usize,
    bytes: usize,
}

impl Check {
    /// Says that the value here is wrong; `must` follows the field's name.
    pub fn wrong<'a>(&mut self, at: impl Into<At<'a>>, must: impl Display) {
        if self.named == MOST || self.bytes >= MOST_BYTES {
            return;
        }
        let (path, must) = (told(at.into()), must.to_string());
        self.named += 1;
        self.bytes += path.len() + must.len();
        self.fault = Some(match self.fault.take() {
            Some(fault) => fault.and(path, must),
            None => Fault::invalid(path, must),
        });
    }

    /// Requires that something holds of the value here.
    pub fn require<'a>(&mut self, at: impl Into<At<'a>>, holds: bool, must: impl Display) {
        if !holds {
            self.wrong(at, must);
        }
    }

    /// Requires a message.
    pub fn given<'a, T>(&mut self, at: impl Into<At<'a>>, value: Option<T>) -> Option<T> {
        self.require(at, value.is_some(), "must be given");
        value
    }

    /// Requires a text of so many bytes.
    pub fn text<'a>(&mut self, at: impl Into<At<'a>>, text: &str, bytes: RangeInclusive<usize>) {
        self.require(at, bytes.contains(&text.len()), Length { range: &bytes, what: "bytes" });
    }

    /// Requires a list of so many elements, or a map of so many entries. Returns whether it has them: one that is too long is
    /// not worth being looked through.
    pub fn items<'a>(&mut self, at: impl Into<At<'a>>, count: usize, wanted: RangeInclusive<usize>) -> bool {
        let holds = wanted.contains(&count);
        self.require(at, holds, Length { range: &wanted, what: "entries" });
        holds
    }

    /// Requires a number of this range; NaN is in none.
    pub fn within<'a, N>(&mut self, at: impl Into<At<'a>>, number: N, range: RangeInclusive<N>)
    where
        N: PartialOrd + Display,
    {
        let holds = range.contains(&number);
        self.require(at, holds, format_args!("must be {} to {}", range.start(), range.end()));
    }

    /// Requires a number that is neither infinite nor NaN.
    pub fn finite<'a>(&mut self, at: impl Into<At<'a>>, number: f64) {
        self.require(at, number.is_finite(), "must be a finite number");
    }

    /// Reads how many entries of a list are wanted; 0 leaves it to `default`.
    pub fn limit<'a>(&mut self, at: impl Into<At<'a>>, wanted: u32, default: u32, most: u32) -> usize {
        self.require(at, wanted <= most, format_args!("must be at most {most}"));
        let limit = if wanted == 0 { default } else { wanted };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Reads an enum's number that the contract knows; 0, which says that nothing was given, is one.
    pub fn known<'a, E: TryFrom<i32>>(&mut self, at: impl Into<At<'a>>, number: i32) -> Option<E> {
        let value = E::try_from(number).ok();
        self.require(at, value.is_some(), format_args!("must be a value of the contract, and not {number}"));
        value
    }

    /// Reads an enum's number that must be given; `names` are the values it may have.
    pub fn one_of<'a, E: TryFrom<i32>>(
        &mut self,
        at: impl Into<At<'a>>,
        number: i32,
        names: &str,
    ) -> Option<E> {
        let value = E::try_from(number).ok().filter(|_| number != 0);
        self.require(at, value.is_some(), format_args!("must be {names}"));
        value
    }

    /// Reads a time, if one is given.
    pub fn time<'a>(&mut self, at: impl Into<At<'a>>, time: Option<&Timestamp>) -> Option<SystemTime> {
        let read = time::read(time?);
        self.require(at, read.is_some(), time::MUST);
        read
    }

    /// Reads a duration, if one is given.
    pub fn duration<'a>(
        &mut self,
        at: impl Into<At<'a>>,
        duration: Option<&prost_types::Duration>,
    ) -> Option<Duration> {
        let read = time::read_duration(duration?);
        self.require(at, read.is_some(), time::DURATION_MUST);
        read
    }

    /// Reads a duration above zero, if one is given.
    pub fn positive<'a>(
        &mut self,
        at: impl Into<At<'a>>,
        duration: Option<&prost_types::Duration>,
    ) -> Option<Duration> {
        let at = at.into();
        let read = self.duration(at, duration)?;
        self.require(at, !read.is_zero(), "must be above zero");
        Some(read)
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with what is wrong, if anything is.
    pub fn end<T>(self, value: T) -> Result<T, Fault> {
        self.fault.map_or(Ok(value), Err)
    }
}

/// Says how long something must be.
struct Length<'a> {
    range: &'a RangeInclusive<usize>,
    what: &'static str,
}

impl Display for Length<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.range.start(), self.range.end()) {
            (0, most) => write!(out, "must have at most {most} {}", self.what),
            (least, most) => write!(out, "must have {least} to {most} {}", self.what),
        }
    }
}

/// Writes a path down, cut where it is longer than a status can carry: maps nest, and their keys are the caller's.
fn told(at: At<'_>) -> String {
    let mut path = Path(String::new());
    // Ends early where the path is too long, and not for any other reason.
    match write!(path, "{at}") {
        Ok(()) => path.0,
        Err(fmt::Error) => path.0 + "…",
    }
}

struct Path(String);

impl fmt::Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(PATH_BYTES - self.0.len());
        self.0.push_str(&text[..room]);
        if room < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    fn fields(check: Check) -> Vec<String> {
        let fault = check.end(()).unwrap_err();
        assert_eq!(fault.code(), Code::InvalidArgument);
        fault.violations().iter().map(|wrong| wrong.field.clone()).collect()
    }

    #[test]
    fn a_path_names_fields_elements_and_entries() {
        let query = At::from("query");
        let filter = query.field("filter");
        assert_eq!(filter.field("time").field("from").to_string(), "query.filter.time.from");
        assert_eq!(filter.item(7).key("a\"b\n").to_string(), r#"query.filter[7]["a\"b\n"]"#);
        assert_eq!(query.key(&"é".repeat(50)).to_string(), format!("query[\"{}…\"]", "é".repeat(48)));
    }

    #[test]
    fn everything_wrong_is_named_at_once_and_what_is_right_is_not() {
        let mut check = Check::default();
        assert_eq!(check.limit("limit", 0, 100, 1000), 100);
        assert_eq!(check.limit("limit", 1001, 100, 1000), 1001);
        assert_eq!(check.duration("ttl", None), None);
        assert_eq!(check.duration("ttl", Some(&prost_types::Duration { seconds: -1, nanos: 0 })), None);
        assert_eq!(check.time("at", Some(&Timestamp { seconds: 0, nanos: -1 })), None);
        assert_eq!(check.time("start", Some(&Timestamp::default())), Some(std::time::UNIX_EPOCH));
        assert_eq!(check.given("query", Some(1)), Some(1));
        assert!(check.given::<()>("memory", None).is_none());
        assert!(check.items("ids", 1, 1..=1) && !check.items("pools", 65, 0..=64));
        check.finite("price", f64::INFINITY);
        check.within("share", -0.1, 0.0..=1.0);
        check.text("name", "é", 0..=1);
        assert_eq!(
            fields(check),
            ["limit", "ttl", "at", "memory", "pools", "price", "share", "name"].map(str::to_owned)
        );
        assert!(Check::default().end(()).is_ok());
    }

    #[test]
    fn zero_is_a_known_number_and_no_choice() {
        use prost_types::field_descriptor_proto::Label;
        let mut check = Check::default();
        assert_eq!(check.known("label", 1), Some(Label::Optional));
        assert_eq!(check.known::<Label>("label", 9), None);
        assert_eq!(check.one_of("kind", 2, "x"), Some(Label::Required));
        assert_eq!(check.one_of::<Label>("kind", 0, "x"), None);
        assert_eq!(fields(check), ["label", "kind"].map(str::to_owned));
    }

    #[test]
    fn no_more_is_said_than_a_status_can_carry() {
        let key = "\u{1}".repeat(1 << 20);
        let mut check = Check::default();
        for index in 0..1000 {
            let root = At::from("fields");
            let deep = (0..40).fold(Vec::new(), |mut all: Vec<&str>, _| {
                all.push(&key);
                all
            });
            nested(&mut check, root.item(index), &deep);
        }
        let status = Status::from(check.end(()).unwrap_err());
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < 8 << 10, "{size}");
    }

    fn nested(check: &mut Check, at: At<'_>, keys: &[&str]) {
        match keys {
            [] => check.wrong(at, "must be a finite number"),
            [key, rest @ ..] => nested(check, at.key(key), rest),
        }
    }
}
