//! Documents that many buckets share.
//!
//! A shared document holds one window of up to `entities` entities: `start_time`, `length_seconds`, and in the map `packed` one bucket by
//! entity. It is written by merges that replace whole buckets and leave those beside them, so a window that closes is one write of each
//! document, and a late sample is one write of one document, made of the samples of its own bucket alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    figure::Aggregate,
    rules::{Kept, Rule, Rules},
};
use crate::{
    buckets::{BucketKey, Closed, Samples, Summary, document_id, path_safe},
    change::{Change, Node, Tree, path},
    document::{Fields, Key, Value, stored_size},
};

/// The field of a shared document that holds its buckets. Nothing within it is worth an index.
pub const FIELD: &str = "packed";

/// Longest name of an entity and of a collection with a rule, in bytes.
const NAME_BYTES: usize = 256;

/// A shared document, and what a bucket holds there.
pub type Place = (u32, Arc<Kept>);

/// One write of a document, which closes buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// The document.
    pub key: Key,
    /// What is done to it.
    pub change: Change,
    /// The samples it stands for: those accepted since the buckets were last written.
    pub samples: u64,
    /// The buckets, each with all its samples.
    pub buckets: Vec<(BucketKey, Arc<Samples>)>,
}

/// Returns how the ids of the shared document `pack` begin.
///
/// The bits of the number stand in reverse, so that documents made one after the other lie far apart: ids that grow with time would all
/// land on one server of Firestore's. No id of an entity begins so, as `%` is followed by two hexadecimal digits there.
#[must_use]
pub fn prefix(pack: u32) -> String {
    format!("%p{:08x}", pack.reverse_bits())
}

/// Returns the bytes that a bucket of `entity` takes in a shared document at most, by the rules of Firestore's limit. What is named is what
/// is kept, and a figure has eight bytes whatever it is: no sample makes a bucket larger.
#[must_use]
pub fn entity_bytes(rule: &Rule, entity: &str) -> usize {
    let figures =
        rule.kept.named.iter().map(|(name, figures)| (name.clone(), Aggregate::of(&[(0, 0.0)], 1, figures)));
    let summary = Summary {
        entity: entity.into(),
        start: 0,
        length: rule.window,
        samples: 0,
        aggregates: figures.collect(),
    };
    let mut packed = Fields::new();
    let before = stored(&packed);
    packed.insert(name_of(entity), Value::Map(summary.body()));
    stored(&packed) - before
}

/// Returns the bytes of a shared document without buckets, at most.
#[must_use]
pub fn header_bytes() -> usize {
    stored(&Fields::new())
}

/// Returns the bytes of a shared document with one bucket of the longest name.
#[must_use]
pub fn least_bytes(rule: &Rule) -> usize {
    header_bytes() + entity_bytes(rule, &"/".repeat(NAME_BYTES))
}

/// Returns the writes that close `due`, each document once. That may take its time.
#[must_use]
pub fn closings(due: Vec<(Closed, Option<Place>)>, rules: &Rules) -> Vec<Closing> {
    let mut shared: BTreeMap<Key, Closing> = BTreeMap::new();
    let mut closings = Vec::new();
    for (Closed { key, samples, fresh }, place) in due {
        let Some((pack, kept)) = place else {
            let summary = Summary::of(&key, &samples, &rules.of(&key.collection).kept);
            let change = Change::set(summary.to_fields());
            closings.push(Closing {
                key: key.document(),
                change,
                samples: fresh,
                buckets: vec![(key, samples)],
            });
            continue;
        };
        let summary = Summary::of(&key, &samples, &kept);
        let id = document_id(&prefix(pack), key.start, key.length);
        let document =
            Key { tenant: Arc::clone(&key.tenant), collection: Arc::clone(&key.collection), id: id.into() };
        let closing = shared.entry(document.clone()).or_insert_with(|| {
            let change = Change::Patch(header(key.start, key.length));
            Closing { key: document, change, samples: 0, buckets: Vec::new() }
        });
        if let Change::Patch(tree) = &mut closing.change
            && let Some(Node::Within(packed)) = tree.get_mut(FIELD)
        {
            packed.insert(name_of(&key.entity), Node::value(Value::Map(summary.body())));
        }
        closing.samples += fresh;
        closing.buckets.push((key, samples));
    }
    closings.extend(shared.into_values());
    closings
}

/// Reads the bucket of `entity` out of a shared document; `None` if it has none.
#[must_use]
pub fn unpack(fields: &Fields, entity: &str) -> Option<Summary> {
    let Value::Map(packed) = fields.get(FIELD)? else { return None };
    let Value::Map(body) = packed.get(&name_of(entity))? else { return None };
    Summary::from_body(entity.into(), fields, body)
}

/// Returns the paths of the fields of a shared document that are enough to read the bucket of `entity`.
#[must_use]
pub fn paths(entity: &str) -> Vec<String> {
    let bucket = path::format(&[FIELD.to_owned(), name_of(entity)]);
    vec!["start_time".to_owned(), "length_seconds".to_owned(), bucket]
}

