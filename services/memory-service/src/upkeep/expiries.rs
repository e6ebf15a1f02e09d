//! When the memories of a space expire.

use std::{collections::BTreeSet, time::SystemTime};

/// The memories of a space that expire, by when.
///
/// Numbers only grow and what is under one never changes, so each memory is looked at once: only those after the last are new. One that
/// goes before its time is still named when that comes; it is not there then.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    after: u64,
    queue: BTreeSet<(SystemTime, u64)>,
}

impl Expiries {
    /// Returns the number after which nothing was looked at yet.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }

    /// Takes note of the memory of number `seq`.
    pub(crate) fn see(&mut self, seq: u64, expires: Option<SystemTime>) {
        self.after = self.after.max(seq);
        self.queue.extend(expires.map(|at| (at, seq)));
    }

    /// Takes the numbers of those that have expired at `now`, the first one first.
    pub(crate) fn take(&mut self, now: SystemTime) -> Vec<u64> {
        let later = self.queue.split_off(&(now, u64::MAX));
        let over = std::mem::replace(&mut self.queue, later);
        over.into_iter().map(|(_, seq)| seq).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::Expiries;

    #[test]
    fn what_has_expired_is_named_once_and_in_its_order() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut expiries = Expiries::default();
        for (seq, expires) in [(1, Some(at(30))), (2, None), (3, Some(at(10))), (7, Some(at(20)))] {
            expiries.see(seq, expires);
        }
        assert_eq!(expiries.after(), 7);
        assert!(expiries.take(at(9)).is_empty());
        assert_eq!(expiries.take(at(20)), [3, 7]);
        assert_eq!((expiries.take(at(99)), expiries.take(at(99))), (vec![1], vec![]));
    }
}
