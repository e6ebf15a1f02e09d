//! What a field may hold, and the values that follow from it: a good one, and those at and beyond every edge.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::{edges::*, requests};

/// Messages that stood for themselves so far.
static MADE: AtomicU64 = AtomicU64::new(0);

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
    /// The path of a document's field, its names in backquotes if they are no identifiers.
    FieldPath,
    /// An integer or a double, among values of every kind.
    Operand,
    /// Text of so many bytes that stands for this message and no other.
    Once(usize),
    /// So many letters, digits, `_` and `-` at most.
    Name(usize),
    /// The JSON text of an object, of so many bytes.
    Json(usize, usize),
    /// Nothing: it belongs to messages of another kind.
    Nothing,
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

impl Holds {
    /// Returns a value that every service takes.
    pub(super) fn good(&self, field: &FieldDescriptor) -> Value {
        match self {
            Self::Words(words) => text(words[0]),
            Self::TraceId => text("0af7651916cd43dd8448eb211c80319c"),
            Self::Json(..) => text("{}"),
            Self::Nothing => field.default_value(),
            Self::Text(..)
            | Self::Free(_)
            | Self::Name(_)
            | Self::Plain(_)
            | Self::PathName { .. }
            | Self::FieldName(_)
            | Self::FieldPath => text("good"),
            Self::Once(_) => text(&format!("good {}", MADE.fetch_add(1, Ordering::Relaxed))),
            Self::Operand => Value::Message(operand(field)),
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
            Self::FieldPath => field_paths(),
            Self::Operand => operands(field, around),
            Self::Once(most) => texts(1, *most),
            Self::Name(most) => names(*most),
            Self::Json(least, most) => objects(*least, *most),
            Self::Nothing => vec![absent(true), wrong("given", given(field))],
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

/// Returns a value that is not nothing.
fn given(field: &FieldDescriptor) -> Value {
    if field.is_list() {
        Value::List(vec![Value::Message(DynamicMessage::new(inner(field)))])
    } else {
        text("given")
    }
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

fn operand(field: &FieldDescriptor) -> DynamicMessage {
    let mut operand = DynamicMessage::new(inner(field));
    operand.set_field_by_name("integer_value", Value::I64(7));
    operand
}

/// Values as they are wrong by themselves, and wrong as well if they are no numbers.
fn operands(field: &FieldDescriptor, around: &[String]) -> Vec<Case<Option<Value>>> {
    let is_number = |value: &DynamicMessage| {
        ["integer_value", "double_value"].iter().any(|name| value.has_field_by_name(name))
    };
    let mut cases: Vec<_> = nested(&inner(field), around).collect();
    for case in cases.iter_mut().filter(|case| case.verdict == Verdict::Legal) {
        if !case.value.as_ref().and_then(Value::as_message).is_some_and(is_number) {
            case.verdict = Verdict::Wrong(String::new());
        }
    }
    cases
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

fn entry(field: &FieldDescriptor) -> FieldDescriptor {
    inner(field).map_entry_value_field()
}

fn key(name: &str) -> MapKey {
    MapKey::String(name.to_owned())
}
