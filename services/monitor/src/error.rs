//! What can go wrong, and what a caller is told of it.

use crate::trace::TraceId;

/// Tells why the monitor could not start or answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host could not be bound or run.
    #[error("the monitor cannot serve")]
    Host(#[from] rpc::Error),
    /// A trace was asked for that is not held.
    #[error("trace {0} is not held")]
    TraceNotHeld(TraceId),
}

impl From<Error> for rpc::Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Host(error) => {
                Self::new(rpc::Code::Unavailable, "the monitor cannot serve").caused_by(error)
            }
            Error::TraceNotHeld(_) => {
                Self::new(rpc::Code::NotFound, error.to_string()).reason("TRACE_NOT_HELD")
            }
        }
    }
}
