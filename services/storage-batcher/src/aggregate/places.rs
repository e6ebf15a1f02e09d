//! Which entity lies in which shared document.
//!
//! Places are given first come, first served, and for good: a document is full before the next begins, whatever the number of entities
//! grows to, and a bucket's document is known without looking for it. An era is a span of windows in which a collection is laid out in one
//! way. A rule that lays buckets out in another way begins an era with the first window of which nobody can have recorded yet, so each
//! bucket has one document, before and after.

use std::{collections::HashMap, sync::Arc};

use super::{
    pack::{self, Place},
    rules::{Kept, Packing, Rule, Rules},
};
use crate::buckets::{BucketKey, Closed};

/// The windows in which a collection of a tenant is laid out in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Era {
    /// Start of its first window.
    since: i64,
    /// [`Rule::layout`]; empty if every bucket has a document of its own.
    layout: Arc<[u8]>,
    /// What buckets hold: that of its layout, so that late samples make no document larger than it was to be.
    kept: Arc<Kept>,
    /// The document of each entity.
    packs: HashMap<Arc<str>, u32>,
    /// The newest document, and what is taken of it.
    newest: u32,
    entities: u32,
    bytes: usize,
}

/// What is on disk of eras and places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An era begins; those of the collection that would begin later are none.
    Era {
        /// The tenant.
        tenant: Arc<str>,
        /// The collection.
        collection: Arc<str>,
        /// Start of its first window, in seconds since the epoch.
        since: i64,
        /// How buckets are laid out in it: [`Rule::layout`].
        layout: Arc<[u8]>,
    },
    /// An entity has a place.
    Place {
        /// The tenant.
        tenant: Arc<str>,
        /// The collection.
        collection: Arc<str>,
        /// The era.
        since: i64,
        /// The entity.
        entity: Arc<str>,
        /// The shared document.
        pack: u32,
    },
}

/// Windows of one entity whose documents have ids that begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Start of the first window; `None` for all before `until`.
    pub since: Option<i64>,
    /// Start of the first window after them.
    pub until: Option<i64>,
    /// The shared document; `None` if the entity has documents of its own.
    pub pack: Option<u32>,
}

/// Holds every era and place. The same stand on disk.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Eras by tenant and collection, oldest first.
    eras: HashMap<Arc<str>, HashMap<Arc<str>, Vec<Era>>>,
    unsaved: Vec<Row>,
}

impl Era {
    fn new(since: i64, layout: Arc<[u8]>) -> Self {
        let kept = Arc::new(Kept::of_layout(&layout).unwrap_or_default());
        Self {
            since,
            layout,
            kept,
            packs: HashMap::new(),
            newest: 0,
            entities: 0,
            bytes: pack::header_bytes(),
        }
    }

    /// Gives `entity` the next place; returns the document.
    fn assign(&mut self, entity: &Arc<str>, rule: &Rule, packing: Packing) -> u32 {
        let bytes = pack::entity_bytes(rule, entity);
        if self.entities > 0 && (self.entities >= packing.entities || self.bytes + bytes > packing.bytes) {
            self.newest += 1;
            (self.entities, self.bytes) = (0, pack::header_bytes());
        }
        self.entities += 1;
        self.bytes += bytes;
        self.packs.insert(Arc::clone(entity), self.newest);
        self.newest
    }

    /// Counts what is taken of the newest document.
    fn count(&mut self, rule: &Rule) {
        self.newest = self.packs.values().copied().max().unwrap_or(0);
        let newest = self.packs.iter().filter(|(_, pack)| **pack == self.newest);
        let bytes: Vec<usize> = newest.map(|(entity, _)| pack::entity_bytes(rule, entity)).collect();
        self.entities = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes = pack::header_bytes() + bytes.iter().sum::<usize>();
    }
}

impl Places {
    /// Takes up what was on disk.
    #[must_use]
    pub fn recall(rows: Vec<Row>, rules: &Rules) -> Self {
        let mut places = Self::default();
        for row in rows {
            match row {
                Row::Era { tenant, collection, since, layout } => {
                    let eras = places.eras.entry(tenant).or_default().entry(collection).or_default();
                    eras.push(Era::new(since, layout));
                    eras.sort_by_key(|era| era.since);
                }
                Row::Place { tenant, collection, since, entity, pack } => {
                    let eras = places.eras.get_mut(&tenant).and_then(|shelf| shelf.get_mut(&collection));
                    if let Some(era) = eras.and_then(|eras| eras.iter_mut().find(|era| era.since == since)) {
                        era.packs.insert(entity, pack);
                    }
                }
            }
        }
        for (collection, eras) in places.eras.values_mut().flatten() {
            // The others are full: nobody gets a place in them any more.
            if let Some(era) = eras.last_mut().filter(|era| rules.layout(collection) == Some(&era.layout)) {
                era.count(rules.of(collection));
            }
        }
        places
    }

