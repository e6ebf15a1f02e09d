//! Refuses a merge or a transform that would make a document larger than the sink takes, before it is acknowledged.
//!
//! Writes to one document are folded and stand or fall together at the sink. So such a write is judged with everything of its document
//! that is not at the sink yet: what these writes give is, whatever the sink holds, part of the document after them.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    document::{Fields, Key, MAX_DOCUMENT_BYTES, size_of_fields, stored_size},
    error::Error,
    queue::Accepted,
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
    /// The document after the writes of this commit before `from`; not known while it is surely small.
    document: Option<Option<Fields>>,
    /// The place in this commit of the first write that is not in `document` yet.
    from: usize,
    /// All of it by the quick estimate.
    bytes: usize,
}

impl Sizes {
    /// Adds `writes` with their places, behind those of this commit that were `accepted`. Of a document that is seen for the first time
    /// `bytes` tells those of what was accepted before, and where it may be too large `document` what that makes of nothing.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the place of the write that is one too many; those documents are to be doubted then.
    pub(crate) fn check(
        &mut self,
        accepted: &[Accepted],
        writes: &[(usize, NewWrite)],
        bytes: impl Fn(&Key) -> usize,
        document: impl Fn(&Key) -> Option<Fields>,
    ) -> Result<(), Error> {
        for (at, (place, NewWrite { key, change, .. })) in writes.iter().enumerate() {
            let at = accepted.len() + at;
            let pending = match self.0.entry(key.clone()) {
                Entry::Occupied(occupied) => occupied.into_mut(),
                Entry::Vacant(vacant) if change.is_whole() => vacant.insert(Pending::default()),
                Entry::Vacant(vacant) => vacant.insert(Pending { bytes: bytes(key), ..Pending::default() }),
            };
            if change.is_whole() {
                // Whatever was before is gone.
                *pending = Pending { document: Some(None), from: at, bytes: 0 };
            }
            pending.bytes += change.size();
            if pending.bytes <= SURELY_FITS {
                continue;
            }
            // Looked through only where a document may be too large.
            let earlier = accepted.iter().map(|write| (&write.key, &write.change));
            let all = earlier.chain(writes.iter().map(|(_, write)| (&write.key, &write.change)));
            let since = all.take(at + 1).skip(pending.from).filter(|(other, _)| *other == key);
            let before = pending.document.take().unwrap_or_else(|| document(key));
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

    /// Forgets how large documents are, so that the next write to one looks through all that was accepted of it.
    pub(crate) fn doubt(&mut self, keys: impl Iterator<Item = Key>) {
        let doubted = || Pending { bytes: SURELY_FITS + 1, ..Pending::default() };
        self.0.extend(keys.map(|key| (key, doubted())));
    }

    /// Returns the bytes, by the quick estimate, of what is not at the sink of a document, if this commit writes to it.
    pub(crate) fn bytes(&self, key: &Key) -> Option<usize> {
        self.0.get(key).map(|pending| pending.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, slice, time::UNIX_EPOCH};

    use super::Sizes;
    use crate::{
        change::Change,
        document::{Fields, Key, Priority, Value},
        error::Error,
        ledger::Weight,
        queue::Accepted,
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
            let check = |change| {
                let before = |_: &Key| waiting.apply(None, 0);
                place(Sizes::default().check(&[], &writes(&[change]), |_| waiting.size(), before))
            };
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
        assert_eq!(place(Sizes::default().check(&[], &writes(&[change]), |_| 0, |_| None)), Some(0));
    }

    #[test]
    fn what_was_accepted_before_is_asked_for_once_and_only_where_it_matters() {
        let asked = Cell::new((0, 0));
        let count = |bytes, document| asked.set((asked.get().0 + bytes, asked.get().1 + document));
        let mut sizes = Sizes::default();
        let (mut before, tiny) = (Vec::new(), Change::merge(Fields::from([("n".to_owned(), Value::Null)])));
        let mut check = |change: &Change| {
            let bytes = |_: &Key| {
                count(1, 0);
                400_000
            };
            let document = |_: &Key| {
                count(0, 1);
                Change::merge(half("one")).apply(None, 0)
            };
            let checked = place(sizes.check(&before, &writes(slice::from_ref(change)), bytes, document));
            before.push(accepted(change.clone()));
            (checked, asked.get())
        };
        assert_eq!(check(&tiny), (None, (1, 0)));
        let third = Change::merge(Fields::from([("third".to_owned(), Value::Text("x".repeat(300_000)))]));
        assert_eq!(check(&third), (None, (1, 1)));
        assert_eq!(check(&tiny), (None, (1, 1)));
        assert_eq!(check(&Change::merge(half("two"))), (Some(0), (1, 1)));
        sizes.doubt([Key::new("t", "c", "a")].into_iter());
        before.pop();
        assert_eq!(place(sizes.check(&before, &writes(&[tiny]), |_| 0, |_| None)), None);
        assert_eq!(sizes.bytes(&Key::new("t", "c", "b")), None);
    }

    #[test]
    fn writes_of_one_commit_count_together_and_a_set_starts_anew() {
        let (mut sizes, mut before) = (Sizes::default(), Vec::new());
        let mut check = |changes: &[Change]| {
            let writes = writes(changes);
            let checked = place(sizes.check(&before, &writes, |_| 0, |_| None));
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
