//! A measured cache: TTL on the agent clock, capacity, statistics.
//!
//! Eviction is moka's TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", 2017). Age is kept
//! beside each value and judged on the [`Clock`] at every read, because an answer's age is event time: a replay that moves the clock by a day
//! must not be served yesterday's answers.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use clock::Clock;
use moka::{notification::RemovalCause, policy::EvictionPolicy};
use parking_lot::{Mutex, RwLock};

/// Searches of a full cache for expired entries, at most, in one TTL.
const PURGES: u32 = 16;

/// A concurrent cache whose entries expire on the agent clock. Clones share one cache.
#[derive(Clone)]
pub struct Cache<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    /// Replaced as a whole by [`Cache::resize`]; a read lock is held for one operation only.
    entries: RwLock<moka::sync::Cache<K, Entry<V>>>,
    ttl: Duration,
    clock: Clock,
    counts: Arc<Counts>,
    /// When a full cache was last searched for expired entries.
    purged: Mutex<SystemTime>,
}

#[derive(Clone)]
struct Entry<V> {
    value: V,
    stored: SystemTime,
}

#[derive(Default)]
struct Counts {
    capacity: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    expirations: AtomicU64,
}

/// A value found in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<V> {
    /// The value.
    pub value: V,
    /// How long ago it was stored, on the agent clock.
    pub age: Duration,
}

/// What a cache did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries held now; expired ones count until they are read or evicted.
    pub entries: u64,
    /// Most entries held.
    pub capacity: u64,
    /// Reads that found a fresh value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries removed because the cache was full.
    pub evictions: u64,
    /// Entries removed because they were older than the TTL.
    pub expirations: u64,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns an empty cache of at most `capacity` entries that serves each for `ttl` of `clock`.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration, clock: Clock) -> Self {
        let counts = Arc::new(Counts::default());
        let entries = RwLock::new(build(capacity, &counts));
        let purged = Mutex::new(clock.now());
        Self { shared: Arc::new(Shared { entries, ttl, clock, counts, purged }) }
    }

    /// Returns the value of `key` if it is held and not older than the TTL.
    pub fn get(&self, key: &K) -> Option<Hit<V>> {
        let hit = self.fresh(key);
        let counter = if hit.is_some() { &self.shared.counts.hits } else { &self.shared.counts.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        hit
    }

    /// Returns the value of `key` as [`Cache::get`] would, without counting the read.
    pub fn peek(&self, key: &K) -> Option<Hit<V>> {
        self.fresh(key)
    }

    /// Stores `value` under `key`, with its age counted from now. A full cache lets go of what is expired first.
    pub fn insert(&self, key: K, value: V) {
        let stored = self.shared.clock.now();
        let entries = self.shared.entries.read();
        self.purge(&entries, stored);
        entries.insert(key, Entry { value, stored });
    }

    /// Removes the value of `key`.
    pub fn remove(&self, key: &K) {
        self.shared.entries.read().invalidate(key);
    }

    /// Removes every entry for which `condemned` holds and returns how many.
    pub fn invalidate_if(&self, condemned: impl Fn(&K, &V) -> bool) -> u64 {
        let entries = self.shared.entries.read();
        entries.run_pending_tasks();
        let keys: Vec<Arc<K>> =
            entries.iter().filter(|(key, entry)| condemned(key, &entry.value)).map(|(key, _)| key).collect();
        for key in &keys {
            entries.invalidate(key.as_ref());
        }
        keys.len() as u64
    }

    /// Removes every entry.
    pub fn clear(&self) {
        self.shared.entries.read().invalidate_all();
    }

    /// Returns how long an entry is served, on the agent clock.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Returns what the cache holds and did.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let entries = self.shared.entries.read();
        entries.run_pending_tasks();
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            entries: entries.entry_count(),
            capacity: read(&counts.capacity),
            hits: read(&counts.hits),
            misses: read(&counts.misses),
            evictions: read(&counts.evictions),
            expirations: read(&counts.expirations),
        }
    }

    /// Removes what is expired from a full cache, at most once in a sixteenth of the TTL: admission goes by how often a key was
    /// asked for, so the dead would keep newcomers out.
    fn purge(&self, entries: &moka::sync::Cache<K, Entry<V>>, now: SystemTime) {
        let counts = &self.shared.counts;
        // An estimate that lags behind by what moka has not yet worked off: the next insertion sees it.
        if entries.entry_count() < counts.capacity.load(Ordering::Relaxed) {
            return;
        }
        {
            let mut purged = self.shared.purged.lock();
            // A clock that was set back searches too.
            if now.duration_since(*purged).is_ok_and(|since| since < self.shared.ttl / PURGES) {
                return;
            }
            *purged = now;
        }
        let expired =
            |entry: &Entry<V>| now.duration_since(entry.stored).unwrap_or_default() > self.shared.ttl;
        let dead: Vec<Arc<K>> =
            entries.iter().filter(|(_, entry)| expired(entry)).map(|(key, _)| key).collect();
        for key in &dead {
            entries.invalidate(key.as_ref());
        }
        counts.expirations.fetch_add(dead.len() as u64, Ordering::Relaxed);
        // Makes the room be seen before the newcomer is judged.
        entries.run_pending_tasks();
    }

    fn fresh(&self, key: &K) -> Option<Hit<V>> {
        let entries = self.shared.entries.read();
        let entry = entries.get(key)?;
        let age = self.shared.clock.now().duration_since(entry.stored).unwrap_or_default();
        if age <= self.shared.ttl {
            return Some(Hit { value: entry.value, age });
        }
        entries.invalidate(key);
        self.shared.counts.expirations.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Changes how many entries are held and returns the capacity before. Entries keep their age; the most recently
    /// stored are kept where the new capacity is smaller.
    pub fn resize(&self, capacity: u64) -> u64 {
        let previous = self.shared.counts.capacity.load(Ordering::Relaxed);
        let mut entries = self.shared.entries.write();
        let mut held: Vec<(Arc<K>, Entry<V>)> = entries.iter().collect();
        held.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.stored));
        let next = build(capacity, &self.shared.counts);
        let kept = usize::try_from(capacity).unwrap_or(usize::MAX).min(held.len());
        self.shared.counts.evictions.fetch_add((held.len() - kept) as u64, Ordering::Relaxed);
        for (key, entry) in held.into_iter().take(kept) {
            next.insert(key.as_ref().clone(), entry);
        }
        *entries = next;
        previous
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = self.shared.counts.capacity.load(Ordering::Relaxed);
        f.debug_struct("Cache")
            .field("capacity", &capacity)
            .field("ttl", &self.shared.ttl)
            .finish_non_exhaustive()
    }
}

