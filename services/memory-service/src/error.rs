//! What can go wrong, and what a caller is told of it.

use std::time::Duration;

use rpc::{Code, Fault};

use crate::upkeep::forgettings::Refused;

/// When a caller may try again while the store is being read, or takes no writes.
const SOON: Duration = Duration::from_secs(1);

/// Why the service cannot run, or why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting contradicts another.
    #[error("setting {name} {must}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it must be.
        must: String,
    },
    /// The service cannot be served.
    #[error("cannot serve")]
    Host(#[from] rpc::Error),
    /// The threads that compare vectors cannot be started.
    #[error("threads cannot be started")]
    Threads(#[source] std::io::Error),
    /// The store cannot be opened.
    #[error("cannot open the store of memories")]
    Open(#[source] journal::Error),
    /// The store holds vectors that the settings do not fit.
    #[error(
        "the stored memories were written with {setting} = {stored}, the settings say {configured}: \
         set it back, or name another memory_dir"
    )]
    Maker {
        /// The setting that does not fit.
        setting: &'static str,
        /// Its value when the memories were written.
        stored: String,
        /// Its value now.
        configured: String,
    },
    /// The store was written by a later version of this service.
    #[error("the store is of layout {0}, which this version does not know: run the version that wrote it")]
    Later(u32),
    /// A vector has another length than those of its namespace.
    #[error("the vectors of this namespace have {0} values")]
    Dimensions(usize),
    /// Likeness by the namespace's metric cannot be weighed with anything else.
    #[error(
        "RANKING_HYBRID weighs likeness by cosine, and the metric of this namespace is another: ask for RANKING_RECIPROCAL"
    )]
    Ranking,
    /// The vectors of the namespace are others since the call began.
    #[error("the vectors of the namespace were made anew meanwhile: ask again")]
    Reembedded,
    /// The namespace is being re-embedded with another aim.
    #[error("the namespace is being re-embedded by {0}: wait for that, or cancel it")]
    Reembedding(String),
    /// The namespace was never re-embedded, or what was meant is over.
    #[error("there is no re-embedding of this namespace")]
    NoReembedding,
    /// A namespace cannot be re-embedded so: the field, and what it must be.
    #[error("{0} {1}")]
    Aim(&'static str, String),
    /// The namespace is there and is another than was asked for.
    #[error("the namespace is there, of {0}")]
    Exists(String),
    /// The tenant has as many namespaces as `memory_namespaces` says.
    #[error("the tenant has as many namespaces as memory_namespaces says: drop one")]
    Namespaces,
    /// The shape that an import names is not the namespace's.
    #[error(
        "the memories are of {given}, and the namespace is of {ours}: vectors of two makers are not mixed"
    )]
    Mixed {
        /// What the lines say.
        given: String,
        /// What the namespace is of.
        ours: String,
    },
    /// There is no folder for snapshots.
    #[error("memory_snapshot_dir names no folder")]
    SnapshotDir,
    /// There is a snapshot of that name.
    #[error("there is a snapshot of this name")]
    SnapshotExists,
    /// A checkpoint cannot be written.
    #[error("a checkpoint cannot be written")]
    Checkpoint(#[source] std::io::Error),
    /// A snapshot cannot be written or read.
    #[error("the snapshot cannot be written or read")]
    Snapshot(#[source] std::io::Error),
    /// A namespace cannot be what was asked for: the field, and what it must be.
    #[error("{0} {1}")]
    Wish(&'static str, String),
    /// Nobody here makes vectors for the namespace.
    #[error(
        "the vectors of this namespace are made by {0}, which this service does not run: bring the vector"
    )]
    Brought(String),
    /// There is no forgetting of that number.
    #[error("there is no forgetting of this number, or it is listed no longer")]
    NoForgetting,
    /// The time in which a forgetting could be undone is over.
    #[error("the time in which it could be undone is over")]
    Over,
    /// A forgetting was undone before.
    #[error("it was undone before")]
    Undone,
    /// The namespace was written to since it was looked at.
    #[error("the namespace is at generation {now}, and not at {expected}: look at it again")]
    Moved {
        /// The generation that the caller knows.
        expected: u64,
        /// The present one.
        now: u64,
    },
    /// There is no namespace of that name.
    #[error("there is no namespace of this name")]
    NoNamespace,
    /// The store takes no writes, or cannot be read.
    #[error("the store of memories failed: {0}")]
    Store(journal::Reason, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The embedder cannot be made, or a text could not be turned into a vector.
    #[error("the text cannot be embedded: {0}")]
    Embedder(#[from] embedding::Error),
    /// A recall did not end in time and was stopped.
    #[error("the recall was stopped after query_timeout or the caller's deadline")]
    TimedOut,
    /// The plan that a caller asked for cannot be taken.
    #[error("the plan {plan} cannot be taken for this query: {why}")]
    Unfit {
        /// The plan.
        plan: &'static str,
        /// Why not.
        why: String,
    },
    /// There is no memory of that id.
    #[error("there is no memory of this id")]
    NotFound,
    /// The store is still being read, or is closed already.
    #[error("the service is starting or stopping")]
    NotReady,
    /// A task of ours panicked or was cancelled.
    #[error("a task of the service failed")]
    Task(#[source] tokio::task::JoinError),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown => Self::NoForgetting,
            Refused::Over => Self::Over,
            Refused::Undone => Self::Undone,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::TimedOut => (Code::DeadlineExceeded, "QUERY_TIMEOUT"),
            Error::NotFound | Error::NoNamespace | Error::NoForgetting | Error::NoReembedding => {
                return Self::new(Code::NotFound, error.to_string());
            }
            Error::Wish(field, must) => return Self::invalid(format!("namespace.{field}"), must.clone()),
            Error::Aim(field, must) => return Self::invalid(*field, must.clone()),
            Error::Reembedded => (Code::Aborted, "SHAPE"),
            Error::Reembedding(_) => (Code::FailedPrecondition, "REEMBEDDING"),
            Error::Dimensions(_) => (Code::InvalidArgument, "DIMENSIONS"),
            Error::Exists(_) => (Code::AlreadyExists, "NAMESPACE"),
            Error::Mixed { .. } => (Code::FailedPrecondition, "SHAPE"),
            Error::SnapshotDir => (Code::FailedPrecondition, "SNAPSHOT_DIR"),
            Error::SnapshotExists => (Code::AlreadyExists, "SNAPSHOT"),
            Error::Snapshot(_) => (Code::Unavailable, "SNAPSHOT_DISK"),
            Error::Over => (Code::FailedPrecondition, "UNDO_WINDOW"),
            Error::Undone => (Code::FailedPrecondition, "UNDONE"),
            Error::Moved { .. } => (Code::Aborted, "GENERATION"),
            Error::Namespaces => (Code::ResourceExhausted, "NAMESPACES"),
            Error::Brought(_) => (Code::FailedPrecondition, "EMBEDDER"),
            Error::NotReady => {
                return Self::new(Code::Unavailable, error.to_string()).reason("NOT_READY").retry_after(SOON);
            }
            Error::Store(reason, _) => {
                // Recalls go on, and the store mends itself.
                let code = if reason.is_exhaustion() { Code::ResourceExhausted } else { Code::Unavailable };
                let fault = Self::new(code, error.to_string()).reason(reason.word());
                return fault.retry_after(SOON).caused_by(error);
            }
            Error::Embedder(failed) if failed.is_temporary() => {
                let after = failed.retry_after().unwrap_or(SOON);
                let fault = Self::new(Code::Unavailable, error.to_string()).reason("EMBEDDER");
                return fault.retry_after(after).caused_by(error);
            }
            Error::Embedder(_) => (Code::FailedPrecondition, "EMBEDDER"),
            Error::Unfit { .. } => (Code::FailedPrecondition, "PLAN_UNFIT"),
            Error::Ranking => (Code::FailedPrecondition, "RANKING"),
            Error::Open(_) => (Code::Unavailable, "STORE"),
            Error::Setting { .. }
            | Error::Threads(_)
            | Error::Host(_)
            | Error::Later(_)
            | Error::Checkpoint(_)
            | Error::Maker { .. }
            | Error::Task(_) => (Code::Internal, "INTERNAL"),
        };
        Self::new(code, error.to_string()).reason(reason).caused_by(error)
    }
}
