//! The body of an answer, watched until its end: deadline, measurement, and the context its stream runs in.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context as Task, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status};
use tracing::{Dispatch, Span, dispatcher};

use crate::{
    Deadline, Fault,
    call::{Call, Side, code_of},
    context,
    deadline::exceeded,
    draining, failure,
    limit::Permit,
};

/// The body of an rpc's answer, on either side.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    inner: Option<B>,
    call: Call,
    /// What the end of the body means where no trailers say it.
    code: Code,
    sleep: Option<Pin<Box<Sleep>>>,
    hold: Hold,
    scope: Option<Scope>,
}

/// What a stream that is made while its answer is sent runs in, beside the span of its call.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) dispatch: Dispatch,
    pub(crate) context: context::Context,
}

/// What a server holds for as long as a stream is under way.
#[derive(Default)]
pub(crate) struct Hold {
    /// Ready when the host wants a stream to end; never, if there is none.
    pub(crate) end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The right to run, where the method is limited.
    pub(crate) permit: Option<Permit>,
}

impl<B> Watched<B> {
    /// Watches `inner`, the body of an answer with these headers. At `deadline` a server ends it with a status, a client
    /// with an error. What runs in no `scope` is bytes that are there or come from elsewhere.
    pub(crate) fn new(
        inner: B,
        headers: &HeaderMap,
        mut call: Call,
        deadline: Option<Deadline>,
        scope: Option<Scope>,
    ) -> Self {
        call.told(headers);
        let code = code_of(headers);
        if let Some(code) = code {
            // The headers are the trailers: nothing follows, and nobody may look.
            call.end(code);
        }
        let sleep = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline.instant())));
        let code = code.unwrap_or(Code::Unknown);
        Self { inner: Some(inner), call, code, sleep, hold: Hold::default(), scope }
    }

    /// Holds `hold` until the last byte.
    pub(crate) fn holding(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    fn poll_inner(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let Some(Scope { dispatch, context }) = &self.scope else {
            return Pin::new(inner).poll_frame(task);
        };
        let span: &Span = self.call.span();
        dispatcher::with_default(dispatch, || {
            span.in_scope(|| context.within(|| Pin::new(inner).poll_frame(task)))
        })
    }

    /// Returns why the body ends before its stream does.
    fn poll_end(&mut self, task: &mut Task<'_>) -> Poll<Fault> {
        if self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(task).is_ready()) {
            return Poll::Ready(exceeded());
        }
        if self.hold.end.as_mut().is_some_and(|end| end.as_mut().poll(task).is_ready()) {
            return Poll::Ready(draining::leaving());
        }
        Poll::Pending
    }

    /// Ends the body with a failure.
    fn fail(&mut self, fault: Fault) -> Result<Frame<Bytes>, Status> {
        self.release();
        self.call.end(fault.code());
        let status = Status::from(fault);
        if self.call.side() == Side::Client {
            return Err(status);
        }
        let mut trailers = HeaderMap::new();
        // A status whose message is ours always fits into headers.
        let _ = status.add_header(&mut trailers);
        Ok(Frame::trailers(trailers))
    }

    fn release(&mut self) {
        // A stream's own clean-up logs and measures, too.
        match (self.inner.take(), &self.scope) {
            (Some(inner), Some(Scope { dispatch, .. })) => dispatcher::with_default(dispatch, || drop(inner)),
            (inner, _) => drop(inner),
        }
        self.hold = Hold::default();
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this.poll_inner(task) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.told(trailers);
                    let code = code_of(trailers).unwrap_or(Code::Unknown);
                    this.call.end(code);
                    this.hold = Hold::default();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let over = this.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed());
                let status = match this.call.side() {
                    Side::Client => failure::broken(error.into(), over),
                    Side::Server => Status::from_error(error.into()),
                };
                this.call.broke(status.code());
                this.release();
                Poll::Ready(Some(Err(status)))
            }
            Poll::Ready(None) => {
                this.call.end(this.code);
                this.hold = Hold::default();
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_end(task).map(|fault| Some(this.fail(fault))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Hold").field("permit", &self.permit).finish_non_exhaustive()
    }
}
