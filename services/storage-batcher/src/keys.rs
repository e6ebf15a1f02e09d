//! Idempotency keys: which writes have been accepted already, in a window bounded by count and age.
//!
//! The window lies in memory; the same rows stand in the journal's file, written by the commit that accepts the write.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    change::Change,
    codec::{self, Writer},
    document::{Key, micros},
};

/// How long keys are known.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most keys of one tenant; the oldest go first.
    pub count: usize,
    /// Longest age on the agent clock.
    pub age: Duration,
}

/// One key and the write it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The key.
    pub key: Arc<str>,
    /// The write's place in the journal.
    pub sequence: u64,
    /// What the write was, by [`fingerprint`].
    pub fingerprint: u64,
    /// When it was accepted, in microseconds since the epoch on the agent clock.
    pub accepted: i64,
}

/// Holds the keys of every tenant.
#[derive(Debug)]
pub struct Keys {
    limits: Limits,
    tenants: HashMap<Arc<str>, Window>,
    /// Places whose rows are still on disk though their keys are no longer known.
    forgotten: Vec<u64>,
}

#[derive(Debug, Default)]
struct Window {
    known: HashMap<Arc<str>, Known>,
    /// Keys with their places, oldest first. A place that is not the key's own is of an earlier use of it.
    order: VecDeque<(u64, Arc<str>)>,
}

impl Keys {
    /// Makes an empty window.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, tenants: HashMap::new(), forgotten: Vec::new() }
    }

    /// Returns what is known of `key` at `now`.
    #[must_use]
    pub fn get(&self, tenant: &str, key: &str, now: SystemTime) -> Option<&Known> {
        let known = self.tenants.get(tenant)?.known.get(key)?;
        (!self.limits.is_old(known, now)).then_some(known)
    }

    /// Takes in a key whose row is on disk; places must grow.
    pub fn insert(&mut self, known: Known, now: SystemTime) {
        let window = self.tenants.entry(Arc::clone(&known.tenant)).or_default();
        window.order.push_back((known.sequence, Arc::clone(&known.key)));
        window.known.insert(Arc::clone(&known.key), known);
        while let Some((sequence, key)) = window.order.front() {
            let is_own = |known: &&Known| known.sequence == *sequence;
            let known = window.known.get(key).filter(is_own);
            let is_kept = window.order.len() <= self.limits.count
                && known.is_some_and(|known| !self.limits.is_old(known, now));
            if is_kept {
                break;
            }
            if known.is_some() {
                window.known.remove(key);
            }
            self.forgotten.push(*sequence);
            window.order.pop_front();
        }
    }

    /// Takes the places whose rows can go.
    pub fn take_forgotten(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgotten)
    }

    /// Gives places back whose rows could not go.
    pub fn give_back(&mut self, forgotten: &[u64]) {
        self.forgotten.extend_from_slice(forgotten);
    }
}

impl Limits {
    fn is_old(&self, known: &Known, now: SystemTime) -> bool {
        let accepted = UNIX_EPOCH + Duration::from_micros(u64::try_from(known.accepted).unwrap_or(0));
        micros(now) >= micros(accepted + self.age)
    }
}

/// Returns what tells one write from another, the same in every version of this service.
#[must_use]
pub fn fingerprint(key: &Key, change: &Change) -> u64 {
    let mut writer = Writer::new();
    writer.text(&key.collection);
    writer.text(&key.id);
    writer.change(change);
    u64::from_le_bytes(codec::sum(&writer.finish()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Keys, Known, Limits, fingerprint};
    use crate::{
        change::Change,
        document::{Fields, Key, Value},
    };

    const LIMITS: Limits = Limits { count: 2, age: Duration::from_secs(60) };

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn known(tenant: &str, key: &str, sequence: u64, second: i64) -> Known {
        let accepted = second * 1_000_000;
        Known { tenant: tenant.into(), key: key.into(), sequence, fingerprint: 7, accepted }
    }

    fn sequence(keys: &Keys, tenant: &str, key: &str, second: u64) -> Option<u64> {
        keys.get(tenant, key, at(second)).map(|known| known.sequence)
    }

    #[test]
    fn a_tenants_newest_keys_are_known_and_another_tenant_pushes_none_out() {
        let mut keys = Keys::new(LIMITS);
        for (place, key) in (1..).zip(["a", "b", "c"]) {
            keys.insert(known("t", key, place, 0), at(0));
        }
        keys.insert(known("other", "a", 4, 0), at(0));
        let found = ["a", "b", "c"].map(|key| sequence(&keys, "t", key, 0));
        assert_eq!((found, sequence(&keys, "other", "a", 0)), ([None, Some(2), Some(3)], Some(4)));
        assert_eq!(keys.take_forgotten(), [1]);
        assert!(keys.take_forgotten().is_empty());
    }

    #[test]
    fn a_key_is_known_for_its_age_and_then_free_again() {
        let mut keys = Keys::new(LIMITS);
        keys.insert(known("t", "a", 1, 0), at(0));
        assert_eq!(sequence(&keys, "t", "a", 59), Some(1));
        assert_eq!(sequence(&keys, "t", "a", 60), None);
        keys.insert(known("t", "a", 2, 61), at(61));
        assert_eq!((sequence(&keys, "t", "a", 62), keys.take_forgotten()), (Some(2), vec![1]));
    }

    #[test]
    fn a_fingerprint_tells_documents_and_changes_apart_and_never_changes() {
        let set = |number| Change::set(Fields::from([("n".to_owned(), Value::Integer(number))]));
        let of = |id: &str, change| fingerprint(&Key::new("t", "c", id), &change);
        assert_eq!(of("a", set(1)), of("a", set(1)));
        assert_ne!(of("a", set(1)), of("b", set(1)));
        assert_ne!(of("a", set(1)), of("a", set(2)));
        assert_ne!(of("a", set(1)), of("a", Change::merge(Fields::new())));
    }
}
