//! What waits of every document, by tenant, collection and id. So names are in memory once, and to find a document compares ids alone.

use std::{
    collections::{BTreeMap, btree_map::Entry::Occupied},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::entry::Overlay;
use crate::document::Key;

/// The documents of which something waits.
#[derive(Debug, Default)]
pub(super) struct Documents {
    tenants: BTreeMap<Arc<str>, Tenant>,
    count: usize,
}

#[derive(Debug, Default)]
struct Tenant {
    collections: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Overlay>>,
    count: u64,
}

impl Documents {
    /// Returns what waits of a document.
    pub(super) fn get(&self, key: &Key) -> Option<&Overlay> {
        self.tenants.get(&key.tenant)?.collections.get(&key.collection)?.get(&key.id)
    }

    /// Returns what waits of a document, to be changed.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Overlay> {
        self.tenants.get_mut(&key.tenant)?.collections.get_mut(&key.collection)?.get_mut(&key.id)
    }

    /// Returns what waits of a document, which may be nothing; `key` has the names that are in memory already then.
    pub(super) fn enter(&mut self, key: &mut Key) -> &mut Overlay {
        let tenant = self.tenants.entry(Arc::clone(&key.tenant));
        key.tenant = Arc::clone(tenant.key());
        let tenant = tenant.or_default();
        let collection = tenant.collections.entry(Arc::clone(&key.collection));
        key.collection = Arc::clone(collection.key());
        let slot = collection.or_default().entry(Arc::clone(&key.id));
        key.id = Arc::clone(slot.key());
        slot.or_insert_with(|| {
            tenant.count += 1;
            self.count += 1;
            Overlay::default()
        })
    }

    /// Changes what waits of a document; one of which nothing waits any more is forgotten.
    pub(super) fn leave(&mut self, key: &Key, change: impl FnOnce(&mut Overlay)) {
        let Some(tenant) = self.tenants.get_mut(&key.tenant) else { return };
        let Some(collection) = tenant.collections.get_mut(&key.collection) else { return };
        let Occupied(mut slot) = collection.entry(Arc::clone(&key.id)) else { return };
        change(slot.get_mut());
        if slot.get().is_pending() {
            return;
        }
        slot.remove();
        self.count -= 1;
        tenant.count -= 1;
        if collection.is_empty() {
            tenant.collections.remove(&key.collection);
        }
        if tenant.count == 0 {
            self.tenants.remove(&key.tenant);
        }
    }

    /// Returns what waits of each document of `tenant`.
    pub(super) fn of(&self, tenant: &str) -> impl Iterator<Item = &Overlay> {
        let tenant = self.tenants.get(tenant).into_iter();
        tenant.flat_map(|tenant| tenant.collections.values()).flat_map(BTreeMap::values)
    }

    /// Returns what waits of each document of the collection with an id after `after`, by id.
    pub(super) fn after(
        &self,
        tenant: &str,
        collection: &str,
        after: &str,
    ) -> impl Iterator<Item = (&Arc<str>, &Overlay)> {
        let collection = self.tenants.get(tenant).and_then(|tenant| tenant.collections.get(collection));
        collection.into_iter().flat_map(move |found| found.range::<str, _>((Excluded(after), Unbounded)))
    }

    /// Returns the documents of `tenant`.
    pub(super) fn count(&self, tenant: &str) -> u64 {
        self.tenants.get(tenant).map_or(0, |tenant| tenant.count)
    }

    /// Returns all documents.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use super::Documents;
    use crate::{
        change::Change,
        document::{Key, Priority},
        ledger::Weight,
        queue::{Accepted, Overlay},
    };

    fn add(documents: &mut Documents, [tenant, collection, id]: [&str; 3]) -> Key {
        let mut key = Key::new(tenant, collection, id);
        let overlay = documents.enter(&mut key);
        overlay.add(Accepted {
            sequence: 1,
            key: key.clone(),
            change: Change::Delete,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 1,
        });
        key
    }

    #[test]
    fn documents_of_one_name_are_apart_by_tenant_and_by_collection() {
        let mut documents = Documents::default();
        let names = [["t", "c", "a"], ["u", "c", "a"], ["t", "d", "a"], ["t", "c", "b"]];
        let keys = names.map(|name| add(&mut documents, name));
        let again = add(&mut documents, names[0]);
        assert!(Arc::ptr_eq(&again.id, &keys[0].id) && Arc::ptr_eq(&keys[0].collection, &keys[3].collection));
        assert_eq!((documents.len(), documents.count("t"), documents.count("u")), (4, 3, 1));
        let ids = |documents: &Documents, tenant, after| {
            documents.after(tenant, "c", after).map(|(id, _)| id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!([ids(&documents, "t", ""), ids(&documents, "t", "a")], [vec!["a", "b"], vec!["b"]]);
        assert_eq!((documents.of("t").count(), documents.of("u").count()), (3, 1));
        for (left, key) in (0..keys.len()).rev().zip(&keys) {
            documents.leave(key, |overlay| assert!(overlay.is_pending(), "more of it may wait"));
            assert!(documents.get(key).is_some());
            documents.leave(key, |overlay| *overlay = Overlay::default());
            assert!(documents.get(key).is_none() && documents.len() == left);
        }
        assert_eq!((documents.count("t"), documents.count("u"), ids(&documents, "t", "").len()), (0, 0, 0));
        add(&mut documents, names[0]);
        assert_eq!((documents.len(), documents.count("t")), (1, 1));
    }
}
