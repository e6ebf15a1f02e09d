//! What a field may hold, and the values that follow from it: a good one, and those at and beyond every edge.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the values are made for their fields by hand")]

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::requests;

/// What a field may hold, as its comment in the contract says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// Text of so many bytes.
    Text(usize, usize),
    /// Text that something around it bounds, and of at least so many bytes.
    Free(usize),
    /// Text of at most so many bytes, without control characters.
    Plain(usize),
    /// A name in a document's path, which may be left empty or not.
    PathName {
        optional: bool,
    },
    /// The name of a document's field or of a reading, of at most so many bytes.
    FieldName(usize),
    /// One of these words.
    Words(&'static [&'static str]),
    /// The id of a trace.
    TraceId,
    /// Bytes, at most so many.
    Blob(usize),
    /// True or false.
    Flag,
    /// Any integer.
    Integer,
    /// A whole number of this range.
    Whole(u64, u64),
    /// A finite number of this range.
    Number(f64, f64),
    /// As many finite numbers as this, not all zero; or none.
    Vector(usize),
    /// One of these values, not all of which may be right here: `(value, the field beside it that is then wrong)`.
    Choice {
        required: bool,
        good: &'static [&'static str],
        elsewhere: &'static [(&'static str, &'static str)],
    },
    /// A time, if any.
    Moment,
    /// A time, required, from 24 hours before the agent clock's now to 15 minutes after it.
    Recent,
    /// The two ends of a span of time; the second is later than the first.
    From,
    Until,
    /// A duration from so many nanoseconds to so many seconds, if any.
    Span(u64, u64),
    /// A message that may be left out, or not.
    Message {
        required: bool,
    },
    /// So many of these.
    List(usize, usize, &'static Holds),
    /// Values, none of which is a list itself.
    Values,
    /// So many messages, told apart by this field of theirs.
    Distinct(usize, usize, &'static str),
    /// So many names with their values, of so many bytes in all.
    Map {
        entries: (usize, usize),
        bytes: usize,
        name: &'static Holds,
        value: &'static Holds,
    },
}

/// What a server must make of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is as good as any.
    Legal,
    /// The value at this path, which begins here, is wrong.
    Wrong(String),
    /// The value of this field beside it is wrong.
    Beside(&'static str),
    /// It is no message.
    Garbled,
}

/// A value to send, and what to make of it.
#[derive(Clone, Debug)]
pub struct Case<T> {
    /// What is special about it, for people.
    pub what: String,
    /// The value.
    pub value: T,
    /// What a server must make of it.
    pub verdict: Verdict,
}

/// Stands for bytes that are no UTF-8, which no string can hold, until they are sent.
pub(super) const NOT_UTF8: &str = "~not~utf8~";

/// No limit of its own: the message's.
pub(super) const ANY: usize = usize::MAX;

/// Seconds of the earliest and the latest time, and of the longest duration.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;
pub(super) const LONGEST: u64 = 315_576_000_000;
const DAY: i64 = 86_400;

/// The agent clock's now.
fn now() -> i64 {
    i64::try_from(crate::START.as_secs()).unwrap()
}

impl Holds {
    /// Returns a value that every service takes.
    pub(super) fn good(&self, field: &FieldDescriptor) -> Value {
        match self {
            Self::Words(words) => text(words[0]),
            Self::TraceId => text("0af7651916cd43dd8448eb211c80319c"),
            Self::Text(..) | Self::Free(_) | Self::Plain(_) | Self::PathName { .. } | Self::FieldName(_) => {
                text("good")
            }
            Self::Blob(_) => Value::Bytes(b"good".to_vec().into()),
            Self::Flag => Value::Bool(true),
            Self::Integer => Value::I64(7),
            Self::Whole(least, _) => whole(field, *least),
            Self::Number(least, most) => {
                number(field, if *least <= 0.5 && *most >= 0.5 { 0.5 } else { *least })
            }
            Self::Vector(size) => vector(&vec![1.0; *size]),
            Self::Choice { good, .. } => choice(field, good[0]),
            Self::Moment | Self::Recent => moment(field, now(), 0),
            Self::From => moment(field, now() - DAY, 0),
            Self::Until => moment(field, now() + DAY, 0),
            Self::Span(..) => moment(field, 60, 0),
            Self::Message { .. } => Value::Message(requests::good(&inner(field))),
            Self::List(_, _, of) => Value::List(vec![of.good(field)]),
            Self::Values => Value::List(vec![Value::Message(requests::good(&inner(field)))]),
            Self::Distinct(..) => Value::List(vec![Value::Message(requests::good(&inner(field)))]),
            Self::Map { value, .. } => Value::Map(HashMap::from([(key("good"), value.good(&entry(field)))])),
        }
    }

    /// Returns the values at the edges and beyond them. `around` are the messages this one is in.
    pub(super) fn cases(&self, field: &FieldDescriptor, around: &[String]) -> Vec<Case<Option<Value>>> {
        match self {
            Self::Text(least, most) => texts(*least, *most),
            Self::Free(least) => texts(*least, ANY),
            Self::Plain(most) => plain(*most),
            Self::PathName { optional } => path_names(*optional),
            Self::FieldName(most) => field_names(*most),
            Self::Words(words) => words_cases(words),
            Self::TraceId => trace_ids(),
            Self::Blob(most) => blobs(*most),
            Self::Flag => vec![legal("false", Value::Bool(false)), legal("true", Value::Bool(true))],
            Self::Integer => [0, -1, i64::MIN, i64::MAX].map(|it| legal(it, Value::I64(it))).into(),
            Self::Whole(least, most) => wholes(field, *least, *most),
            Self::Number(least, most) => numbers(field, *least, *most),
            Self::Vector(size) => vectors(*size),
            Self::Choice { required, good, elsewhere } => choices(field, *required, good, elsewhere),
            Self::Moment => times(field, &[FIRST, LAST, 0, -1], &[], true),
            Self::Recent => recent(field),
            Self::From => times(field, &[FIRST, 0, now() + DAY - 1], &[], true),
            Self::Until => times(field, &[LAST, now() - DAY + 1], &[now() - DAY, now() - 2 * DAY], true),
            Self::Span(least, most) => spans(field, *least, *most),
            Self::Message { required } => messages(field, *required, around),
            Self::List(least, most, of) => lists(of, field, *least, *most, around),
            Self::Values => values(field, around),
            Self::Distinct(least, most, by) => distinct(field, (*least, *most), by, around),
            Self::Map { entries, bytes, name, value } => maps(field, *entries, *bytes, (name, value), around),
        }
    }
}

fn legal(what: impl ToString, value: Value) -> Case<Option<Value>> {
    Case { what: what.to_string(), value: Some(value), verdict: Verdict::Legal }
}

fn wrong(what: impl ToString, value: Value) -> Case<Option<Value>> {
    Case { what: what.to_string(), value: Some(value), verdict: Verdict::Wrong(String::new()) }
}

fn judged(what: impl ToString, value: Value, is_legal: bool) -> Case<Option<Value>> {
    if is_legal { legal(what, value) } else { wrong(what, value) }
}

fn absent(is_legal: bool) -> Case<Option<Value>> {
    let verdict = if is_legal { Verdict::Legal } else { Verdict::Wrong(String::new()) };
    Case { what: "absent".to_owned(), value: None, verdict }
}

/// Texts that have surprised someone, somewhere.
const ODD: [(&str, &str); 8] = [
    ("control characters", "a\0b\r\n\u{1b}[2J\u{7f}"),
    ("slashes", "a/../b"),
    ("two dots", ".."),
    ("reserved", "__name__"),
    ("not normalised", "e\u{301}\u{212b}"),
    ("right to left", "a\u{202e}b\u{feff}"),
    ("beyond the basic plane", "🦀\u{10ffff}"),
    ("markup", "<script>'\"{{${}"),
];

fn texts(least: usize, most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![
        judged("empty", text(""), least == 0),
        Case { what: "not UTF-8".into(), value: Some(text(NOT_UTF8)), verdict: Verdict::Garbled },
    ];
    let fits = |odd: &str| (least..=most).contains(&odd.len());
    cases.extend(ODD.iter().filter(|(_, odd)| fits(odd)).map(|(what, odd)| legal(what, text(odd))));
    if most != ANY {
        cases.push(legal("longest", text(&"x".repeat(most))));
        cases.push(wrong("too long", text(&"x".repeat(most + 1))));
        // Bytes are counted, not characters.
        cases.push(wrong("too long in UTF-8", text(&"é".repeat(most / 2 + 1))));
        cases.push(wrong("absurdly long", text(&"x".repeat((1 << 20).max(2 * most)))));
    }
    cases
}

fn plain(most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(0, most);
    for case in cases.iter_mut().filter(|case| case.what == "control characters") {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases
}

fn path_names(optional: bool) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(usize::from(!optional), 1_500);
    for case in cases.iter_mut().filter(|case| matches!(&*case.what, "slashes" | "two dots" | "reserved")) {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases.push(wrong("one dot", text(".")));
    cases.push(wrong("shortest reserved", text("____")));
    cases.push(legal("almost reserved", text("__name_")));
    cases
}

fn field_names(most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(1, most);
    for case in cases.iter_mut().filter(|case| case.what == "reserved") {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases
}

fn words_cases(words: &'static [&'static str]) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(0, ANY);
    for case in cases.iter_mut().filter(|case| case.verdict == Verdict::Legal) {
        let Some(Value::String(text)) = &case.value else { continue };
        if !words.contains(&text.as_str()) {
            case.verdict = Verdict::Wrong(String::new());
        }
    }
    cases.push(wrong("absurdly long", text(&"x".repeat(1 << 20))));
    cases.extend(words.iter().map(|word| legal(word, text(word))));
    cases
}

fn trace_ids() -> Vec<Case<Option<Value>>> {
    let bad =
        ["", "0af7", &"0".repeat(32), &"f".repeat(33), &"é".repeat(16), &format!("+{}", "1".repeat(31))]
            .map(|id| wrong(format!("{id:?}"), text(id)));
    let mut cases = Vec::from(bad);
    cases.push(legal("in capitals", text("0AF7651916CD43DD8448EB211C80319C")));
    cases.push(Case { what: "not UTF-8".into(), value: Some(text(NOT_UTF8)), verdict: Verdict::Garbled });
    cases.extend(ODD.iter().map(|(what, odd)| wrong(what, text(odd))));
    cases
}

fn blobs(most: usize) -> Vec<Case<Option<Value>>> {
    let blob = |size| Value::Bytes(vec![0xff; size].into());
    // The whole document would be too large with the longest, so that only what is beyond it is tried.
    vec![legal("empty", blob(0)), legal("a thousand", blob(1_000)), wrong("too long", blob(most + 1))]
}

fn wholes(field: &FieldDescriptor, least: u64, most: u64) -> Vec<Case<Option<Value>>> {
    let top = if field.kind() == Kind::Uint32 { u64::from(u32::MAX) } else { u64::MAX };
    let edges = [0, 1, least, least.saturating_sub(1), most, most.saturating_add(1).min(top), top];
    let mut cases = Vec::from(edges.map(|it| judged(it, whole(field, it), (least..=most).contains(&it))));
    if field.field_descriptor_proto().proto3_optional() {
        cases.push(absent(true));
    }
    cases
}

fn numbers(field: &FieldDescriptor, least: f64, most: f64) -> Vec<Case<Option<Value>>> {
    let beyond = [least.next_down(), most.next_up()];
    let edges = [0.0, -0.0, least, most, f64::MIN_POSITIVE, -f64::MIN_POSITIVE, f64::MAX, f64::MIN, 1e300];
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let all = edges.into_iter().chain(beyond).chain(odd);
    let fits = |it: f64| it.is_finite() && (least..=most).contains(&it);
    let mut cases: Vec<_> = all.map(|it| judged(format!("{it:e}"), number(field, it), fits(it))).collect();
    if field.field_descriptor_proto().proto3_optional() {
        cases.push(absent(true));
    }
    cases
}

fn vectors(size: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![legal("no vector", vector(&[]))];
    for wrong_size in [1, size - 1, size + 1, 100_000] {
        cases.push(wrong(format!("{wrong_size} values"), vector(&vec![1.0; wrong_size])));
    }
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0; size];
        values[7] = odd;
        let verdict = Verdict::Wrong("[7]".to_owned());
        cases.push(Case { what: format!("{odd} in it"), value: Some(vector(&values)), verdict });
    }
    // Neither may a length vanish nor a product overflow.
    for odd in [0.0, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN] {
        cases.push(wrong(format!("all {odd:e}"), vector(&vec![odd; size])));
    }
    cases
}

