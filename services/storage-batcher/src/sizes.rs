//! Refuses a merge that would make a document larger than the sink takes, before it is acknowledged.
//!
//! Writes to one document are folded and stand or fall together at the sink. So a merge is judged with everything of its document
//! that is not at the sink yet: what these writes give is, whatever the sink holds, part of the document after them.

use std::collections::HashMap;

use crate::{
    accept::NewWrite,
    document::{Change, Fields, Key, MAX_DOCUMENT_BYTES, size_of_fields, stored_size},
    error::Error,
    fold::Folded,
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
    /// Adds `writes`; `overlay` tells what waits of a document that is seen for the first time.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the place of the write that is one too many; these sizes are of no more use then.
    pub(crate) fn check(
        &mut self,
        writes: &[NewWrite],
        overlay: impl Fn(&Key) -> Overlay,
    ) -> Result<(), Error> {
        for (place, write) in writes.iter().enumerate() {
            let pending = self.0.entry(write.key.clone()).or_insert_with(|| Pending::of(overlay(&write.key)));
            if !pending.takes(&write.key, &write.change) {
                return Err(Error::TooLarge { place });
            }
        }
        Ok(())
    }
}

impl Pending {
    fn of(overlay: Overlay) -> Self {
        let bytes = [&overlay.flight, &overlay.waiting].into_iter().flatten().map(|entry| entry.bytes).sum();
        Self { overlay, bytes, ..Self::default() }
    }

    /// Adds `change` and returns whether the document is still one that the sink takes.
    fn takes(&mut self, key: &Key, change: &Change) -> bool {
        let Change::Merge(fields) = change else {
            // Whatever was before is gone.
            let bytes = if let Change::Set(fields) = change { size_of_fields(fields) } else { 0 };
            *self = Self { later: vec![change.clone()], bytes, ..Self::default() };
            return true;
        };
        let alone = self.bytes == 0;
        self.bytes += size_of_fields(fields);
        self.later.push(change.clone());
        if alone || self.bytes <= SURELY_FITS {
            return true;
        }
        let before = self.document.take().unwrap_or_else(|| self.overlay.apply(None));
        let apply = |document, change| Folded::from(change).apply(document);
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
        document::{Change, Fields, Key, Priority, Value},
        error::Error,
        ledger::Weight,
        queue::{Accepted, Entry, Overlay},
    };

    fn half(name: &str) -> Fields {
        Fields::from([(name.to_owned(), Value::Text("x".repeat(600_000)))])
    }

    fn write(change: Change) -> NewWrite {
        NewWrite { key: Key::new("t", "c", "a"), change, priority: Priority::Normal }
    }

    fn pending(change: Change) -> Option<Arc<Entry>> {
        Some(Arc::new(Entry::from(Accepted {
            sequence: 1,
            key: Key::new("t", "c", "a"),
            change,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
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
        for waiting in [Change::Merge(half("one")), Change::Set(half("one"))] {
            let overlay = |_: &Key| Overlay { flight: None, waiting: pending(waiting.clone()) };
            let check = |change| place(Sizes::default().check(&[write(change)], overlay));
            assert_eq!(check(Change::Merge(half("two"))), Some(0));
            assert_eq!(check(Change::Merge(half("one"))), None, "it replaces what waits");
            assert_eq!(check(Change::Set(half("two"))), None);
            assert_eq!(check(Change::Delete), None);
        }
    }

    #[test]
    fn what_is_on_its_way_counts_too() {
        let overlay = |_: &Key| Overlay { flight: pending(Change::Merge(half("one"))), waiting: None };
        let small = Change::Merge(Fields::from([("n".to_owned(), Value::Null)]));
        let writes = [write(small), write(Change::Merge(half("two")))];
        assert_eq!(place(Sizes::default().check(&writes, overlay)), Some(1));
    }

    #[test]
    fn writes_of_one_commit_count_together_and_a_set_starts_anew() {
        let none = |_: &Key| Overlay::default();
        let mut sizes = Sizes::default();
        let first = [write(Change::Merge(half("one"))), write(Change::Set(half("two")))];
        assert_eq!(place(sizes.check(&first, none)), None);
        assert_eq!(place(sizes.check(&[write(Change::Merge(half("two")))], none)), None);
        assert_eq!(
            place(sizes.check(&[write(Change::Delete), write(Change::Merge(half("one")))], none)),
            None
        );
        assert_eq!(place(sizes.check(&[write(Change::Merge(half("two")))], none)), Some(0));
    }
}