    /// Gives the entity of `key` a place where its rule packs buckets and it has none. `is_new` says that nothing was ever recorded or
    /// written in its collection; `next` is the start of the first window of which nobody can have recorded yet.
    pub fn settle(&mut self, key: &BucketKey, rules: &Rules, is_new: bool, next: i64) {
        let layout = rules.layout(&key.collection);
        let BucketKey { tenant, collection, entity, .. } = key;
        if layout.is_none() && !self.eras.get(tenant).is_some_and(|shelf| shelf.contains_key(collection)) {
            return;
        }
        let eras =
            self.eras.entry(Arc::clone(tenant)).or_default().entry(Arc::clone(collection)).or_default();
        let (tenant, collection) = (Arc::clone(tenant), Arc::clone(collection));
        if eras.last().map(|era| &era.layout).filter(|layout| !layout.is_empty()) != layout {
            let since = if eras.is_empty() && is_new { i64::MIN } else { next };
            // What has not begun has taken nothing.
            eras.retain(|era| era.since < since);
            let layout = layout.cloned().unwrap_or_default();
            eras.push(Era::new(since, Arc::clone(&layout)));
            self.unsaved.push(Row::Era {
                tenant: Arc::clone(&tenant),
                collection: Arc::clone(&collection),
                since,
                layout,
            });
        }
        let rule = rules.of(&collection);
        if let Some(packing) = rule.packing
            && let Some(era) = eras.last_mut().filter(|era| key.start >= era.since)
            && !era.packs.contains_key(entity)
        {
            let pack = era.assign(entity, rule, packing);
            let (since, entity) = (era.since, Arc::clone(entity));
            self.unsaved.push(Row::Place { tenant, collection, since, entity, pack });
        }
    }

