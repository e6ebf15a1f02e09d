//! The embedded store: documents in the journal's own file.
//!
//! A write is applied in the transaction that drops it from the journal, so no kill falls between the two.

use std::sync::Arc;

use futures::future::BoxFuture;
use redb::{ReadableTable as _, TableDefinition};

use crate::{
    codec,
    document::{Fields, Key, MAX_DOCUMENT_BYTES},
    queue::Entry,
    sink::{MAX_PAGE_BYTES, Page, Range, Sink, Unreachable, Verdict},
    store::File,
};

/// Documents by tenant, collection and id.
const DOCUMENTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("docs");

/// Stores documents in the journal's file.
#[derive(Clone, Debug)]
pub struct Embedded {
    file: File,
}

impl Embedded {
    /// Opens the store within `file`, making its table if it is missing.
    ///
    /// # Errors
    /// [`Unreachable`] if the journal cannot be written.
    pub async fn open(file: File) -> Result<Self, Unreachable> {
        file.journal()
            .map_err(Unreachable::refused)?
            .commit(|transaction| transaction.open_table(DOCUMENTS).map(drop).map_err(redb::Error::from))
            .await
            .map_err(Unreachable::refused)?;
        Ok(Self { file })
    }

    fn read(&self, key: &Key) -> Result<Option<Fields>, Unreachable> {
        let bytes = self
            .file
            .journal()
            .map_err(Unreachable::refused)?
            .read(|snapshot| {
                let table = snapshot.open_table(DOCUMENTS)?;
                let found = table.get((&*key.tenant, &*key.collection, &*key.id))?;
                Ok::<_, redb::Error>(found.map(|bytes| bytes.value().to_vec()))
            })
            .map_err(Unreachable::refused)?;
        bytes.map(|bytes| codec::decode_fields(&bytes)).transpose().map_err(Unreachable::refused)
    }

    fn scan(&self, range: &Range) -> Result<Page, Unreachable> {
        self.file
            .journal()
            .map_err(Unreachable::refused)?
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

    fn send<'a>(&'a self, writes: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        Box::pin(std::future::ready(Ok(vec![Verdict::Accepted; writes.len()])))
    }

    fn apply(&self, transaction: &redb::WriteTransaction, entry: &Entry) -> Result<Verdict, redb::Error> {
        let mut table = transaction.open_table(DOCUMENTS)?;
        let key = (&*entry.key.tenant, &*entry.key.collection, &*entry.key.id);
        let before = match table.get(key)? {
            None => None,
            Some(bytes) => match codec::decode_fields(bytes.value()) {
                Ok(fields) => Some(fields),
                Err(error) => {
                    return Ok(Verdict::Refused(format!("the stored document is damaged: {error}")));
                }
            },
        };
        match entry.folded.apply(before) {
            None => {
                table.remove(key)?;
            }
            Some(fields) => {
                let bytes = codec::encode_fields(&fields);
                if bytes.len() > MAX_DOCUMENT_BYTES {
                    return Ok(Verdict::Refused("the document would be larger than 1 MiB".to_owned()));
                }
                table.insert(key, bytes.as_slice())?;
            }
        }
        Ok(Verdict::Accepted)
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        Box::pin(std::future::ready(self.read(key)))
    }

    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        let (sink, range) = (self.clone(), range.clone());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || sink.scan(&range)).await.map_err(Unreachable::refused)?
        })
    }
}
