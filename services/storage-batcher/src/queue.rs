//! What waits for the sink, in memory: folded writes of each document, one wherever one does, and at most one of them on its way.
//!
//! A document is *ready* when it waits and nothing of it is on its way, so a later state can never overtake an earlier one. Ready
//! documents stand in the order of their first write, in one of two lanes: those of high priority leave at once and by themselves, all
//! others together. The queue is the memory of the journal: it holds nothing that is not on disk, and but for the newest ([`recent`]) it
//! holds it packed ([`body`]).

mod body;
mod documents;
mod entry;
mod recent;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::{
    body::Body,
    entry::{Accepted, Entry, Overlay},
};
use self::{documents::Documents, recent::Recent};
use crate::document::{Key, Priority};

/// Most bytes of one request to the sink: Firestore takes 10 MiB, half a mebibyte is left for what the estimate misses.
pub const MAX_BATCH_BYTES: usize = 9 * 1024 * 1024 + 512 * 1024;

/// When a batch goes out.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Documents of a full batch, and most in one request.
    pub documents: usize,
    /// Bytes of a full batch, and most in one request.
    pub bytes: usize,
    /// How long a write waits for others.
    pub interval: Duration,
}

/// Documents of one priority that could be sent, by their first write.
#[derive(Debug, Default)]
struct Lane {
    ready: BTreeMap<u64, Arc<Entry>>,
    bytes: usize,
}

/// Documents that could be sent.
#[derive(Debug, Default)]
struct Lanes {
    normal: Lane,
    high: Lane,
}

/// Holds every document that waits.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    documents: Documents,
    lanes: Lanes,
    due_through: u64,
    last: u64,
    journal_bytes: u64,
    records: u64,
    recent: Recent,
}

impl Queue {
    /// Makes an empty queue whose next write comes after `last`.
    #[must_use]
    pub fn new(limits: Limits, last: u64) -> Self {
        Self {
            limits,
            documents: Documents::default(),
            lanes: Lanes::default(),
            due_through: 0,
            last,
            journal_bytes: 0,
            records: 0,
            recent: Recent::default(),
        }
    }

    /// Takes in a write that is on disk; sequences must grow.
    pub fn push(&mut self, mut write: Accepted) {
        self.last = self.last.max(write.sequence);
        self.journal_bytes += write.journal_bytes;
        self.records += 1;
        let slot = self.documents.enter(&mut write.key);
        let (key, sequence) = (write.key.clone(), write.sequence);
        let bytes = self.lanes.change(slot, |slot| slot.add(write));
        self.recent.note(key, sequence, bytes);
        while let Some((key, sequence)) = self.recent.leave() {
            self.change(&key, |slot| slot.pack(sequence));
        }
    }

