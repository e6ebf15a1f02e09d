//! The way from the hot path to the simulated caches: a bounded buffer, worked off in batches.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Event, Forecast, Ghost, TICKS};
use crate::sizing::Change;

/// Events that are worked off together, by whoever brings the last.
const BATCH: usize = 32;
/// Most events that wait while a batch is worked off; more are lost, and counted.
const BOUND: usize = 4_096;

/// Takes events from many threads.
#[derive(Debug)]
pub(crate) struct Recorder {
    waiting: Mutex<Waiting>,
    ghost: Mutex<Ghost>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    /// An empty buffer to change with.
    spare: Vec<Event>,
    lost: u64,
}

impl Recorder {
    pub(crate) fn new(ghost: Ghost) -> Self {
        Self { waiting: Mutex::default(), ghost: Mutex::new(ghost) }
    }

    /// Takes an event; returns what should change if it completed a batch. `most` is how many entries there is room for.
    pub(crate) fn record(&self, event: Event, most: impl FnOnce() -> u64) -> Option<Change> {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() < BOUND {
            waiting.events.push(event);
        } else {
            waiting.lost += 1;
        }
        if waiting.events.len() < BATCH {
            return None;
        }
        // One batch at a time: others go on and leave theirs.
        let mut ghost = self.ghost.try_lock()?;
        let spare = std::mem::take(&mut waiting.spare);
        let mut batch = std::mem::replace(&mut waiting.events, spare);
        drop(waiting);
        ghost.follow(&batch);
        let change = ghost.decide(most());
        drop(ghost);
        batch.clear();
        self.waiting.lock().spare = batch;
        change
    }

    /// Notes that the true cache has another capacity, and whether somebody asked for it; returns the hashes that a cache of about this
    /// size would hold, the youngest first.
    pub(crate) fn resized(&self, capacity: u64, asked: bool) -> Vec<u64> {
        let mut ghost = self.ghost.lock();
        // Who came last is the youngest.
        let waiting = std::mem::take(&mut self.waiting.lock().events);
        ghost.follow(&waiting);
        ghost.resized(capacity, asked);
        ghost.youngest_first(capacity)
    }

    /// Returns what other sizes and TTLs would bring, and how many events were lost.
    pub(crate) fn forecast(&self, ttl: Duration) -> (Forecast, u64) {
        (self.ghost.lock().forecast(ttl), self.waiting.lock().lost)
    }
}

/// Returns how many ticks of `ttl` have passed in `since`, modulo 2³².
pub(crate) fn tick(since: Duration, ttl: Duration) -> u32 {
    let tick = (ttl.as_nanos() / u128::from(TICKS)).max(1);
    #[expect(clippy::cast_possible_truncation, reason = "ages are differences modulo 2^32")]
    let ticks = (since.as_nanos() / tick) as u32;
    ticks
}

#[cfg(test)]
mod tests {
    use super::{BATCH, BOUND, Recorder};
    use crate::{
        ghost::{Event, Ghost, Kind},
        sizing::Sizing,
    };

    #[test]
    fn events_wait_for_whoever_works_and_are_lost_and_counted_past_the_bound() {
        let recorder = Recorder::new(Ghost::new(&Sizing { least: 10, most: 20, auto: false }, 10));
        let record = |hash| recorder.record(Event { hash, tick: 0, kind: Kind::Miss }, || u64::MAX);
        let working = recorder.ghost.lock();
        for hash in 0..BOUND as u64 + 7 {
            assert_eq!(record(hash), None);
        }
        drop(working);
        assert_eq!(recorder.waiting.lock().lost, 7);
        assert_eq!(recorder.ghost.lock().reads, 0);
        record(0);
        assert_eq!(recorder.ghost.lock().reads, BOUND as u64, "whoever comes next works");
        for hash in 0..BATCH as u64 {
            record(hash);
        }
        assert_eq!(recorder.ghost.lock().reads, (BOUND + BATCH) as u64);
        assert_eq!(recorder.waiting.lock().lost, 8);
    }
}