fn choices(
    field: &FieldDescriptor,
    required: bool,
    good: &[&'static str],
    elsewhere: &[(&'static str, &'static str)],
) -> Vec<Case<Option<Value>>> {
    let mut cases: Vec<_> = good.iter().map(|name| legal(name, choice(field, name))).collect();
    cases.push(judged("0", Value::EnumNumber(0), !required));
    cases.extend([99, -1, i32::MAX, i32::MIN].map(|it| wrong(it, Value::EnumNumber(it))));
    for (name, beside) in elsewhere {
        let verdict = Verdict::Beside(beside);
        cases.push(Case { what: (*name).to_owned(), value: Some(choice(field, name)), verdict });
    }
    cases
}

fn times(field: &FieldDescriptor, good: &[i64], bad: &[i64], optional: bool) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![absent(optional)];
    cases.extend(good.iter().map(|it| legal(format!("{it} s"), moment(field, *it, 0))));
    let outside = [FIRST - 1, LAST + 1];
    cases.extend(bad.iter().chain(&outside).map(|it| wrong(format!("{it} s"), moment(field, *it, 0))));
    let both = [(i64::MAX, i32::MAX), (i64::MAX, 1), (i64::MIN, i32::MIN), (i64::MIN, 0)];
    cases.extend(both.map(|(s, ns)| wrong(format!("{s} s {ns} ns"), moment(field, s, ns))));
    let nanos = [-1, 1_000_000_000, i32::MIN, i32::MAX];
    cases.extend(nanos.map(|it| wrong(format!("{it} ns"), moment(field, now(), it))));
    cases
}

