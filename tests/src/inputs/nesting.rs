//! Values in values, as deep as they may be and deeper.

use std::collections::HashMap;

use contracts::storage::{
    ArrayValue, DocumentWrite, MapValue, Value, WriteBatchRequest, WriteMode, WriteRequest,
    WriteStreamRequest, value::Kind,
};
use prost::Message as _;

use super::holds::{Case, Verdict};

/// The rpcs that take values in values.
pub const RPCS: [&str; 3] = [WRITE, BATCH, STREAM];

const WRITE: &str = "athena.storage.v1.StorageBatcherService.Write";
const BATCH: &str = "athena.storage.v1.StorageBatcherService.WriteBatch";
const STREAM: &str = "athena.storage.v1.StorageBatcherService.WriteStream";

/// Returns the cases of one rpc.
pub(super) fn cases(rpc: &str) -> Vec<Case<Vec<u8>>> {
    if !RPCS.contains(&rpc) {
        return Vec::new();
    }
    let (at, request): (_, fn(DocumentWrite) -> Vec<u8>) = match rpc {
        WRITE => ("write", |write| WriteRequest { write: Some(write), ..Default::default() }.encode_to_vec()),
        STREAM => ("write", |write| {
            WriteStreamRequest { number: 1, write: Some(write), ..Default::default() }.encode_to_vec()
        }),
        _ => ("writes[0]", |write| {
            WriteBatchRequest { writes: vec![write], ..Default::default() }.encode_to_vec()
        }),
    };
    // Of a path this deep only the beginning is told.
    let deepest = format!("{at}.fields[\"x\"]{}", ".map_value.fields[\"x\"]".repeat(20));
    let deepest = format!("{}…", &deepest[..256]);
    let listed = |value| Kind::ArrayValue(ArrayValue { values: vec![value] });
    let mapped = |value| Kind::MapValue(MapValue { fields: HashMap::from([("x".to_owned(), value)]) });
    // What is read back nests as deep as what is written: a list counts as well, and prost reads 100 levels of messages.
    let all = [
        ("20 maps deep", nested(20, mapped), Verdict::Legal),
        ("21 maps deep", nested(21, mapped), Verdict::Wrong(deepest)),
        (
            "a list in a list",
            nested(2, listed),
            Verdict::Wrong(format!("{at}.fields[\"x\"].array_value.values[0]")),
        ),
        ("1,000 maps deep", nested(1_000, mapped), Verdict::Garbled),
        ("1,000 lists deep", nested(1_000, listed), Verdict::Garbled),
    ];
    let made = |(what, value, verdict): (&str, Value, Verdict)| {
        let value = request(DocumentWrite {
            collection: "deep".to_owned(),
            document_id: "deep".to_owned(),
            mode: WriteMode::Set.into(),
            fields: HashMap::from([("x".to_owned(), value)]),
            ..DocumentWrite::default()
        });
        Case { what: what.to_owned(), value, verdict }
    };
    let mut cases = Vec::from(all.map(made));
    let delete = DocumentWrite {
        collection: "deep".to_owned(),
        document_id: "deep".to_owned(),
        mode: WriteMode::Delete.into(),
        ..DocumentWrite::default()
    };
    cases.push(Case { what: "a delete".to_owned(), value: request(delete), verdict: Verdict::Legal });
    cases
}

fn nested(depth: usize, around: impl Fn(Value) -> Kind) -> Value {
    let innermost = Value { kind: Some(Kind::BooleanValue(true)) };
    (0..depth).fold(innermost, |inner, _| Value { kind: Some(around(inner)) })
}
