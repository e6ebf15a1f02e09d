//! The cache itself.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use clock::Clock;
use parking_lot::{Mutex, RwLock};

use crate::{
    ghost::{Event, Forecast, Ghost, Kind, Recorder, tick},
    sizing::{Change, Resize, Sizing, Why},
    store::{Entry, Limits, Store},
};

/// Searches of a full cache for expired entries, at most, in one TTL.
const PURGES: u32 = 16;

/// What a cache is made with.
pub struct Options<K, V> {
    /// Most entries held, at first. 0: the cache is off, holds nothing and is not watched.
    pub entries: u64,
    /// How long an entry is served, on the agent clock.
    pub ttl: Duration,
    /// Limit in bytes. `None`: entries are counted, not weighed.
    pub bytes: Option<Bytes<K, V>>,
    /// Between which sizes the cache is watched. `None`: it is not, and costs nothing for it.
    pub sizing: Option<Sizing>,
    /// Told of every change of capacity, by the thread that made it.
    pub resized: Option<Told>,
}

/// A limit in bytes.
pub struct Bytes<K, V> {
    /// Most bytes held.
    pub most: u64,
    /// Returns how many a key and its value take.
    pub of: fn(&K, &V) -> u64,
}

/// Told of a change of capacity.
pub type Told = Arc<dyn Fn(&Resize) + Send + Sync>;

/// A concurrent cache whose entries expire on the agent clock. Clones share one cache.
pub struct Cache<K, V> {
    shared: Arc<Shared<K, V>>,
}

struct Shared<K, V> {
    /// Replaced as a whole by [`Cache::resize`]; a read lock is held for one operation only.
    store: RwLock<Store<K, V>>,
    ttl: Duration,
    bytes: Option<Bytes<K, V>>,
    clock: Clock,
    counts: Counts,
    /// When a full cache was last searched for expired entries.
    purged: Mutex<SystemTime>,
    watch: Option<Watch>,
    resized: Option<Told>,
}

/// What a cache that is watched has.
struct Watch {
    recorder: Recorder,
    hasher: RandomState,
    born: SystemTime,
    auto: bool,
    last: Mutex<Option<Resize>>,
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
    expirations: AtomicU64,
    resizes: AtomicU64,
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
    /// Bytes held now; 0 if entries are counted only.
    pub bytes: u64,
    /// Reads that found a fresh value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries removed because the cache was full.
    pub evictions: u64,
    /// Entries removed because they were older than the TTL.
    pub expirations: u64,
    /// How often the capacity was changed.
    pub resizes: u64,
}

