//! Reading: what the sink holds, with everything accepted since laid over it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use crate::{
    aggregate::{pack, rules::WINDOW_SECONDS},
    batcher::Batcher,
    buckets::{self, Summary},
    cache::Reads,
    document::{Fields, Key, micros, size_of_fields},
    error::Error,
    queue::{Overlay, Queue},
    sink::{MAX_PAGE_BYTES, Page, Range},
};

/// Most buckets in one answer: a hundred days of one entity.
pub const MAX_BUCKETS: usize = 10_000;

/// Documents asked of the sink at once while buckets are read.
const BUCKET_PAGE: usize = 1_000;

/// Waiting documents that one page looks at: twice as many as a page shows at most. While the sink is away a million may wait.
const MOST_WAITING: usize = 2_000;

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
        let mut overlay = self.shared.look(|queue| queue.overlay(key));
        let mut stored = None;
        if !overlay.is_whole() {
            stored = self.stored(key, &overlay).await?;
            while self.take_landed([&mut overlay]).await? {
                stored = self.read(key, &overlay).await?;
            }
        }
        let fields = overlay.apply(stored, micros(self.now())).ok_or(Error::NoDocument)?;
        Ok(Seen { id: Arc::clone(&key.id), fields, pending: overlay.is_pending() })
    }

    /// Returns one document as the sink has it, or had it lately. Asked after `overlay` was taken: what is remembered changes before what
    /// waits does.
    async fn stored(&self, key: &Key, overlay: &Overlay) -> Result<Option<Fields>, Error> {
        match self.shared.reads.as_ref().and_then(|reads| reads.document(key)) {
            Some(stored) => Ok(stored),
            None => self.read(key, overlay).await,
        }
    }

    /// Returns one document as the sink has it.
    async fn read(&self, key: &Key, overlay: &Overlay) -> Result<Option<Fields>, Error> {
        let reads = self.shared.reads.as_ref();
        let ticket = reads.map(Reads::ticket);
        self.shared.count_read(1);
        let stored = self.shared.sink.get(key).await?;
        // Whether what is on its way has arrived is not known.
        if let (Some(reads), Some(ticket), None) = (reads, ticket, &overlay.flight) {
            reads.keep_document(ticket, key, stored.as_ref());
        }
        Ok(stored)
    }

    /// Returns one page as the sink has it, or had it lately, as [`Batcher::stored`] does.
    async fn stored_page(
        &self,
        range: &Range,
        overlays: &BTreeMap<Arc<str>, Overlay>,
    ) -> Result<Page, Error> {
        match self.shared.reads.as_ref().and_then(|reads| reads.page(range)) {
            Some(page) => Ok(page),
            None => self.read_page(range, overlays).await,
        }
    }

    /// Returns one page as the sink has it.
    async fn read_page(&self, range: &Range, overlays: &BTreeMap<Arc<str>, Overlay>) -> Result<Page, Error> {
        let reads = self.shared.reads.as_ref();
        let ticket = reads.map(Reads::ticket);
        let page = self.shared.sink.list(range).await?;
        self.shared.count_read(page.documents.len());
        let is_decided = overlays.values().all(|overlay| overlay.flight.is_none());
        if let (Some(reads), Some(ticket), true) = (reads, ticket, is_decided) {
            reads.keep_page(ticket, range, &page);
        }
        Ok(page)
    }

    /// Takes what has left the journal out of `overlays`; returns whether there was any. The sink is to be read anew then: what it gave before
    /// may hold that, and would be laid below it a second time. What is in the journal still was in nothing that was read before.
    async fn take_landed<'a>(
        &self,
        overlays: impl IntoIterator<Item = &'a mut Overlay>,
    ) -> Result<bool, Error> {
        let mut overlays: Vec<_> = overlays.into_iter().filter(|overlay| overlay.is_pending()).collect();
        if overlays.is_empty() {
            return Ok(false);
        }
        let entries = overlays.iter().flat_map(|overlay| overlay.entries());
        let firsts: Vec<u64> = entries.map(|entry| entry.first()).collect();
        let store = self.shared.store.clone();
        let look = move || store.landed(&firsts);
        let landed = self.shared.telemetry.spawn_blocking(look).await.map_err(|_| Error::NotReady)??;
        overlays.iter_mut().for_each(|overlay| overlay.retain(|entry| !landed.contains(&entry.first())));
        Ok(!landed.is_empty())
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
        // Open ones first: a bucket that closes meanwhile is then found among the documents too, never in neither.
        let (open, spans) = {
            let state = self.shared.state.lock();
            let open = state.buckets.of_entity(tenant, collection, entity);
            (open, state.places.spans(tenant, collection, entity))
        };
        let within = |at: i64| start.is_none_or(|start| at >= start) && end.is_none_or(|end| at < end);
        let mut found = BTreeMap::new();
        for span in spans {
            let (from, until) = (later(start, span.since), earlier(end, span.until));
            if from.zip(until).is_some_and(|(from, until)| from >= until) {
                continue;
            }
            let read = |fields: &Fields| match span.pack {
                None => Summary::from_fields(fields).filter(|summary| *summary.entity == *entity),
                Some(_) => pack::unpack(fields, entity),
            };
            let head = span.pack.map_or_else(|| buckets::path_safe(entity), pack::prefix);
            // Of a shared document nobody needs the buckets of others.
            let only = span.pack.map_or_else(Vec::new, |_| pack::paths(entity));
            let range = Range {
                tenant: Arc::clone(tenant),
                collection: Arc::clone(collection),
                after: from.map_or_else(|| format!("{head}_"), |start| just_before(&head, start)),
                // The sign after `_` ends the ids that begin so.
                before: Some(until.map_or_else(|| format!("{head}`"), |end| not_before(&head, end))),
                limit: BUCKET_PAGE,
                only,
            };
            let within = |at: i64| from.is_none_or(|from| at >= from) && until.is_none_or(|until| at < until);
            self.stored_buckets(range, |fields| read(fields).filter(|found| within(found.start)), &mut found)
                .await?;
        }
        for summary in open.into_iter().filter(|summary| within(summary.start)) {
            found.insert((summary.start, summary.length), (summary, true));
        }
        Ok(found.into_values().collect())
    }

    /// Finds the buckets that `read` sees in the documents of `range`.
    async fn stored_buckets(
        &self,
        mut range: Range,
        read: impl Fn(&Fields) -> Option<Summary>,
        found: &mut BTreeMap<(i64, i64), (Summary, bool)>,
    ) -> Result<(), Error> {
        loop {
            let listed = self.list(range.clone()).await?;
            for summary in listed.documents.iter().filter_map(|seen| read(&seen.fields)) {
                found.insert((summary.start, summary.length), (summary, false));
            }
            if found.len() > MAX_BUCKETS {
                return Err(Error::TooManyBuckets { limit: MAX_BUCKETS });
            }
            match listed.next {
                None => return Ok(()),
                Some(next) => range.after = next.to_string(),
            }
        }
    }

    /// Returns one page of the sink with pending writes applied, and the id after which the next begins.
    async fn page(&self, range: &Range) -> Result<(Vec<Seen>, Option<Arc<str>>), Error> {
        let look = |queue: &Queue| {
            let waiting = queue.overlays(&range.tenant, &range.collection, &range.after);
            let is_within = |id: &str| range.before.as_deref().is_none_or(|before| id < before);
            let mut waiting = waiting.take_while(|(id, _)| is_within(id));
            let owned = |(id, overlay): (&Arc<str>, &Overlay)| (Arc::clone(id), overlay.clone());
            let overlays: BTreeMap<_, _> = waiting.by_ref().take(MOST_WAITING).map(owned).collect();
            let last = overlays.keys().next_back().cloned();
            (overlays, last.filter(|_| waiting.next().is_some()))
        };
        let (mut overlays, looked_at) = self.shared.look(look);
        let mut page = self.stored_page(range, &overlays).await?;
        // What lies over no document of the page was applied to none of them.
        while self.take_landed(within(&mut overlays, &page)).await? {
            page = self.read_page(range, &overlays).await?;
        }
        let read = page.documents.last().map(|(id, _)| Arc::clone(id)).filter(|_| page.more);
        let last = read.into_iter().chain(looked_at).min();
        let beyond = |id: &str| last.as_deref().is_some_and(|last| id > last);
        let now = micros(self.now());
        let mut seen = BTreeMap::new();
        for (id, fields) in page.documents {
            if beyond(&id) {
                break;
            }
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

/// Returns those of `overlays` that lie over documents of `page`.
fn within<'a>(
    overlays: &'a mut BTreeMap<Arc<str>, Overlay>,
    page: &Page,
) -> impl Iterator<Item = &'a mut Overlay> {
    let ids: HashSet<Arc<str>> = page.documents.iter().map(|(id, _)| Arc::clone(id)).collect();
    overlays.iter_mut().filter(move |(id, _)| ids.contains(*id)).map(|(_, overlay)| overlay)
}

