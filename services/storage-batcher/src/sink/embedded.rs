//! The embedded store: documents in the journal's own file.
//!
//! A write is applied in the transaction that drops it from the journal, so no kill falls between the two.

use std::sync::Arc;

use futures::future::BoxFuture;
use journal::Journal;
use redb::{ReadableTable as _, TableDefinition};

use crate::{
    change::Change,
    codec,
    document::{Fields, Key, MAX_DOCUMENT_BYTES},
    queue::Entry,
    sink::{MAX_PAGE_BYTES, Page, Range, Sink, Unreachable, Verdict},
};

/// Documents by tenant, collection and id.
const DOCUMENTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("docs");

type Documents<'a> = redb::Table<'a, (&'static str, &'static str, &'static str), &'static [u8]>;

/// Stores documents in the journal's file.
#[derive(Clone, Debug)]
pub struct Embedded {
    journal: Journal,
}

impl Embedded {
    /// Opens the store within `journal`'s file, making its table if it is missing.
    ///
    /// # Errors
    /// [`Unreachable`] if the journal cannot be written.
    pub async fn open(journal: Journal) -> Result<Self, Unreachable> {
        journal
            .commit(|transaction| transaction.open_table(DOCUMENTS).map(drop).map_err(redb::Error::from))
            .await
            .map_err(Unreachable::refused)?;
        Ok(Self { journal })
    }

    /// Runs `read` off the async workers: it may wait for the disk, and for as long as the journal is opened again.
    async fn blocking<T: Send + 'static>(
        self,
        read: impl FnOnce(&Self) -> Result<T, Unreachable> + Send + 'static,
    ) -> Result<T, Unreachable> {
        // Else the lines of the blocking thread would reach no log.
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let read = move || tracing::dispatcher::with_default(&dispatch, || read(&self));
        tokio::task::spawn_blocking(read).await.map_err(Unreachable::refused)?
    }

    fn read(&self, key: &Key) -> Result<Option<Fields>, Unreachable> {
        let bytes = self
            .journal
            .read(|snapshot| {
                let table = snapshot.open_table(DOCUMENTS)?;
                let found = table.get((&*key.tenant, &*key.collection, &*key.id))?;
                Ok::<_, redb::Error>(found.map(|bytes| bytes.value().to_vec()))
            })
            .map_err(Unreachable::refused)?;
        bytes.map(|bytes| codec::decode_fields(&bytes)).transpose().map_err(|error| {
            let (collection, document) = (&*key.collection, &*key.id);
            tracing::error!(error = %error, collection, document, "stored document is not readable");
            Unreachable { damaged: true, ..Unreachable::refused(error) }
        })
    }

    fn scan(&self, range: &Range) -> Result<Page, Unreachable> {
        self.journal
            .read(|snapshot| {
                let table = snapshot.open_table(DOCUMENTS)?;
                let (tenant, collection) = (&*range.tenant, &*range.collection);
                let mut page = Page::default();
                let mut bytes = 0;
                for found in table.range((tenant, collection, range.after.as_str())..)? {
                    let (key, value) = found?;
                    let (owner, of, id) = key.value();
                    if id <= range.after.as_str() && owner == tenant && of == collection {
                        continue;
                    }
                    if owner != tenant
                        || of != collection
                        || range.before.as_deref().is_some_and(|end| id >= end)
                    {
                        break;
                    }
                    if page.documents.len() >= range.limit || bytes > MAX_PAGE_BYTES {
                        page.more = true;
                        break;
                    }
                    bytes += value.value().len();
                    let Ok(fields) = codec::decode_fields(value.value()) else {
                        tracing::error!(collection, id, "stored document is not readable");
                        continue;
                    };
                    page.documents.push((id.into(), fields));
                }
                Ok::<_, redb::Error>(page)
            })
            .map_err(Unreachable::refused)
    }
}

impl Sink for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        Box::pin(std::future::ready(Ok(vec![Verdict::Accepted; writes.len()])))
    }

    fn apply(
        &self,
        transaction: &redb::WriteTransaction,
        writes: &[&Entry],
        now: i64,
    ) -> Result<Vec<Verdict>, redb::Error> {
        let mut table = transaction.open_table(DOCUMENTS)?;
        writes.iter().map(|entry| apply(&mut table, entry, now)).collect()
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        let key = key.clone();
        Box::pin(self.clone().blocking(move |sink| sink.read(&key)))
    }

    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        let range = range.clone();
        Box::pin(self.clone().blocking(move |sink| sink.scan(&range)))
    }
}

