//! Tells whether a sink answers, from what comes of its real requests: asking it for nothing else would cost money.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{Page, Range, Sink, Unreachable, Verdict};
use crate::{
    document::{Fields, Key},
    queue::Entry,
};

/// A sink whose last outcome is told.
#[derive(Debug)]
pub struct Heard<S> {
    sink: S,
    /// Whether the last request was answered; `None` before the first.
    last: watch::Sender<Option<bool>>,
}

impl<S: Sink> Heard<S> {
    /// Tells what comes of the requests to `sink` by `last`.
    pub fn new(sink: S, last: watch::Sender<Option<bool>>) -> Self {
        Self { sink, last }
    }

    fn note(&self, answered: bool) {
        self.last.send_if_modified(|last| last.replace(answered) != Some(answered));
    }

    async fn told<T>(&self, request: impl Future<Output = Result<T, Unreachable>>) -> Result<T, Unreachable> {
        let outcome = request.await;
        // A document that cannot be read came from a sink that answers.
        self.note(outcome.as_ref().map_or_else(|error| error.damaged, |_| true));
        outcome
    }
}

impl<S: Sink> Sink for Heard<S> {
    fn name(&self) -> &'static str {
        self.sink.name()
    }

    fn needs_ledger(&self) -> bool {
        self.sink.needs_ledger()
    }

    fn send<'a>(
        &'a self,
        writes: &'a [Arc<Entry>],
        ledger: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
        async move {
            let outcome = self.sink.send(writes, ledger).await;
            // One that turns everything down for now is not there for anybody.
            let taken = outcome.as_ref().is_ok_and(|verdicts| {
                verdicts.is_empty() || verdicts.iter().any(|verdict| !matches!(verdict, Verdict::Retry(..)))
            });
            self.note(taken);
            outcome
        }
        .boxed()
    }

    fn apply(
        &self,
        transaction: &redb::WriteTransaction,
        writes: &[&Entry],
        now: i64,
    ) -> Result<Vec<Verdict>, redb::Error> {
        self.sink.apply(transaction, writes, now)
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
        self.told(self.sink.get(key)).boxed()
    }

    fn list<'a>(&'a self, range: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
        self.told(self.sink.list(range)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Cause;

    /// Answers as it is told.
    #[derive(Debug)]
    struct Moody(Result<Vec<Verdict>, Unreachable>);

    impl Sink for Moody {
        fn name(&self) -> &'static str {
            "moody"
        }

        fn send<'a>(
            &'a self,
            _: &'a [Arc<Entry>],
            _: Option<&'a str>,
        ) -> BoxFuture<'a, Result<Vec<Verdict>, Unreachable>> {
            std::future::ready(self.0.clone()).boxed()
        }

        fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Fields>, Unreachable>> {
            std::future::ready(self.0.clone().map(|_| None)).boxed()
        }

        fn list<'a>(&'a self, _: &'a Range) -> BoxFuture<'a, Result<Page, Unreachable>> {
            std::future::ready(self.0.clone().map(|_| Page::default())).boxed()
        }
    }

    #[tokio::test]
    async fn the_last_outcome_is_told() {
        let retry = || Verdict::Retry(Cause::Quota, "busy".to_owned());
        let damaged = Unreachable { damaged: true, ..Unreachable::refused("damaged") };
        let cases = [
            (Ok(vec![Verdict::Accepted, retry()]), true, true),
            (Ok(vec![retry()]), false, true),
            (Err(Unreachable::refused("gone")), false, false),
            (Err(damaged), false, true),
        ];
        for (outcome, sent, read) in cases {
            let (sender, last) = watch::channel(None);
            let sink = Heard::new(Moody(outcome), sender);
            assert_eq!(*last.borrow(), None);
            drop(sink.send(&[], None).await);
            assert_eq!(*last.borrow(), Some(sent));
            let key = Key { tenant: "t".into(), collection: "c".into(), id: "i".into() };
            drop(sink.get(&key).await);
            assert_eq!(*last.borrow(), Some(read));
        }
    }
}
