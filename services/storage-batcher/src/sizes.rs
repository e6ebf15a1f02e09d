//! Refuses a merge or a transform that would make a document larger than the sink takes, before it is acknowledged.
//!
//! Writes to one document are folded and stand or fall together at the sink. So such a write is judged with everything of its document
//! that is not at the sink yet: what these writes give is, whatever the sink holds, part of the document after them.

use std::collections::HashMap;

use crate::{
    accept::NewWrite,
    change::Change,
    document::{Fields, Key, MAX_DOCUMENT_BYTES, size_of_fields, stored_size},
    error::Error,
    queue::Overlay,
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
    /// The document after it and some of the writes of this commit; not known while it is surely small.
    document: Option<Option<Fields>>,
    /// The writes of this commit that are not in `document` yet.
    later: Vec<Change>,
    /// All of it by the quick estimate.
    bytes: usize,
}

impl Sizes {
    /// Adds `writes` with their places; `overlay` tells what waits of a document that is seen for the first time.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the place of the write that is one too many; these sizes are of no more use then.
    pub(crate) fn check(
        &mut self,
        writes: &[(usize, NewWrite)],
        overlay: impl Fn(&Key) -> Overlay,
    ) -> Result<(), Error> {
        for (place, write) in writes {
            let pending = self.0.entry(write.key.clone()).or_insert_with(|| Pending::of(overlay(&write.key)));
            if !pending.takes(&write.key, &write.change) {
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

    /// Adds `change` and returns whether the document is still one that the sink takes.
    fn takes(&mut self, key: &Key, change: &Change) -> bool {
        if change.is_whole() {
            // Whatever was before is gone, and what is set alone is small enough by itself.
            *self = Self { later: vec![change.clone()], bytes: change.size(), ..Self::default() };
            return change.transforms() == 0 || self.fits(key);
        }
        let alone = self.bytes == 0 && change.transforms() == 0;
        self.bytes += change.size();
        self.later.push(change.clone());
        alone || self.fits(key)
    }

    /// Returns whether the document is one that the sink takes; it is worked out only where the estimate says that it may not be.
    fn fits(&mut self, key: &Key) -> bool {
        if self.bytes <= SURELY_FITS {
            return true;
        }
        let before = self.document.take().unwrap_or_else(|| self.overlay.apply(None, 0));
        let apply = |document, change: Change| change.apply(document, 0);
        let document = std::mem::take(&mut self.later).into_iter().fold(before, apply);
        let fits = document.as_ref().is_none_or(|fields| stored_size(key, fields) <= MAX_DOCUMENT_BYTES);
        self.bytes = document.as_ref().map_or(0, size_of_fields);
        self.document = Some(document);
        fits
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::UNIX_EPOCH};

    use super::Sizes;
    use crate::{
        accept::NewWrite,
        change::Change,
        document::{Fields, Key, Priority, Value},
        error::Error,
        ledger::Weight,
        queue::{Accepted, Entry, Overlay},
    };

    fn half(name: &str) -> Fields {
        Fields::from([(name.to_owned(), Value::Text("x".repeat(600_000)))])
    }

    fn writes<const N: usize>(changes: [Change; N]) -> Vec<(usize, NewWrite)> {
        let write = |change| NewWrite {
            key: Key::new("t", "c", "a"),
            change,
            priority: Priority::Normal,
            idempotency_key: None,
            caller: "".into(),
        };
        changes.map(write).into_iter().enumerate().collect()
    }

    fn pending(change: Change) -> Option<Arc<Entry>> {
        Some(Arc::new(Entry::from(Accepted {
            sequence: 1,
            key: Key::new("t", "c", "a"),
            change,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 1,
        })))
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
            let check = |change| place(Sizes::default().check(&writes([change]), overlay));
            assert_eq!(check(Change::merge(half("two"))), Some(0));
            assert_eq!(check(Change::merge(half("one"))), None, "it replaces what waits");
            assert_eq!(check(Change::set(half("two"))), None);
            assert_eq!(check(Change::Delete), None);
        }
    }

    #[test]
    fn what_is_on_its_way_counts_too() {
        let overlay = |_: &Key| Overlay { flight: pending(Change::merge(half("one"))), ..Overlay::default() };
        let small = Change::merge(Fields::from([("n".to_owned(), Value::Null)]));
        let writes = writes([small, Change::merge(half("two"))]);
        assert_eq!(place(Sizes::default().check(&writes, overlay)), Some(1));
    }

    #[test]
    fn writes_of_one_commit_count_together_and_a_set_starts_anew() {
        let none = |_: &Key| Overlay::default();
        let mut sizes = Sizes::default();
        let first = writes([Change::merge(half("one")), Change::set(half("two"))]);
        assert_eq!(place(sizes.check(&first, none)), None);
        assert_eq!(place(sizes.check(&writes([Change::merge(half("two"))]), none)), None);
        assert_eq!(place(sizes.check(&writes([Change::Delete, Change::merge(half("one"))]), none)), None);
        assert_eq!(place(sizes.check(&writes([Change::merge(half("two"))]), none)), Some(0));
    }
}
