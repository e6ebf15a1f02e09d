//! Wire ⇄ domain, naming the field that is wrong.

mod answer;
mod sample;
mod value;

use std::sync::Arc;

use contracts::storage as wire;
use prost::Message as _;
use rpc::Fault;

pub(crate) use self::{
    answer::{bucket, costs, document, flushed, listed, planned},
    sample::{bucket_query, samples},
};
use crate::{
    accept::NewWrite,
    document::{Change, Key, MAX_DOCUMENT_BYTES, Priority},
    error::{self, Error},
    sink::Range,
};

/// Most writes in one request.
const MAX_WRITES: usize = 500;

/// Longest collection, id or field name, in bytes.
const MAX_NAME: usize = 1_500;

/// Documents of a page if the caller does not say.
const DEFAULT_PAGE: u32 = 100;

/// Most documents of a page.
const MAX_PAGE: u32 = 1_000;

/// Checks one write.
pub(crate) fn write(tenant: &Arc<str>, write: Option<wire::DocumentWrite>) -> Result<NewWrite, Fault> {
    document_write(tenant, write.ok_or_else(|| Fault::invalid("write", "must be given"))?, "write")
}

/// Checks the writes of a batch.
pub(crate) fn writes(tenant: &Arc<str>, writes: Vec<wire::DocumentWrite>) -> Result<Vec<NewWrite>, Fault> {
    if writes.is_empty() || writes.len() > MAX_WRITES {
        return Err(Fault::invalid("writes", format!("must be 1 to {MAX_WRITES}, not {}", writes.len())));
    }
    let checked = |(index, write)| document_write(tenant, write, &format!("writes[{index}]"));
    writes.into_iter().enumerate().map(checked).collect()
}

/// Checks which document is asked for.
pub(crate) fn key(tenant: &Arc<str>, collection: &str, id: &str) -> Result<Key, Fault> {
    path_name(collection, "collection")?;
    path_name(id, "document_id")?;
    Ok(Key { tenant: Arc::clone(tenant), collection: collection.into(), id: id.into() })
}

/// Checks which documents are asked for.
pub(crate) fn range(tenant: &Arc<str>, request: &wire::ListRequest) -> Result<Range, Fault> {
    path_name(&request.collection, "collection")?;
    if request.page_size > MAX_PAGE {
        return Err(Fault::invalid("page_size", format!("must be at most {MAX_PAGE}")));
    }
    if !request.page_token.is_empty() {
        path_name(&request.page_token, "page_token")?;
    }
    let size = if request.page_size == 0 { DEFAULT_PAGE } else { request.page_size };
    Ok(Range {
        tenant: Arc::clone(tenant),
        collection: request.collection.as_str().into(),
        after: request.page_token.clone(),
        before: None,
        limit: usize::try_from(size).unwrap_or(usize::MAX),
    })
}

/// Checks a name that stands in a document's path.
fn path_name(name: &str, field: &str) -> Result<(), Fault> {
    let must = |must: &str| Err(Fault::invalid(field, must));
    if name.is_empty() || name.len() > MAX_NAME {
        return must("must be 1 to 1500 bytes");
    }
    if name.contains('/') {
        return must("must not contain /");
    }
    if matches!(name, "." | "..") {
        return must("must not be . or ..");
    }
    if is_reserved(name) {
        return must("must not have the form __x__, which is reserved");
    }
    Ok(())
}

/// Returns whether Firestore keeps `name` for itself.
fn is_reserved(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("__") && name.ends_with("__")
}

/// Says what went wrong with a request of one write.
pub(crate) fn fault_of_one(error: Error) -> Fault {
    match error {
        Error::TooLarge { .. } => error::too_large("write.fields"),
        other => other.into(),
    }
}

