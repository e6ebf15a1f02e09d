//! What is done to a document, and what it is then.

use std::collections::BTreeMap;

/// Fields by what becomes of them.
pub(crate) const COUNT: &str = "count";
pub(crate) const LIST: &str = "list";
pub(crate) const STATE: &str = "state";

/// What a document must be; nothing if it must not be there.
pub(crate) type Document = Option<BTreeMap<String, Field>>;

/// A field of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Number(i64),
    Numbers(Vec<i64>),
}

/// What is done to a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Set(i64),
    Merge(i64),
    Add(i64),
    Append(i64),
    Delete,
}

impl Step {
    /// Applies it to what a document must be, as Firestore does.
    pub(crate) fn apply(self, document: &mut Document) {
        if let Self::Delete = self {
            *document = None;
            return;
        }
        let fields = document.get_or_insert_default();
        match self {
            Self::Set(number) => {
                fields.clear();
                fields.insert(STATE.to_owned(), Field::Number(number));
            }
            Self::Merge(number) => drop(fields.insert(STATE.to_owned(), Field::Number(number))),
            Self::Add(number) => match fields.entry(COUNT.to_owned()).or_insert(Field::Number(0)) {
                Field::Number(count) => *count += number,
                Field::Numbers(_) => {}
            },
            Self::Append(number) => match fields.entry(LIST.to_owned()).or_insert(Field::Numbers(Vec::new()))
            {
                Field::Numbers(numbers) if !numbers.contains(&number) => numbers.push(number),
                _ => {}
            },
            Self::Delete => {}
        }
    }
}
