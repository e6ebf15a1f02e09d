//! Those who write until they are refused, and what must be at Firestore then.

use std::{collections::HashMap, net::SocketAddr};

use contracts::storage::{
    Document, DocumentWrite, FieldTransform, ListRequest, Value, WriteBatchRequest, WriteMode,
    field_transform::TransformType, value::Kind,
};
use futures::future::try_join_all;
use rpc::Fault;

use super::{Caller, Watch, caller, failed, integer};
use crate::bench::{
    Error,
    step::{COUNT, STATE},
};

/// Writers, each with one call on its way.
const WRITERS: u64 = 16;
/// Writes of a call.
const BATCH: u64 = 100;
/// One write of so many goes to a document that is written over and over, the others to one of their own each.
const REPEATED: u64 = 10;
/// Documents of a writer that are written over and over.
const DOCUMENTS: u64 = 50;
/// Bytes of a document's text, so that a write has some 300.
const TEXT_BYTES: usize = 220;
/// A field that makes a document as large as documents are.
const TEXT: &str = "text";
/// Where the documents are that are written over and over.
const OVER: &str = "over";
/// A writer's further documents of one collection: an emulator looks at every document of a collection for each page of it.
const COLLECTION: u64 = 5_000;
/// Documents listed at once.
const PAGE: u32 = 1_000;

/// Everyone who writes.
pub(in crate::bench) struct Writers(Vec<Writer>);

/// One who writes. What it wrote follows from how much it wrote.
struct Writer {
    number: u64,
    client: Caller,
    acknowledged: u64,
    is_refused: bool,
}

/// What Firestore holds in the end.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bench) struct Found {
    /// Documents that must be there.
    pub(in crate::bench) expected: u64,
    /// Those that are, and as they must be.
    pub(in crate::bench) right: u64,
    /// Those that are there and must not be.
    pub(in crate::bench) unasked: u64,
}

impl Writers {
    pub(in crate::bench) fn new(address: SocketAddr) -> Result<Self, Error> {
        let writer =
            |number| Ok(Writer { number, client: caller(address)?, acknowledged: 0, is_refused: false });
        Ok(Self((0..WRITERS).map(writer).collect::<Result<_, Error>>()?))
    }

    /// Returns the writes that were acknowledged.
    pub(in crate::bench) fn acknowledged(&self) -> u64 {
        self.0.iter().map(|writer| writer.acknowledged).sum()
    }

    /// Writes until the journal holds `share` of what it may, or until everyone was refused.
    pub(in crate::bench) async fn write_until(&mut self, share: f64, watch: &mut Watch) -> Result<(), Error> {
        while self.0.iter().any(|writer| !writer.is_refused) {
            let journal = watch.journal().await?;
            let full = |held: u64, most: u64| held as f64 >= share * most as f64;
            if full(journal.writes, journal.max_writes) || full(journal.bytes, journal.max_bytes) {
                break;
            }
            let writing = self.0.iter_mut().filter(|writer| !writer.is_refused);
            try_join_all(writing.map(Writer::write)).await?;
        }
        Ok(())
    }

    /// Compares every document at Firestore with what it must be.
    pub(in crate::bench) async fn compare(&self, watch: &mut Watch) -> Result<Found, Error> {
        let expected = self.0.iter().map(Writer::documents).sum();
        let mut found = Found { expected, ..Found::default() };
        let own = self.0.iter().flat_map(Writer::collections);
        for collection in own.chain([OVER.to_owned()]) {
            self.compare_in(&collection, watch, &mut found).await?;
        }
        Ok(found)
    }

    async fn compare_in(&self, collection: &str, watch: &mut Watch, found: &mut Found) -> Result<(), Error> {
        let mut page_token = String::new();
        loop {
            let request = ListRequest { collection: collection.to_owned(), page_size: PAGE, page_token };
            let page = watch.client().list(request).await.map_err(|status| failed("List", &status))?;
            let page = page.into_inner();
            for document in &page.documents {
                match self.expected(&document.document_id) {
                    None => found.unasked += 1,
                    Some(fields) => found.right += u64::from(is(document, &fields)),
                }
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            page_token = page.next_page_token;
        }
    }

    /// Returns the fields that the document must have; nothing if it must not be there.
    fn expected(&self, id: &str) -> Option<HashMap<String, Value>> {
        let mut parts = id.split('-');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (writer, number) = (number()?, number()?);
        let writer = self.0.get(usize::try_from(writer).ok()?)?;
        match kind {
            "own" => (number < writer.acknowledged && !number.is_multiple_of(REPEATED)).then(|| own(number)),
            _ => writer.repeated(number),
        }
    }
}

impl Writer {
    /// Writes a batch; a full journal ends it.
    async fn write(&mut self) -> Result<(), Error> {
        let writes = (self.acknowledged..self.acknowledged + BATCH).map(|number| self.draw(number)).collect();
        match self.client.write_batch(WriteBatchRequest { writes, ..WriteBatchRequest::default() }).await {
            Ok(_) => self.acknowledged += BATCH,
            Err(status) if Fault::from(&status).reason_word() == Some("JOURNAL_FULL") => {
                self.is_refused = true
            }
            Err(status) => return Err(failed("WriteBatch", &status)),
        }
        Ok(())
    }

