//! A cache without values: what would one of another size, or another TTL, have answered?

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{Event, Kind, sketch::Sketch};

/// End of the list of entries.
const NONE: u32 = u32::MAX;

/// The eviction policy of [`crate::Cache`] over key hashes, judged for `N` TTLs at once.
///
/// A hit moves an entry to the young end of one list; a newcomer to a full cache takes the place of the oldest only if it was asked for
/// more often. As in moka, reads and stores are worked off in small batches ([`Simulated::flush`]), between which a newcomer can be
/// read before it is judged, and frequencies are kept from the moment the cache is half full, in a sketch for a quarter of it.
#[derive(Debug)]
pub(super) struct Simulated<const N: usize> {
    capacity: u32,
    /// The sample: hashes that begin with this many zero bits.
    bits: u32,
    /// How long an entry is served, in ticks, for each TTL judged.
    ttls: [u32; N],
    /// Where in `slots` a hash is.
    places: HashMap<u64, u32, BuildHasherDefault<Plain>>,
    slots: Vec<Slot<N>>,
    free: Vec<u32>,
    oldest: u32,
    youngest: u32,
    /// Entries in the list; newcomers are not yet among them.
    held: u32,
    sketch: Option<Sketch>,
    /// Reads since the last flush, with the slot that was found.
    asked: Vec<(u64, u32)>,
    newcomers: Vec<u32>,
    /// Reads of the sample.
    pub(super) reads: u64,
    /// Those answered, for each TTL.
    pub(super) hits: [u64; N],
}

#[derive(Debug)]
struct Slot<const N: usize> {
    hash: u64,
    older: u32,
    younger: u32,
    stored: [u32; N],
    listed: bool,
}

