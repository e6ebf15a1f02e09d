//! Where folded writes go: the embedded store of the same file, or Firestore.

pub mod bisect;
pub mod embedded;
pub mod firestore;
pub mod heard;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use rand::Rng as _;

use crate::{
    document::{Fields, Key},
    queue::Entry,
};

/// Bytes after which a page of documents ends although more were asked for; a page holds at least one.
pub const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;

/// The collection of ledger documents, which callers cannot write to.
pub const LEDGER_COLLECTION: &str = "_batches";

/// The field of a ledger document that says from when on it may be deleted.
pub const LEDGER_EXPIRY: &str = "expire_at";

/// Why the sink did not take something now; it decides how soon and how often it is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It cannot be reached, does not answer, or says so.
    Away,
    /// Others write to the same document.
    Contention,
    /// A quota is used up.
    Quota,
    /// Something is missing that somebody has to set right: a role, credentials, the database.
    Setup,
    /// It answered and failed at this one write.
    Fault,
}

/// What the sink says about one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Accepted,
    /// It was not sent, as the sink holds the document so already.
    Unchanged,
    /// It will never be taken, for this reason.
    Refused(String),
    /// It was not taken now, for this reason, and may be later.
    Retry(Cause, String),
}

/// A request that the sink did not answer or refused as a whole; what it held stays in the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sink did not take the request: {reason}")]
pub struct Unreachable {
    /// The sink's words, or the transport's.
    pub reason: String,
    /// What kind of reason that is.
    pub cause: Cause,
    /// Whether the request may have been applied and only its answer was lost.
    pub lost: bool,
    /// Whether the document asked for is there and cannot be read: asking again is of no use.
    pub damaged: bool,
}

/// Asks for documents of one collection by id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The collection.
    pub collection: Arc<str>,
    /// Only ids greater than this; empty for all.
    pub after: String,
    /// Only ids smaller than this.
    pub before: Option<String>,
    /// Most documents.
    pub limit: usize,
    /// Fields that are enough, by their paths in Firestore's notation: a sink may leave the others out. Empty for all.
    pub only: Vec<String>,
}

/// Documents by id.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The documents.
    pub documents: Vec<(Arc<str>, Fields)>,
    /// Whether there may be more.
    pub more: bool,
}

/// Takes folded writes and gives documents back.
///
/// A sink sees at most one write of a document at a time. A write may come again after a lost answer: what has not the same effect twice
/// comes with a ledger document where the sink needs one.
pub trait Sink: fmt::Debug + Send + Sync {
    /// Returns the sink's name for logs.
    fn name(&self) -> &'static str;

    /// Returns whether writes that have not the same effect twice must be sent with a ledger document. A sink that takes a write when the
    /// journal drops it takes it once anyway.
    fn needs_ledger(&self) -> bool {
        false
    }

    /// Sends writes to different documents; answers with one verdict for each, in order. With the id of a `ledger` document all or none
    /// of them are applied, once however often they come with it, and all verdicts are the same.
    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        ledger: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>>;

    /// Applies accepted writes in the transaction that drops them from the journal; a remote sink has nothing to do there. `now`, in
    /// microseconds since the epoch, is the server's time. Answers with one verdict for each, in order.
    ///
    /// # Errors
    /// The database's; the transaction is then undone and the writes are sent again later.
    fn apply(
        &self,
        _transaction: &redb::WriteTransaction,
        writes: &[&Entry],
        _now: i64,
    ) -> Result<Vec<Verdict>, redb::Error> {
        Ok(vec![Verdict::Accepted; writes.len()])
    }

    /// Returns one document, if it is there.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>>;

    /// Returns documents of a collection in order of id (UTF-8 bytes).
    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>>;
}

impl Cause {
    /// Returns whether the sink bears less than it was given.
    #[must_use]
    pub const fn is_overload(self) -> bool {
        matches!(self, Self::Away | Self::Contention | Self::Quota)
    }
}

impl Verdict {
    /// Returns whether the write will never be taken.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Unreachable {
    /// Says that nothing of the request was applied, for `reason`.
    #[must_use]
    pub fn refused(reason: impl ToString) -> Self {
        Self { reason: reason.to_string(), cause: Cause::Away, lost: false, damaged: false }
    }

    /// Returns what this says about each of the writes it held.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::Retry(self.cause, self.reason.clone())
    }
}

/// Returns an id that no other ledger document has. It is random, so that those of one second do not lie beside each other.
pub(crate) fn new_ledger() -> Arc<str> {
    format!("{:032x}", rand::rng().random::<u128>()).into()
}
