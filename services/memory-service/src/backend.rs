//! What the engine needs of whoever keeps memories and finds them.
//!
//! A backend is asked about memories, ids, filters and questions, and answers with memories and scores. How it lays them out, in rows of
//! its own or on another machine, is its own affair. Every one keeps the same contract (`contract`), which a test runs against each:
//!
//! 1. **Acknowledged is kept.** A write that returned is there after a restart, whole or not at all, and the next question finds it.
//! 2. **Exact.** Every memory that passes the filter is compared, and never fewer than the limit are returned if that many pass. Equal
//!    scores come newest first, then last written first. A ranking that a backend cannot compute exactly it refuses ([`Error::Ranking`]).
//! 3. **A write has a number.** Each that changes a space makes its generation, one more than the last; what is answered says of which one
//!    it is.
//! 4. **A memory has a number** in its space that only grows; one that is written again gets a new one.
//! 5. **A forgetting can be undone** within its window, and nothing that was written since is overwritten by that. After a purge it cannot, and after an erasure
//!    nothing that the backend wrote holds its bytes.
//! 6. **Spaces never mix**: what is written to one of a tenant is found in no other, and vectors of another maker or another length are refused.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod naive;

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Deref, Range},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    error::Error,
    hygiene::settle::{self, Given, Join, Manner},
    known::Known,
    memory::{Change, Memory, Record},
    plan::{Plan, Rejected, Strategy},
    query::Query,
    recall::{Ran, Wanted},
    shape::{Shape, SpaceKey},
    stop::Stop,
    upkeep::forgettings::{Cause, Forgetting},
};

/// Most memories that an answer names as contradicting one of it, as the contract has it.
pub(crate) const CONTRADICTING: usize = 16;

/// A memory with its vector.
pub(crate) type Found = (Arc<Memory>, Vec<f32>);

