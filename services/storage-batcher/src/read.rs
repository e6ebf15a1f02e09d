//! Reading: what the sink holds, with everything accepted since laid over it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    accept::micros,
    batcher::Batcher,
    buckets::{self, Summary},
    document::{Fields, Key, size_of_fields},
    error::Error,
    queue::{Overlay, Queue},
    sink::{MAX_PAGE_BYTES, Range},
};

/// Most buckets in one answer: a hundred days of one entity.
pub const MAX_BUCKETS: usize = 10_000;

/// Documents asked of the sink at once while buckets are read.
const BUCKET_PAGE: usize = 1_000;

/// Most readings of the sink for one answer. It is read again when a write was settled meanwhile: an older state would be laid over a
/// newer one. The last reading is taken as it is, since every such write was accepted while the caller waited.
const READS: u32 = 3;

/// One document as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The id.
    pub id: Arc<str>,
    /// The fields.
    pub fields: Fields,
    /// Whether the sink does not hold this state yet.
    pub pending: bool,
}

/// Documents by id, and whether there may be more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The documents.
    pub documents: Vec<Seen>,
    /// The id after which to go on, if there may be more.
    pub next: Option<Arc<str>>,
}

impl Overlay {
    /// Returns the document as it will be at the sink, given what is there now. `now`, in microseconds since the epoch, stands for the
    /// times at which the sink will apply the writes.
    #[must_use]
    pub fn apply(&self, fields: Option<Fields>, now: i64) -> Option<Fields> {
        self.entries().fold(fields, |fields, entry| entry.change().apply(fields, now))
    }
}

impl Batcher {
    /// Returns one document with pending writes applied.
    ///
    /// # Errors
    /// [`Error::NoDocument`] if there is none, [`Error::Sink`] if the sink is needed and away.
    pub async fn get(&self, key: &Key) -> Result<Seen, Error> {
        let mut tries = 0;
        let (overlay, stored) = loop {
            tries += 1;
            let (snapshot, overlay) = self.shared.snapshot(|queue| queue.overlay(key));
            let stored = if overlay.is_whole() {
                None
            } else {
                self.shared.count_read(1);
                self.shared.sink.get(key).await?
            };
            if tries >= READS || self.shared.is_current(snapshot) {
                break (overlay, stored);
            }
        };
        let fields = overlay.apply(stored, micros(self.now())).ok_or(Error::NoDocument)?;
        Ok(Seen { id: Arc::clone(&key.id), fields, pending: overlay.is_pending() })
    }

    /// Returns documents of a collection by id, with pending writes applied.
    ///
    /// # Errors
    /// [`Error::Sink`] if the sink is away.
    pub async fn list(&self, range: Range) -> Result<Listed, Error> {
        let mut listed = Listed::default();
        let mut bytes = 0;
        let mut range = range;
        let most = range.limit;
        loop {
            let (seen, last) = self.page(&range).await?;
            for document in seen {
                if listed.documents.len() >= most || bytes > MAX_PAGE_BYTES {
                    listed.next = listed.documents.last().map(|last| Arc::clone(&last.id));
                    return Ok(listed);
                }
                bytes += size_of_fields(&document.fields);
                listed.documents.push(document);
            }
            match last {
                None => return Ok(listed),
                Some(last) => range.after = last.to_string(),
            }
        }
    }

    /// Returns the buckets of one entity that start within `start..end` (seconds since the epoch), oldest first, each with
    /// whether it is open.
    ///
    /// # Errors
    /// [`Error::TooManyBuckets`] if there are more than [`MAX_BUCKETS`], [`Error::Sink`] if the sink is away.
    pub async fn buckets(
        &self,
        tenant: &Arc<str>,
        collection: &Arc<str>,
        entity: &str,
        (start, end): (Option<i64>, Option<i64>),
    ) -> Result<Vec<(Summary, bool)>, Error> {
        let within = |at: i64| start.is_none_or(|start| at >= start) && end.is_none_or(|end| at < end);
        // Open ones first: a bucket that closes meanwhile is then found among the documents too, never in neither.
        let open = self.shared.state.lock().buckets.of_entity(tenant, collection, entity);
        let mut found = BTreeMap::new();
        let prefix = buckets::path_safe(entity);
        let mut range = Range {
            tenant: Arc::clone(tenant),
            collection: Arc::clone(collection),
            after: start.map_or_else(|| format!("{prefix}_"), |start| just_before(entity, start)),
            // The sign after `_` ends the ids of this entity.
            before: Some(end.map_or_else(|| format!("{prefix}`"), |end| not_before(entity, end))),
            limit: BUCKET_PAGE,
        };
        loop {
            let listed = self.list(range.clone()).await?;
            for seen in listed.documents {
                if let Some(summary) = Summary::from_fields(&seen.fields)
                    && *summary.entity == *entity
                    && within(summary.start)
                {
                    found.insert(summary.start, (summary, false));
                }
            }
            if found.len() > MAX_BUCKETS {
                return Err(Error::TooManyBuckets { limit: MAX_BUCKETS });
            }
            match listed.next {
                None => break,
                Some(next) => range.after = next.to_string(),
            }
        }
        for summary in open.into_iter().filter(|summary| within(summary.start)) {
            found.insert(summary.start, (summary, true));
        }
        Ok(found.into_values().collect())
    }

    /// Returns one page of the sink with pending writes applied, and the id after which the next begins.
    async fn page(&self, range: &Range) -> Result<(Vec<Seen>, Option<Arc<str>>), Error> {
        let mut tries = 0;
        let (mut overlays, page) = loop {
            tries += 1;
            let look = |queue: &Queue| queue.overlays(&range.tenant, &range.collection, &range.after);
            let (snapshot, overlays) = self.shared.snapshot(look);
            let page = self.shared.sink.list(range).await?;
            if tries >= READS || self.shared.is_current(snapshot) {
                break (overlays, page);
            }
        };
        self.shared.count_read(page.documents.len());
        let last = page.documents.last().map(|(id, _)| Arc::clone(id)).filter(|_| page.more);
        let beyond = |id: &str| {
            last.as_deref().is_some_and(|last| id > last)
                || range.before.as_deref().is_some_and(|before| id >= before)
        };
        let now = micros(self.now());
        let mut seen = BTreeMap::new();
        for (id, fields) in page.documents {
            let overlay = overlays.remove(&id).unwrap_or_default();
            if let Some(fields) = overlay.apply(Some(fields), now) {
                seen.insert(Arc::clone(&id), Seen { id, fields, pending: overlay.is_pending() });
            }
        }
        for (id, overlay) in overlays {
            if !beyond(&id)
                && let Some(fields) = overlay.apply(None, now)
            {
                seen.insert(Arc::clone(&id), Seen { id, fields, pending: true });
            }
        }
        Ok((seen.into_values().collect(), last))
    }
}

/// Returns the greatest id that no bucket has before the one of `entity` that starts at `start`.
fn just_before(entity: &str, start: i64) -> String {
    let mut id = buckets::document_id(entity, start);
    id.pop();
    id
}

/// Returns the id of a bucket of `entity` that would start at `end` or, as ids name minutes, within the minute after it.
fn not_before(entity: &str, end: i64) -> String {
    buckets::document_id(entity, end.saturating_add(59))
}
