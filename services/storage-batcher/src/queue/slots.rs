//! What waits of every document, by tenant, collection and id. So names are in memory once, and to find a document compares ids alone.

use std::{
    collections::{BTreeMap, btree_map::Entry::Occupied},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use super::entry::Overlay;
use crate::document::Key;

/// The documents that wait; what waits of each is never empty for long.
#[derive(Debug, Default)]
pub(super) struct Slots {
    tenants: BTreeMap<Arc<str>, Tenant>,
    documents: usize,
}

#[derive(Debug, Default)]
struct Tenant {
    collections: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Overlay>>,
    documents: u64,
}

impl Slots {
    /// Returns what waits of a document.
    pub(super) fn get(&self, key: &Key) -> Option<&Overlay> {
        self.tenants.get(&key.tenant)?.collections.get(&key.collection)?.get(&key.id)
    }

    /// Returns what waits of a document.
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
            tenant.documents += 1;
            self.documents += 1;
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
        self.documents -= 1;
        tenant.documents -= 1;
        if collection.is_empty() {
            tenant.collections.remove(&key.collection);
        }
        if tenant.documents == 0 {
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
        self.tenants.get(tenant).map_or(0, |tenant| tenant.documents)
    }

    /// Returns all documents.
    pub(super) fn len(&self) -> usize {
        self.documents
    }
}
