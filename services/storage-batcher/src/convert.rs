//! Wire ⇄ domain, naming the field that is wrong.

mod answer;
mod change;
mod sample;
mod stream;
mod value;

use std::sync::Arc;

use contracts::storage as wire;
use prost::Message as _;
use rpc::{At, Caller, Check, Fault};

use self::change::Given;
pub(crate) use self::{
    answer::{bucket, costs, document, flushed, letters, listed, planned, status},
    sample::{bucket_query, samples},
    stream::{accepted, credit, ended, out_of_order, refused, streamed},
};
use crate::{
    document::{Key, MAX_DOCUMENT_BYTES, Priority},
    error::{self, Error},
    sink::{LEDGER_COLLECTION, Range},
    write::{Level, NewWrite},
};

/// Most writes in one request.
const MAX_WRITES: usize = 500;

/// Longest collection, id or field name, in bytes.
const MAX_NAME: usize = 1_500;

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 256;

/// The modes a write may have.
const MODES: &str = "WRITE_MODE_SET, WRITE_MODE_MERGE or WRITE_MODE_DELETE";

/// Documents of a page if the caller does not say.
const DEFAULT_PAGE: u32 = 100;

/// Most documents of a page.
const MAX_PAGE: u32 = 1_000;

/// Checks one write, and when it is acknowledged.
pub(crate) fn write(caller: &Caller, request: wire::WriteRequest) -> Result<(NewWrite, Level), Fault> {
    let write = request.write.ok_or_else(|| Fault::invalid("write", "must be given"))?;
    let mut check = Check::default();
    let level = level(&mut check, request.level);
    let mut write = document_write(&mut check, At::from("write"), caller, write);
    write.priority = write.priority.max(level.priority());
    check.end((write, level))
}

/// Checks the writes of a batch, and when they are acknowledged.
pub(crate) fn writes(
    caller: &Caller,
    request: wire::WriteBatchRequest,
) -> Result<(Vec<NewWrite>, Level), Fault> {
    let mut check = Check::default();
    let level = level(&mut check, request.level);
    let at = At::from("writes");
    if !check.items(at, request.writes.len(), 1..=MAX_WRITES) {
        return check.end((Vec::new(), level));
    }
    let checked = |(index, write)| {
        let mut write = document_write(&mut check, at.item(index), caller, write);
        write.priority = write.priority.max(level.priority());
        write
    };
    let writes = request.writes.into_iter().enumerate().map(checked).collect();
    check.end((writes, level))
}

fn level(check: &mut Check, level: i32) -> Level {
    match check.known("level", level) {
        Some(wire::WriteLevel::Stored) => Level::Stored,
        _ => Level::Durable,
    }
}