/// Takes the hash it is given.
#[derive(Debug, Default)]
pub(super) struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<const N: usize> Simulated<N> {
    /// Makes an empty cache of `capacity` entries of a sample of one key in 2^`bits`.
    pub(super) fn new(capacity: u32, bits: u32, ttls: [u32; N]) -> Self {
        Self {
            capacity: capacity.max(1),
            bits,
            ttls,
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            youngest: NONE,
            held: 0,
            sketch: None,
            asked: Vec::new(),
            newcomers: Vec::new(),
            reads: 0,
            hits: [0; N],
        }
    }

    /// Returns how many bits a hash of the sample begins with that are zero.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// Follows what happened to the true cache.
    pub(super) fn follow(&mut self, event: &Event) {
        if event.hash.leading_zeros() < self.bits {
            return;
        }
        match event.kind {
            Kind::Hit | Kind::Miss => self.read(event),
            Kind::Store => self.store(event.hash, event.tick),
            Kind::Drop => self.drop(event.hash),
        }
    }

    fn read(&mut self, event: &Event) {
        let Event { hash, tick, .. } = *event;
        self.reads += 1;
        let Some(&slot) = self.places.get(&hash) else {
            self.asked.push((hash, NONE));
            // The true cache has its value and will not ask for it again; where it has none, a store follows.
            if event.kind == Kind::Hit {
                self.welcome(hash, tick);
            }
            return;
        };
        self.asked.push((hash, slot));
        let entry = &mut self.slots[slot as usize];
        for ((stored, ttl), hits) in entry.stored.iter_mut().zip(self.ttls).zip(&mut self.hits) {
            if tick.wrapping_sub(*stored) <= ttl {
                *hits += 1;
            } else if event.kind == Kind::Hit {
                *stored = tick;
            }
        }
    }

    fn store(&mut self, hash: u64, tick: u32) {
        let Some(&slot) = self.places.get(&hash) else {
            self.welcome(hash, tick);
            return;
        };
        for (stored, ttl) in self.slots[slot as usize].stored.iter_mut().zip(self.ttls) {
            // One that is still served would not have been asked for.
            if tick.wrapping_sub(*stored) > ttl {
                *stored = tick;
            }
        }
    }

    fn drop(&mut self, hash: u64) {
        self.flush();
        if let Some(&slot) = self.places.get(&hash) {
            self.evict(slot);
        }
    }

    fn welcome(&mut self, hash: u64, tick: u32) {
        let entry = Slot { hash, older: NONE, younger: NONE, stored: [tick; N], listed: false };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = entry;
            slot
        } else {
            self.slots.push(entry);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        self.places.insert(hash, slot);
        self.newcomers.push(slot);
    }

    /// Counts the reads, then judges the newcomers.
    pub(super) fn flush(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        for &(hash, slot) in &asked {
            if let Some(sketch) = &mut self.sketch {
                sketch.count(hash);
            }
            if slot != NONE && self.slots[slot as usize].listed {
                self.unlink(slot);
                self.link(slot);
            }
        }
        let newcomers = std::mem::take(&mut self.newcomers);
        for &slot in &newcomers {
            self.judge(slot);
        }
        if self.sketch.is_none() && self.held >= self.capacity.div_ceil(2) {
            let squared = u64::from(self.held) * u64::from(self.held) / u64::from(self.capacity);
            self.sketch = Some(Sketch::new(u32::try_from(squared).unwrap_or(u32::MAX)));
        }
        // The buffers are kept for the next batch.
        (self.asked, self.newcomers) = (asked, newcomers);
        self.asked.clear();
        self.newcomers.clear();
    }

    fn judge(&mut self, slot: u32) {
        if self.held >= self.capacity {
            let (newcomer, oldest) = (self.slots[slot as usize].hash, self.slots[self.oldest as usize].hash);
            let better = |sketch: &Sketch| sketch.frequency(newcomer) > sketch.frequency(oldest);
            if !self.sketch.as_ref().is_some_and(better) {
                self.places.remove(&newcomer);
                self.free.push(slot);
                return;
            }
            self.evict(self.oldest);
        }
        self.link(slot);
        self.held += 1;
    }

    /// Changes the capacity; the oldest leave.
    pub(super) fn resize(&mut self, capacity: u32) {
        self.flush();
        self.capacity = capacity.max(1);
        while self.held > self.capacity {
            self.evict(self.oldest);
        }
    }

    /// Returns the hashes held, the youngest first.
    pub(super) fn youngest_first(&self) -> impl Iterator<Item = u64> + '_ {
        let slot = |slot: u32| self.slots.get(slot as usize);
        std::iter::successors(slot(self.youngest), move |entry| slot(entry.older)).map(|entry| entry.hash)
    }

    fn evict(&mut self, slot: u32) {
        self.unlink(slot);
        self.places.remove(&self.slots[slot as usize].hash);
        self.free.push(slot);
        self.held -= 1;
    }

    fn unlink(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        entry.listed = false;
        let (older, younger) = (entry.older, entry.younger);
        match self.slots.get_mut(older as usize) {
            Some(entry) => entry.younger = younger,
            None => self.oldest = younger,
        }
        match self.slots.get_mut(younger as usize) {
            Some(entry) => entry.older = older,
            None => self.youngest = older,
        }
    }

    /// Puts an entry at the young end.
    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.youngest, slot);
        match self.slots.get_mut(older as usize) {
            Some(entry) => entry.younger = slot,
            None => self.oldest = slot,
        }
        let entry = &mut self.slots[slot as usize];
        (entry.older, entry.younger, entry.listed) = (older, NONE, true);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Event, Kind, Simulated};

    /// A list in which a hit moves to the end, searched from front to back.
    struct Naive {
        capacity: usize,
        entries: VecDeque<u64>,
    }

    impl Naive {
        fn refer(&mut self, key: u64) -> bool {
            let at = self.entries.iter().position(|held| *held == key);
            if let Some(at) = at {
                self.entries.remove(at);
                self.entries.push_back(key);
            } else if self.entries.len() < self.capacity {
                self.entries.push_back(key);
            }
            at.is_some()
        }
    }

    fn refer<const N: usize>(cache: &mut Simulated<N>, hash: u64, tick: u32) -> [bool; N] {
        let before = cache.hits;
        cache.follow(&Event { hash, tick, kind: Kind::Miss });
        cache.follow(&Event { hash, tick, kind: Kind::Store });
        let mut hit = [false; N];
        for (index, hits) in cache.hits.iter().enumerate() {
            hit[index] = *hits > before[index];
        }
        hit
    }

    proptest! {
        #[test]
        fn what_is_held_is_what_a_plain_list_holds(
            capacity in 1_u32..12, keys in proptest::collection::vec(0_u64..12, 1..200)
        ) {
            // As many keys as fit: nothing is judged, all is order.
            let keys = keys.into_iter().filter(|key| *key < u64::from(capacity));
            let (mut cache, mut naive) =
                (Simulated::new(capacity, 0, [9]), Naive { capacity: capacity as usize, entries: VecDeque::new() });
            for key in keys {
                prop_assert_eq!(refer(&mut cache, key, 0)[0], naive.refer(key));
                cache.flush();
                let held: Vec<u64> = cache.youngest_first().collect();
                prop_assert!(held.iter().eq(naive.entries.iter().rev()), "{held:?}");
            }
        }

        #[test]
        fn it_never_holds_more_than_its_capacity_and_every_place_is_used_again(
            capacity in 1_u32..40, keys in proptest::collection::vec(0_u64..200, 1..600)
        ) {
            let mut cache = Simulated::new(capacity, 0, [9]);
            for (step, key) in keys.iter().enumerate() {
                refer(&mut cache, *key, 0);
                if step % 17 == 0 {
                    cache.follow(&Event { hash: *key, tick: 0, kind: Kind::Drop });
                    prop_assert!(!cache.youngest_first().any(|held| held == *key));
                }
                if step % 64 == 0 {
                    cache.flush();
                }
            }
            cache.flush();
            let held = cache.youngest_first().count();
            prop_assert_eq!(held, cache.held as usize);
            prop_assert!(held <= capacity as usize);
            prop_assert_eq!(cache.slots.len(), held + cache.free.len());
            cache.resize(1);
            prop_assert!(cache.youngest_first().count() <= 1);
        }
    }

    #[test]
    fn a_full_cache_takes_in_what_is_asked_for_more_often_only() {
        let mut cache = Simulated::new(2, 0, [9]);
        for key in [1, 2, 1, 2, 3] {
            refer(&mut cache, key, 0);
            cache.flush();
        }
        assert_eq!(cache.youngest_first().collect::<Vec<_>>(), [2, 1], "once is not more often");
        for _ in 0..3 {
            refer(&mut cache, 3, 0);
            cache.flush();
        }
        assert_eq!(cache.youngest_first().collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn each_ttl_stores_anew_when_it_has_passed() {
        let mut cache = Simulated::new(10, 0, [10, 20]);
        let hits: Vec<_> = [0, 10, 21, 30, 45].map(|tick| refer(&mut cache, 7, tick)).to_vec();
        // Under 10: stored at 0, 21 and 45. Under 20: stored at 0, 21 and 45 as well, but read at 30 from 21.
        assert_eq!(hits, [[false, false], [true, true], [false, false], [true, true], [false, false]]);
        let hits = [55, 60].map(|tick| refer(&mut cache, 7, tick));
        assert_eq!(hits, [[true, true], [false, true]]);
    }

    #[test]
    fn an_answer_that_was_not_stored_is_not_there_later() {
        let mut cache = Simulated::new(10, 0, [9]);
        for _ in 0..3 {
            cache.follow(&Event { hash: 1, tick: 0, kind: Kind::Miss });
        }
        assert_eq!(cache.hits, [0]);
        cache.follow(&Event { hash: 2, tick: 0, kind: Kind::Hit });
        cache.follow(&Event { hash: 2, tick: 0, kind: Kind::Hit });
        assert_eq!(cache.hits, [1], "the true cache had it: so would this one from then on");
    }
}
