//! Stored answers, each under the exact identity of its request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use caching::Cache;
use clock::Clock;

use super::Key;
use crate::{conversation::Answer, observation::Analysis, served::Control};

/// Most bytes one entry may take, request and answer together: larger ones are not stored.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;

/// The exact cache of all tenants.
#[derive(Debug)]
pub struct Exact {
    entries: Cache<Key, Entry>,
    refused: AtomicU64,
}

/// What is stored under a key.
#[derive(Clone, Debug)]
pub enum Entry {
    /// An answered conversation.
    Answer(Arc<StoredAnswer>),
    /// What was found about one observation.
    Analysis(Arc<StoredAnalysis>),
}

/// An answered conversation with what it cost.
#[derive(Clone, Debug)]
pub struct StoredAnswer {
    /// The answer.
    pub answer: Answer,
    /// What it cost, in USD.
    pub cost_usd: f64,
}

/// What was found about one observation, with what a call for it alone would cost.
#[derive(Clone, Debug)]
pub struct StoredAnalysis {
    /// What was found.
    pub analysis: Analysis,
    /// The estimated cost of a call of its own, in USD.
    pub own_cost_usd: f64,
}

/// A stored answer and its age on the agent clock.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// What was stored.
    pub entry: Arc<T>,
    /// How long ago.
    pub age: Duration,
}

impl Exact {
    /// Makes an empty cache of `capacity` entries that are served for `ttl`.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration, clock: Clock) -> Self {
        Self { entries: Cache::new(capacity, ttl, clock), refused: AtomicU64::new(0) }
    }

    /// Returns the stored answer to a conversation, if there is one young enough that may be read.
    #[must_use]
    pub fn answer(&self, key: &Key, control: Control) -> Option<Found<StoredAnswer>> {
        match self.read(key, control)? {
            (Entry::Answer(entry), age) => Some(Found { entry, age }),
            (Entry::Analysis(_), _) => None,
        }
    }

    /// Returns what was found about an observation, if it is stored, young enough and may be read.
    #[must_use]
    pub fn analysis(&self, key: &Key, control: Control) -> Option<Found<StoredAnalysis>> {
        match self.read(key, control)? {
            (Entry::Analysis(entry), age) => Some(Found { entry, age }),
            (Entry::Answer(_), _) => None,
        }
    }

    fn read(&self, key: &Key, control: Control) -> Option<(Entry, Duration)> {
        if !control.read {
            return None;
        }
        let hit = self.entries.get(key)?;
        (control.max_age.is_none_or(|most| hit.age <= most)).then_some((hit.value, hit.age))
    }

    /// Stores a complete answer; refuses one that was cut short, is too large or not wanted stored.
    pub fn store_answer(&self, key: &Key, stored: &Arc<StoredAnswer>, control: Control) {
        let bytes = key.bytes() + stored.answer.bytes();
        if control.store && stored.answer.finish.is_complete() && bytes <= MAX_ENTRY_BYTES {
            self.entries.insert(key.clone(), Entry::Answer(stored.clone()));
        } else {
            self.refuse();
        }
    }

    /// Stores what was found about an observation; refuses what is too large or not wanted stored.
    pub fn store_analysis(&self, key: &Key, stored: StoredAnalysis, control: Control) {
        if control.store && key.bytes() + stored.analysis.summary.len() <= MAX_ENTRY_BYTES {
            self.entries.insert(key.clone(), Entry::Analysis(Arc::new(stored)));
        } else {
            self.refuse();
        }
    }

    /// Counts an answer that is not stored because it failed or was cut short.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many answers were not stored.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Removes the answers of `tenant`, of one model or (empty) of all, and returns how many.
    pub fn invalidate(&self, tenant: &str, model: &str) -> u64 {
        self.entries
            .invalidate_if(|key, _| key.tenant() == tenant && (model.is_empty() || key.model() == model))
    }

    /// Changes how many answers are kept and returns how many were.
    pub fn resize(&self, capacity: u64) -> u64 {
        let previous = self.entries.stats().capacity;
        self.entries.resize(capacity);
        previous
    }

    /// Returns size and expiry counts.
    #[must_use]
    pub fn stats(&self) -> caching::Stats {
        self.entries.stats()
    }

    /// Returns how long an answer is served.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.entries.ttl()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use clock::Clock;

    use super::{Exact, MAX_ENTRY_BYTES, StoredAnswer};
    use crate::{
        cache::{Key, Keys},
        conversation::{Answer, Conversation, Finish, Usage},
        served::Control,
    };

    fn key(tenant: &str, words: &str) -> Key {
        Keys::new([1; 32]).conversation(&tenant.into(), &"m".into(), &Conversation::of(words))
    }

    fn stored(text: &str, finish: Finish) -> Arc<StoredAnswer> {
        let answer = Answer { finish, ..Answer::text(text, Usage::default()) };
        Arc::new(StoredAnswer { answer, cost_usd: 0.0 })
    }

    #[test]
    fn an_answer_is_served_until_its_ttl_on_the_agent_clock() {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        let cache = Exact::new(10, Duration::from_secs(100), clock);
        let key = key("a", "q");
        cache.store_answer(&key, &stored("yes", Finish::Stop), Control::default());
        hand.advance(Duration::from_secs(99));
        assert_eq!(cache.answer(&key, Control::default()).unwrap().age, Duration::from_secs(99));
        let fresh = Control { max_age: Some(Duration::from_secs(98)), ..Control::default() };
        assert!(cache.answer(&key, fresh).is_none());
        hand.advance(Duration::from_secs(2));
        assert!(cache.answer(&key, Control::default()).is_none());
    }

    #[test]
    fn what_is_cut_short_unwanted_or_too_large_is_refused_and_counted() {
        let cache = Exact::new(10, Duration::from_secs(100), Clock::manual(UNIX_EPOCH).0);
        let key = key("a", "q");
        for finish in [Finish::Length, Finish::Filter, Finish::Unknown] {
            cache.store_answer(&key, &stored("half", finish), Control::default());
        }
        let unwanted = Control { store: false, ..Control::default() };
        cache.store_answer(&key, &stored("yes", Finish::Stop), unwanted);
        cache.store_answer(&key, &stored(&"x".repeat(MAX_ENTRY_BYTES), Finish::Stop), Control::default());
        assert!(cache.answer(&key, Control::default()).is_none());
        assert_eq!(cache.refused(), 5);
    }

    #[test]
    fn invalidation_stays_within_the_tenant_and_the_model() {
        let cache = Exact::new(10, Duration::from_secs(100), Clock::manual(UNIX_EPOCH).0);
        for tenant in ["a", "b"] {
            cache.store_answer(&key(tenant, "q"), &stored("yes", Finish::Stop), Control::default());
        }
        assert_eq!(cache.invalidate("a", "other"), 0);
        assert_eq!(cache.invalidate("a", "m"), 1);
        assert!(cache.answer(&key("a", "q"), Control::default()).is_none());
        assert!(cache.answer(&key("b", "q"), Control::default()).is_some());
    }
}
