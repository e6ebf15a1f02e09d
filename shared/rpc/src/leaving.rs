//! How a stream without an end of its own gets the time to say how far it came.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tonic::Request;

use crate::{
    Fault,
    draining::{Closing, Stage, leaving},
};

/// Tells a stream when its connection wants it to end: the host drains, or the connection is too old.
///
/// The host ends conversations and watches in that moment. One that asks for this promises to end by itself, with
/// [`Leaving::fault`], and has as long for it as other calls have to finish.
#[derive(Clone, Debug)]
pub struct Leaving {
    closing: Closing,
    promised: Arc<AtomicBool>,
}

impl Leaving {
    pub(crate) fn new(closing: Closing) -> Self {
        Self { closing, promised: Arc::new(AtomicBool::new(false)) }
    }

    /// Promises that the stream asked for by `request` ends by itself when the returned future is ready. Of a call that did not come
    /// through a host it never is.
    pub fn promise<T>(request: &Request<T>) -> impl Future<Output = ()> + Send + 'static + use<T> {
        let own = request.extensions().get::<Self>().cloned();
        if let Some(own) = &own {
            own.promised.store(true, Ordering::Relaxed);
        }
        async move {
            match own {
                Some(own) => own.closing.reached(Stage::Closing).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns with what such a stream ends: UNAVAILABLE with the reason DRAINING.
    #[must_use]
    pub fn fault() -> Fault {
        leaving()
    }

    /// Returns when the host ends the stream, if it has no end of its own.
    pub(crate) fn last(&self) -> Stage {
        if self.promised.load(Ordering::Relaxed) { Stage::Over } else { Stage::Closing }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tonic::Request;

    use super::Leaving;
    use crate::draining::{Closing, Stage};

    #[tokio::test]
    async fn who_promises_is_told_first_and_ended_last() {
        let (stage, closing) = Closing::new();
        let leaving = Leaving::new(closing);
        assert_eq!(leaving.last(), Stage::Closing, "who promises nothing ends at once");
        let mut request = Request::new(());
        request.extensions_mut().insert(leaving.clone());
        let mut told = Box::pin(Leaving::promise(&request));
        assert_eq!(leaving.last(), Stage::Over);
        assert!((&mut told).now_or_never().is_none());
        stage.send_replace(Stage::Closing);
        told.await;
    }

    #[tokio::test]
    async fn a_call_that_came_through_no_host_is_never_told() {
        assert!(Leaving::promise(&Request::new(())).now_or_never().is_none());
    }
}