fn apply(table: &mut Documents<'_>, entry: &Entry, now: i64) -> Result<Verdict, redb::Error> {
    let key = (&*entry.key.tenant, &*entry.key.collection, &*entry.key.id);
    let change = entry.change();
    if let Change::Delete = *change {
        table.remove(key)?;
        return Ok(Verdict::Accepted);
    }
    let bytes = if let Some(bytes) = codec::encode_whole(&change) {
        bytes
    } else {
        // Only a patch needs what was there: anything else repairs a damaged document.
        let before = if change.is_whole() { None } else { table.get(key)? };
        match before.map(|bytes| codec::decode_fields(bytes.value())).transpose() {
            Ok(before) => codec::encode_fields(&change.apply(before, now).unwrap_or_default()),
            Err(error) => {
                return Ok(Verdict::Refused(format!("the stored document is damaged: {error}")));
            }
        }
    };
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Ok(Verdict::Refused("the document would be larger than 1 MiB".to_owned()));
    }
    table.insert(key, bytes.as_slice())?;
    Ok(Verdict::Accepted)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use futures::FutureExt as _;
    use journal::{Journal, Options};

    use super::{DOCUMENTS, Embedded};
    use crate::{
        change::{Change, Node, Tree},
        document::{Fields, Key, MAX_DOCUMENT_BYTES, Priority, Value},
        ledger::Weight,
        queue::{Accepted, Entry},
        sink::{Sink as _, Verdict},
    };

    async fn damaged() -> (tempfile::TempDir, Journal, Embedded) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path().join("storage.redb"), &Options::default()).unwrap();
        let sink = Embedded::open(journal.clone()).await.unwrap();
        let spoil = |transaction: &redb::WriteTransaction| {
            transaction.open_table(DOCUMENTS)?.insert(("t", "c", "a"), [255, 1].as_slice())?;
            Ok::<_, redb::Error>(())
        };
        journal.commit(spoil).await.unwrap();
        (folder, journal, sink)
    }

    async fn apply(journal: &Journal, sink: &Embedded, change: Change) -> Verdict {
        let entry = Entry::from(Accepted {
            sequence: 1,
            key: Key::new("t", "c", "a"),
            change,
            priority: Priority::Normal,
            at: UNIX_EPOCH,
            weight: Weight::default(),
            caller: "".into(),
            journal_bytes: 1,
        });
        let sink = sink.clone();
        let apply = move |transaction: &redb::WriteTransaction| sink.apply(transaction, &[&entry], 0);
        journal.commit(apply).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_damaged_document_is_named_so_and_takes_no_merge() {
        let (_folder, journal, sink) = damaged().await;
        assert!(sink.get(&Key::new("t", "c", "a")).await.unwrap_err().damaged);
        let verdict = apply(&journal, &sink, Change::merge(Fields::new())).await;
        assert!(matches!(verdict, Verdict::Refused(reason) if reason.contains("damaged")));
    }

    #[tokio::test]
    async fn a_set_or_a_delete_repairs_a_damaged_document() {
        let fields = Fields::from([("n".to_owned(), Value::Integer(1))]);
        let timed = Change::Replace(Tree::from([("n".to_owned(), Node::Now)]));
        let then = Fields::from([("n".to_owned(), Value::Moment(0))]);
        let set = (Change::set(fields.clone()), Some(fields));
        for (change, after) in [set, (timed, Some(then)), (Change::Delete, None)] {
            let (_folder, journal, sink) = damaged().await;
            assert_eq!(apply(&journal, &sink, change).await, Verdict::Accepted);
            assert_eq!(sink.get(&Key::new("t", "c", "a")).await.unwrap(), after);
        }
    }

    #[tokio::test]
    async fn a_document_that_is_too_large_is_refused_by_each_way_to_make_it() {
        let text = |name: &str| (name.to_owned(), Value::Text("x".repeat(MAX_DOCUMENT_BYTES)));
        let (_folder, journal, sink) = damaged().await;
        let timed = Change::Replace(Tree::from([
            ("n".to_owned(), Node::Now),
            ("m".to_owned(), Node::Put(text("m").1)),
        ]));
        for change in [Change::set([text("m")]), timed] {
            assert!(apply(&journal, &sink, change).await.is_refused());
        }
        assert!(sink.get(&Key::new("t", "c", "a")).await.unwrap_err().damaged, "nothing of it was written");
    }

    #[test]
    fn a_read_that_waits_holds_up_no_async_worker() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (_folder, _journal, sink) = damaged().await;
            let (go, wait) = std::sync::mpsc::channel::<()>();
            // The one thread for such reads is held up until the worker goes on.
            let held = tokio::task::spawn_blocking(move || wait.recv());
            let key = Key::new("t", "c", "b");
            let mut get = sink.get(&key);
            assert!((&mut get).now_or_never().is_none());
            drop(go);
            assert_eq!(get.await.unwrap(), None);
            assert!(held.await.unwrap().is_err());
        });
    }
}
