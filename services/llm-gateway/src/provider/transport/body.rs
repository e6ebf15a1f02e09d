//! The body of an answer, as it comes.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as _, Frame};

use super::{Connection, Error, Incoming, Pool};

/// The body of an answer. Read to its end, or left when nothing is missing, it gives its connection back; else it takes it along.
#[derive(Debug)]
pub(in super::super) struct Body {
    incoming: Option<Incoming>,
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl Body {
    pub(super) fn new(incoming: Incoming, connection: Connection, pool: Arc<Pool>) -> Self {
        Self { incoming: Some(incoming), connection: Some(connection), pool }
    }

    /// Waits for the next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Broken`] where it ends before its end.
    pub(in super::super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = poll_fn(|context| self.poll(context)).await {
            // What is none are trailers, of which nothing is read.
            if let Ok(bytes) = frame.map_err(Error::Broken)?.into_data() {
                return Ok(Some(bytes));
            }
        }
        self.give_back();
        Ok(None)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match (&mut self.incoming, &mut self.connection) {
            (Some(incoming), Some(connection)) => {
                connection.poll(context, |context| Pin::new(&mut *incoming).poll_frame(context))
            }
            _ => Poll::Ready(None),
        }
    }

    fn give_back(&mut self) {
        self.incoming = None;
        if let Some(Connection::Own(own)) = self.connection.take() {
            self.pool.keep(own);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.give_back();
    }
}
