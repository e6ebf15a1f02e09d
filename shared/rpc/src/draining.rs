//! How work learns that its process is asked to stop.

use std::future::Future;

use tokio::sync::watch;
use tonic::Code;

use crate::Fault;

/// Tells when the host begins to drain: from then on, work that nobody waits for should not begin. (Watches need no look at
/// it: the host ends them.)
#[derive(Clone, Debug)]
pub struct Draining(watch::Receiver<bool>);

impl Draining {
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns whether the host drains, or is gone.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until the host drains, or is gone.
    pub fn started(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.0.clone();
        async move {
            // An error means that the host is gone, which is as good a reason to end.
            let _ = receiver.wait_for(|on| *on).await;
        }
    }
}

/// The fault of a call that its host ends. Nothing says that the next one would not be served, here or elsewhere.
pub(crate) fn leaving() -> Fault {
    Fault::new(Code::Unavailable, "the server ends this connection").reason("DRAINING")
}

/// How far the end of a connection, or of all of a host, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// New calls are served.
    Open,
    /// Calls finish; watches end.
    Closing,
    /// Every call ends.
    Over,
}

/// Tells how far the end has come.
#[derive(Clone, Debug)]
pub(crate) struct Closing(watch::Receiver<Stage>);

impl Closing {
    pub(crate) fn new() -> (watch::Sender<Stage>, Self) {
        let (sender, receiver) = watch::channel(Stage::Open);
        (sender, Self(receiver))
    }

    /// Waits until it has come to `stage`; for ever, if whoever would tell is gone.
    pub(crate) fn reached(&self, stage: Stage) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.0.clone();
        async move {
            if receiver.wait_for(|now| *now >= stage).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Waits until the process is asked to stop: SIGTERM, or Ctrl-C. For `main`.
pub async fn shutdown_signal() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot listen for ctrl-c");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = terminate() => {}
    }
}

#[cfg(unix)]
async fn terminate() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot listen for sigterm");
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
async fn terminate() {
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_told() {
        let (sender, draining) = Draining::new();
        assert!(!draining.is_on());
        sender.send_replace(true);
        draining.started().await;
        assert!(draining.is_on());
    }

    #[tokio::test]
    async fn a_host_that_is_gone_counts_as_draining() {
        let (sender, draining) = Draining::new();
        drop(sender);
        draining.started().await;
        assert!(draining.is_on());
    }
}