fn recent(field: &FieldDescriptor) -> Vec<Case<Option<Value>>> {
    let good = [now(), now() - DAY, now() + 900];
    times(field, &good, &[FIRST, LAST, 0, now() - DAY - 1, now() + 901], false)
}

fn spans(field: &FieldDescriptor, least: u64, most: u64) -> Vec<Case<Option<Value>>> {
    let span = |seconds: i64, nanos: i32| moment(field, seconds, nanos);
    let (most_seconds, least_nanos) = (i64::try_from(most).unwrap(), i64::try_from(least).unwrap());
    let (seconds, nanos) = (least_nanos / 1_000_000_000, least_nanos % 1_000_000_000);
    let mut cases = vec![
        absent(true),
        legal("shortest", span(seconds, i32::try_from(nanos).unwrap())),
        legal("longest", span(most_seconds, 0)),
        judged("zero", span(0, 0), least == 0),
    ];
    cases.extend([-1, most_seconds + 1, i64::MIN, i64::MAX].map(|it| wrong(format!("{it} s"), span(it, 0))));
    cases.extend([-1, 1_000_000_000, i32::MIN].map(|it| wrong(format!("{it} ns"), span(1, it))));
    cases.extend([i64::MIN, i64::MAX].map(|it| wrong(format!("{it} s 1 ns"), span(it, 1))));
    cases
}

