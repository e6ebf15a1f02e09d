//! The values: moka, with a limit in entries and one in bytes held by one weight.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use moka::{notification::RemovalCause, policy::EvictionPolicy};

/// A value with what its cache must know of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) stored: SystemTime,
    pub(crate) bytes: u64,
}

/// Both limits of a cache, as one: an entry weighs its bytes, and no less than its share of them.
///
/// `unit` = bytes ÷ entries, so `entries` small values fill a cache as `bytes` of large ones do, and neither limit is ever passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) entries: u64,
    /// Weight of the lightest entry.
    unit: u64,
}

/// moka with its limits.
pub(crate) struct Store<K, V> {
    pub(crate) entries: moka::sync::Cache<K, Entry<V>>,
    pub(crate) limits: Limits,
    bytes: Arc<AtomicU64>,
}

impl Limits {
    /// Makes the limits of at most `entries` values and, if given, at most `bytes` of them.
    pub(crate) fn new(entries: u64, bytes: Option<u64>) -> Self {
        match bytes {
            None => Self { entries, unit: 1 },
            Some(bytes) => {
                // Each entry weighs a byte at least.
                let entries = entries.min(bytes);
                Self { entries, unit: bytes.checked_div(entries).unwrap_or(1) }
            }
        }
    }

    /// Returns what an entry of `bytes` weighs.
    pub(crate) fn weight(self, bytes: u64) -> u64 {
        bytes.max(self.unit)
    }

    /// Returns what all entries together may weigh.
    pub(crate) fn total(self) -> u64 {
        self.unit * self.entries
    }
}

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Makes an empty store that counts in `evictions` what it lets go of.
    pub(crate) fn new(limits: Limits, evictions: Arc<AtomicU64>) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&bytes);
        let entries = moka::sync::Cache::builder()
            .max_capacity(limits.total())
            .weigher(move |_, entry: &Entry<V>| u32::try_from(limits.weight(entry.bytes)).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::tiny_lfu())
            .eviction_listener(move |_, entry: Entry<V>, cause| {
                left.fetch_sub(entry.bytes, Ordering::Relaxed);
                if cause == RemovalCause::Size {
                    evictions.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self { entries, limits, bytes }
    }

    /// Stores an entry, if it is admitted.
    pub(crate) fn insert(&self, key: K, entry: Entry<V>) {
        self.bytes.fetch_add(entry.bytes, Ordering::Relaxed);
        self.entries.insert(key, entry);
    }

    /// Returns whether an entry of `bytes` has to push out others. An estimate that lags behind by what moka has not yet worked off:
    /// the next insertion sees it.
    pub(crate) fn is_full(&self, bytes: u64) -> bool {
        self.entries.weighted_size() + self.limits.weight(bytes) > self.limits.total()
    }

    /// Returns the bytes of what is held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
