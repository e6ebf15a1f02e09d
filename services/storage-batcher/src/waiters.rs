//! Those who asked for a flush and wait for its end.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{document::Key, error::Error, queue::Entry, sink::Verdict};

/// What a flush did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Documents the sink took.
    pub documents: u64,
    /// Requests made to it.
    pub batches: u32,
    /// Writes folded into those documents.
    pub folded_writes: u64,
    /// Documents it refused for good, with its reason.
    pub refused: Vec<(Key, String)>,
}

/// Holds everyone who waits for a flush.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

#[derive(Debug)]
struct Waiter {
    tenant: Arc<str>,
    through: u64,
    outstanding: u64,
    report: Report,
    done: oneshot::Sender<Result<Report, Error>>,
}

impl Waiter {
    fn cares_for(&self, entry: &Entry) -> bool {
        entry.first() <= self.through && entry.key.tenant == self.tenant
    }
}

impl Waiters {
    /// Adds one who waits for `outstanding` writes of `tenant` accepted up to `through`.
    pub(crate) fn add(
        &mut self,
        tenant: Arc<str>,
        through: u64,
        outstanding: u64,
    ) -> oneshot::Receiver<Result<Report, Error>> {
        let (done, receiver) = oneshot::channel();
        self.0.push(Waiter { tenant, through, outstanding, report: Report::default(), done });
        self.release();
        receiver
    }

    /// Counts a request to the sink that held `entries`.
    pub(crate) fn count_request(&mut self, entries: &[Arc<Entry>]) {
        for waiter in &mut self.0 {
            if entries.iter().any(|entry| waiter.cares_for(entry)) {
                waiter.report.batches += 1;
            }
        }
    }

    /// Counts a write whose fate is decided.
    pub(crate) fn settle(&mut self, entry: &Entry, verdict: &Verdict) {
        for waiter in self.0.iter_mut().filter(|waiter| waiter.cares_for(entry)) {
            waiter.outstanding = waiter.outstanding.saturating_sub(1);
            match verdict {
                Verdict::Accepted => {
                    waiter.report.documents += 1;
                    waiter.report.folded_writes += entry.weight.writes + entry.weight.closings;
                }
                Verdict::Refused(reason) => waiter.report.refused.push((entry.key.clone(), reason.clone())),
                Verdict::Unchanged | Verdict::Retry(..) => {}
            }
        }
    }

    /// Tells everyone who has nothing left to wait for.
    pub(crate) fn release(&mut self) {
        for waiter in std::mem::take(&mut self.0) {
            if waiter.outstanding == 0 {
                // One who left does not need the answer.
                drop(waiter.done.send(Ok(waiter.report)));
            } else if !waiter.done.is_closed() {
                self.0.push(waiter);
            }
        }
    }

    /// Tells everyone who waits for one of `entries` why that takes longer.
    pub(crate) fn give_up<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Arc<Entry>> + Clone,
        error: &Error,
    ) {
        for waiter in std::mem::take(&mut self.0) {
            if entries.clone().any(|entry| waiter.cares_for(entry)) {
                drop(waiter.done.send(Err(error.clone())));
            } else {
                self.0.push(waiter);
            }
        }
    }
}
