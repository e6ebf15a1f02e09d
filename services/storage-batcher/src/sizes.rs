//! Refuses a merge or a transform that would make a document larger than the sink takes, before it is acknowledged.
//!
//! Writes to one document are folded and stand or fall together at the sink. So such a write is judged with everything of its document
//! that is not at the sink yet: what these writes give is, whatever the sink holds, part of the document after them.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    document::{Fields, Key, MAX_DOCUMENT_BYTES, size_of_fields, stored_size},
    error::Error,
    queue::{Accepted, Overlay},
    write::NewWrite,
};

/// Bytes by the quick estimate up to which no document can be too large: half the limit, as the estimate counts otherwise than the
/// sink.
const SURELY_FITS: usize = MAX_DOCUMENT_BYTES / 2;

/// The documents that the writes of one commit make, as far as their size must be known.
#[derive(Debug, Default)]
pub(crate) struct Sizes(HashMap<Key, Pending>);

/// What is not at the sink of one document.
#[derive(Debug, Default)]
struct Pending {
    /// Accepted before.
    overlay: Overlay,
    /// The document after it and the writes of this commit before `from`; not known while it is surely small.
    document: Option<Option<Fields>>,
    /// The place in this commit of the first write that is not in `document` yet.
    from: usize,
    /// All of it by the quick estimate.
    bytes: usize,
}

impl Sizes {
    /// Adds `writes` with their places, behind those of this commit that were `accepted`; `overlay` tells what waits of a document that
    /// is seen for the first time.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the place of the write that is one too many; these sizes are of no more use then.
    pub(crate) fn check(
        &mut self,
        accepted: &[Accepted],
        writes: &[(usize, NewWrite)],
        overlay: impl Fn(&Key) -> Overlay,
    ) -> Result<(), Error> {
        for (at, (place, NewWrite { key, change, .. })) in writes.iter().enumerate() {
            let at = accepted.len() + at;
            let pending = match self.0.entry(key.clone()) {
                Entry::Occupied(occupied) => occupied.into_mut(),
                Entry::Vacant(vacant) if change.is_whole() => vacant.insert(Pending::default()),
                Entry::Vacant(vacant) => vacant.insert(Pending::of(overlay(key))),
            };
            if change.is_whole() {
                // Whatever was before is gone.
                *pending = Pending { from: at, ..Pending::default() };
            }
            pending.bytes += change.size();
            if pending.bytes <= SURELY_FITS {
                continue;
            }
            // Looked through only where a document may be too large.
            let earlier = accepted.iter().map(|write| (&write.key, &write.change));
            let all = earlier.chain(writes.iter().map(|(_, write)| (&write.key, &write.change)));
            let since = all.take(at + 1).skip(pending.from).filter(|(other, _)| *other == key);
            let before = pending.document.take().unwrap_or_else(|| pending.overlay.apply(None, 0));
            let document = since.fold(before, |document, (_, change)| change.apply(document, 0));
            let fits = document.as_ref().is_none_or(|fields| stored_size(key, fields) <= MAX_DOCUMENT_BYTES);
            pending.bytes = document.as_ref().map_or(0, size_of_fields);
            (pending.document, pending.from) = (Some(document), at + 1);
            if !fits {
                return Err(Error::TooLarge { place: *place });
            }
        }
        Ok(())
    }
}

impl Pending {
    fn of(overlay: Overlay) -> Self {
        let bytes = overlay.entries().map(|entry| entry.bytes).sum();
        Self { overlay, bytes, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use super::Sizes;
    use crate::{
        change::Change,
        document::{Fields, Key, Priority, Value},
        error::Error,
        ledger::Weight,
        queue::{Accepted, Entry, Overlay},
        write::NewWrite,
    };

    fn half(name: &str) -> Fields {
        Fields::from([(name.to_owned(), Value::Text("x".repeat(600_000)))])
    }

    fn writes(changes: &[Change]) -> Vec<(usize, NewWrite)> {
        let write = |change: &Change| NewWrite {
            key: Key::new("t", "c", "a"),
            change: change.clone(),
            priority: Priority::Normal,
            idempotency_key: None,
            caller: "".into(),
        };
        changes.iter().map(write).enumerate().collect()
    }

    fn accepted(change: Change) -> Accepted {
        Accepted {
            sequence: 1,
            key: Key::new("t", "c", "a"),
            change,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 1,
        }
    }

    fn pending(change: Change) -> Option<Arc<Entry>> {
        Some(Arc::new(Entry::from(accepted(change))))
    }

    fn place(result: Result<(), Error>) -> Option<usize> {
        match result {
            Err(Error::TooLarge { place }) => Some(place),
            other => {
                other.unwrap();
                None
            }
        }
    }

    #[test]
    fn a_merge_that_makes_a_waiting_document_too_large_is_refused() {
        for waiting in [Change::merge(half("one")), Change::set(half("one"))] {
            let overlay =
                |_: &Key| Overlay { flight: None, waiting: pending(waiting.clone()).into_iter().collect() };
            let check = |change| place(Sizes::default().check(&[], &writes(&[change]), overlay));
            assert_eq!(check(Change::merge(half("two"))), Some(0));
            assert_eq!(check(Change::merge(half("one"))), None, "it replaces what waits");
            assert_eq!(check(Change::set(half("two"))), None);
            assert_eq!(check(Change::Delete), None);
        }
    }

    #[test]
    fn a_write_that_is_too_large_by_itself_is_refused_too() {
        // As a set whose transforms put more.
        let change = Change::set(half("one").into_iter().chain(half("two")));
        let none = |_: &Key| Overlay::default();
        assert_eq!(place(Sizes::default().check(&[], &writes(&[change]), none)), Some(0));
    }

    #[test]
    fn what_is_on_its_way_counts_too() {
        let overlay = |_: &Key| Overlay { flight: pending(Change::merge(half("one"))), ..Overlay::default() };
        let small = Change::merge(Fields::from([("n".to_owned(), Value::Null)]));
        let writes = writes(&[small, Change::merge(half("two"))]);
        assert_eq!(place(Sizes::default().check(&[], &writes, overlay)), Some(1));
    }

    #[test]
    fn writes_of_one_commit_count_together_and_a_set_starts_anew() {
        let none = |_: &Key| Overlay::default();
        let (mut sizes, mut before) = (Sizes::default(), Vec::new());
        let mut check = |changes: &[Change]| {
            let writes = writes(changes);
            let checked = place(sizes.check(&before, &writes, none));
            before.extend(writes.into_iter().map(|(_, write)| accepted(write.change)));
            let key = Key::new("t", "c", "another");
            before.push(Accepted { key, ..accepted(Change::merge(half("one"))) });
            checked
        };
        assert_eq!(check(&[Change::merge(half("one")), Change::set(half("two"))]), None);
        assert_eq!(check(&[Change::merge(half("two"))]), None);
        assert_eq!(check(&[Change::Delete, Change::merge(half("one"))]), None);
        assert_eq!(check(&[Change::merge(half("two"))]), Some(0));
    }
}
