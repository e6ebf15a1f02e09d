//! The values at the edges of what a field may hold, and beyond them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the values are made for their fields by hand")]

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};

use super::holds::{Case, Verdict};

/// Stands for bytes that are no UTF-8, which no string can hold, until they are sent.
pub(super) const NOT_UTF8: &str = "~not~utf8~";

/// No limit of its own: the message's.
pub(super) const ANY: usize = usize::MAX;

/// Seconds of the earliest and the latest time, of the longest duration, and of a day.
pub(super) const FIRST: i64 = -62_135_596_800;
pub(super) const LAST: i64 = 253_402_300_799;
pub(super) const LONGEST: u64 = 315_576_000_000;
pub(super) const DAY: i64 = 86_400;

/// The agent clock's now.
pub(super) fn now() -> i64 {
    i64::try_from(crate::START.as_secs()).unwrap()
}

pub(super) fn legal(what: impl ToString, value: Value) -> Case<Option<Value>> {
    Case { what: what.to_string(), value: Some(value), verdict: Verdict::Legal }
}

pub(super) fn wrong(what: impl ToString, value: Value) -> Case<Option<Value>> {
    Case { what: what.to_string(), value: Some(value), verdict: Verdict::Wrong(String::new()) }
}

pub(super) fn judged(what: impl ToString, value: Value, is_legal: bool) -> Case<Option<Value>> {
    if is_legal { legal(what, value) } else { wrong(what, value) }
}

