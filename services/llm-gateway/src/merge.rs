//! Calls to a language model that many observations share, of one caller or of several.
//!
//! 1. Callers of one tenant, model and question who come at about the same time share calls; when is said by [`batch::Merger`], what is
//!    asked and asked again by [`batch::Progress`]. Here they are driven, in a task that outlives any single caller.
//! 2. A caller waits as long as its own deadline and then leaves alone. What it wanted is not asked about any more; a call under way
//!    goes on for the others, and is given up when all it asks for have left.
//! 3. Each pays its share: the shares of a call add up to the call. `max_cost_usd` is checked against what a caller's own calls would cost
//!    by estimate, since company makes none dearer, and before every repetition against what it has paid and will pay.
//! 4. A caller has its answer as soon as its own observations are done, whatever becomes of the others'.

mod calls;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    batch::{Course, Item, Part},
    cache::Key,
    conversation::Usage,
    observation::Assessment,
    price::Price,
    provider::Failure,
    served::Terms,
};

/// What came of asking about a caller's observations.
#[derive(Clone, Debug, Default)]
pub struct Merged {
    /// One for each observation asked about, in order.
    pub items: Vec<Item>,
    /// The model's assessment, if it gave one.
    pub assessment: Option<Assessment>,
    /// Model calls that asked about them, whatever came of them.
    pub calls: u32,
    /// Wall time they took.
    pub elapsed: Duration,
    /// Why, if no call was answered.
    pub failure: Option<Failure>,
    /// The upstream that answered last; empty if none did.
    pub upstream: Arc<str>,
    /// Requests sent to upstreams until they answered.
    pub attempts: u32,
    /// Whether the caller's own limit left some of it unasked.
    pub declined: bool,
}

/// What those who wait for it get.
pub(crate) type Shared = Arc<Merged>;

/// A caller that wants observations analysed by a language model.
#[derive(Debug)]
pub(crate) struct Request {
    terms: Terms,
    part: Part,
    keys: Vec<Key>,
    begun: Instant,
    /// Closed when the caller has left.
    reply: watch::Sender<Option<Shared>>,
}

impl Request {
    /// Returns whether the caller is still there and can pay for what is to be asked.
    fn stays(&self, price: &Price, course: &Course, estimate: Usage) -> bool {
        let spent = course.cost_usd() + price.cost(estimate);
        !self.reply.is_closed() && self.terms.afford(spent).is_ok()
    }
}