/// Returns the later of two starts, where there are any.
fn later(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.max(other)
}

/// Returns the earlier of two ends, where there are any.
fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

/// Returns an id that comes before those of buckets below `head` that start at `start` or later, and after all that start before.
fn just_before(head: &str, start: i64) -> String {
    let mut id = buckets::document_id(head, start, WINDOW_SECONDS);
    id.pop();
    id
}

/// Returns the id of a bucket below `head` that would start at `end` or, as ids name minutes, within the minute after it.
fn not_before(head: &str, end: i64) -> String {
    buckets::document_id(head, end.saturating_add(59), WINDOW_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant, UNIX_EPOCH},
    };

    use clock::{Clock, Hand};
    use journal::Journal;
    use telemetry::Telemetry;

    use super::MOST_WAITING;
    use crate::{
        Config,
        aggregate::rules::Rules,
        batcher::Batcher,
        change::{Change, Node, Number, Transform, Tree},
        document::{Fields, Key, Priority, Value},
        sink::{Range, Sink, Verdict, embedded::Embedded},
        store::{Landing, Store},
        write::NewWrite,
    };

    /// A batcher that sends nothing by itself.
    struct Bench {
        batcher: Batcher,
        store: Store,
        sink: Arc<dyn Sink>,
        clock: Clock,
        _hand: Hand,
        _folder: tempfile::TempDir,
    }

    async fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let journal =
            Journal::open(folder.path().join("storage.redb"), &journal::Options::default()).unwrap();
        let sink: Arc<dyn Sink> = Arc::new(Embedded::open(journal.clone()).await.unwrap());
        let store = Store::new(journal, Instant::now());
        let mut options = Config::defaults().options(Rules::built_in(Duration::ZERO));
        options.limits.documents = usize::MAX;
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_795_342_500));
        let telemetry = Telemetry::silent("storage-batcher");
        let batcher = Batcher::start(options, store.clone(), Arc::clone(&sink), telemetry, clock.clone());
        let batcher = batcher.await.unwrap();
        Bench { batcher, store, sink, clock, _hand: hand, _folder: folder }
    }

    fn count(key: &Key) -> NewWrite {
        let increment = Node::Transforms(vec![Transform::Increment(Number::Integer(1))]);
        NewWrite {
            key: key.clone(),
            change: Change::Patch(Tree::from([("n".to_owned(), increment)])),
            priority: Priority::Normal,
            idempotency_key: None,
            caller: "".into(),
        }
    }

    /// Returns the range of all documents beside that of `key`.
    fn range(key: &Key, limit: usize) -> Range {
        Range {
            tenant: Arc::clone(&key.tenant),
            collection: Arc::clone(&key.collection),
            after: String::new(),
            before: None,
            limit,
            only: Vec::new(),
        }
    }

    /// Returns the document as a caller sees it, alone and in a list.
    async fn seen(batcher: &Batcher, key: &Key) -> [Fields; 2] {
        let listed = batcher.list(range(key, 10)).await.unwrap().documents.remove(0);
        [batcher.get(key).await.unwrap().fields, listed.fields]
    }

    #[tokio::test]
    async fn a_listing_sees_every_document_of_more_than_one_look_at_what_waits() {
        let Bench { batcher, .. } = &bench().await;
        let write = |number: usize, change| NewWrite {
            change,
            ..count(&Key::new("t", "c", &format!("{number:05}")))
        };
        let one = || Change::set([("n".to_owned(), Value::Integer(1))]);
        // Every fifth is stored, and of those every other is deleted since.
        let all = 2 * MOST_WAITING + 10;
        let stored = (0..all + 50).step_by(5).map(|number| write(number, one())).collect();
        batcher.write("t".into(), stored).await.unwrap();
        batcher.flush("t".into(), false).await.unwrap();
        let change =
            |number| if number % 10 == 0 { Change::Delete } else { count(&Key::new("t", "c", "")).change };
        let waiting = (0..all).map(|number| write(number, change(number))).collect();
        batcher.write("t".into(), waiting).await.unwrap();
        let mut range = range(&Key::new("t", "c", ""), 1_000);
        let mut found = Vec::new();
        loop {
            let listed = batcher.list(range.clone()).await.unwrap();
            found.extend(listed.documents.into_iter().map(|seen| (seen.id.to_string(), seen.fields)));
            let Some(next) = listed.next else { break };
            range.after = next.to_string();
        }
        let fields = |number| Fields::from([("n".to_owned(), Value::Integer(number))]);
        let waiting = (0..all).filter(|number| number % 10 != 0);
        let waiting = waiting.map(|number| (number, fields(if number % 5 == 0 { 2 } else { 1 })));
        let stored = (all..all + 50).step_by(5).map(|number| (number, fields(1)));
        let expected = waiting.chain(stored).map(|(number, fields)| (format!("{number:05}"), fields));
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert_eq!(batcher.drain(Duration::from_secs(60)).await, 0);
    }

    #[tokio::test]
    async fn what_has_left_the_journal_and_is_not_known_to_have_is_shown_once() {
        let Bench { batcher, store, sink, clock, .. } = &bench().await;
        let key = Key::new("t", "c", "a");
        let two = || [(); 2].map(|()| Fields::from([("n".to_owned(), Value::Integer(2))]));
        batcher.write("t".into(), vec![count(&key)]).await.unwrap();
        let leaves = {
            let queue = &mut batcher.shared.state.lock().queue;
            queue.make_due();
            queue.next_batch(Priority::Normal, clock.now(), usize::MAX).unwrap()
        };
        batcher.write("t".into(), vec![count(&key)]).await.unwrap();
        assert_eq!(seen(batcher, &key).await, two());
        let entries = leaves.into_iter().map(|entry| (entry, Verdict::Accepted, 1)).collect();
        let landing = Landing { entries, ledgers: Vec::new(), now: clock.now() };
        store.settle(landing, Arc::clone(sink)).await.unwrap();
        assert_eq!(seen(batcher, &key).await, two());
    }
}