    fn draw(&self, number: u64) -> DocumentWrite {
        let write = |collection: String, id: String, mode: WriteMode, fields| DocumentWrite {
            collection,
            document_id: id,
            mode: mode.into(),
            fields,
            ..DocumentWrite::default()
        };
        if !number.is_multiple_of(REPEATED) {
            let id = format!("own-{}-{number}", self.number);
            return write(self.collection(number), id, WriteMode::Set, own(number));
        }
        let id = format!("over-{}-{}", self.number, number / REPEATED % DOCUMENTS);
        let one = FieldTransform {
            field_path: COUNT.to_owned(),
            transform_type: Some(TransformType::Increment(integer(1))),
        };
        let state = [(STATE.to_owned(), integer(number.cast_signed()))].into();
        DocumentWrite {
            update_transforms: vec![one],
            idempotency_key: format!("{}-{number}", self.number),
            ..write(OVER.to_owned(), id, WriteMode::Merge, state)
        }
    }

    /// Returns where the document of its write `number` is.
    fn collection(&self, number: u64) -> String {
        format!("own-{}-{}", self.number, number / COLLECTION)
    }

    /// Returns every such collection, also where only a refused write could have left something.
    fn collections(&self) -> impl Iterator<Item = String> {
        let last = (self.acknowledged + BATCH) / COLLECTION;
        (0..=last).map(|part| self.collection(part * COLLECTION))
    }

    /// Returns how many documents it wrote.
    fn documents(&self) -> u64 {
        let repeats = self.acknowledged.div_ceil(REPEATED);
        self.acknowledged - repeats + repeats.min(DOCUMENTS)
    }

    /// Returns what one of the documents that are written over and over must be.
    fn repeated(&self, number: u64) -> Option<HashMap<String, Value>> {
        let repeats = self.acknowledged.div_ceil(REPEATED);
        let count = repeats.saturating_sub(number).div_ceil(DOCUMENTS);
        let last = (number + DOCUMENTS * count.checked_sub(1)?) * REPEATED;
        let fields = [(COUNT, count), (STATE, last)];
        Some(fields.map(|(name, value)| (name.to_owned(), integer(value.cast_signed()))).into())
    }
}

/// Returns the fields of a document that is written once.
fn own(number: u64) -> HashMap<String, Value> {
    let text = Value { kind: Some(Kind::StringValue(format!("{number:0TEXT_BYTES$}"))) };
    [(STATE.to_owned(), integer(number.cast_signed())), (TEXT.to_owned(), text)].into()
}

fn is(document: &Document, fields: &HashMap<String, Value>) -> bool {
    !document.pending && document.fields == *fields
}

#[cfg(test)]
mod tests {
    use super::Writers;
    use crate::bench::{
        clients::integer,
        step::{COUNT, STATE},
    };

    #[test]
    fn what_was_written_says_what_each_document_must_be() {
        let mut writers = Writers::new("127.0.0.1:1".parse().unwrap()).unwrap();
        writers.0[1].acknowledged = 1_200;
        let over = |count, state| {
            [(COUNT, count), (STATE, state)].map(|(name, value)| (name.to_owned(), integer(value)))
        };
        let expected = |id| writers.expected(id);
        assert_eq!(expected("over-1-0"), Some(over(3, 1_000).into()));
        assert_eq!(expected("over-1-20"), Some(over(2, 700).into()));
        assert!(expected("own-1-1199").is_some());
        for none in ["own-1-1201", "own-1-10", "over-0-0", "own-16-1", "own-1", "else"] {
            assert_eq!(expected(none), None, "{none}");
        }
        assert_eq!(writers.0[1].documents(), 1_080 + 50);
    }
}
