//! What is done to a document, as it is kept: as it is while more may soon be folded in, else packed.
//!
//! A change is a tree of small allocations, and takes several times the bytes of what it says. Packed it takes the bytes that it has in
//! the journal.

use std::borrow::Cow;

use crate::{
    change::Change,
    codec::{Reader, Writer},
};

/// Holds a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// As it is.
    Open(Change),
    /// As in the journal.
    Packed(Box<[u8]>),
}

impl Body {
    /// Returns the change.
    #[must_use]
    pub fn change(&self) -> Cow<'_, Change> {
        match self {
            Self::Open(change) => Cow::Borrowed(change),
            Self::Packed(bytes) => Cow::Owned(unpack(bytes)),
        }
    }

    /// Adds `later` behind it.
    ///
    /// # Errors
    /// `later` itself if no single write does both.
    pub(super) fn fold(&mut self, later: Change) -> Result<(), Change> {
        match self {
            Self::Open(change) => change.then(later),
            Self::Packed(bytes) => {
                // What replaces all of it needs nothing of it.
                let mut change = if later.is_whole() { Change::Delete } else { unpack(bytes) };
                change.then(later)?;
                *self = Self::Open(change);
                Ok(())
            }
        }
    }

    /// Makes a small one.
    #[must_use]
    pub fn packed(change: &Change) -> Self {
        let mut writer = Writer::new();
        writer.change(change);
        Self::Packed(writer.finish().into())
    }

    /// Makes it small.
    pub(super) fn pack(&mut self) {
        if let Self::Open(change) = self {
            *self = Self::packed(change);
        }
    }
}

#[expect(clippy::expect_used, reason = "these bytes were made here, of a change that a record can hold")]
fn unpack(bytes: &[u8]) -> Change {
    Reader::new(bytes).and_then(|mut reader| reader.change()).expect("a packed change is one")
}

#[cfg(test)]
mod tests {
    use super::Body;
    use crate::{
        change::{Change, Node, Tree},
        document::{Fields, Value},
    };

    fn fields(name: &str) -> Fields {
        Fields::from([(name.to_owned(), Value::Integer(1))])
    }

    #[test]
    fn what_is_packed_is_the_same_and_folds_as_before() {
        let first = [Change::set(fields("a")), Change::merge(fields("a")), Change::Delete];
        let later = [Change::set(fields("b")), Change::merge(fields("b")), Change::Delete];
        for (first, later) in first.iter().flat_map(|first| later.iter().map(move |later| (first, later))) {
            let (mut open, mut packed) = (Body::Open(first.clone()), Body::Open(first.clone()));
            packed.pack();
            assert!(matches!(packed, Body::Packed(_)));
            assert_eq!(packed.change(), open.change());
            assert_eq!(packed.fold(later.clone()), open.fold(later.clone()));
            assert_eq!(packed.change(), open.change());
        }
    }

    #[test]
    fn what_takes_no_more_in_stays_packed() {
        let node = |node| Tree::from([("n".to_owned(), node)]);
        let within = |inner| Change::Patch(Tree::from([("map".to_owned(), Node::Within(node(inner)))]));
        let mut body = Body::packed(&within(Node::Put(Value::Integer(1))));
        // A map with nothing in it is what no single write leaves behind.
        let later = within(Node::Remove);
        assert_eq!(body.fold(later.clone()), Err(later));
        assert!(matches!(body, Body::Packed(_)));
        assert_eq!(*body.change(), within(Node::Put(Value::Integer(1))));
    }
}
