//! Stored answers, each under the exact identity of its request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use caching::{Bytes, Cache, Hit, Outlook, Sizing, Told};
use clock::Clock;

use super::Key;
use crate::{conversation::Answer, observation::Analysis, served::Control};

/// Most bytes one entry may take, request and answer together: larger ones are not stored.
pub const MAX_ENTRY_BYTES: usize = 1 << 20;

/// Bytes an entry takes beside the words of its request and answer, about: hashes, counts and places in lists.
const OVERHEAD_BYTES: usize = 256;

/// How much is kept, and for how long.
#[derive(Clone, Debug)]
pub struct Room {
    /// Most answers, at first.
    pub size: u64,
    /// Between which sizes the cache is watched, and whether it takes another by itself.
    pub sizing: Sizing,
    /// Most bytes.
    pub max_bytes: u64,
    /// How long an answer is served, on the clock.
    pub ttl: Duration,
}

/// The exact cache of all tenants.
#[derive(Debug)]
pub struct Exact {
    entries: Cache<Key, Entry>,
    max_bytes: u64,
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

impl Room {
    /// Makes room for always `size` answers of 10 KiB on average.
    #[must_use]
    pub fn fixed(size: u64, ttl: Duration) -> Self {
        let sizing = Sizing { least: size, most: size, auto: false };
        Self { size, sizing, max_bytes: size * (10 << 10), ttl }
    }
}

impl Exact {
    /// Makes an empty cache that tells `resized` when it has another capacity.
    #[must_use]
    pub fn new(room: Room, clock: Clock, resized: Option<Told>) -> Self {
        let Room { size, sizing, max_bytes, ttl } = room;
        let bytes = Some(Bytes { most: max_bytes, of: bytes });
        let options = caching::Options { entries: size, ttl, bytes, sizing: Some(sizing), resized };
        Self { entries: Cache::with(options, clock), max_bytes, refused: AtomicU64::new(0) }
    }

    /// Returns the stored answer to a conversation, if there is one young enough that may be read.
    #[must_use]
    pub fn answer(&self, key: &Key, control: Control) -> Option<Found<StoredAnswer>> {
        answer(self.read(key, control, Cache::get)?)
    }

    /// Looks again for an answer that was missing a moment ago: counts as no read.
    #[must_use]
    pub fn answer_again(&self, key: &Key, control: Control) -> Option<Found<StoredAnswer>> {
        answer(self.read(key, control, Cache::peek)?)
    }

    /// Returns what was found about an observation, if it is stored, young enough and may be read.
    #[must_use]
    pub fn analysis(&self, key: &Key, control: Control) -> Option<Found<StoredAnalysis>> {
        analysis(self.read(key, control, Cache::get)?)
    }

    /// Looks again for an analysis that was missing a moment ago: counts as no read.
    #[must_use]
    pub fn analysis_again(&self, key: &Key, control: Control) -> Option<Found<StoredAnalysis>> {
        analysis(self.read(key, control, Cache::peek)?)
    }

    fn read(
        &self,
        key: &Key,
        control: Control,
        look: impl FnOnce(&Cache<Key, Entry>, &Key) -> Option<Hit<Entry>>,
    ) -> Option<Hit<Entry>> {
        if !control.read {
            return None;
        }
        look(&self.entries, key).filter(|hit| control.max_age.is_none_or(|most| hit.age <= most))
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

    /// Returns whether nothing is stored under `key` any more; counts as no read.
    #[must_use]
    pub fn is_gone(&self, key: &Key) -> bool {
        self.entries.peek(key).is_none()
    }

    /// Removes the one answer of `tenant` with this name ([`Key::id`]), and returns how many that were.
    pub fn invalidate_answer(&self, tenant: &str, id: &str) -> u64 {
        self.entries.invalidate_if(|key, _| key.tenant() == tenant && key.id() == id)
    }

    /// Removes the answers of `tenant`, of one model or (empty) of all, and returns how many.
    pub fn invalidate(&self, tenant: &str, model: &str) -> u64 {
        self.entries
            .invalidate_if(|key, _| key.tenant() == tenant && (model.is_empty() || key.model() == model))
    }

    /// Changes how many answers are kept and returns how many were.
    pub fn resize(&self, capacity: u64) -> u64 {
        self.entries.resize(capacity)
    }

    /// Returns whether the cache is off: what looks for answers that it keeps need not look.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.entries.capacity() == 0
    }

    /// Returns how many bytes are kept at most.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Returns what other sizes would bring.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        self.entries.outlook().unwrap_or_default()
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

/// Returns how many bytes a key and its entry take.
fn bytes(key: &Key, entry: &Entry) -> u64 {
    let words = match entry {
        Entry::Answer(stored) => stored.answer.bytes(),
        Entry::Analysis(stored) => stored.analysis.summary.len(),
    };
    (OVERHEAD_BYTES + key.bytes() + words) as u64
}

fn answer(hit: Hit<Entry>) -> Option<Found<StoredAnswer>> {
    match hit.value {
        Entry::Answer(entry) => Some(Found { entry, age: hit.age }),
        Entry::Analysis(_) => None,
    }
}

fn analysis(hit: Hit<Entry>) -> Option<Found<StoredAnalysis>> {
    match hit.value {
        Entry::Analysis(entry) => Some(Found { entry, age: hit.age }),
        Entry::Answer(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use clock::Clock;

    use super::{Exact, MAX_ENTRY_BYTES, Room, StoredAnswer};
    use crate::{
        cache::{Key, Keys},
        conversation::{Answer, Conversation, Finish, Usage},
        served::Control,
    };

    fn small(clock: Clock) -> Exact {
        let room = Room { max_bytes: 10 << 20, ..Room::fixed(10, Duration::from_secs(100)) };
        Exact::new(room, clock, None)
    }

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
        let cache = small(clock);
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
        let cache = small(Clock::manual(UNIX_EPOCH).0);
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
        let cache = small(Clock::manual(UNIX_EPOCH).0);
        for tenant in ["a", "b"] {
            cache.store_answer(&key(tenant, "q"), &stored("yes", Finish::Stop), Control::default());
        }
        assert_eq!(cache.invalidate("a", "other"), 0);
        assert_eq!(cache.invalidate("a", "m"), 1);
        assert!(cache.answer(&key("a", "q"), Control::default()).is_none());
        assert!(cache.answer(&key("b", "q"), Control::default()).is_some());
    }
}