fn build<K, V>(capacity: u64, counts: &Arc<Counts>) -> moka::sync::Cache<K, Entry<V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    counts.capacity.store(capacity, Ordering::Relaxed);
    let evicted = Arc::clone(counts);
    moka::sync::Cache::builder()
        .max_capacity(capacity)
        .eviction_policy(EvictionPolicy::tiny_lfu())
        .eviction_listener(move |_, _, cause| {
            if cause == RemovalCause::Size {
                evicted.evictions.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use clock::{Clock, Hand};

    use super::{Cache, Hit};

    fn hourly(capacity: u64) -> (Cache<u32, &'static str>, Hand) {
        let (clock, hand) = Clock::manual(UNIX_EPOCH);
        (Cache::new(capacity, Duration::from_secs(3600), clock), hand)
    }

    #[test]
    fn a_value_is_served_with_its_age_until_its_ttl_and_not_after() {
        let (cache, hand) = hourly(10);
        cache.insert(1, "one");
        hand.advance(Duration::from_secs(3600));
        assert_eq!(cache.get(&1), Some(Hit { value: "one", age: Duration::from_secs(3600) }));
        hand.advance(Duration::from_secs(1));
        assert_eq!(cache.get(&1), None);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.expirations, stats.entries), (1, 1, 1, 0));
    }

    #[test]
    fn a_full_cache_holds_no_more_than_its_capacity_and_counts_what_left() {
        let (cache, _hand) = hourly(100);
        for key in 0..1000 {
            cache.insert(key, "x");
        }
        let stats = cache.stats();
        assert_eq!(stats.entries, 100);
        assert_eq!(stats.evictions, 900);
    }

    #[test]
    fn expired_entries_of_a_full_cache_do_not_keep_newcomers_out() {
        let (cache, hand) = hourly(100);
        for key in 0..100 {
            cache.insert(key, "old");
        }
        for _ in 0..20 {
            assert!((0..100).all(|key| cache.get(&key).is_some()));
        }
        assert_eq!(cache.stats().entries, 100);
        hand.advance(Duration::from_secs(3601));
        for key in 100..200 {
            cache.insert(key, "new");
        }
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.expirations, stats.evictions), (100, 100, 0));
        assert!((100..200).all(|key| cache.get(&key).is_some()));
    }

    #[test]
    fn a_smaller_size_keeps_the_newest_with_their_age() {
        let (cache, hand) = hourly(10);
        for key in 0..4 {
            cache.insert(key, "x");
            hand.advance(Duration::from_secs(60));
        }
        assert_eq!(cache.resize(2), 10);
        assert_eq!(cache.get(&0), None);
        assert_eq!(cache.get(&3), Some(Hit { value: "x", age: Duration::from_secs(60) }));
        assert_eq!(cache.stats().entries, 2);
    }

    #[test]
    fn a_condemned_entry_is_removed_and_counted() {
        let (cache, _hand) = hourly(10);
        cache.insert(1, "keep");
        cache.insert(2, "drop");
        assert_eq!(cache.invalidate_if(|_, value| *value == "drop"), 1);
        assert!(cache.get(&2).is_none() && cache.get(&1).is_some());
    }
}