fn document_write(tenant: &Arc<str>, mut write: wire::DocumentWrite, path: &str) -> Result<NewWrite, Fault> {
    path_name(&write.collection, &format!("{path}.collection"))?;
    path_name(&write.document_id, &format!("{path}.document_id"))?;
    let encoded = write.encoded_len();
    let (mode, priority) = (write.mode(), write.priority());
    if !matches!(wire::WriteMode::try_from(write.mode), Ok(mode) if mode != wire::WriteMode::Unspecified) {
        return Err(Fault::invalid(format!("{path}.mode"), "must be set, merge or delete"));
    }
    if wire::Priority::try_from(write.priority).is_err() {
        return Err(Fault::invalid(format!("{path}.priority"), "must be normal or high"));
    }
    let fields = std::mem::take(&mut write.fields);
    if encoded - write.encoded_len() > MAX_DOCUMENT_BYTES {
        return Err(Fault::invalid(format!("{path}.fields"), "must be at most 1 MiB encoded"));
    }
    let change = match mode {
        wire::WriteMode::Delete if fields.is_empty() => Change::Delete,
        wire::WriteMode::Delete => {
            return Err(Fault::invalid(format!("{path}.fields"), "must be empty for a delete"));
        }
        wire::WriteMode::Set => Change::Set(value::fields(fields, &format!("{path}.fields"), 0)?),
        _ => Change::Merge(value::fields(fields, &format!("{path}.fields"), 0)?),
    };
    let priority = if priority == wire::Priority::High { Priority::High } else { Priority::Normal };
    let key =
        Key { tenant: Arc::clone(tenant), collection: write.collection.into(), id: write.document_id.into() };
    Ok(NewWrite { key, change, priority })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use contracts::storage::{self as wire, value::Kind};

    use super::{range, write, writes};

    fn tenant() -> Arc<str> {
        "default".into()
    }

    fn good() -> wire::DocumentWrite {
        wire::DocumentWrite {
            collection: "pools".to_owned(),
            document_id: "0x1".to_owned(),
            mode: wire::WriteMode::Merge.into(),
            fields: HashMap::from([("apr".to_owned(), number(1.0))]),
            priority: wire::Priority::Unspecified.into(),
        }
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
        let fault = write(&tenant(), Some(changed)).expect_err("must be refused");
        fault.violations()[0].field.clone()
    }

    #[test]
    fn a_good_write_passes() {
        assert!(write(&tenant(), Some(good())).is_ok());
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
        assert_eq!(wrong_field(|write| write.mode = wire::WriteMode::Delete.into()), "write.fields");
        let set = |name: &str, value: wire::Value| {
            wrong_field(|write| drop(write.fields.insert(name.to_owned(), value)))
        };
        assert_eq!(set("tvl", number(f64::NAN)), "write.fields.tvl");
        assert_eq!(set("tvl", wire::Value { kind: None }), "write.fields.tvl");
        assert_eq!(set("list", array(vec![number(1.0), array(Vec::new())])), "write.fields.list[1]");
        assert_eq!(set("map", map("__x__", number(1.0))), "write.fields.map.__x__");
        assert_eq!(set("", number(1.0)), "write.fields.");
        let text = wire::Value { kind: Some(Kind::StringValue("x".repeat(1024 * 1024))) };
        assert_eq!(set("text", text), "write.fields");
    }

    #[test]
    fn maps_nest_twenty_deep_and_lists_through_maps() {
        let nested = |depth: usize| (1..depth).fold(map("x", number(1.0)), |inner, _| map("x", inner));
        let mut deep = good();
        deep.fields.insert("map".to_owned(), nested(20));
        assert!(write(&tenant(), Some(deep)).is_ok());
        let refused = wrong_field(|write| drop(write.fields.insert("map".to_owned(), nested(21))));
        assert!(refused.starts_with("write.fields.map.x"), "{refused}");
        let mut listed = good();
        listed.fields.insert("list".to_owned(), array(vec![map("inner", array(Vec::new()))]));
        assert!(write(&tenant(), Some(listed)).is_ok());
    }

    #[test]
    fn a_batch_is_one_to_five_hundred_and_names_the_bad_write() {
        let fault = writes(&tenant(), vec![good(); 501]).expect_err("too many");
        assert_eq!(fault.violations()[0].field, "writes");
        assert!(writes(&tenant(), Vec::new()).is_err());
        let mut many = vec![good(); 500];
        many[7].mode = 0;
        let fault = writes(&tenant(), many).expect_err("one is bad");
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
