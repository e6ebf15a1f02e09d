//! What became of a call whose connection broke.

use std::{error::Error, sync::Arc};

use tonic::{Code, Status};

use crate::deadline;

/// Makes the status of a call whose connection broke. tonic says UNKNOWN or CANCELLED for most of these (grpc-rust#628).
pub(crate) fn broken(error: Box<dyn Error + Send + Sync>, over: bool) -> Status {
    if over {
        return deadline::exceeded().into();
    }
    let status = Status::from_error(error);
    match status.code() {
        // The server broke the protocol, or refused what it was sent: another attempt would not help.
        Code::Internal | Code::PermissionDenied | Code::OutOfRange | Code::Unavailable => status,
        _ => {
            let mut unavailable = Status::unavailable("the connection to the server broke");
            unavailable.set_source(Arc::new(status));
            unavailable
        }
    }
}

/// Returns whether the server says that it never looked at the call: it refused the stream, or went away before it.
pub(crate) fn is_untouched(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let gone = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || gone);
        }
        next = error.source();
    }
    false
}
