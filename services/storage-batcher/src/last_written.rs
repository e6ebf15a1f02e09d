//! What the sink holds of the documents that were written last, so that a write which changes nothing need not be sent.
//!
//! Only sound while this service is the only writer of these documents: what others write is not seen here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    codec::{decode_fields, encode_fields},
    document::{Fields, Key},
    queue::Entry,
    sink::Verdict,
};

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most documents.
    pub documents: usize,
    /// Most bytes of those documents.
    pub bytes: usize,
}

/// Remembers documents as they were written, the last used ones.
#[derive(Debug)]
pub struct LastWritten {
    limits: Limits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    documents: HashMap<Key, Document>,
    /// Documents by their last use.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Document {
    /// Encoded; `None` where there is no document.
    state: Option<Arc<[u8]>>,
    used: u64,
}

impl LastWritten {
    /// Makes a memory that holds nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    /// Returns whether the sink holds already what it would hold after `entry`.
    #[must_use]
    pub fn holds(&self, entry: &Entry) -> bool {
        let change = entry.change();
        if change.is_timed() {
            return false;
        }
        let Some(state) = self.held.lock().get(&entry.key) else { return false };
        // Compared as bytes: 0.0 and -0.0 are two values, and NaN is itself.
        let after = change.apply(decode(state.as_deref()), 0);
        after.map(|fields| encode_fields(&fields)).as_deref() == state.as_deref()
    }

    /// Takes in what the sink said of `entry`.
    pub fn note(&self, entry: &Entry, verdict: &Verdict) {
        if *verdict == Verdict::Unchanged {
            return;
        }
        let (change, before) = (entry.change(), self.held.lock().get(&entry.key));
        // Of a patch to something unknown, and of a time that only the sink knows, the document is not known.
        let is_known =
            *verdict == Verdict::Accepted && !change.is_timed() && (change.is_whole() || before.is_some());
        let after = is_known.then(|| {
            let before = before.and_then(|state| decode(state.as_deref()));
            change.apply(before, 0).map(|fields| encode_fields(&fields).into())
        });
        self.held.lock().put(&self.limits, &entry.key, after);
    }
}

impl Held {
    fn get(&mut self, key: &Key) -> Option<Option<Arc<[u8]>>> {
        let document = self.documents.get_mut(key)?;
        self.order.remove(&document.used);
        self.uses += 1;
        document.used = self.uses;
        self.order.insert(self.uses, key.clone());
        Some(document.state.clone())
    }

    fn put(&mut self, limits: &Limits, key: &Key, state: Option<Option<Arc<[u8]>>>) {
        self.remove(key);
        let Some(state) = state else { return };
        self.uses += 1;
        self.bytes += size(key, state.as_deref());
        self.order.insert(self.uses, key.clone());
        self.documents.insert(key.clone(), Document { state, used: self.uses });
        while self.documents.len() > limits.documents || self.bytes > limits.bytes {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| key.clone()) else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(document) = self.documents.remove(key) {
            self.order.remove(&document.used);
            self.bytes -= size(key, document.state.as_deref());
        }
    }
}

/// Returns the bytes a document takes here, its names twice.
fn size(key: &Key, state: Option<&[u8]>) -> usize {
    2 * (key.collection.len() + key.id.len()) + state.map_or(0, <[u8]>::len)
}

fn decode(state: Option<&[u8]>) -> Option<Fields> {
    // Written by this service in this life: it is readable.
    state.and_then(|bytes| decode_fields(bytes).ok())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{LastWritten, Limits};
    use crate::{
        change::{Change, Node, Number, Transform, Tree},
        document::{Fields, Key, Priority, Value},
        ledger::Weight,
        queue::{Accepted, Entry},
        sink::Verdict,
    };

    const LIMITS: Limits = Limits { documents: 2, bytes: 1_000 };

    fn entry(id: &str, change: Change) -> Entry {
        Entry::from(Accepted {
            sequence: 1,
            key: Key::new("t", "c", id),
            change,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 1,
        })
    }

    fn fields(number: f64) -> Fields {
        Fields::from([("n".to_owned(), Value::Double(number))])
    }

    #[test]
    fn only_what_changes_nothing_is_held_already() {
        let last = LastWritten::new(LIMITS);
        let holds = |change| last.holds(&entry("a", change));
        let land = |change| last.note(&entry("a", change), &Verdict::Accepted);
        assert!(!holds(Change::set(fields(0.0))));
        land(Change::set(fields(0.0)));
        assert!(holds(Change::set(fields(0.0))) && holds(Change::merge(fields(0.0))));
        assert!(!holds(Change::set(fields(-0.0))) && !holds(Change::Delete));
        let transform =
            |transform| Change::Patch(Tree::from([("n".to_owned(), Node::Transforms(vec![transform]))]));
        assert!(holds(transform(Transform::Maximum(Number::Integer(0)))));
        assert!(!holds(transform(Transform::Increment(Number::Integer(1)))));
        land(transform(Transform::Increment(Number::Integer(1))));
        assert!(holds(Change::merge(fields(1.0))));
        land(Change::Delete);
        assert!(holds(Change::Delete) && !holds(Change::merge(Fields::new())));
    }

    #[test]
    fn what_cannot_be_known_is_forgotten() {
        let last = LastWritten::new(LIMITS);
        let set = || entry("a", Change::set(fields(1.0)));
        last.note(&entry("a", Change::merge(fields(1.0))), &Verdict::Accepted);
        assert!(!last.holds(&set()), "what else is in the document is not known");
        let now = || Change::Patch(Tree::from([("at".to_owned(), Node::Now)]));
        for (change, verdict) in
            [(now(), Verdict::Accepted), (Change::merge(fields(2.0)), Verdict::Refused("bad".to_owned()))]
        {
            last.note(&set(), &Verdict::Accepted);
            assert!(last.holds(&set()) && !last.holds(&entry("a", now())));
            last.note(&entry("a", change), &verdict);
            assert!(!last.holds(&set()));
        }
    }

    #[test]
    fn the_last_used_stay_within_count_and_bytes() {
        let last = LastWritten::new(LIMITS);
        let set = |id: &str| entry(id, Change::set(fields(1.0)));
        for id in ["a", "b"] {
            last.note(&set(id), &Verdict::Accepted);
        }
        assert!(last.holds(&set("a")));
        last.note(&set("c"), &Verdict::Accepted);
        assert!(last.holds(&set("a")) && last.holds(&set("c")) && !last.holds(&set("b")));
        let large = Fields::from([("text".to_owned(), Value::Text("x".repeat(2_000)))]);
        last.note(&entry("d", Change::set(large)), &Verdict::Accepted);
        let held = last.held.lock();
        assert_eq!((held.documents.len(), held.order.len(), held.bytes), (0, 0, 0));
    }
}
