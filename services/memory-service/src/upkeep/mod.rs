//! Forgets on purpose: what has expired, what is over a quota, what is worth least; each can be seen before, is logged, can be undone for a
//! while, and is gone for good after that.
//!
//! 1. **One formula.** A memory is worth what recall would give it beside its likeness: recency, importance and confidence by the functions
//!    that recall ranks with. What is pinned goes by its id or its expiration alone.
//! 2. **What is shown is what is done.** A plan is a function of the space as it is and of the quotas; the time of day does not change its order.
//! 3. **Reading is not using.** Only recalls count as accesses: explanations, audits and previews do not.
//! 4. **Small slices.** No step takes more than some hundred memories, so that writers and recalls go on in between.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod forgettings;
pub(crate) mod prune;
pub(crate) mod reembed;
pub(crate) mod round;
pub(crate) mod survey;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::time::Duration;

use prune::Quotas;

/// How a service forgets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// How long what was forgotten can be undone.
    pub(crate) window: Duration,
    /// How many memories a space may hold.
    pub(crate) quotas: Quotas,
    /// Time between two rounds.
    pub(crate) every: Duration,
    /// Most memories of one commit.
    pub(crate) batch: usize,
    /// Most forgettings that are over and stay listed.
    pub(crate) listed: usize,
    /// Likeness from which an audit compares words, -1 to 1.
    pub(crate) likeness: f32,
    /// Most pairs that an audit compares.
    pub(crate) pairs: usize,
    /// How long a memory neither happens nor is recalled until an audit calls it idle.
    pub(crate) idle: Duration,
}
