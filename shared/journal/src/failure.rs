//! Why a write or a read did not happen, in words a caller can compare.

use std::{fmt, io, sync::Arc};

/// Why a journal takes no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The disk, or the quota on it, is used up.
    DiskFull,
    /// The disk is mounted read-only.
    DiskReadOnly,
    /// The disk or the database failed in another way.
    Store,
    /// As many writes wait as may.
    QueueFull,
    /// The journal is closed.
    Closed,
}

/// What keeps a journal from writing, and the database's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Outage {
    /// The reason, to compare.
    pub reason: Reason,
    /// The error it began with.
    #[source]
    pub cause: Arc<redb::Error>,
}

/// Whether a journal takes writes. It is read in each of the first two states.
#[derive(Clone, Debug)]
pub enum State {
    /// Writes are committed.
    Ready,
    /// Writes are refused at once, and the journal tries by itself whether they can go on.
    Refusing(Outage),
    /// It is closed, for good.
    Closed,
}

/// Why a write or a read did not happen; whatever the reason, nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E> {
    /// The closure refused; its writes were undone.
    #[error("the write was refused")]
    Refused(E),
    /// The closure panicked; its writes were undone.
    #[error("the write panicked")]
    Panicked,
    /// The disk or the database failed.
    #[error("the journal failed")]
    Store(#[source] Outage),
    /// There was no room in the queue for as long as a caller waits.
    #[error("the journal's queue is full")]
    Full,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

impl Reason {
    /// Returns the reason as a stable word in capitals, such as `DISK_FULL`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DiskFull => "DISK_FULL",
            Self::DiskReadOnly => "DISK_READ_ONLY",
            Self::Store => "STORE",
            Self::QueueFull => "QUEUE_FULL",
            Self::Closed => "CLOSED",
        }
    }

    /// Returns whether something is used up, rather than broken.
    #[must_use]
    pub const fn is_exhaustion(self) -> bool {
        matches!(self, Self::DiskFull | Self::QueueFull)
    }

    /// Returns what an error of the disk means.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::DiskReadOnly,
            _ => Self::Store,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DiskFull => "the disk is full",
            Self::DiskReadOnly => "the disk is read-only",
            Self::Store => "the store failed",
            Self::QueueFull => "too many writes wait",
            Self::Closed => "the journal is closed",
        })
    }
}

impl Outage {
    /// Says what an error of the database means.
    pub(crate) fn of(error: impl Into<redb::Error>) -> Self {
        let cause = error.into();
        let reason = match &cause {
            redb::Error::Io(error) => Reason::of(error),
            _ => Reason::Store,
        };
        Self { reason, cause: Arc::new(cause) }
    }
}

impl State {
    /// Returns whether writes are committed.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// Returns what keeps the journal from writing, if something does.
    pub(crate) fn outage(&self) -> Option<Outage> {
        match self {
            Self::Refusing(outage) => Some(outage.clone()),
            Self::Ready | Self::Closed => None,
        }
    }

    /// Returns why writes are refused, if they are.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Ready => None,
            Self::Refusing(outage) => Some(outage.reason),
            Self::Closed => Some(Reason::Closed),
        }
    }
}

impl<E> Failed<E> {
    /// Returns why the journal could not do it; absent if the closure itself refused or panicked.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(_) | Self::Panicked => None,
            Self::Store(outage) => Some(outage.reason),
            Self::Full => Some(Reason::QueueFull),
            Self::Closed => Some(Reason::Closed),
        }
    }
}