fn messages(field: &FieldDescriptor, required: bool, around: &[String]) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![absent(!required)];
    cases.extend(nested(&inner(field), around));
    cases
}

/// The cases of a message within another one: its wrong fields are below it.
fn nested(
    message: &prost_reflect::MessageDescriptor,
    around: &[String],
) -> impl Iterator<Item = Case<Option<Value>>> {
    requests::cases(message, around).into_iter().map(|case| Case {
        what: case.what,
        value: Some(Value::Message(case.value)),
        verdict: match case.verdict {
            Verdict::Wrong(below) if below.is_empty() => Verdict::Wrong(below),
            Verdict::Wrong(below) => Verdict::Wrong(format!(".{below}")),
            other => other,
        },
    })
}

fn lists(
    of: &Holds,
    field: &FieldDescriptor,
    least: usize,
    most: usize,
    around: &[String],
) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![judged("none", Value::List(Vec::new()), least == 0)];
    let many = |count: usize| Value::List(vec![of.good(field); count]);
    if most != ANY {
        cases.push(legal(format!("{most} of them"), many(most)));
        cases.push(wrong(format!("{} of them", most + 1), many(most + 1)));
    }
    cases.extend(elements(of.cases(field, around), of.good(field)));
    cases
}

fn values(field: &FieldDescriptor, around: &[String]) -> Vec<Case<Option<Value>>> {
    let mut cases = lists(&Holds::Message { required: true }, field, 0, ANY, around);
    for case in cases.iter_mut().filter(|case| case.verdict != Verdict::Garbled) {
        let Some(Value::List(list)) = &case.value else { continue };
        let last = list.last().and_then(Value::as_message);
        if last.is_some_and(|last| last.has_field_by_name("array_value")) {
            case.verdict = Verdict::Wrong("[1]".to_owned());
        }
    }
    cases
}

/// Puts each case behind a good element.
fn elements(cases: Vec<Case<Option<Value>>>, good: Value) -> impl Iterator<Item = Case<Option<Value>>> {
    cases.into_iter().filter_map(move |case| {
        let list = Value::List(vec![good.clone(), case.value?]);
        let verdict = match case.verdict {
            Verdict::Wrong(below) => Verdict::Wrong(format!("[1]{below}")),
            other => other,
        };
        Some(Case { what: format!("[1] {}", case.what), value: Some(list), verdict })
    })
}

