//! One connection that is made.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use hyper::{
    client::conn::{TrySendError, http1, http2},
    rt::{Read, Write},
};
use hyper_util::client::legacy::connect::{Connected, Connection as Connecting};
use tokio::task::unconstrained;

use super::{Incoming, Outgoing};

/// What bytes go over.
pub(super) trait Io: Read + Write + Connecting + fmt::Debug + Send + Unpin {}

impl<T: Read + Write + Connecting + fmt::Debug + Send + Unpin> Io for T {}

impl Connecting for Box<dyn Io> {
    fn connected(&self) -> Connected {
        (**self).connected()
    }
}

/// A way to send one request.
#[derive(Debug)]
pub(super) enum Connection {
    /// HTTP/1.1: for this request, and for others after it.
    Own(Box<Own>),
    /// HTTP/2: for many at a time.
    Shared(http2::SendRequest<Outgoing>),
}

/// A connection of HTTP/1.1, driven by whoever holds it.
#[derive(Debug)]
pub(super) struct Own {
    sender: http1::SendRequest<Outgoing>,
    /// None once it has ended.
    driver: Option<http1::Connection<Box<dyn Io>, Outgoing>>,
}

impl Connection {
    /// Sends `request`, and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        match self {
            Self::Own(own) => own.send(request).await,
            Self::Shared(sender) => sender.try_send_request(request).await,
        }
    }

    /// Polls what comes of this connection, and drives it where nobody else does.
    pub(super) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Own(own) => own.poll(context, coming),
            Self::Shared(_) => coming(context),
        }
    }
}

impl Own {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        driver: http1::Connection<Box<dyn Io>, Outgoing>,
    ) -> Self {
        Self { sender, driver: Some(driver) }
    }

    /// Returns whether another request can be sent: looks whether the upstream has closed it, or has sent what nobody asked for.
    pub(super) fn is_free(&mut self) -> bool {
        // Nobody waits for it: whoever sends next is woken.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }

    async fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        // It is polled without a waker, so that it must not stop for others' sake.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|context| self.poll(context, |silent| answer.as_mut().poll(silent))).await
    }

    /// Polls what comes of driving and of nothing else.
    ///
    /// The two tell each other of every step, and both are this task: a task that wakes itself goes through the queue, and wakes another
    /// thread to share it. So they are polled without a waker first, and only what then waits for the upstream is left one.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        mut coming: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut silent = Context::from_waker(Waker::noop());
        self.drive(&mut silent);
        let came = coming(&mut silent);
        if came.is_ready() {
            return came;
        }
        self.drive(context);
        coming(&mut silent)
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(context).is_ready()
        {
            // A request that it had not begun is told so by its going alone.
            self.driver = None;
        }
    }
}