/// Keeps memories and finds them. Clones share it.
pub(crate) trait Backend: Clone + fmt::Debug + Send + Sync + 'static {
    /// A space, as the backend holds it.
    type Space: Deref<Target = Known> + fmt::Debug + Send + Sync + 'static;

    /// Returns the space of `key`, if there is one.
    fn find(&self, key: &SpaceKey) -> Option<Arc<Self::Space>>;

    /// Returns a space of `shape` that nothing was ever written to, and that is kept nowhere.
    fn bare(&self, shape: Shape) -> Arc<Self::Space>;

    /// Returns every space, in any order.
    fn all(&self) -> Vec<(SpaceKey, Arc<Self::Space>)>;

    /// Returns how many memories there are in all.
    fn memories(&self) -> u64;

    /// Returns whether memories can be recalled.
    fn is_open(&self) -> bool;

    /// Makes the space of `key`, or finds it of the same shape; returns whether it was made.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is there of another shape, [`Error::Namespaces`], and those of a write.
    fn create(&self, key: &SpaceKey, shape: &Shape) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Drops the space of `key` with all that is in it; returns its number and how many memories it held, if it was there.
    ///
    /// # Errors
    /// Those of a write.
    fn drop_space(&self, key: &SpaceKey) -> impl Future<Output = Result<Option<(u32, u64)>, Error>> + Send;

    /// Stores `records`, whose vectors are of `shape`, all or none, in this order, in the space of `key`, which is made of that shape if it is
    /// missing. A later record replaces an earlier one of its id. Returns once they are kept and found.
    ///
    /// # Errors
    /// [`Error::Reembedded`] if the space is of another shape, [`Error::Dimensions`], [`Error::Namespaces`], [`Error::Store`], or
    /// [`Error::NotReady`] once closed; nothing was written then.
    fn put(
        &self,
        key: &SpaceKey,
        shape: &Shape,
        records: Vec<Record>,
    ) -> impl Future<Output = Result<Done, Error>> + Send;

    /// Stores what several memories became, as [`Backend::put`], and keeps what they were as a forgetting does. Nothing, once the write that came in
    /// between is found, where a memory that was to become a part is another one since, or gone.
    ///
    /// # Errors
    /// Those of [`Backend::put`]; nothing was written then.
    fn merge(
        &self,
        key: &SpaceKey,
        shape: &Shape,
        merge: Merge,
    ) -> impl Future<Output = Result<Option<Joined>, Error>> + Send;

    /// Returns what is known of `space` about each memory of `given` that may become one with another at `now`; of `heard` is the number of the
    /// memory in its words that its agent recalled last.
    ///
    /// # Errors
    /// [`Error::Store`] if memories cannot be read.
    fn alike(
        &self,
        space: &Arc<Self::Space>,
        given: &Arc<Vec<Given>>,
        heard: Vec<Option<u64>>,
        manner: Manner,
        now: SystemTime,
    ) -> impl Future<Output = Result<Vec<settle::Known>, Error>> + Send;

    /// Forgets memories of the space of `key`, and returns once they are found no more, with the number of the forgetting; absent if
    /// there was nothing to forget.
    ///
    /// # Errors
    /// Those of a write; nothing was forgotten then.
    fn forget(
        &self,
        key: &SpaceKey,
        forget: Forget,
    ) -> impl Future<Output = Result<(Done, Option<u64>), Error>> + Send;

    /// Brings back what the forgetting of `number` took, as far as its ids were not written again.
    ///
    /// # Errors
    /// [`Error::NoForgetting`], [`Error::Over`] or [`Error::Undone`] if it cannot be undone at `now`, and those of a write.
    fn undo(
        &self,
        key: &SpaceKey,
        number: u64,
        now: SystemTime,
    ) -> impl Future<Output = Result<Restored, Error>> + Send;

    /// Removes up to `most` memories for good that the forgettings of `numbers` took from the space of number `space`; none of these can be
    /// undone any more.
    ///
    /// # Errors
    /// Those of a write.
    fn purge(
        &self,
        space: u32,
        numbers: Vec<u64>,
        most: usize,
    ) -> impl Future<Output = Result<Purged, Error>> + Send;

    /// Lists forgettings of the space of number `space` no longer.
    ///
    /// # Errors
    /// Those of a write.
    fn unlist(&self, space: u32, numbers: Vec<u64>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Returns at most `most` forgettings of the space of number `space` whose numbers lie in `numbers`, the last first.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    fn forgettings(
        &self,
        space: u32,
        numbers: Range<u64>,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Forgetting>, Error>> + Send;

    /// Returns what upkeep has to do about `space` at `now`, of whose forgettings that are over `listed` stay listed. Without a time
    /// every forgetting is over.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    fn due(
        &self,
        space: &Arc<Self::Space>,
        now: Option<SystemTime>,
        listed: usize,
    ) -> impl Future<Output = Result<Due, Error>> + Send;

    /// Returns the memory of `id` and its number; also one that has expired and is still there.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read.
    fn get(
        &self,
        space: &Arc<Self::Space>,
        id: String,
    ) -> impl Future<Output = Result<Option<(u64, Found)>, Error>> + Send;

    /// Answers `question`, and ends early once `stop` says so.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it was stopped, [`Error::Unfit`] if the plan that was asked for cannot be taken, [`Error::Ranking`],
    /// [`Error::Reembedded`] if another space took the place of this one and not all of it can be read any more, [`Error::Store`].
    fn recall(
        &self,
        space: &Arc<Self::Space>,
        question: Question,
        stop: &Arc<Stop>,
    ) -> impl Future<Output = Result<Ran, Error>> + Send;

    /// Says how `query` would be answered at `now`, by `plan` or by the cheapest, and runs nothing.
    ///
    /// # Errors
    /// [`Error::Unfit`] if `plan` cannot be taken.
    fn plan(
        &self,
        space: &Arc<Self::Space>,
        query: Query,
        now: SystemTime,
        plan: Option<Strategy>,
    ) -> impl Future<Output = Result<(Plan, Vec<Rejected>), Error>> + Send;

    /// Lets `look` look at the space of `key`, off the async workers; nothing if there is no such space.
    ///
    /// # Errors
    /// [`Error::Store`] if it cannot be read, and those of `look`.
    fn look<T: Send + 'static>(
        &self,
        key: &SpaceKey,
        look: impl FnOnce(&dyn View) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send;

    /// Counts what is in `space`.
    fn census(&self, space: &Self::Space) -> Census;

    /// Makes the bytes of what was removed for good go from wherever the backend wrote them: `at_once`, or where enough time has passed since
    /// the last time. Returns whether something was to go.
    ///
    /// # Errors
    /// Those of a write; what was removed stays removed, and the next time it is tried again.
    fn erase(&self, now: SystemTime, at_once: bool) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Finishes the writes that are on their way and takes no more.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// All memories of a space: as they are at one moment, or where a backend has no such thing, each as it was at one. Its methods block the
/// thread.
pub(crate) trait View {
    /// Returns the number of the space, and the last write that surely shows.
    fn space(&self) -> (u32, u64);

    /// Returns what the vectors of the space are.
    fn shape(&self) -> &Shape;

    /// Hands over the memories after number `after` in the order of their numbers, as long as `each` wants more. One that cannot be
    /// read is left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn each(&self, after: u64, each: &mut dyn FnMut(u64, Memory) -> ControlFlow<()>) -> Result<(), Error>;

    /// Returns the memory of number `seq`, if it is there and can be read.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn memory(&self, seq: u64) -> Result<Option<Memory>, Error>;

    /// Returns the vector of the memory of number `seq`, if it is there and can be read.
    ///
    /// # Errors
    /// [`Error::Store`].
    fn vector(&self, seq: u64) -> Result<Option<Vec<f32>>, Error>;
}

/// What a write did.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The space; absent where there is none.
    pub(crate) space: Option<Arc<Known>>,
    /// The number of the write; absent if it changed nothing.
    pub(crate) generation: Option<u64>,
    /// Memories that were there before: replaced by a put, deleted by a forget.
    pub(crate) touched: u32,
}

