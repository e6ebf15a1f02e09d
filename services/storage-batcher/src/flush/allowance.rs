//! What the write budget lets through: batches ask for their documents before they leave, and tell what was sent of them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clock::Clock;
use parking_lot::Mutex;
use telemetry::{Counter, Telemetry, names};
use tokio::sync::{Notify, futures::Notified};

use crate::{
    budget::{Budget, Limits, Standing},
    document::Priority,
};

/// Hands the budget out.
#[derive(Debug)]
pub(crate) struct Allowance {
    budget: Mutex<Budget>,
    clock: Clock,
    /// For how long a batch gathers what comes back.
    interval: Duration,
    overdrawn: Counter,
    changed: Notify,
}

/// The places of documents that are about to leave, or a claim to them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    allowance: Arc<Allowance>,
    documents: u64,
    /// Whether there was no room for them.
    is_claim: bool,
}

/// What of a number of documents may leave, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Documents that may leave now.
    pub(crate) now: u64,
    /// When some more may, if any are held back.
    pub(crate) more: Option<SystemTime>,
}

impl Allowance {
    /// Makes one of which the documents of `sent` are used: how many in each minute since the epoch, oldest first.
    pub(crate) fn new(
        limits: Limits,
        sent: impl IntoIterator<Item = (u64, u64)>,
        clock: Clock,
        interval: Duration,
        telemetry: &Telemetry,
    ) -> Self {
        let budget = Mutex::new(Budget::new(limits, sent, since_epoch(clock.now())));
        let overdrawn = telemetry.counter(names::STORAGE_OVERDRAWN);
        Self { budget, clock, interval, overdrawn, changed: Notify::new() }
    }

    /// Returns how many of `due` documents may leave now.
    pub(crate) fn grant(&self, due: u64) -> Grant {
        let (budget, now) = (self.budget.lock(), self.clock.now());
        let granted = budget.grant(due, self.interval, since_epoch(now));
        let left = due - granted;
        let wait = || budget.wait_for_some(left, self.interval, since_epoch(now));
        Grant { now: granted, more: (left > 0).then(|| after(now, wait())) }
    }

    /// Returns when the last of `documents` may leave, if nothing else does.
    pub(crate) fn all_by(&self, documents: u64) -> SystemTime {
        let (budget, now) = (self.budget.lock(), self.clock.now());
        after(now, budget.wait_for_all(documents, since_epoch(now)))
    }

    /// Returns how the budget stands; `None` if there is no limit.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.budget.lock().standing(since_epoch(self.clock.now()))
    }

    /// Returns the places of none.
    pub(crate) fn none(self: &Arc<Self>) -> Reserved {
        Reserved { allowance: Arc::clone(self), documents: 0, is_claim: false }
    }

    /// Waits until something is given back, from now on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl Reserved {
    /// Takes places for `documents` in all. If there is no room, it gives up those it has for a claim and returns when to ask again: high
    /// priority needs none.
    pub(crate) fn resize(&mut self, documents: u64, priority: Priority) -> Option<SystemTime> {
        let (mut budget, now) = (self.allowance.budget.lock(), self.allowance.clock.now());
        self.give_back(&mut budget);
        let wait = budget.wait_at_once(documents, since_epoch(now));
        let is_claim = priority == Priority::Normal && !wait.is_zero();
        let gives_up = is_claim && !self.is_claim && self.documents > 0;
        let is_less = gives_up || documents < self.documents;
        if is_claim {
            budget.claim(documents);
        } else {
            budget.reserve(documents);
        }
        drop(budget);
        (self.documents, self.is_claim) = (documents, is_claim);
        if is_less {
            self.allowance.changed.notify_waiters();
        }
        is_claim.then(|| after(now, wait))
    }

    fn give_back(&self, budget: &mut Budget) {
        if self.is_claim {
            budget.disclaim(self.documents);
        } else {
            budget.release(self.documents);
        }
    }

    /// Takes in that the sink has, or may have, taken `documents`: they are paid for.
    pub(crate) fn spend(&mut self, documents: u64) {
        let beyond = {
            let mut budget = self.allowance.budget.lock();
            let held = documents.min(self.documents);
            budget.release(held);
            self.documents -= held;
            budget.spend(documents, since_epoch(self.allowance.clock.now()))
        };
        if beyond > 0 {
            self.allowance.overdrawn.add(beyond, &[]);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.documents > 0 {
            self.give_back(&mut self.allowance.budget.lock());
            self.allowance.changed.notify_waiters();
        }
    }
}

fn since_epoch(moment: SystemTime) -> Duration {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns `wait` after `now`, or as late as can be told.
fn after(now: SystemTime, wait: Duration) -> SystemTime {
    /// What waits longer waits for another budget.
    const LATEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now + wait.min(LATEST)
}