/// Returns the name of an entity's bucket within a shared document: no name of Firestore's own, which begin with two underscores.
fn name_of(entity: &str) -> String {
    let safe = path_safe(entity);
    match safe.strip_prefix('_') {
        Some(rest) => format!("%5F{rest}"),
        None => safe,
    }
}

fn header(start: i64, length: i64) -> Tree {
    Tree::from([
        ("start_time".to_owned(), Node::Put(Value::Moment(start.saturating_mul(1_000_000)))),
        ("length_seconds".to_owned(), Node::Put(Value::Integer(length))),
        (FIELD.to_owned(), Node::Within(Tree::new())),
    ])
}

fn stored(packed: &Fields) -> usize {
    let fields = Fields::from([
        ("start_time".to_owned(), Value::Moment(0)),
        ("length_seconds".to_owned(), Value::Integer(0)),
        (FIELD.to_owned(), Value::Map(packed.clone())),
    ]);
    // The longest id is that of a window of another length than the usual one.
    let id = document_id(&prefix(0), 0, Duration::from_secs(86_400).as_secs().cast_signed());
    stored_size(&Key::new("", &"x".repeat(NAME_BYTES), &id), &fields)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeSet, HashMap},
        sync::Arc,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::{FIELD, closings, entity_bytes, header_bytes, name_of, prefix, unpack};
    use crate::{
        aggregate::{
            figure::{Figure, Figures},
            places::Places,
            rules::{Kept, Packing, Rule, Rules},
        },
        buckets::{BucketKey, Closed, Readings, Samples, Summary},
        document::{Fields, Value, stored_size},
    };

    const READINGS: [&str; 3] = ["apr", "tvl", "volume"];

    fn rules(packing: Packing) -> Rules {
        let mut rule = Rule::built_in(Duration::ZERO);
        let named = READINGS.into_iter().map(|name| (name.to_owned(), Figures::from(Figure::ALL))).collect();
        rule.kept = Kept { named, others: Figures::new() };
        rule.packing = Some(packing);
        Rules::new(HashMap::from([("pool_metrics".into(), rule)]), Rule::built_in(Duration::ZERO))
    }

    fn key(entity: &str) -> BucketKey {
        let (tenant, collection): (Arc<str>, Arc<str>) = ("t".into(), "pool_metrics".into());
        BucketKey { start: 900, length: 900, tenant, collection, entity: entity.into() }
    }

    fn closed(entity: &str, samples: u32) -> Closed {
        let readings: Readings = READINGS
            .into_iter()
            .map(|name| (name.to_owned(), 1.5))
            .chain([("other".to_owned(), 1.0)])
            .collect();
        let samples =
            (0..i64::from(samples)).map(|at| (900_000_000 + at, readings.clone())).collect::<Samples>();
        Closed { key: key(entity), fresh: samples.len() as u64, samples: Arc::new(samples) }
    }

    fn place(rules: &Rules, entities: &[String]) -> Places {
        let mut places = Places::default();
        entities.iter().for_each(|entity| places.settle(&key(entity), rules, true, 0));
        places
    }

    #[test]
    fn documents_made_one_after_the_other_lie_far_apart() {
        let first: Vec<_> = (0..4).map(prefix).collect();
        assert_eq!(first, ["%p00000000", "%p80000000", "%p40000000", "%pc0000000"]);
        let names: BTreeSet<_> = (0..10_000).map(prefix).collect();
        assert_eq!(names.len(), 10_000);
    }

    #[test]
    fn no_two_entities_have_one_name_and_none_has_one_of_firestores() {
        let entities = ["__x__", "%5F_x__", "_", "%5F", "a/b", "a%2Fb", "x"];
        let names: BTreeSet<_> = entities.into_iter().map(name_of).collect();
        assert_eq!(names.len(), entities.len());
        assert!(names.iter().all(|name| !name.starts_with('_')));
    }

    #[test]
    fn a_window_is_one_write_of_each_document_and_each_bucket_is_read_back() {
        let rules = rules(Packing { entities: 3, bytes: 100 * 1024 });
        let entities: Vec<String> = (0..7).map(|number| format!("0x{number}")).collect();
        let places = place(&rules, &entities);
        let due = entities.iter().map(|entity| closed(entity, 15)).collect();
        let closings = closings(places.placed(due), &rules);
        let sizes: Vec<_> = closings.iter().map(|closing| (closing.buckets.len(), closing.samples)).collect();
        assert_eq!(sizes.len(), 3);
        assert_eq!(sizes.iter().map(|size| size.1).sum::<u64>(), 7 * 15);
        for closing in closings {
            assert!(closing.change.is_repeatable(), "it may be sent again after a lost answer");
            let fields = closing.change.apply(None, 0).unwrap();
            for (bucket, _) in &closing.buckets {
                let wanted =
                    Summary::of(bucket, &closed(&bucket.entity, 15).samples, &rules.of("pool_metrics").kept);
                assert_eq!(unpack(&fields, &bucket.entity), Some(wanted));
            }
            assert_eq!(unpack(&fields, "somebody else"), None);
        }
    }

    #[test]
    fn a_bucket_that_is_written_again_leaves_those_beside_it_and_nothing_of_what_it_was() {
        let rules = rules(Packing { entities: 3, bytes: 100 * 1024 });
        let entities = ["a".to_owned(), "b".to_owned()];
        let places = place(&rules, &entities);
        let first = closings(places.placed(vec![closed("a", 2), closed("b", 2)]), &rules).remove(0);
        let mut less = closed("a", 3);
        Arc::make_mut(&mut less.samples)
            .values_mut()
            .for_each(|readings| readings.retain(|name, _| name == "apr"));
        let second = closings(places.placed(vec![less.clone()]), &rules).remove(0);
        assert_eq!(first.key, second.key);
        let before = first.change.apply(None, 0);
        let after = second.change.apply(before.clone(), 0).unwrap();
        let rewritten = unpack(&after, "a").unwrap();
        assert_eq!(rewritten.aggregates.keys().collect::<Vec<_>>(), ["apr"]);
        assert_eq!(unpack(&after, "b"), unpack(&before.unwrap(), "b"));
        let mut folded = first.change;
        folded.then(second.change).unwrap();
        assert_eq!(folded.apply(None, 0), Some(after), "while it waits it folds");
    }

    #[test]
    fn a_late_sample_from_before_the_rule_changed_makes_no_document_larger_than_it_was_to_be() {
        let before = rules(Packing { entities: 3, bytes: 100 * 1024 });
        let mut places = place(&before, &["a".to_owned()]);
        let mut more = before.of("pool_metrics").clone();
        more.kept.named.insert("other".to_owned(), Figures::from(Figure::ALL));
        let after =
            Rules::new(HashMap::from([("pool_metrics".into(), more)]), Rule::built_in(Duration::ZERO));
        places.settle(&key("a"), &after, false, 1_800);
        let closing = closings(places.placed(vec![closed("a", 2)]), &after).remove(0);
        let bucket = unpack(&closing.change.apply(None, 0).unwrap(), "a").unwrap();
        assert_eq!(bucket.aggregates.into_keys().collect::<Vec<_>>(), READINGS);
    }

    #[test]
    fn an_entity_without_a_place_has_a_document_of_its_own() {
        let rules = rules(Packing { entities: 3, bytes: 100 * 1024 });
        let closing = closings(vec![(closed("a", 1), None)], &rules).remove(0);
        assert_eq!(closing.key, key("a").document());
        assert_eq!(Summary::from_fields(&closing.change.apply(None, 0).unwrap()).unwrap().samples, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever entities come, no document is larger than the rule says, and all but the last are full.
        #[test]
        fn no_document_is_larger_than_its_rule_says(
            entities in prop::collection::btree_set(".{1,60}|[/%_]{1,250}", 1..120),
            most in 1_u32..40,
            bytes in 6_usize * 1024..32 * 1024,
        ) {
            let entities: Vec<String> = entities.into_iter().filter(|entity| entity.len() <= 256).collect();
            let rules = rules(Packing { entities: most, bytes });
            let rule = rules.of("pool_metrics");
            let places = place(&rules, &entities);
            let due: Vec<_> = entities.iter().map(|entity| closed(entity, 3)).collect();
            let closings = closings(places.placed(due), &rules);
            let mut seen = 0;
            for closing in &closings {
                let fields = closing.change.apply(None, 0).unwrap();
                prop_assert!(stored_size(&closing.key, &fields) <= bytes);
                let Some(Value::Map(packed)) = fields.get(FIELD) else { panic!("no buckets") };
                prop_assert!(packed.len() <= most as usize);
                prop_assert_eq!(packed.len(), closing.buckets.len());
                seen += packed.len();
                let promised: usize = closing.buckets.iter().map(|(key, _)| entity_bytes(rule, &key.entity)).sum();
                let measured = stored_size(&closing.key, &fields);
                prop_assert!(measured <= header_bytes() + promised);
                prop_assert!(header_bytes() + promised - measured < 300, "the promise is nearly exact");
            }
            prop_assert_eq!(seen, entities.len());
            let largest = entities.iter().map(|entity| entity_bytes(rule, entity)).max().unwrap_or(0);
            let full = closings.iter().filter(|closing| {
                let used: usize = closing.buckets.iter().map(|(key, _)| entity_bytes(rule, &key.entity)).sum();
                closing.buckets.len() == most as usize || header_bytes() + used + largest > bytes
            });
            prop_assert!(full.count() + 1 >= closings.len());
        }
    }

    #[test]
    fn a_document_that_is_no_shared_one_has_no_buckets() {
        assert_eq!(unpack(&Fields::new(), "a"), None);
        assert_eq!(unpack(&Fields::from([(FIELD.to_owned(), Value::Null)]), "a"), None);
    }
}
