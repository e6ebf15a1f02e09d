//! What the next hop must know about the call that is being served in this task.

use std::future::Future;

use http::HeaderValue;

use crate::Deadline;

tokio::task_local! {
    static CURRENT: Context;
}

/// The call that is being served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    /// Until when its caller waits.
    pub(crate) deadline: Option<Deadline>,
    /// Its `authorization` header, marked sensitive.
    pub(crate) authorization: Option<HeaderValue>,
    /// Whether a call is being served at all; outside of one, a channel may use a token of its own.
    pub(crate) serving: bool,
}

impl Context {
    /// Runs `future` in this context.
    pub(crate) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Runs `work` in this context.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

/// Returns the context of this task; an empty one outside of a call.
pub(crate) fn current() -> Context {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Wraps a future so that it keeps the deadline and the caller's token of this task, wherever it is polled:
/// `telemetry.spawn(rpc::carry(work))`.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    current().scope(future)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_of_ones_own_is_no_call_that_is_served() {
        let serving = Deadline::after(Duration::from_secs(5)).scope(async { current().serving }).await;
        assert!(!serving);
    }

    #[tokio::test]
    async fn a_spawned_task_keeps_the_deadline_by_carry() {
        let telemetry = telemetry::Telemetry::silent("test");
        let deadline = Deadline::after(Duration::from_secs(5));
        let seen =
            deadline.scope(async { telemetry.spawn(carry(async { Deadline::current() })).await }).await;
        assert_eq!(seen.unwrap(), Some(deadline));
    }
}