/// What a watched cache knows about its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// What other sizes and TTLs would bring.
    pub forecast: Forecast,
    /// Events the forecast lacks, because too many came at once.
    pub lost: u64,
    /// Whether the cache takes another size by itself.
    pub auto: bool,
    /// The last change of capacity.
    pub last: Option<Resize>,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns an empty cache of at most `capacity` entries that serves each for `ttl` of `clock`, and is not watched.
    #[must_use]
    pub fn new(capacity: u64, ttl: Duration, clock: Clock) -> Self {
        Self::with(Options { entries: capacity, ttl, bytes: None, sizing: None, resized: None }, clock)
    }

    /// Returns an empty cache made with `options`, on `clock`.
    #[must_use]
    pub fn with(options: Options<K, V>, clock: Clock) -> Self {
        let Options { entries, ttl, bytes, sizing, resized } = options;
        let counts = Counts::default();
        let limits = Limits::new(entries, bytes.as_ref().map(|bytes| bytes.most));
        let store = RwLock::new(Store::new(limits, counts.evictions.clone()));
        let born = clock.now();
        let watch = sizing.filter(|_| entries > 0).map(|sizing| Watch {
            recorder: Recorder::new(Ghost::new(&sizing, limits.entries)),
            hasher: RandomState::new(),
            born,
            auto: sizing.auto,
            last: Mutex::new(None),
        });
        let purged = Mutex::new(born);
        Self { shared: Arc::new(Shared { store, ttl, bytes, clock, counts, purged, watch, resized }) }
    }

    /// Returns the value of `key` if it is held and not older than the TTL.
    pub fn get(&self, key: &K) -> Option<Hit<V>> {
        self.get_if(key, |_| true)
    }

    /// Returns the value of `key` as [`Cache::get`] would, if it also `serves`; one that does not is removed and counts as expired.
    pub fn get_if(&self, key: &K, serves: impl FnOnce(&Hit<V>) -> bool) -> Option<Hit<V>> {
        let now = self.shared.clock.now();
        let held = self.fresh(key, now);
        let was_held = held.is_some();
        let hit = held.filter(serves);
        let counts = &self.shared.counts;
        if was_held && hit.is_none() {
            self.shared.store.read().entries.invalidate(key);
            counts.expirations.fetch_add(1, Ordering::Relaxed);
        }
        let (counter, kind) =
            if hit.is_some() { (&counts.hits, Kind::Hit) } else { (&counts.misses, Kind::Miss) };
        counter.fetch_add(1, Ordering::Relaxed);
        self.note(key, kind, now);
        hit
    }

    /// Returns the value of `key` as [`Cache::get`] would, without counting the read.
    pub fn peek(&self, key: &K) -> Option<Hit<V>> {
        self.fresh(key, self.shared.clock.now())
    }

    /// Stores `value` under `key`, with its age counted from now. A full cache lets go of what is expired first.
    pub fn insert(&self, key: K, value: V) {
        let stored = self.shared.clock.now();
        let bytes = self.shared.bytes.as_ref().map_or(0, |bytes| (bytes.of)(&key, &value));
        self.note(&key, Kind::Store, stored);
        let store = self.shared.store.read();
        if store.limits.entries == 0 {
            return;
        }
        self.purge(&store, bytes, stored);
        store.insert(key, Entry { value, stored, bytes });
    }

    /// Removes the value of `key`.
    pub fn remove(&self, key: &K) {
        self.shared.store.read().entries.invalidate(key);
        self.note(key, Kind::Drop, self.shared.clock.now());
    }

    /// Removes every entry for which `condemned` holds and returns how many.
    pub fn invalidate_if(&self, condemned: impl Fn(&K, &V) -> bool) -> u64 {
        let keys: Vec<Arc<K>> = {
            let store = self.shared.store.read();
            store.entries.run_pending_tasks();
            let condemned = store.entries.iter().filter(|(key, entry)| condemned(key, &entry.value));
            condemned.map(|(key, _)| key).collect()
        };
        for key in &keys {
            self.remove(key);
        }
        keys.len() as u64
    }

    /// Returns how long an entry is served, on the agent clock.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.shared.ttl
    }

    /// Returns what the cache holds and did.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let store = self.shared.store.read();
        store.entries.run_pending_tasks();
        let counts = &self.shared.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            entries: store.entries.entry_count(),
            capacity: store.limits.entries,
            bytes: store.bytes(),
            hits: read(&counts.hits),
            misses: read(&counts.misses),
            evictions: read(&counts.evictions),
            expirations: read(&counts.expirations),
            resizes: read(&counts.resizes),
        }
    }

    /// Returns how many entries are held at most.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shared.store.read().limits.entries
    }

    /// Returns what other sizes would bring, if the cache is watched.
    #[must_use]
    pub fn outlook(&self) -> Option<Outlook> {
        let watch = self.shared.watch.as_ref()?;
        let (forecast, lost) = watch.recorder.forecast(self.shared.ttl);
        Some(Outlook { forecast, lost, auto: watch.auto, last: *watch.last.lock() })
    }

    /// Changes how many entries are held and returns the capacity before. Entries keep their age. Where the new capacity is smaller,
    /// what a cache of that size would hold is kept first if the cache is watched, then the most recently stored; what is expired is not.
    pub fn resize(&self, capacity: u64) -> u64 {
        self.change(Change { to: capacity, why: Why::Asked })
    }

    fn change(&self, change: Change) -> u64 {
        let Shared { store, bytes, clock, counts, watch, .. } = &*self.shared;
        let limits = Limits::new(change.to, bytes.as_ref().map(|bytes| bytes.most));
        let asked = change.why == Why::Asked;
        let favoured = watch.as_ref().map(|watch| watch.recorder.resized(limits.entries, asked));
        let favoured = favoured.unwrap_or_default();
        let mut store = store.write();
        let from = store.limits.entries;
        let kept = self.kept(&store, limits, &favoured);
        let next = Store::new(limits, counts.evictions.clone());
        // The youngest last, as they would have come.
        for (key, entry) in kept.into_iter().rev() {
            next.insert(key.as_ref().clone(), entry);
        }
        next.entries.run_pending_tasks();
        *store = next;
        drop(store);
        counts.resizes.fetch_add(1, Ordering::Relaxed);
        let resize = Resize { at: clock.now(), from, change };
        if let Some(watch) = watch {
            *watch.last.lock() = Some(resize);
        }
        if let Some(resized) = &self.shared.resized {
            resized(&resize);
        }
        from
    }

    /// Returns what of `store` fits into `limits`: `favoured` first, then the most recently stored.
    fn kept(&self, store: &Store<K, V>, limits: Limits, favoured: &[u64]) -> Vec<(Arc<K>, Entry<V>)> {
        let now = self.shared.clock.now();
        let ranks: std::collections::HashMap<u64, usize> =
            favoured.iter().enumerate().map(|(rank, hash)| (*hash, rank)).collect();
        store.entries.run_pending_tasks();
        let (mut held, expired): (Vec<_>, Vec<_>) =
            store.entries.iter().partition(|(_, entry)| !self.expired(entry, now));
        held.sort_by_cached_key(|(key, entry)| {
            let rank = self.hash(key).and_then(|hash| ranks.get(&hash).copied());
            (rank.unwrap_or(usize::MAX), std::cmp::Reverse(entry.stored))
        });
        let before = held.len();
        let mut room = limits.total();
        held.retain(|(_, entry)| {
            let left = room.checked_sub(limits.weight(entry.bytes));
            room = left.unwrap_or(room);
            left.is_some()
        });
        let counts = &self.shared.counts;
        counts.evictions.fetch_add((before - held.len()) as u64, Ordering::Relaxed);
        counts.expirations.fetch_add(expired.len() as u64, Ordering::Relaxed);
        held
    }

    /// Tells those who watch, and makes the change they decide on.
    fn note(&self, key: &K, kind: Kind, now: SystemTime) {
        let (Some(watch), Some(hash)) = (&self.shared.watch, self.hash(key)) else { return };
        let since = now.duration_since(watch.born).unwrap_or_default();
        let event = Event { hash, tick: tick(since, self.shared.ttl), kind };
        if let Some(change) = watch.recorder.record(event, || self.room()) {
            self.change(change);
        }
    }

    fn hash(&self, key: &K) -> Option<u64> {
        self.shared.watch.as_ref().map(|watch| watch.hasher.hash_one(key))
    }

    /// Returns how many entries of the present mean size there are bytes for.
    fn room(&self) -> u64 {
        let Some(Bytes { most, .. }) = self.shared.bytes else { return u64::MAX };
        let store = self.shared.store.read();
        let (entries, bytes) = (store.entries.entry_count(), store.bytes());
        // most ÷ (bytes ÷ entries), in wide integers.
        let room = u128::from(most) * u128::from(entries) / u128::from(bytes.max(1));
        if entries == 0 { u64::MAX } else { u64::try_from(room).unwrap_or(u64::MAX) }
    }

    /// Removes what is expired from a full cache, at most once in a sixteenth of the TTL: admission goes by how often a key was
    /// asked for, so the dead would keep newcomers out.
    fn purge(&self, store: &Store<K, V>, bytes: u64, now: SystemTime) {
        if !store.is_full(bytes) {
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
        let dead = store.entries.iter().filter(|(_, entry)| self.expired(entry, now));
        let dead: Vec<Arc<K>> = dead.map(|(key, _)| key).collect();
        for key in &dead {
            store.entries.invalidate(key.as_ref());
        }
        self.shared.counts.expirations.fetch_add(dead.len() as u64, Ordering::Relaxed);
        // Makes the room be seen before the newcomer is judged.
        store.entries.run_pending_tasks();
    }

    fn fresh(&self, key: &K, now: SystemTime) -> Option<Hit<V>> {
        let store = self.shared.store.read();
        let entry = store.entries.get(key)?;
        if !self.expired(&entry, now) {
            let age = now.duration_since(entry.stored).unwrap_or_default();
            return Some(Hit { value: entry.value, age });
        }
        store.entries.invalidate(key);
        self.shared.counts.expirations.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn expired(&self, entry: &Entry<V>, now: SystemTime) -> bool {
        now.duration_since(entry.stored).unwrap_or_default() > self.shared.ttl
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("ttl", &self.shared.ttl).finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for Bytes<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("most", &self.most).finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for Options<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, ttl, bytes, sizing, .. } = self;
        f.debug_struct("Options")
            .field("entries", entries)
            .field("ttl", ttl)
            .field("bytes", bytes)
            .field("sizing", sizing)
            .finish_non_exhaustive()
    }
}
#[cfg(test)]
mod tests;
