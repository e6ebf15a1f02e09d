//! The write budget: how many documents may be sent, by the minute and by the money of a day.
//!
//! Each limit is a token bucket that holds a part of its window's documents and gets the rest back over the window, so that what is
//! promised holds for every window and not only on average:
//!
//! | limit | promise for what asks first | at once | comes back |
//! |---|---|---|---|
//! | `n` documents a minute | at most `15 n` in any 15 minutes | `n` | `14/15 n` a minute |
//! | `d` documents a day, by price | at most `d` in any 24 hours | `d / 24` | `23/24 d` a day |
//!
//! Fifteen minutes is how the rate of documents is told ([`crate::ledger`]). A limit of zero is none; one of less than four documents a
//! window counts as four, as nothing would fit through it. High priority does not ask: what it takes beyond the budget is a debt, and all
//! else waits until that is paid. What is on its way holds its place, and begins to come back when the sink has taken it. What must be sent
//! again and finds no room has a claim to what comes back next, before anything new; it holds nothing meanwhile, as two that did could wait
//! for each other.
//!
//! Pure: the present moment is passed in, as the time since the epoch on the agent clock.

pub(crate) mod bucket;

use std::time::Duration;

use self::bucket::{Bucket, whole};

/// Least documents of a window: two at once, as one may need a ledger document, and as many that come back.
const LEAST: f64 = 4.0;

/// Over which the documents of a minute are promised, and of how many parts it is.
const MINUTES: (Duration, f64) = (Duration::from_secs(15 * 60), 15.0);

/// Over which the documents of a day are promised, and of how many parts it is.
const DAY: (Duration, f64) = (Duration::from_secs(24 * 60 * 60), 24.0);

/// How many documents may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Documents a minute, as a mean over any 15 minutes; 0 for no limit.
    pub per_minute: f64,
    /// Documents in any 24 hours; 0 for no limit.
    pub per_day: f64,
}

/// Tells how many documents may leave.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    limits: Limits,
    buckets: Vec<Bucket>,
    /// Documents on their way.
    reserved: u64,
    /// Documents that come before what is granted anew.
    claimed: u64,
    /// Documents that were sent beyond the budget, since the start.
    overdrawn: u64,
}

/// How a budget stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Documents that may be sent.
    pub limits: Limits,
    /// Documents that could leave now.
    pub available: u64,
    /// Documents that left beyond the budget and are not paid.
    pub debt: u64,
    /// Documents that left beyond the budget since the start.
    pub overdrawn: u64,
}

impl Limits {
    /// Returns the limits for `documents_per_minute` and `usd_per_day`, at `price` USD for 100,000 documents. What costs nothing has no limit
    /// of cost.
    #[must_use]
    pub fn new(documents_per_minute: f64, usd_per_day: f64, price: f64) -> Self {
        let per_day = if price > 0.0 { usd_per_day / price * 100_000.0 } else { 0.0 };
        Self { per_minute: documents_per_minute, per_day }
    }
}

impl Budget {
    /// Makes a budget of which, by `now`, the documents of `sent` are used: how many in each minute since the epoch, oldest first. They count
    /// as sent at the end of their minute.
    pub(crate) fn new(limits: Limits, sent: impl IntoIterator<Item = (u64, u64)>, now: Duration) -> Self {
        let minutes = (limits.per_minute > 0.0).then_some((limits.per_minute * MINUTES.1, MINUTES));
        let day = (limits.per_day > 0.0).then_some((limits.per_day, DAY));
        let make = |(most, (window, parts)): (f64, (Duration, f64))| {
            let most = most.max(LEAST);
            let capacity = (most / parts).max(LEAST / 2.0);
            Bucket::new(capacity, (most - capacity) / window.as_secs_f64(), Duration::ZERO)
        };
        let buckets = [minutes, day].into_iter().flatten().map(make).collect();
        let mut budget = Self { limits, buckets, reserved: 0, claimed: 0, overdrawn: 0 };
        for (minute, documents) in sent {
            let end = Duration::from_secs(minute.saturating_add(1).saturating_mul(60));
            budget.take(documents, end.min(now));
        }
        budget
    }