pub(super) fn absent(is_legal: bool) -> Case<Option<Value>> {
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

pub(super) fn texts(least: usize, most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = vec![
        judged("empty", text(""), least == 0),
        Case { what: "not UTF-8".into(), value: Some(text(NOT_UTF8)), verdict: Verdict::Garbled },
    ];
    let fits = |odd: &str| (least..=most).contains(&odd.len());
    cases.extend(ODD.iter().filter(|(_, odd)| fits(odd)).map(|(what, odd)| legal(what, text(odd))));
    if most != ANY {
        // The whole message would be too large with the longest of all and what waits beside it.
        cases.push(legal("longest", text(&"x".repeat(most.min(1 << 18)))));
        cases.push(wrong("too long", text(&"x".repeat(most + 1))));
        // Bytes are counted, not characters.
        cases.push(wrong("too long in UTF-8", text(&"é".repeat(most / 2 + 1))));
        cases.push(wrong("absurdly long", text(&"x".repeat((1 << 20).max(2 * most)))));
    }
    cases
}

pub(super) fn plain(most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(0, most);
    for case in cases.iter_mut().filter(|case| case.what == "control characters") {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases
}

pub(super) fn path_names(optional: bool) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(usize::from(!optional), 1_500);
    for case in cases.iter_mut().filter(|case| matches!(&*case.what, "slashes" | "two dots" | "reserved")) {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases.push(wrong("one dot", text(".")));
    cases.push(wrong("shortest reserved", text("____")));
    cases.push(legal("almost reserved", text("__name_")));
    cases
}

pub(super) fn field_names(most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(1, most);
    for case in cases.iter_mut().filter(|case| case.what == "reserved") {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases
}

/// Paths of fields.
pub(super) fn field_paths() -> Vec<Case<Option<Value>>> {
    let deep = |names: usize| text(&vec!["a"; names].join("."));
    let good = ["a._b", "`0x12ab`.`a.b`.`a-b`", "`\\``", "`é`"].map(|path| legal(path, text(path)));
    let bad =
        ["", ".", "a..b", "0x12ab", "a-b", "é", "`a", "``", "a.__b__"].map(|path| wrong(path, text(path)));
    let sizes = [
        legal("21 names", deep(21)),
        wrong("22 names", deep(22)),
        legal("longest", text(&"x".repeat(1_500))),
        wrong("too long", text(&"x".repeat(1_501))),
        Case { what: "not UTF-8".into(), value: Some(text(NOT_UTF8)), verdict: Verdict::Garbled },
    ];
    good.into_iter().chain(bad).chain(sizes).collect()
}

/// Names of letters, digits, `_` and `-`.
pub(super) fn names(most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(1, most);
    for case in cases.iter_mut().filter(|case| ODD.iter().any(|(what, _)| case.what == *what)) {
        if case.what != "reserved" {
            case.verdict = Verdict::Wrong(String::new());
        }
    }
    cases
}

/// Texts of JSON objects.
pub(super) fn objects(least: usize, most: usize) -> Vec<Case<Option<Value>>> {
    let mut cases = texts(least, most);
    for case in cases.iter_mut().filter(|case| case.what != "empty" && case.verdict == Verdict::Legal) {
        case.verdict = Verdict::Wrong(String::new());
    }
    cases.extend(
        ["[]", "{", "7", "null", "{}{}", &"[".repeat(most)]
            .map(|odd| wrong(odd.get(..8).unwrap_or(odd), text(odd))),
    );
    cases.extend([" {} ", r#"{"good": {"b": [1e9], "a": null}}"#].map(|good| legal(good, text(good))));
    cases
}

pub(super) fn words_cases(words: &'static [&'static str]) -> Vec<Case<Option<Value>>> {
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

pub(super) fn trace_ids() -> Vec<Case<Option<Value>>> {
    let bad =
        ["", "0af7", &"0".repeat(32), &"f".repeat(33), &"é".repeat(16), &format!("+{}", "1".repeat(31))]
            .map(|id| wrong(format!("{id:?}"), text(id)));
    let mut cases = Vec::from(bad);
    cases.push(legal("in capitals", text("0AF7651916CD43DD8448EB211C80319C")));
    cases.push(Case { what: "not UTF-8".into(), value: Some(text(NOT_UTF8)), verdict: Verdict::Garbled });
    cases.extend(ODD.iter().map(|(what, odd)| wrong(what, text(odd))));
    cases
}

pub(super) fn blobs(most: usize) -> Vec<Case<Option<Value>>> {
    let blob = |size| Value::Bytes(vec![0xff; size].into());
    // The whole document would be too large with the longest, so that only what is beyond it is tried.
    vec![legal("empty", blob(0)), legal("a thousand", blob(1_000)), wrong("too long", blob(most + 1))]
}

pub(super) fn wholes(field: &FieldDescriptor, least: u64, most: u64) -> Vec<Case<Option<Value>>> {
    let top = if field.kind() == Kind::Uint32 { u64::from(u32::MAX) } else { u64::MAX };
    let edges = [0, 1, least, least.saturating_sub(1), most, most.saturating_add(1).min(top), top];
    let mut cases = Vec::from(edges.map(|it| judged(it, whole(field, it), (least..=most).contains(&it))));
    if field.field_descriptor_proto().proto3_optional() {
        cases.push(absent(true));
    }
    cases
}

pub(super) fn numbers(field: &FieldDescriptor, least: f64, most: f64) -> Vec<Case<Option<Value>>> {
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

pub(super) fn vectors(size: usize) -> Vec<Case<Option<Value>>> {
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

pub(super) fn choices(
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

pub(super) fn times(
    field: &FieldDescriptor,
    good: &[i64],
    bad: &[i64],
    optional: bool,
) -> Vec<Case<Option<Value>>> {
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

pub(super) fn recent(field: &FieldDescriptor) -> Vec<Case<Option<Value>>> {
    let good = [now(), now() - DAY, now() + 900];
    times(field, &good, &[FIRST, LAST, 0, now() - DAY - 1, now() + 901], false)
}

pub(super) fn spans(field: &FieldDescriptor, least: u64, most: u64) -> Vec<Case<Option<Value>>> {
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

pub(super) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(super) fn whole(field: &FieldDescriptor, number: u64) -> Value {
    match field.kind() {
        Kind::Uint32 => Value::U32(u32::try_from(number).unwrap_or(u32::MAX)),
        _ => Value::U64(number),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the values are made for the field")]
pub(super) fn number(field: &FieldDescriptor, number: f64) -> Value {
    if field.kind() == Kind::Float { Value::F32(number as f32) } else { Value::F64(number) }
}

pub(super) fn vector(values: &[f32]) -> Value {
    Value::List(values.iter().map(|value| Value::F32(*value)).collect())
}

pub(super) fn choice(field: &FieldDescriptor, name: &str) -> Value {
    let value = field.kind().as_enum().unwrap().get_value_by_name(name);
    Value::EnumNumber(value.unwrap_or_else(|| panic!("{} has no {name}", field.full_name())).number())
}

pub(super) fn moment(field: &FieldDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut moment = DynamicMessage::new(inner(field));
    moment.set_field_by_name("seconds", Value::I64(seconds));
    moment.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(moment)
}

pub(super) fn inner(field: &FieldDescriptor) -> prost_reflect::MessageDescriptor {
    field.kind().as_message().unwrap().clone()
}
