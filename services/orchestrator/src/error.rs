//! What can go wrong, and what a caller is told of it.

use std::time::Duration;

use journal::Reason;
use rpc::{Code, Fault};

use crate::{interest, source::recording};

/// When a caller may try again while the disk takes no writes.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Why the service cannot run, or why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used.
    #[error("setting {name}: {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The interest rule cannot be used.
    #[error("setting agent_interest_rule cannot be used")]
    Interest(#[source] interest::Error),
    /// A recording cannot be read.
    #[error("cannot read {path}")]
    Recording {
        /// The file.
        path: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A recording cannot be replayed.
    #[error("cannot replay the recording")]
    Replay(#[source] recording::Error),
    /// The service cannot be served, or a peer's address is none.
    #[error("cannot serve")]
    Host(#[from] rpc::Error),
    /// The journal of cycles cannot be opened.
    #[error("cannot open the journal of cycles")]
    Open(#[source] journal::Error),
    /// The journal of cycles cannot be read or written.
    #[error("the journal of cycles failed")]
    Journal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The journal of cycles takes no writes, or is closed.
    #[error("the journal of cycles cannot be used: {0}")]
    Disk(Reason),
    /// A cycle of the agent is running.
    #[error("a cycle of this agent is running")]
    Busy,
    /// One agent more than may run a cycle at once.
    #[error("{0} agents run a cycle just now, and no more may")]
    TooManyAgents(usize),
    /// The recording has ended.
    #[error("the recording has no more days")]
    Exhausted,
    /// There is no cycle of that id.
    #[error("there is no cycle of this id")]
    NotFound,
    /// The journal is not open yet.
    #[error("the service is starting")]
    NotReady,
    /// The task that ran the cycle ended without a result.
    #[error("the cycle's task failed")]
    Task(#[source] tokio::task::JoinError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (code, reason) = match &error {
            Error::Busy => (Code::Aborted, "CYCLE_RUNNING"),
            Error::TooManyAgents(_) => (Code::ResourceExhausted, "TOO_MANY_AGENTS"),
            Error::Exhausted => (Code::OutOfRange, "REPLAY_ENDED"),
            Error::NotFound => (Code::NotFound, "NO_SUCH_CYCLE"),
            Error::NotReady => (Code::Unavailable, "STARTING"),
            Error::Disk(reason) => {
                let code = if reason.is_exhaustion() { Code::ResourceExhausted } else { Code::Unavailable };
                let fault = Fault::new(code, error.to_string()).reason(reason.word());
                return fault.retry_after(DISK_RETRY).caused_by(error);
            }
            Error::Open(_) | Error::Journal(_) => (Code::Unavailable, "STORE"),
            _ => (Code::Internal, "FAILED"),
        };
        Fault::new(code, error.to_string()).reason(reason).caused_by(error)
    }
}