/// What several memories became.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    /// The records to put, as a [`Change::Put`].
    pub(crate) change: Arc<Change>,
    /// Those of them that are several memories in one.
    pub(crate) joins: Vec<Join>,
    /// When, on the agent clock.
    pub(crate) at: SystemTime,
    /// How long it can be undone; none: what was merged is gone at once.
    pub(crate) window: Duration,
}

/// A merge that is kept and found.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// The write.
    pub(crate) done: Done,
    /// The number of the first record that was put; the others follow it.
    pub(crate) first: u64,
    /// The number of the forgetting that undoes it.
    pub(crate) number: u64,
}

impl Merge {
    /// Returns the records to put.
    pub(crate) fn puts(&self) -> &[Record] {
        match &*self.change {
            Change::Put(records) => records,
            Change::Forget(_) => &[],
        }
    }
}

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub(crate) struct Forget {
    /// Which memories.
    pub(crate) which: Which,
    /// Why.
    pub(crate) cause: Cause,
    /// When, on the agent clock.
    pub(crate) at: SystemTime,
    /// How long it can be undone; none: it is deleted for good at once.
    pub(crate) window: Duration,
}

/// Which memories are to be forgotten.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Those of these ids, each once.
    Ids(Vec<String>),
    /// Those of these numbers in the space of this number; one that was written again since has another and stays.
    Seqs(u32, Vec<u64>),
}

/// What an undo brought back.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// The write.
    pub(crate) done: Done,
    /// Memories that came back.
    pub(crate) back: u64,
    /// Memories that stay forgotten: their ids were written again, or they cannot be read.
    pub(crate) stayed: u64,
}

/// What was removed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purged {
    /// How many memories.
    pub(crate) removed: usize,
    /// Of how many forgettings, the first ones that were named, nothing is left.
    pub(crate) ended: usize,
}

/// What is to be done about a space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Forgettings whose memories are kept and cannot come back any more.
    pub(crate) purge: Vec<u64>,
    /// Forgettings that are listed no longer.
    pub(crate) unlist: Vec<u64>,
    /// Memories that have expired and are still there, the first to expire first.
    pub(crate) expired: Vec<u64>,
}

/// A question that is ready to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// The question, in canonical form.
    pub(crate) query: Query,
    /// What the candidates are compared with.
    pub(crate) wanted: Wanted,
    /// When it is asked, on the agent clock: what has expired by then is no candidate.
    pub(crate) now: SystemTime,
    /// The plan that has to be taken; absent: the cheapest.
    pub(crate) plan: Option<Strategy>,
}

/// What is in a space, and what it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Census {
    /// Memories of each category, those that have expired and are still there among them.
    pub(crate) categories: BTreeMap<String, u64>,
    /// Bytes on disk, of all spaces; 0 where a backend does not say.
    pub(crate) bytes: u64,
    /// Nanoseconds that a unit of each kind of work takes, where that is known.
    pub(crate) costs: BTreeMap<&'static str, f64>,
}
