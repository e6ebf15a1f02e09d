//! The embedded store, which counts what it is asked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use futures::future::BoxFuture;

use crate::{
    document::{Fields, Key},
    queue::Entry,
    sink::{Page, Range, Sink, Unreachable, Verdict, embedded::Embedded},
};

/// Counts documents read and requests made.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Embedded,
    reads: AtomicU64,
    requests: AtomicU64,
}

impl Counted {
    pub(super) fn new(inner: Embedded) -> Self {
        Self { inner, reads: AtomicU64::new(0), requests: AtomicU64::new(0) }
    }

    /// Returns the documents read so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    /// Returns the requests that wrote so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

impl Sink for Counted {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn needs_ledger(&self) -> bool {
        true
    }

    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        ledger: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        self.requests.fetch_add(1, Relaxed);
        self.inner.send(writes, ledger)
    }

    fn apply(
        &self,
        transaction: &redb::WriteTransaction,
        writes: &[&Entry],
        now: i64,
    ) -> Result<Vec<Verdict>, redb::Error> {
        self.inner.apply(transaction, writes, now)
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        self.reads.fetch_add(1, Relaxed);
        self.inner.get(key)
    }

    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        Box::pin(async move {
            let page = self.inner.list(range).await?;
            // Firestore bills a query that finds nothing as one read.
            self.reads.fetch_add(page.documents.len().max(1) as u64, Relaxed);
            Ok(page)
        })
    }
}
