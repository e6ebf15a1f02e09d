//! What Firestore is told of fields: which it does not index, and by which documents expire.
//!
//! The format is that of Firebase's command line (<https://firebase.google.com/docs/reference/firestore/indexes>), which refuses a file
//! by the same rules.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use storage_batcher::{
    aggregate::{pack, rules::Rule},
    buckets::{BucketKey, Readings, Samples, Summary},
    sink::{LEDGER_COLLECTION, LEDGER_EXPIRY},
};

use crate::{Report, each_change_is_found, none};

const PATH: &str = "deploy/firestore.indexes.json";

/// The collections of samples that the orchestrator records, which are those of the example.
const METRICS: [&str; 2] = ["pool_metrics", "gas_metrics"];

/// Fields of a bucket that must not be indexed: times that only grow limit a collection to 500 writes a second, and every value within a
/// map is two entries of an index.
const EXEMPT: [&str; 3] = ["start_time", "aggregates", pack::FIELD];

/// A collection group and a field.
type Place = (Arc<str>, Arc<str>);

fn text() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(PATH)).expect("the file is there")
}

/// Returns the fields of a bucket's own document, and of one that it shares.
fn bucket() -> Vec<String> {
    let (tenant, collection, entity) = ("t".into(), "c".into(), "e".into());
    let Rule { window: length, kept, .. } = Rule::built_in(Duration::ZERO);
    let key = BucketKey { start: 0, length, tenant, collection, entity };
    let samples = Samples::from([(1, Readings::from([("apr".to_owned(), 1.0)]))]);
    let own = Summary::of(&key, &samples, &kept).to_fields();
    own.into_keys().chain([pack::FIELD.to_owned()]).collect()
}

fn faults(text: &str) -> Vec<String> {
    let mut report = Report::of(PATH);
    let Ok(file) = serde_json::from_str::<Map<String, Value>>(text) else {
        report.fault("is no object in JSON");
        return report.lines;
    };
    for name in file.keys() {
        report.unless(["indexes", "fieldOverrides"].contains(&&**name), format_args!("{name} is unknown"));
    }
    // Reads go by document id alone.
    report.unless(file.get("indexes") == Some(&Value::Array(Vec::new())), "indexes must be an empty list");
    let mut found: BTreeMap<Place, bool> = BTreeMap::new();
    for field in file.get("fieldOverrides").and_then(Value::as_array).into_iter().flatten() {
        if let Some((place, expires)) = field_of(&mut report, field) {
            let twice = found.insert(place, expires).is_some();
            report.unless(!twice, format_args!("{field} is there twice"));
        }
    }
    let known = bucket();
    let mut wanted: BTreeMap<Place, bool> = METRICS
        .iter()
        .flat_map(|collection| EXEMPT.map(|field| ((Arc::from(*collection), Arc::from(field)), false)))
        .collect();
    wanted.insert((LEDGER_COLLECTION.into(), LEDGER_EXPIRY.into()), true);
    for (place, expires) in &wanted {
        report.unless(found.get(place) == Some(expires), format_args!("{place:?} must have ttl = {expires}"));
    }
    for (collection, field) in found.keys() {
        let is_written = (**collection == *LEDGER_COLLECTION && **field == *LEDGER_EXPIRY)
            || (METRICS.contains(&&**collection) && known.iter().any(|name| **name == **field));
        report.unless(is_written, format_args!("nobody writes {collection}.{field}"));
    }
    report.lines
}

/// Returns which field an override is of, and whether documents expire by it.
fn field_of(report: &mut Report<'_>, field: &Value) -> Option<(Place, bool)> {
    for name in field.as_object().into_iter().flat_map(Map::keys) {
        let is_known = ["collectionGroup", "fieldPath", "ttl", "indexes"].contains(&&**name);
        report.unless(is_known, format_args!("{name} is unknown"));
    }
    // Anything else would index the field after all.
    report.unless(
        field.get("indexes") == Some(&Value::Array(Vec::new())),
        format_args!("{field} must have no indexes"),
    );
    let ttl = field.get("ttl").map_or(Some(false), Value::as_bool);
    report.unless(ttl.is_some(), format_args!("{field} must have ttl true or false, or none"));
    let name = |name: &str| field.get(name).and_then(Value::as_str).map(Arc::from);
    let place = name("collectionGroup").zip(name("fieldPath"));
    report.unless(place.is_some(), format_args!("{field} must name a collection group and a field"));
    place.zip(ttl)
}

#[test]
fn the_fields_that_only_grow_or_hold_much_are_not_indexed_and_ledger_documents_expire() {
    none(faults(&text()));
}

#[test]
fn a_file_that_firebase_refuses_or_that_names_other_fields_is_found() {
    each_change_is_found(
        &text(),
        faults,
        &[
            ("{", "", "no object"),
            ("\"indexes\": [],", "\"indexes\": {},", "indexes must be an empty list"),
            ("fieldOverrides", "overrides", "overrides is unknown"),
            ("\"ttl\": true", "\"ttl\": \"true\"", "must have ttl true or false"),
            ("\"ttl\": true, ", "", "must have ttl = true"),
            ("expire_at", "expires_at", "nobody writes _batches.expires_at"),
            ("\"fieldPath\": \"start_time\"", "\"fieldPath\": \"start\"", "nobody writes pool_metrics.start"),
            ("\"fieldPath\": \"start_time\"", "\"path\": \"start_time\"", "path is unknown"),
            ("\"start_time\", \"indexes\": []", "\"start_time\"", "must have no indexes"),
            ("\"fieldPath\": \"packed\"", "\"fieldPath\": \"aggregates\"", "is there twice"),
        ],
    );
}
