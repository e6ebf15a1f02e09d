//! Whose fault a message is that cannot be read: the caller's.
//!
//! tonic answers INTERNAL, as gRPC's own table of codes has it, where the bytes of a request are no frame or no message. To
//! whoever counts errors that is a failure of the service, which any caller could cause at will; to a caller it is a reason
//! to report a bug of ours. Here it becomes INVALID_ARGUMENT.

use std::{error::Error, fmt, sync::Arc};

use axum::body::Body;
use http::Response;
use tonic::{Code, Status};

use crate::Fault;

/// The source of every status that the house made: what has none was made by tonic.
#[derive(Debug)]
struct Ours;

impl fmt::Display for Ours {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("told by the service")
    }
}

impl Error for Ours {}

/// Marks a status as one that the house made.
pub(crate) fn marked(mut status: Status) -> Status {
    status.set_source(Arc::new(Ours));
    status
}

/// Turns the INTERNAL with which tonic refuses to read a request into the caller's fault. An answer that began is left alone:
/// by then the request was read.
pub(crate) fn blamed(response: Response<Body>) -> Response<Body> {
    let unread = |status: &&Status| status.code() == Code::Internal && !is_ours(status);
    match response.extensions().get::<Status>().filter(unread) {
        None => response,
        Some(status) => {
            let message = format!("the message cannot be read: {}", status.message());
            Status::from(Fault::new(Code::InvalidArgument, message).reason("UNREADABLE")).into_http()
        }
    }
}

fn is_ours(status: &Status) -> bool {
    status.source().is_some_and(|source| source.is::<Ours>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: Status) -> Code {
        let answer = blamed(status.into_http());
        answer.extensions().get::<Status>().unwrap().code()
    }

    #[test]
    fn only_what_tonic_could_not_read_is_the_callers_fault() {
        assert_eq!(code(Status::internal("Unexpected EOF decoding stream.")), Code::InvalidArgument);
        assert_eq!(code(Status::out_of_range("too large")), Code::OutOfRange);
        assert_eq!(code(Fault::new(Code::Internal, "the journal is gone").into()), Code::Internal);
    }
}
