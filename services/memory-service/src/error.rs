//! What can go wrong, and what a caller is told of it.

use std::time::Duration;

use rpc::{Code, Fault};

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

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::TimedOut => (Code::DeadlineExceeded, "QUERY_TIMEOUT"),
            Error::NotFound => return Self::new(Code::NotFound, "there is no memory of this id"),
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
            Error::Open(_) => (Code::Unavailable, "STORE"),
            Error::Setting { .. } | Error::Host(_) | Error::Maker { .. } | Error::Task(_) => {
                (Code::Internal, "INTERNAL")
            }
        };
        Self::new(code, error.to_string()).reason(reason).caused_by(error)
    }
}