fn distinct(
    field: &FieldDescriptor,
    (least, most): (usize, usize),
    by: &str,
    around: &[String],
) -> Vec<Case<Option<Value>>> {
    let other = |name: String| {
        let mut message = requests::good(&inner(field));
        message.set_field_by_name(by, Value::String(name));
        Value::Message(message)
    };
    let many = |count: usize| Value::List((0..count).map(|place| other(place.to_string())).collect());
    let twice = Value::List(vec![other("same".into()), other("same".into())]);
    let mut cases = vec![
        judged("none", Value::List(Vec::new()), least == 0),
        legal(format!("{most} of them"), many(most)),
        wrong(format!("{} of them", most + 1), many(most + 1)),
        Case {
            what: format!("the same {by}"),
            value: Some(twice),
            verdict: Verdict::Wrong(format!("[1].{by}")),
        },
    ];
    cases.extend(elements(nested(&inner(field), around).collect(), other("first".to_owned())));
    cases
}

fn maps(
    field: &FieldDescriptor,
    (least, most): (usize, usize),
    bytes: usize,
    (name, value): (&Holds, &Holds),
    around: &[String],
) -> Vec<Case<Option<Value>>> {
    let held = entry(field);
    let many = |count: usize| {
        let entry = |place: usize| (key(&format!("k{place}")), value.good(&held));
        Value::Map((0..count).map(entry).collect())
    };
    let mut cases = vec![judged("none", many(0), least == 0)];
    if most != ANY {
        cases.push(legal(format!("{most} entries"), many(most)));
        cases.push(wrong(format!("{} entries", most + 1), many(most + 1)));
    }
    if bytes != ANY {
        let long = |name: &str| (key(name), long_text(&held, bytes * 3 / 5));
        cases.push(wrong("too many bytes", Value::Map([long("a"), long("b")].into())));
        cases.push(legal("many bytes", Value::Map([long("a")].into())));
    }
    // The name stands in the entry's path, not below it.
    for case in name.cases(&held, &[]) {
        let Some(Value::String(text)) = case.value else { continue };
        let path = rpc::At::from("").key(&text).to_string();
        let verdict = match case.verdict {
            Verdict::Wrong(_) => Verdict::Wrong(path),
            other => other,
        };
        let map = Value::Map([(MapKey::String(text), value.good(&held))].into());
        cases.push(Case { what: format!("name {}", case.what), value: Some(map), verdict });
    }
    for case in value.cases(&held, around) {
        let Some(value) = case.value else { continue };
        let verdict = match case.verdict {
            Verdict::Wrong(below) => Verdict::Wrong(format!("[\"k\"]{below}")),
            other => other,
        };
        let map = Value::Map([(key("k"), value)].into());
        cases.push(Case { what: format!("value {}", case.what), value: Some(map), verdict });
    }
    cases
}

fn long_text(field: &FieldDescriptor, bytes: usize) -> Value {
    let long = Value::String("x".repeat(bytes));
    let Kind::Message(message) = field.kind() else { return long };
    let mut value = DynamicMessage::new(message);
    value.set_field_by_name("string_value", long);
    Value::Message(value)
}

fn inner(field: &FieldDescriptor) -> prost_reflect::MessageDescriptor {
    field.kind().as_message().unwrap().clone()
}

fn entry(field: &FieldDescriptor) -> FieldDescriptor {
    inner(field).map_entry_value_field()
}

fn key(name: &str) -> MapKey {
    MapKey::String(name.to_owned())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn whole(field: &FieldDescriptor, number: u64) -> Value {
    match field.kind() {
        Kind::Uint32 => Value::U32(u32::try_from(number).unwrap_or(u32::MAX)),
        _ => Value::U64(number),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the values are made for the field")]
fn number(field: &FieldDescriptor, number: f64) -> Value {
    if field.kind() == Kind::Float { Value::F32(number as f32) } else { Value::F64(number) }
}

fn vector(values: &[f32]) -> Value {
    Value::List(values.iter().map(|value| Value::F32(*value)).collect())
}

fn choice(field: &FieldDescriptor, name: &str) -> Value {
    let value = field.kind().as_enum().unwrap().get_value_by_name(name);
    Value::EnumNumber(value.unwrap_or_else(|| panic!("{} has no {name}", field.full_name())).number())
}

fn moment(field: &FieldDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut moment = DynamicMessage::new(inner(field));
    moment.set_field_by_name("seconds", Value::I64(seconds));
    moment.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(moment)
}
