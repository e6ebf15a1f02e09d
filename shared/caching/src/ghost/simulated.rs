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