    /// Returns how many of `due` documents may leave at `now`, if any: all there is room for, unless that is less than what comes back
    /// within `interval`. Batches stay as large as they can be so.
    pub(crate) fn grant(&self, due: u64, interval: Duration, now: Duration) -> u64 {
        let room = self.room(now);
        if room >= due.min(self.portion(interval)) { due.min(room) } else { 0 }
    }

    /// Returns how long it takes until [`Budget::grant`] grants some of `due`, if nothing else leaves.
    pub(crate) fn wait_for_some(&self, due: u64, interval: Duration, now: Duration) -> Duration {
        self.wait_for_all(due.min(self.portion(interval)), now)
    }

    /// Returns how long it takes until the last of `documents` may leave, if nothing else does.
    pub(crate) fn wait_for_all(&self, documents: u64, now: Duration) -> Duration {
        let asked = (documents + self.reserved + self.claimed) as f64;
        let waits = self.buckets.iter().map(|bucket| bucket.wait(asked, now));
        if documents == 0 { Duration::ZERO } else { waits.max().unwrap_or_default() }
    }

    /// Returns how long it takes until `documents` with a claim may leave at once; those that are more than may ever do so leave when nothing is
    /// missing.
    pub(crate) fn wait_at_once(&self, documents: u64, now: Duration) -> Duration {
        let waits = self.buckets.iter().map(|bucket| {
            let asked = (documents as f64).min(bucket.capacity()) + self.reserved as f64;
            bucket.wait(asked, now)
        });
        if documents == 0 { Duration::ZERO } else { waits.max().unwrap_or_default() }
    }

    /// Holds a place for `documents` that are about to leave.
    pub(crate) fn reserve(&mut self, documents: u64) {
        self.reserved += documents;
    }

    /// Gives the places of `documents` back.
    pub(crate) fn release(&mut self, documents: u64) {
        self.reserved = self.reserved.saturating_sub(documents);
    }

    /// Lets `documents` come before what is granted anew.
    pub(crate) fn claim(&mut self, documents: u64) {
        self.claimed += documents;
    }

    /// Takes a claim to `documents` back.
    pub(crate) fn disclaim(&mut self, documents: u64) {
        self.claimed = self.claimed.saturating_sub(documents);
    }

    /// Takes in that `documents` were sent; returns how many of them were beyond the budget.
    pub(crate) fn spend(&mut self, documents: u64, now: Duration) -> u64 {
        let before = self.debt(now);
        self.take(documents, now);
        let beyond = self.debt(now).saturating_sub(before);
        self.overdrawn += beyond;
        beyond
    }

    /// Returns how the budget stands; `None` if there is no limit.
    pub(crate) fn standing(&self, now: Duration) -> Option<Standing> {
        (!self.buckets.is_empty()).then(|| Standing {
            limits: self.limits,
            available: self.room(now),
            debt: self.debt(now),
            overdrawn: self.overdrawn,
        })
    }

    fn take(&mut self, documents: u64, now: Duration) {
        self.buckets.iter_mut().for_each(|bucket| bucket.take(documents as f64, now));
    }

    /// Returns the documents that there is room for at `now`, and no claim to.
    fn room(&self, now: Duration) -> u64 {
        let taken = (self.reserved + self.claimed) as f64;
        let rooms = self.buckets.iter().map(|bucket| whole(bucket.room(now) - taken));
        rooms.min().unwrap_or(u64::MAX)
    }

    fn debt(&self, now: Duration) -> u64 {
        self.buckets.iter().map(|bucket| whole(-bucket.room(now))).max().unwrap_or_default()
    }

    /// Returns what comes back within `interval`, at least a document and its ledger document.
    fn portion(&self, interval: Duration) -> u64 {
        let portions = self
            .buckets
            .iter()
            .map(|bucket| bucket.comes_back(interval).clamp(LEAST / 2.0, bucket.capacity()));
        portions.map(whole).min().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
