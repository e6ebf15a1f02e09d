//! What can go wrong, and how it is said to a caller.

use std::{sync::Arc, time::Duration};

use crate::{acks::Rejected, sink::Unreachable, store};

/// How soon a caller may come back when the journal is full.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// How soon a caller may come back when the sink is away.
const SINK_RETRY: Duration = Duration::from_secs(1);

/// How soon a caller may come back when the disk takes no writes.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Why the service could not start or a call could not be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The journal holds as much as it may.
    #[error("the journal is full at {setting} = {most}")]
    Full {
        /// The setting that is the limit: `journal_max_bytes` or `journal_max_writes`.
        setting: &'static str,
        /// Its value.
        most: u64,
    },
    /// A write was acknowledged and did not reach the sink before its caller's time was over.
    #[error("the write is durable and not yet stored")]
    Durable {
        /// The place of the last write in the journal.
        sequence: u64,
    },
    /// The sink refused a write for good that somebody waited for.
    #[error("the sink refused the write")]
    Rejected(Rejected),
    /// A merge would make its document larger than the sink takes, with what waits of it.
    #[error("the document of write {place} would be larger than 1 MiB")]
    TooLarge {
        /// The place of the write in its request.
        place: usize,
    },
    /// A write came with the idempotency key of another one.
    #[error("the idempotency key of write {place} was used for another write")]
    KeyReused {
        /// The place of the write in its request.
        place: usize,
    },
    /// An earlier write of the stream was refused for now.
    #[error("an earlier write of the stream was refused for now")]
    Behind,
    /// The journal cannot be read or written.
    #[error("the journal cannot be used")]
    Store(#[source] Arc<store::Error>),
    /// The journal's file cannot be opened.
    #[error("the journal cannot be opened")]
    Open(#[source] Arc<journal::Error>),
    /// The file `storage_rules` names is refused.
    #[error("the rules of aggregation cannot be used")]
    Rules(#[source] Arc<crate::aggregate::file::Error>),
    /// The sink was needed and did not answer.
    #[error("the sink cannot be reached")]
    Sink(#[source] Unreachable),
    /// The write budget has no room for what was to be sent.
    #[error("the write budget holds documents back")]
    Held {
        /// How long until there is room for some more, on the agent clock.
        wait: Duration,
    },
    /// The stored document cannot be read.
    #[error("the stored document is damaged")]
    Damaged(#[source] Unreachable),
    /// There is no such document.
    #[error("there is no such document")]
    NoDocument,
    /// More buckets than one answer can hold.
    #[error("more than {limit} buckets")]
    TooManyBuckets {
        /// Most buckets in one answer.
        limit: usize,
    },
    /// The service reads its journal, or is going down.
    #[error("the service is not ready")]
    NotReady,
    /// The server could not be bound or run.
    #[error("the server failed")]
    Server(#[source] Arc<rpc::Error>),
}

impl Error {
    /// Returns whether the same write may be accepted later, so that what follows on it has to wait for it.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Behind | Self::Store(_) | Self::NotReady)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<Unreachable> for Error {
    fn from(error: Unreachable) -> Self {
        if error.damaged { Self::Damaged(error) } else { Self::Sink(error) }
    }
}

impl From<rpc::Error> for Error {
    fn from(error: rpc::Error) -> Self {
        Self::Server(Arc::new(error))
    }
}

impl From<Error> for rpc::Fault {
    fn from(error: Error) -> Self {
        use rpc::{Code, Fault};
        match &error {
            Error::Full { setting, most } => {
                let message = format!("the journal is full at {setting} = {most}; nothing was accepted");
                Fault::new(Code::ResourceExhausted, message).reason("JOURNAL_FULL").retry_after(FULL_RETRY)
            }
            Error::Durable { sequence } => {
                let message = format!(
                    "the write is durable and will be stored; its place in the journal, or that of the last, is {sequence}"
                );
                Fault::new(Code::DeadlineExceeded, message).reason("DURABLE")
            }
            Error::Rejected(Rejected { key, reason }) => {
                let document = format!("{}/{}", key.collection, key.id);
                let message = format!("the sink refused {document} for good, it is a dead letter: {reason}");
                Fault::new(Code::FailedPrecondition, message).reason("DEAD_LETTER")
            }
            Error::TooLarge { place } => too_large(&format!("writes[{place}].fields")),
            Error::KeyReused { place } => key_reused(&format!("writes[{place}].idempotency_key")),
            Error::Behind => {
                let message = "an earlier write of the stream was refused for now; nothing was accepted";
                Fault::new(Code::Aborted, message).reason("BEHIND")
            }
            Error::Store(cause) => {
                let reason = cause.reason();
                let code = if reason.is_exhaustion() { Code::ResourceExhausted } else { Code::Unavailable };
                Fault::new(code, format!("the journal cannot be used: {reason}"))
                    .reason(reason.word())
                    .retry_after(DISK_RETRY)
                    .caused_by(error)
            }
            Error::Open(_) => {
                Fault::new(Code::Unavailable, "the journal cannot be used").reason("STORE").caused_by(error)
            }
            Error::Rules(_) => {
                Fault::new(Code::Internal, "the rules of aggregation cannot be used").caused_by(error)
            }
            Error::Sink(_) => {
                Fault::new(Code::Unavailable, "the sink cannot be reached; accepted writes are kept")
                    .reason("SINK")
                    .retry_after(SINK_RETRY)
                    .caused_by(error)
            }
            Error::Held { wait } => {
                let message =
                    "the write budget holds documents back; accepted writes are kept and sent as it allows";
                Fault::new(Code::ResourceExhausted, message).reason("WRITE_BUDGET").retry_after(*wait)
            }
            Error::Damaged(_) => {
                Fault::new(Code::DataLoss, "the stored document is damaged; a set or a delete repairs it")
                    .reason("DAMAGED")
                    .caused_by(error)
            }
            Error::NoDocument => {
                Fault::new(Code::NotFound, "there is no such document").reason("NO_DOCUMENT")
            }
            Error::TooManyBuckets { limit } => {
                Fault::invalid("start_time", format!("must leave at most {limit} buckets"))
            }
            Error::NotReady => Fault::new(Code::Unavailable, "the service is not ready").reason("NOT_READY"),
            Error::Server(_) => Fault::new(Code::Internal, "the server failed").caused_by(error),
        }
    }
}

/// Says that the merge with the fields at `field` is refused for the size of its document.
pub(crate) fn too_large(field: &str) -> rpc::Fault {
    rpc::Fault::invalid(field, "must leave the document, with the writes to it that wait, at most 1 MiB")
}

/// Says that the key at `field` belongs to another write.
pub(crate) fn key_reused(field: &str) -> rpc::Fault {
    rpc::Fault::invalid(field, "must not be that of another write")
}
