//! What was read from the sink lately, so that reading it again costs nothing. What waits is laid over it as over the sink itself.
//!
//! It never holds what this service has overwritten: a document that lands is taken out before its write stops being laid over what is read,
//! and what was read across a landing in its collection is not put in. What others write is seen when an entry is older than the TTL, and
//! not before.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use caching::{Bytes, Cache};
use clock::Clock;
use parking_lot::Mutex;

use crate::{
    document::{Fields, Key, size_of_fields},
    sink::{Page, Range},
};

/// Most collections whose last landing is remembered; beyond them all pages are forgotten.
const MOST_COLLECTIONS: usize = 10_000;

/// Bytes of an entry beside its names and fields.
const OVERHEAD: usize = 200;

/// How much is held, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long an entry is served, on the agent clock.
    pub ttl: Duration,
    /// Most entries: documents and pages.
    pub entries: u64,
    /// Most bytes of them.
    pub bytes: u64,
}

/// What a cache holds and saved since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Documents and pages held.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Reads that were answered from it.
    pub hits: u64,
    /// Reads that were not.
    pub misses: u64,
    /// Documents that were not read from the sink.
    pub saved: u64,
}

/// Remembers documents and pages of the sink.
#[derive(Debug)]
pub(crate) struct Reads {
    entries: Cache<Asked, Arc<Read>>,
    landings: Mutex<Landings>,
    saved: AtomicU64,
}

/// When reading began; what is read is only kept if nothing of its collection has landed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(u64);

#[derive(Debug, Default)]
struct Landings {
    count: u64,
    /// The last landing in each collection of each tenant.
    last: HashMap<(Arc<str>, Arc<str>), u64>,
    /// No collection that is not in `last` has had a later one.
    floor: u64,
}

/// What was asked of the sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Document(Key),
    Page(Range),
}

/// What it answered.
#[derive(Debug)]
enum Read {
    Document(Option<Fields>),
    /// With the landings there had been.
    Page(Page, u64),
}

impl Landings {
    fn last(&self, tenant: &Arc<str>, collection: &Arc<str>) -> u64 {
        self.last.get(&(Arc::clone(tenant), Arc::clone(collection))).copied().unwrap_or(self.floor)
    }

    fn note(&mut self, key: &Key) {
        if self.last.len() >= MOST_COLLECTIONS {
            self.last.clear();
            self.floor = self.count;
        }
        self.last.insert(key.row(), self.count);
    }
}

impl Reads {
    /// Makes a cache that holds nothing yet.
    pub(crate) fn new(limits: Limits, clock: Clock) -> Self {
        let bytes = Some(Bytes { most: limits.bytes, of: size });
        let options =
            caching::Options { entries: limits.entries, ttl: limits.ttl, bytes, sizing: None, resized: None };
        Self { entries: Cache::with(options, clock), landings: Mutex::default(), saved: AtomicU64::new(0) }
    }

    /// Returns the moment, in landings.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.landings.lock().count)
    }

    /// Returns a document as the sink had it, or that it had none; the outer `None` if that is not known.
    pub(crate) fn document(&self, key: &Key) -> Option<Option<Fields>> {
        let hit = self.entries.get(&Asked::Document(key.clone()))?;
        let Read::Document(fields) = &*hit.value else { return None };
        self.saved.fetch_add(1, Ordering::Relaxed);
        Some(fields.clone())
    }

    /// Keeps what was read of a document since `ticket`.
    pub(crate) fn keep_document(&self, ticket: Ticket, key: &Key, fields: Option<&Fields>) {
        let read = Arc::new(Read::Document(fields.cloned()));
        let landings = self.landings.lock();
        if landings.last(&key.tenant, &key.collection) <= ticket.0 {
            self.entries.insert(Asked::Document(key.clone()), read);
        }
    }

    /// Returns a page as the sink had it, if that is known.
    pub(crate) fn page(&self, range: &Range) -> Option<Page> {
        let is_current = |at: u64| self.landings.lock().last(&range.tenant, &range.collection) <= at;
        let serves =
            |hit: &caching::Hit<Arc<Read>>| matches!(&*hit.value, Read::Page(_, at) if is_current(*at));
        let hit = self.entries.get_if(&Asked::Page(range.clone()), serves)?;
        let Read::Page(page, _) = &*hit.value else { return None };
        // A query that finds nothing is billed as one document.
        self.saved.fetch_add(page.documents.len().max(1) as u64, Ordering::Relaxed);
        Some(page.clone())
    }

    /// Keeps what was read of a page since `ticket`.
    pub(crate) fn keep_page(&self, ticket: Ticket, range: &Range, page: &Page) {
        let read = Arc::new(Read::Page(page.clone(), ticket.0));
        let landings = self.landings.lock();
        if landings.last(&range.tenant, &range.collection) <= ticket.0 {
            self.entries.insert(Asked::Page(range.clone()), read);
        }
    }

    /// Forgets what is no longer so, as writes of `keys` have landed. Before they stop being laid over what is read.
    pub(crate) fn landed<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let mut landings = self.landings.lock();
        landings.count += 1;
        for key in keys {
            landings.note(key);
            self.entries.remove(&Asked::Document(key.clone()));
        }
    }

    /// Returns what is held and was saved.
    pub(crate) fn stats(&self) -> Stats {
        let stats = self.entries.stats();
        Stats {
            entries: stats.entries,
            bytes: stats.bytes,
            hits: stats.hits,
            misses: stats.misses,
            saved: self.saved.load(Ordering::Relaxed),
        }
    }
}

fn size(asked: &Asked, read: &Arc<Read>) -> u64 {
    let names = match asked {
        Asked::Document(key) => key.tenant.len() + key.collection.len() + key.id.len(),
        Asked::Page(range) => {
            let paths: usize = range.only.iter().map(String::len).sum();
            range.tenant.len() + range.collection.len() + range.after.len() + paths
        }
    };
    let fields = match &**read {
        Read::Document(fields) => fields.as_ref().map_or(0, size_of_fields),
        Read::Page(page, _) => {
            let one = |(id, fields): &(Arc<str>, Fields)| OVERHEAD + id.len() + size_of_fields(fields);
            page.documents.iter().map(one).sum()
        }
    };
    (OVERHEAD + names + fields) as u64
}

#[cfg(test)]
mod tests;