/// Checks which dead letters are asked for: those after which, and how many.
pub(crate) fn letter_page(request: &wire::ListDeadLettersRequest) -> Result<(u64, usize), Fault> {
    let mut check = Check::default();
    let limit = check.limit("page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
    check.end((request.after_sequence, limit))
}

/// Checks which dead letters are meant.
pub(crate) fn sequences(sequences: Vec<u64>) -> Result<Vec<u64>, Fault> {
    let mut check = Check::default();
    check.items("sequences", sequences.len(), 1..=MAX_WRITES);
    check.end(sequences)
}

/// Checks which document is asked for.
pub(crate) fn key(tenant: &Arc<str>, request: wire::GetRequest) -> Result<Key, Fault> {
    let mut check = Check::default();
    path_name(&mut check, "collection", &request.collection);
    path_name(&mut check, "document_id", &request.document_id);
    check.end(Key {
        tenant: Arc::clone(tenant),
        collection: request.collection.into(),
        id: request.document_id.into(),
    })
}

/// Checks which documents are asked for.
pub(crate) fn range(tenant: &Arc<str>, request: &wire::ListRequest) -> Result<Range, Fault> {
    let mut check = Check::default();
    path_name(&mut check, "collection", &request.collection);
    let limit = check.limit("page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
    if !request.page_token.is_empty() {
        path_name(&mut check, "page_token", &request.page_token);
    }
    check.end(Range {
        tenant: Arc::clone(tenant),
        collection: request.collection.as_str().into(),
        after: request.page_token.clone(),
        before: None,
        limit,
        only: Vec::new(),
    })
}

/// Checks a name that stands in a document's path.
fn path_name<'a>(check: &mut Check, at: impl Into<At<'a>>, name: &str) {
    let at = at.into();
    check.text(at, name, 1..=MAX_NAME);
    check.require(at, !name.contains('/'), "must not contain /");
    check.require(at, !matches!(name, "." | ".."), "must not be . or ..");
    unreserved(check, at, name);
}

/// Checks the name of a field or a reading, which is a map's key, of 1 to `most` bytes.
fn field_name(check: &mut Check, at: At<'_>, name: &str, most: usize) {
    check.require(
        at,
        (1..=most).contains(&name.len()),
        format_args!("must have a name of 1 to {most} bytes"),
    );
    unreserved(check, at, name);
}

/// Checks that Firestore does not keep a name for itself.
fn unreserved(check: &mut Check, at: At<'_>, name: &str) {
    let is_reserved = name.len() >= 4 && name.starts_with("__") && name.ends_with("__");
    check.require(at, !is_reserved, "must not have a name of the form __x__, which is reserved");
}

/// Says what went wrong with a request of one write.
pub(crate) fn fault_of_one(error: Error) -> Fault {
    match error {
        Error::TooLarge { .. } => error::too_large("write.fields"),
        Error::KeyReused { .. } => error::key_reused("write.idempotency_key"),
        other => other.into(),
    }
}

fn document_write(
    check: &mut Check,
    at: At<'_>,
    caller: &Caller,
    mut write: wire::DocumentWrite,
) -> NewWrite {
    path_name(check, at.field("collection"), &write.collection);
    let is_kept = write.collection == LEDGER_COLLECTION;
    check.require(
        at.field("collection"),
        !is_kept,
        "must not be _batches, which the service keeps for itself",
    );
    path_name(check, at.field("document_id"), &write.document_id);
    let mode = check.one_of(at.field("mode"), write.mode, MODES);
    let priority = check.known(at.field("priority"), write.priority);
    let encoded = write.encoded_len();
    let fields = std::mem::take(&mut write.fields);
    let fits = encoded - write.encoded_len() <= MAX_DOCUMENT_BYTES;
    check.require(at.field("fields"), fits, "must be at most 1 MiB encoded");
    let key = idempotency_key(check, at, &write);
    let given = Given { mode, fields, mask: write.update_mask, transforms: write.update_transforms };
    let change = given.check(check, at);
    let priority = if priority == Some(wire::Priority::High) { Priority::High } else { Priority::Normal };
    let document = Key {
        tenant: Arc::clone(&caller.tenant),
        collection: write.collection.into(),
        id: write.document_id.into(),
    };
    NewWrite { key: document, change, priority, idempotency_key: key, caller: Arc::clone(&caller.name) }
}

/// Checks the key by which a write is known again, without which a write with transforms could be applied twice.
fn idempotency_key(check: &mut Check, at: At<'_>, write: &wire::DocumentWrite) -> Option<Arc<str>> {
    let (at, key) = (at.field("idempotency_key"), &write.idempotency_key);
    check.text(at, key, 0..=MAX_KEY);
    let is_needed = !write.update_transforms.is_empty();
    check.require(at, !is_needed || !key.is_empty(), "must be given for a write with transforms");
    (!key.is_empty()).then(|| key.as_str().into())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use contracts::storage::{self as wire, value::Kind};

    use rpc::{Caller, Fault, Role};

    use super::range;
    use crate::write::{Level, NewWrite};

    fn tenant() -> Arc<str> {
        caller().tenant
    }

    fn caller() -> Caller {
        Caller::new("default", Role::Agent).named("night")
    }

    fn good() -> wire::DocumentWrite {
        wire::DocumentWrite {
            collection: "pools".to_owned(),
            document_id: "0x1".to_owned(),
            mode: wire::WriteMode::Merge.into(),
            fields: HashMap::from([("apr".to_owned(), number(1.0))]),
            priority: wire::Priority::Unspecified.into(),
            ..wire::DocumentWrite::default()
        }
    }

    fn one(write: wire::DocumentWrite) -> Result<NewWrite, Fault> {
        let request = wire::WriteRequest { write: Some(write), ..Default::default() };
        super::write(&caller(), request).map(|(write, _)| write)
    }

    fn many(writes: Vec<wire::DocumentWrite>) -> Result<Vec<NewWrite>, Fault> {
        let request = wire::WriteBatchRequest { writes, ..Default::default() };
        super::writes(&caller(), request).map(|(writes, _)| writes)
    }

    fn number(number: f64) -> wire::Value {
        wire::Value { kind: Some(Kind::DoubleValue(number)) }
    }

    fn array(values: Vec<wire::Value>) -> wire::Value {
        wire::Value { kind: Some(Kind::ArrayValue(wire::ArrayValue { values })) }
    }

    fn map(name: &str, value: wire::Value) -> wire::Value {
        let fields = HashMap::from([(name.to_owned(), value)]);
        wire::Value { kind: Some(Kind::MapValue(wire::MapValue { fields })) }
    }

    fn wrong_field(change: impl FnOnce(&mut wire::DocumentWrite)) -> String {
        let mut changed = good();
        change(&mut changed);
        let fault = one(changed).expect_err("must be refused");
        fault.violations()[0].field.clone()
    }

    #[test]
    fn a_good_write_passes() {
        let write = one(good()).expect("good");
        assert_eq!((&*write.key.tenant, &*write.caller), ("default", "night"));
        let stored = wire::WriteRequest { write: Some(good()), level: wire::WriteLevel::Stored.into() };
        assert_eq!(super::write(&caller(), stored).expect("good").1, Level::Stored);
        let unknown = wire::WriteRequest { write: Some(good()), level: 9 };
        assert_eq!(super::write(&caller(), unknown).expect_err("unknown").violations()[0].field, "level");
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert_eq!(wrong_field(|write| write.collection.clear()), "write.collection");
        assert_eq!(wrong_field(|write| write.collection = "a/b".to_owned()), "write.collection");
        assert_eq!(wrong_field(|write| write.document_id = "__x__".to_owned()), "write.document_id");
        assert_eq!(wrong_field(|write| write.document_id = "..".to_owned()), "write.document_id");
        assert_eq!(wrong_field(|write| write.document_id = "x".repeat(1501)), "write.document_id");
        assert_eq!(wrong_field(|write| write.mode = 0), "write.mode");
        assert_eq!(wrong_field(|write| write.mode = 9), "write.mode");
        assert_eq!(wrong_field(|write| write.priority = 9), "write.priority");
        assert_eq!(wrong_field(|write| write.collection = "_batches".to_owned()), "write.collection");
        let keyed = |bytes: usize| wrong_field(|write| write.idempotency_key = "k".repeat(bytes));
        assert_eq!(keyed(257), "write.idempotency_key");
        let unkeyed = wrong_field(|write| write.update_transforms = vec![wire::FieldTransform::default()]);
        assert_eq!(unkeyed, "write.idempotency_key");
        assert_eq!(wrong_field(|write| write.mode = wire::WriteMode::Delete.into()), "write.fields");
        let set = |name: &str, value: wire::Value| {
            wrong_field(|write| drop(write.fields.insert(name.to_owned(), value)))
        };
        assert_eq!(set("tvl", number(f64::NAN)), "write.fields[\"tvl\"].double_value");
        assert_eq!(set("tvl", wire::Value { kind: None }), "write.fields[\"tvl\"]");
        assert_eq!(
            set("list", array(vec![number(1.0), array(Vec::new())])),
            "write.fields[\"list\"].array_value.values[1]"
        );
        assert_eq!(
            set("map", map("__x__", number(1.0))),
            "write.fields[\"map\"].map_value.fields[\"__x__\"]"
        );
        assert_eq!(set("", number(1.0)), "write.fields[\"\"]");
        let text = wire::Value { kind: Some(Kind::StringValue("x".repeat(1024 * 1024))) };
        assert_eq!(set("text", text), "write.fields");
    }

    #[test]
    fn maps_nest_twenty_deep_and_lists_through_maps() {
        let nested = |depth: usize| (1..depth).fold(map("x", number(1.0)), |inner, _| map("x", inner));
        let mut deep = good();
        deep.fields.insert("map".to_owned(), nested(20));
        assert!(one(deep).is_ok());
        let refused = wrong_field(|write| drop(write.fields.insert("map".to_owned(), nested(21))));
        assert!(refused.starts_with("write.fields[\"map\"].map_value.fields[\"x\"]"), "{refused}");
        let mut listed = good();
        listed.fields.insert("list".to_owned(), array(vec![map("inner", array(Vec::new()))]));
        assert!(one(listed).is_ok());
    }

    #[test]
    fn a_batch_is_one_to_five_hundred_and_names_the_bad_write() {
        let fault = many(vec![good(); 501]).expect_err("too many");
        assert_eq!(fault.violations()[0].field, "writes");
        assert!(many(Vec::new()).is_err());
        let mut bad = vec![good(); 500];
        bad[7].mode = 0;
        let fault = many(bad).expect_err("one is bad");
        assert_eq!(fault.violations()[0].field, "writes[7].mode");
    }

    #[test]
    fn a_page_has_a_hundred_documents_unless_asked_otherwise() {
        let request = wire::ListRequest { collection: "pools".to_owned(), ..Default::default() };
        assert_eq!(range(&tenant(), &request).expect("good").limit, 100);
        let request = wire::ListRequest { page_size: 1001, ..request };
        assert!(range(&tenant(), &request).is_err());
    }
}