    /// Takes what is not on disk yet.
    #[must_use]
    pub fn take_unsaved(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.unsaved)
    }

    /// Gives back what could not be written; it comes before what was added meanwhile.
    pub fn give_back(&mut self, rows: &[Row]) {
        self.unsaved.splice(0..0, rows.iter().cloned());
    }

    /// Returns the shared document of a bucket and what it holds there; `None` if it has a document of its own.
    #[must_use]
    pub fn pack_of(&self, key: &BucketKey) -> Option<Place> {
        let eras = self.eras.get(&key.tenant)?.get(&key.collection)?;
        let era = eras.iter().rev().find(|era| era.since <= key.start)?;
        era.packs.get(&key.entity).map(|pack| (*pack, Arc::clone(&era.kept)))
    }

    /// Returns `closed`, each with its [`Places::pack_of`].
    #[must_use]
    pub fn placed(&self, closed: Vec<Closed>) -> Vec<(Closed, Option<Place>)> {
        let place = |closed: Closed| {
            let place = self.pack_of(&closed.key);
            (closed, place)
        };
        closed.into_iter().map(place).collect()
    }

    /// Returns where the buckets of an entity are, oldest first.
    #[must_use]
    pub fn spans(&self, tenant: &str, collection: &str, entity: &str) -> Vec<Span> {
        let mut spans = vec![Span { since: None, until: None, pack: None }];
        let eras = self.eras.get(tenant).and_then(|shelf| shelf.get(collection));
        for era in eras.into_iter().flatten() {
            let pack = era.packs.get(entity).copied();
            match spans.last_mut() {
                Some(last) if last.pack == pack && pack.is_none() => {}
                // Nothing comes before an era of all windows.
                Some(last) if era.since == i64::MIN => last.pack = pack,
                last => {
                    if let Some(last) = last {
                        last.until = Some(era.since);
                    }
                    spans.push(Span { since: Some(era.since), until: None, pack });
                }
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::{Places, Row, Span};
    use crate::{
        aggregate::{
            figure::{Figure, Figures},
            rules::{Kept, Packing, Rule, Rules},
        },
        buckets::BucketKey,
    };

    fn rules(entities: Option<u32>) -> Rules {
        let mut rule = Rule::built_in(Duration::ZERO);
        let named = [("apr".to_owned(), Figures::from([Figure::Min]))].into();
        rule.kept = Kept { named, others: Figures::new() };
        rule.packing = entities.map(|entities| Packing { entities, bytes: 100 * 1024 });
        Rules::new(HashMap::from([("c".into(), rule)]), Rule::built_in(Duration::ZERO))
    }

    fn key(entity: &str, start: i64) -> BucketKey {
        BucketKey { start, length: 900, tenant: "t".into(), collection: "c".into(), entity: entity.into() }
    }

    fn packs(places: &Places, start: i64) -> [Option<u32>; 4] {
        ["a", "b", "c", "d"].map(|entity| places.pack_of(&key(entity, start)).map(|(pack, _)| pack))
    }

    #[test]
    fn a_place_is_given_once_and_a_document_is_full_before_the_next_begins() {
        let rules = rules(Some(2));
        let mut places = Places::default();
        for entity in ["a", "b", "a", "c", "b"] {
            places.settle(&key(entity, 900), &rules, true, 2_700);
        }
        assert_eq!(packs(&places, 900), [Some(0), Some(0), Some(1), None]);
        assert_eq!(packs(&places, -900_000), packs(&places, 900), "late samples have the same place");
        assert_eq!(places.take_unsaved().len(), 4, "the era and three places");
        places.settle(&key("a", 1_800), &rules, false, 2_700);
        assert!(places.take_unsaved().is_empty());
    }

    #[test]
    fn places_are_the_same_after_a_restart_and_the_newest_document_goes_on() {
        let rules = rules(Some(2));
        let mut places = Places::default();
        ["a", "b", "c"].iter().for_each(|entity| places.settle(&key(entity, 900), &rules, true, 0));
        let rows = places.take_unsaved();
        let mut again = Places::recall(rows, &rules);
        assert_eq!(packs(&again, 900), packs(&places, 900));
        again.settle(&key("d", 900), &rules, false, 0);
        places.settle(&key("d", 900), &rules, false, 0);
        assert_eq!(packs(&again, 900), [Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(again.eras, places.eras);
    }

    #[test]
    fn what_could_not_be_written_is_written_with_the_next() {
        let rules = rules(Some(2));
        let mut places = Places::default();
        places.settle(&key("a", 900), &rules, true, 0);
        let lost = places.take_unsaved();
        places.settle(&key("b", 900), &rules, true, 0);
        places.give_back(&lost);
        let rows = places.take_unsaved();
        assert!(matches!(rows[..], [Row::Era { .. }, Row::Place { .. }, Row::Place { .. }]));
        assert_eq!(packs(&Places::recall(rows, &rules), 900), packs(&places, 900));
    }

    #[test]
    fn a_rule_that_begins_to_pack_begins_with_a_window_nobody_recorded_of() {
        let (own, shared) = (rules(None), rules(Some(2)));
        let mut places = Places::default();
        places.settle(&key("a", 900), &own, false, 2_700);
        assert!(places.take_unsaved().is_empty(), "documents of their own need no place");
        places.settle(&key("a", 900), &shared, false, 2_700);
        assert_eq!(packs(&places, 900)[0], None);
        places.settle(&key("a", 2_700), &shared, false, 4_500);
        assert_eq!([900, 1_800, 2_700].map(|start| packs(&places, start)[0]), [None, None, Some(0)]);
        let expected = [
            Span { since: None, until: Some(2_700), pack: None },
            Span { since: Some(2_700), until: None, pack: Some(0) },
        ];
        assert_eq!(places.spans("t", "c", "a"), expected);
        assert_eq!(places.spans("t", "c", "b"), [Span { since: None, until: None, pack: None }]);
    }

    #[test]
    fn a_rule_that_changes_moves_nobody_in_windows_before() {
        let (two, three, own) = (rules(Some(2)), rules(Some(3)), rules(None));
        let mut places = Places::default();
        ["a", "b", "c"].iter().for_each(|entity| places.settle(&key(entity, 0), &two, true, 0));
        // Changed twice before the first of the two has begun.
        places.settle(&key("c", 0), &own, false, 1_800);
        places.settle(&key("c", 0), &three, false, 1_800);
        places.settle(&key("c", 1_800), &three, false, 3_600);
        places.settle(&key("c", 3_600), &own, false, 5_400);
        let rows = places.take_unsaved();
        let starts = [900, 1_800, 3_600, 5_400];
        assert_eq!(starts.map(|start| packs(&places, start)[2]), [Some(1), Some(0), Some(0), None]);
        let spans: Vec<_> = places.spans("t", "c", "c").iter().map(|span| (span.since, span.pack)).collect();
        assert_eq!(spans, [(None, Some(1)), (Some(1_800), Some(0)), (Some(5_400), None)]);
        // The era that never began is taken off the disk by the one that came instead.
        let eras = rows.iter().filter(|row| matches!(row, Row::Era { .. })).count();
        assert_eq!(eras, 4);
    }
}