    /// Changes what waits of a document, if anything does.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Overlay)) {
        if let Some(slot) = self.documents.get_mut(key) {
            self.lanes.change(slot, change);
        }
    }

    /// Takes in what was on its way when the service ended, before anything else of its document.
    pub fn resume(&mut self, entry: &Arc<Entry>) {
        self.last = self.last.max(entry.last());
        self.journal_bytes += entry.journal_bytes;
        self.records += entry.records.len() as u64;
        self.documents.enter(&mut entry.key.clone()).flight = Some(Arc::clone(entry));
    }

    /// Sends what waits of `key` at once.
    pub fn hurry(&mut self, key: &Key) {
        self.change(key, Overlay::hurry);
    }

    /// Makes everything accepted so far due; returns the place up to which.
    pub fn make_due(&mut self) -> u64 {
        self.due_through = self.last;
        self.last
    }

    /// Takes the next batch of at most `most` documents of `priority` out if one is due at `now` or full; they are on their way from here on.
    pub fn next_batch(
        &mut self,
        priority: Priority,
        now: SystemTime,
        most: usize,
    ) -> Option<Vec<Arc<Entry>>> {
        let through = match priority {
            Priority::High => u64::MAX,
            Priority::Normal => self.due(now)?,
        };
        let lane = self.lanes.of(priority);
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((first, entry)) = lane.ready.first_key_value() {
            if *first > through || batch.len() >= most || !fits(&self.limits, batch.len(), bytes, entry.bytes)
            {
                break;
            }
            bytes += entry.bytes;
            batch.extend(lane.pop());
        }
        for entry in &batch {
            if let Some(slot) = self.documents.get_mut(&entry.key) {
                slot.depart();
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Returns the documents of `priority` that could leave at `now`, no more than fit a request.
    pub fn next_len(&mut self, priority: Priority, now: SystemTime) -> usize {
        let due = match priority {
            Priority::High => self.lanes.high.ready.len(),
            Priority::Normal => self.due_len(now),
        };
        due.min(self.limits.documents)
    }

    /// Returns the documents of normal priority that could leave at `now`.
    pub fn due_len(&mut self, now: SystemTime) -> usize {
        match self.due(now) {
            None => 0,
            Some(through) if through >= self.last => self.lanes.normal.ready.len(),
            Some(through) => self.lanes.normal.ready.range(..=through).count(),
        }
    }

    /// Returns the documents of normal priority that were due when that was last asked.
    pub fn due_now(&self) -> impl Iterator<Item = &Arc<Entry>> + Clone {
        self.lanes.normal.ready.range(..=self.due_through).map(|(_, entry)| entry)
    }

    /// Returns the places in the order of sending at which documents of `tenant` with normal priority could leave, and how many of all tenants
    /// could.
    #[must_use]
    pub fn places(&self, tenant: &str) -> (Vec<u64>, u64) {
        let own =
            (0..).zip(self.lanes.normal.ready.values()).filter(|(_, entry)| *entry.key.tenant == *tenant);
        (own.map(|(place, _)| place).collect(), self.lanes.normal.ready.len() as u64)
    }

    /// Returns the place up to which documents of normal priority leave at `now`.
    fn due(&mut self, now: SystemTime) -> Option<u64> {
        let (first, oldest) = self.lanes.normal.ready.first_key_value()?;
        let mut due = *first <= self.due_through;
        if !due && oldest.since + self.limits.interval <= now {
            self.due_through = self.last;
            due = true;
        }
        let full = self.lanes.normal.ready.len() >= self.limits.documents
            || self.lanes.normal.bytes >= self.limits.bytes;
        match (full, due) {
            (true, _) => Some(u64::MAX),
            (false, true) => Some(self.due_through),
            (false, false) => None,
        }
    }

    /// Forgets what was on its way: it is settled, on disk too. Writes that came meanwhile become ready.
    pub fn land<'a>(&mut self, entries: impl IntoIterator<Item = &'a Arc<Entry>>) {
        for entry in entries {
            self.journal_bytes = self.journal_bytes.saturating_sub(entry.journal_bytes);
            self.records = self.records.saturating_sub(entry.records.len() as u64);
            self.documents.leave(&entry.key, |slot| {
                slot.flight = None;
                if let Some(waiting) = slot.waiting.first() {
                    self.lanes.of(slot.priority()).put(waiting);
                }
            });
        }
    }

    /// Returns when the oldest ready write of normal priority has waited long enough.
    #[must_use]
    pub fn next_deadline(&self) -> Option<SystemTime> {
        self.lanes.normal.ready.first_key_value().map(|(_, entry)| entry.since + self.limits.interval)
    }

    /// Returns what the sink does not hold yet of one document.
    #[must_use]
    pub fn overlay(&self, key: &Key) -> Overlay {
        self.documents.get(key).cloned().unwrap_or_default()
    }

    /// Returns the bytes of that, by the quick estimate.
    #[must_use]
    pub fn bytes(&self, key: &Key) -> usize {
        self.documents.get(key).map_or(0, |overlay| overlay.entries().map(|entry| entry.bytes).sum())
    }

    /// Returns what the sink does not hold yet of the collection's documents with an id after `after`, in order of id.
    pub fn overlays(
        &self,
        tenant: &str,
        collection: &str,
        after: &str,
    ) -> impl Iterator<Item = (&Arc<str>, &Overlay)> {
        self.documents.after(tenant, collection, after)
    }

    /// Returns the documents of `tenant` that wait and are not on their way, in the order they would be sent.
    #[must_use]
    pub fn waiting(&self, tenant: &str) -> Vec<Arc<Entry>> {
        let mut waiting: Vec<_> =
            self.documents.of(tenant).flat_map(|slot| slot.waiting.iter().cloned()).collect();
        waiting.sort_by_key(|entry| entry.first());
        waiting
    }

    /// Returns how many sendings are needed until everything of `tenant` accepted up to `through` is at the sink.
    #[must_use]
    pub fn outstanding(&self, tenant: &str, through: u64) -> u64 {
        let entries = self.documents.of(tenant).flat_map(Overlay::entries);
        entries.filter(|entry| entry.first() <= through).count() as u64
    }

    /// Returns the documents of `tenant` that wait for the sink.
    #[must_use]
    pub fn documents(&self, tenant: &str) -> u64 {
        self.documents.count(tenant)
    }

    /// Returns the documents of all tenants that wait for the sink.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Returns whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.len() == 0
    }

    /// Returns how many of the journal's records are not settled.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Returns the bytes of the journal's records.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    /// Returns the place of the newest write.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Lane {
    fn put(&mut self, entry: &Arc<Entry>) {
        self.bytes += entry.bytes;
        self.ready.insert(entry.first(), Arc::clone(entry));
    }

    fn take(&mut self, first: u64) {
        if let Some(entry) = self.ready.remove(&first) {
            self.bytes -= entry.bytes;
        }
    }

    /// Takes out what has waited longest.
    fn pop(&mut self) -> Option<Arc<Entry>> {
        let (_, entry) = self.ready.pop_first()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

impl Lanes {
    fn of(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Normal => &mut self.normal,
            Priority::High => &mut self.high,
        }
    }

    /// Changes what waits of a document, and with it the place of that.
    fn change<T>(&mut self, slot: &mut Overlay, change: impl FnOnce(&mut Overlay) -> T) -> T {
        // Only the oldest of those that wait is ready. Out of its lane first: a copy is made only while a reader holds the entry, and it may
        // become more urgent.
        let is_ready = slot.flight.is_none();
        if is_ready && let Some(waiting) = slot.waiting.first() {
            self.of(slot.priority()).take(waiting.first());
        }
        let changed = change(slot);
        if is_ready && let Some(waiting) = slot.waiting.first() {
            self.of(slot.priority()).put(waiting);
        }
        changed
    }
}

/// Returns whether a document of `next` bytes fits a request that holds `documents` of `bytes`; an empty one takes any.
#[must_use]
pub fn fits(limits: &Limits, documents: usize, bytes: usize, next: usize) -> bool {
    documents == 0 || (documents < limits.documents && bytes + next <= limits.bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::{Accepted, Entry, Limits, MAX_BATCH_BYTES, Queue};
    use crate::{
        change::{Change, Node, Tree},
        document::{
            Fields, Key,
            Priority::{self, High, Normal},
            Value,
        },
        ledger::Weight,
    };

    const ALL: usize = usize::MAX;
    const LIMITS: Limits = Limits { documents: 3, bytes: MAX_BATCH_BYTES, interval: Duration::from_secs(60) };

    fn write(sequence: u64, id: &str, number: i64, priority: Priority) -> Accepted {
        Accepted {
            sequence,
            key: Key::new("default", "pools", id),
            change: Change::merge(Fields::from([("n".to_owned(), Value::Integer(number))])),
            priority,
            at: UNIX_EPOCH,
            weight: Weight { writes: 1, ..Weight::default() },
            caller: "".into(),
            journal_bytes: 10,
        }
    }

    fn ids(batch: Option<Vec<Arc<Entry>>>) -> Vec<String> {
        batch.unwrap_or_default().iter().map(|entry| entry.key.id.to_string()).collect()
    }

    fn queue_of(ids: &[&str]) -> Queue {
        let mut queue = Queue::new(LIMITS, 0);
        for (sequence, id) in (1..).zip(ids) {
            queue.push(write(sequence, id, 0, Normal));
        }
        queue
    }

    fn later(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn writes_to_one_document_are_one_and_do_not_fill_a_batch() {
        let mut queue = queue_of(&["a", "a", "a", "b"]);
        assert_eq!(queue.next_batch(Normal, UNIX_EPOCH, ALL).map(|batch| batch.len()), None);
        assert_eq!(queue.len(), 2);
        queue.push(write(9, "c", 0, Normal));
        assert_eq!(ids(queue.next_batch(Normal, UNIX_EPOCH, ALL)), ["a", "b", "c"]);
    }

    #[test]
    fn the_oldest_write_makes_everything_due_after_the_interval() {
        let mut queue = queue_of(&["b", "a"]);
        assert_eq!(queue.next_deadline(), Some(later(60)));
        assert!(queue.next_batch(Normal, later(59), ALL).is_none());
        assert_eq!(ids(queue.next_batch(Normal, later(60), ALL)), ["b", "a"]);
        assert_eq!(queue.next_deadline(), None);
    }

    #[test]
    fn a_high_priority_leaves_by_itself_and_takes_only_its_own_document_along() {
        let mut queue = queue_of(&["b", "a"]);
        queue.push(write(3, "a", 1, High));
        queue.push(write(4, "later", 0, Normal));
        queue.push(write(5, "c", 0, High));
        queue.limits.documents = 10;
        let urgent = queue.next_batch(High, UNIX_EPOCH, ALL).expect("at once");
        assert_eq!((&urgent[0].records[..], &*urgent[1].key.id, urgent.len()), (&[2, 3][..], "c", 2));
        assert!(queue.next_batch(High, UNIX_EPOCH, ALL).is_none());
        assert!(queue.next_batch(Normal, UNIX_EPOCH, ALL).is_none(), "the others wait on");
        assert_eq!(ids(queue.next_batch(Normal, later(60), ALL)), ["b", "later"]);
    }

    #[test]
    fn a_document_with_an_urgent_write_behind_others_is_urgent_from_its_first_on() {
        let removal =
            Tree::from([("m".to_owned(), Node::Within(Tree::from([("n".to_owned(), Node::Remove)])))]);
        let made = Tree::from([("m".to_owned(), Node::Within(Tree::from([("n".to_owned(), Node::Now)])))]);
        let mut queue = Queue::new(LIMITS, 0);
        queue.push(Accepted { change: Change::Patch(made), ..write(1, "a", 0, Normal) });
        queue.push(Accepted { change: Change::Patch(removal), ..write(2, "a", 0, High) });
        let first = queue.next_batch(High, UNIX_EPOCH, ALL).expect("urgent");
        assert_eq!(first[0].records[..], [1]);
        queue.land(&first);
        let second = queue.next_batch(High, UNIX_EPOCH, ALL).expect("urgent itself");
        assert_eq!(second[0].records[..], [2]);
        queue.land(&second);
        assert_eq!(
            (queue.lanes.high.bytes, queue.lanes.normal.bytes, queue.records(), queue.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn what_somebody_comes_to_wait_for_is_hurried() {
        let mut queue = queue_of(&["a", "b"]);
        queue.hurry(&Key::new("default", "pools", "b"));
        queue.hurry(&Key::new("default", "pools", "not there"));
        assert_eq!(ids(queue.next_batch(High, UNIX_EPOCH, ALL)), ["b"]);
        queue.push(write(3, "b", 1, Normal));
        queue.hurry(&Key::new("default", "pools", "b"));
        assert!(queue.next_batch(High, UNIX_EPOCH, ALL).is_none(), "one batch in flight a document");
        assert_eq!(ids(queue.next_batch(Normal, later(60), ALL)), ["a"]);
        assert_eq!((queue.lanes.normal.bytes, queue.lanes.high.bytes), (0, 0));
    }

    #[test]
    fn bytes_fill_a_batch_too() {
        let mut queue = queue_of(&["a", "b"]);
        queue.limits.documents = 100;
        queue.limits.bytes = 400;
        assert_eq!(ids(queue.next_batch(Normal, UNIX_EPOCH, ALL)), ["a"]);
        assert_eq!(ids(queue.next_batch(Normal, UNIX_EPOCH, ALL)), Vec::<String>::new());
    }

    #[test]
    fn a_document_on_its_way_holds_back_its_next_state() {
        let mut queue = queue_of(&["a"]);
        queue.make_due();
        let batch = queue.next_batch(Normal, UNIX_EPOCH, ALL).expect("due");
        queue.push(write(2, "a", 2, High));
        queue.push(write(3, "a", 3, High));
        assert!(queue.next_batch(High, UNIX_EPOCH, ALL).is_none(), "one batch in flight a document");
        assert_eq!(queue.records(), 3);
        assert_eq!((queue.len(), queue.outstanding("default", 3)), (1, 2));
        queue.land(&batch);
        let next = queue.next_batch(High, UNIX_EPOCH, ALL).expect("ready now");
        assert_eq!(next[0].records[..], [2, 3]);
        let expected = Change::merge(Fields::from([("n".to_owned(), Value::Integer(3))]));
        assert_eq!(*next[0].change(), expected);
        queue.land(&next);
        assert!(queue.is_empty());
        assert_eq!((queue.journal_bytes(), queue.documents("default"), queue.lanes.normal.bytes), (0, 0, 0));
    }

    #[test]
    fn what_does_not_fold_waits_behind_the_first_and_counts_for_itself() {
        let removal = Tree::from([("n".to_owned(), Node::Remove)]);
        let inner = Tree::from([("m".to_owned(), Node::Within(removal))]);
        let nested = |node| Change::Patch(Tree::from([("m".to_owned(), node)]));
        let made = Node::Within(Tree::from([("n".to_owned(), Node::Now)]));
        let mut queue = Queue::new(LIMITS, 0);
        let changes = [nested(made), Change::Patch(inner), Change::merge(Fields::new())];
        for (sequence, change) in (1..).zip(changes) {
            queue.push(Accepted { change, ..write(sequence, "a", 0, Normal) });
        }
        assert_eq!((queue.len(), queue.documents("default"), queue.outstanding("default", 3)), (1, 1, 2));
        queue.make_due();
        let first = queue.next_batch(Normal, UNIX_EPOCH, ALL).expect("due");
        assert_eq!(first[0].records[..], [1]);
        assert!(queue.next_batch(Normal, UNIX_EPOCH, ALL).is_none());
        queue.land(&first);
        let second = queue.next_batch(Normal, UNIX_EPOCH, ALL).expect("due since it was accepted");
        assert_eq!(second[0].records[..], [2, 3]);
        queue.land(&second);
        assert_eq!((queue.len(), queue.lanes.normal.bytes, queue.journal_bytes()), (0, 0, 0));
    }

    #[test]
    fn a_batch_is_no_larger_than_asked_and_the_rest_stays_due() {
        let mut queue = queue_of(&["a", "b"]);
        let mut other = write(3, "c", 0, Normal);
        other.key = Key::new("other", "pools", "c");
        queue.limits.documents = 10;
        queue.push(other);
        assert_eq!((queue.due_len(UNIX_EPOCH), queue.due_now().count()), (0, 0));
        queue.make_due();
        queue.push(write(4, "later", 0, Normal));
        assert_eq!((queue.next_len(Normal, UNIX_EPOCH), queue.due_now().count()), (3, 3));
        assert_eq!(queue.places("default"), (vec![0, 1, 3], 4));
        assert!(queue.next_batch(Normal, UNIX_EPOCH, 0).is_none());
        assert_eq!(ids(queue.next_batch(Normal, UNIX_EPOCH, 2)), ["a", "b"]);
        assert_eq!((queue.due_len(UNIX_EPOCH), queue.places("other")), (1, (vec![0], 2)));
        queue.limits.documents = 2;
        assert_eq!(queue.next_len(Normal, UNIX_EPOCH), 2, "full");
    }

    #[test]
    fn overlays_stay_within_tenant_and_collection() {
        let mut queue = queue_of(&["a", "b"]);
        let mut other = write(7, "c", 0, Normal);
        other.key = Key::new("other", "pools", "c");
        queue.push(other);
        let ids = |collection, after| {
            queue.overlays("default", collection, after).map(|(id, _)| &**id).collect::<Vec<_>>()
        };
        assert_eq!((ids("pools", "a"), ids("pool", "")), (vec!["b"], vec![]));
        assert_eq!(queue.outstanding("other", 100), 1);
    }

    #[test]
    fn all_but_the_newest_wait_packed_and_leave_as_they_came() {
        let texts = |queue: &mut Queue, sequences: std::ops::Range<u64>, id: &dyn Fn(u64) -> String| {
            for sequence in sequences {
                let text = Value::Text("x".repeat(100_000));
                let change = Change::merge(Fields::from([("text".to_owned(), text)]));
                queue.push(Accepted { change, ..write(sequence, &id(sequence), 0, Normal) });
            }
        };
        let packed = |queue: &Queue| {
            let waiting = queue.waiting("default");
            waiting
                .iter()
                .filter(|entry| entry.is_packed())
                .map(|entry| entry.key.id.to_string())
                .collect::<Vec<_>>()
        };
        let mut queue = queue_of(&["hot", "cold"]);
        texts(&mut queue, 3..53, &|sequence| format!("{sequence}"));
        assert_eq!(packed(&queue), Vec::<String>::new(), "all of them are new");
        queue.push(write(53, "hot", 1, Normal));
        texts(&mut queue, 54..104, &|_| "large".to_owned());
        let found = packed(&queue);
        assert!(found.contains(&"cold".to_owned()) && !found.contains(&"hot".to_owned()), "{found:?}");
        assert!(found.contains(&"3".to_owned()) && !found.contains(&"large".to_owned()), "{found:?}");
        queue.push(write(104, "cold", 7, Normal));
        assert!(!packed(&queue).contains(&"cold".to_owned()), "it is written again");
        texts(&mut queue, 105..205, &|_| "large".to_owned());
        assert!(packed(&queue).contains(&"cold".to_owned()) && packed(&queue).contains(&"hot".to_owned()));
        queue.make_due();
        let batch = queue.next_batch(Normal, UNIX_EPOCH, ALL).expect("due");
        let ids = batch.iter().map(|entry| (&*entry.key.id, &entry.records[..]));
        assert_eq!(ids.collect::<Vec<_>>(), [("hot", &[1, 53][..]), ("cold", &[2, 104]), ("3", &[3])]);
        let number = |number| Change::merge(Fields::from([("n".to_owned(), Value::Integer(number))]));
        assert_eq!([&*batch[0].change(), &*batch[1].change()], [&number(1), &number(7)]);
    }

    #[test]
    fn the_names_of_a_collection_are_in_memory_once() {
        let queue = queue_of(&["b", "a", "c"]);
        let waiting = queue.waiting("default");
        let shared = |entry: &Arc<Entry>| Arc::ptr_eq(&entry.key.collection, &waiting[0].key.collection);
        assert!(waiting.len() == 3 && waiting.iter().all(shared));
    }
}
