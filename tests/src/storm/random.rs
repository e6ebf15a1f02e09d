//! Random messages of a given shape, with values that have surprised someone.

use std::collections::HashMap;

use prost_reflect::{Cardinality, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Deepest nesting of random messages.
const DEPTH: usize = 6;
/// Most elements of a list.
const ELEMENTS: usize = 4;

const NUMBERS: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e-320,
    1e300,
    f64::MAX,
    f64::MIN,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];
const WHOLES: [i64; 12] =
    [0, 1, -1, 2, 100, 1_000, 1_001, 1_752_883_200, i64::MAX, i64::MIN, i32::MAX as i64, 253_402_300_800];
/// Ids are few, so that a storm does not fill the stores with what nobody asks for.
const TEXTS: [&str; 24] = [
    "",
    "good",
    "pool",
    "gas",
    "a",
    "WETH-USDC",
    "builtin/statistics",
    "openai/",
    "default",
    "__x__",
    "..",
    "a/b",
    "\0",
    "e\u{301}",
    "🦀",
    "mean of 1 2 3",
    "1e309 NaN -inf 0x7f 1,2,3",
    "0af7651916cd43dd8448eb211c80319c",
    "gas_price",
    "apr",
    "avg_gas",
    "{\"a\":{\"b\":[1,{\"c\":null}]}}",
    "a > 1 || (b && !c)",
    "%s%n{}{{${jndi:x}}",
];

/// Makes a random message.
pub(super) fn message(rng: &mut StdRng, of: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut made = DynamicMessage::new(of.clone());
    for field in of.fields().filter(|_| rng.random_bool(0.7)).collect::<Vec<_>>() {
        if field.is_map() {
            let held = field.kind().as_message().map(MessageDescriptor::map_entry_value_field);
            let entries = (0..rng.random_range(0..ELEMENTS)).filter_map(|_| {
                let value = value(rng, held.as_ref()?, depth + 1)?;
                Some((MapKey::String(text(rng)), value))
            });
            let map: HashMap<_, _> = entries.collect();
            let _ = made.try_set_field(&field, Value::Map(map));
        } else if field.cardinality() == Cardinality::Repeated {
            let count = rng.random_range(0..ELEMENTS);
            let list = (0..count).filter_map(|_| value(rng, &field, depth + 1)).collect();
            let _ = made.try_set_field(&field, Value::List(list));
        } else if let Some(value) = value(rng, &field, depth + 1) {
            let _ = made.try_set_field(&field, value);
        }
    }
    made
}

fn value(rng: &mut StdRng, field: &FieldDescriptor, depth: usize) -> Option<Value> {
    let number = *NUMBERS.choose(rng)?;
    let whole = *WHOLES.choose(rng)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any number will do, a cut one as well"
    )]
    Some(match field.kind() {
        Kind::Bool => Value::Bool(rng.random()),
        Kind::Float => Value::F32(number as f32),
        Kind::Double => Value::F64(if rng.random() { number } else { rng.random() }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(whole as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(whole),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(whole as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(whole as u64),
        Kind::String => Value::String(text(rng)),
        Kind::Bytes => Value::Bytes(super::mutation::noise(rng).into()),
        Kind::Enum(_) => Value::EnumNumber(rng.random_range(-1..6)),
        Kind::Message(_) if depth > DEPTH => return None,
        Kind::Message(of) => Value::Message(message(rng, &of, depth)),
    })
}

/// Makes a text; some are nested as deep as the reader of whatever is in it may dislike.
fn text(rng: &mut StdRng) -> String {
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
    match rng.random_range(0..100) {
        0 => deep("[", "]", rng.random_range(0..10_000)),
        1 => deep("{\"a\":", "}", rng.random_range(0..5_000)),
        2 => deep("(", ")", rng.random_range(0..10_000)),
        3 => "1 + ".repeat(rng.random_range(0..5_000)) + "1",
        4 => "9".repeat(rng.random_range(0..2_000)),
        _ => TEXTS.choose(rng).copied().unwrap_or_default().to_owned(),
    }
}
