//! Caches without values beside the true one: what it would answer at other sizes and TTLs.
//!
//! Miniature simulation (Waldspurger, Saemundsson, Ahmad, Park: "Cache Modeling and Optimization using Miniature Simulations", ATC 2017):
//! each size is followed by a cache of key hashes under the same eviction policy, since stack distances know LRU only: a loop is a
//! cliff for LRU and a slope for TinyLFU. Up to [`MOST_HASHES`] entries every key is followed. Above, a spatial sample of them, with the
//! cache scaled down alike, corrected for how many reads the sample got (SHARDS-adj; Waldspurger, Park, Garthwaite, Ahmad: "Efficient MRC
//! Construction with SHARDS", FAST 2015).

mod recorder;
mod simulated;
mod sketch;
mod window;

use std::time::Duration;

pub(crate) use self::recorder::{Recorder, tick};
use self::{simulated::Simulated, window::Window};
use crate::{
    curve::Curve,
    sizing::{Change, Seen, Sizer, Sizing},
};

/// Most hashes a simulated size holds; a larger size is sampled.
pub const MOST_HASHES: u64 = 1 << 16;
/// Most hashes the simulated TTLs hold.
const MOST_AGED: u64 = 1 << 13;
/// Sizes followed for each doubling between the smallest and the largest.
const PER_DOUBLING: f64 = 2.0;
/// Reads after which moka counts reads and judges newcomers.
const FLUSH: u64 = 64;
/// Ticks of a TTL: ages are kept in 32 bits, which wrap after four million TTLs.
const TICKS: u32 = 1 << 10;
/// The TTLs followed, in ticks: a quarter of the true one to four times it.
const TTLS: [u32; 5] = [TICKS / 4, TICKS / 2, TICKS, TICKS * 2, TICKS * 4];
/// Reads between two looks at the curve.
const STEP: u64 = 512;

/// What happened to a key of the true cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) hash: u64,
    /// When, in ticks of the TTL.
    pub(crate) tick: u32,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A read found it.
    Hit,
    /// A read did not.
    Miss,
    /// A value was stored.
    Store,
    /// Its value was taken out.
    Drop,
}

/// The simulated caches of one true cache.
#[derive(Debug)]
pub(crate) struct Ghost {
    sizes: Vec<u64>,
    caches: Vec<Simulated<1>>,
    aged: Simulated<5>,
    /// Reads since the start.
    reads: u64,
    /// Counts at the last look, by size and by TTL.
    looked: Look,
    recent: Window,
    long: Window,
    ages: Window,
    sizer: Sizer,
    capacity: u64,
}

#[derive(Clone, Debug, Default)]
struct Look {
    reads: u64,
    hits: Vec<f64>,
    ages: Vec<f64>,
}

/// What other sizes and TTLs would bring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Hit ratio by size, over the last reads.
    pub curve: Curve,
    /// How much of a hit ratio one more entry is worth at the present capacity.
    pub per_entry: f64,
    /// Hit ratio by TTL at the present capacity, over the same reads.
    pub ttls: Vec<(Duration, f64)>,
    /// How much of a hit ratio each second of a TTL twice as long would add.
    pub per_second_longer: f64,
    /// How much of a hit ratio each second of a TTL half as long would cost.
    pub per_second_shorter: f64,
    /// Share of the keys that is followed at the largest size, 0 to 1; 1 up to 65,536 entries.
    pub sampling: f64,
}

impl Ghost {
    /// Makes the simulated caches beside an empty cache of `capacity` entries.
    pub(crate) fn new(sizing: &Sizing, capacity: u64) -> Self {
        let sizes = sizes(sizing.least, sizing.most);
        let caches = sizes.iter().map(|&size| {
            let bits = sample(size, MOST_HASHES);
            Simulated::new(scaled(size, bits), bits, [TICKS])
        });
        let bits = sample(capacity.max(sizing.most), MOST_AGED);
        Self {
            caches: caches.collect(),
            aged: Simulated::new(scaled(capacity, bits), bits, TTLS),
            reads: 0,
            looked: Look::default(),
            recent: Window::default(),
            long: Window::default(),
            ages: Window::default(),
            sizer: Sizer::new(sizing),
            sizes,
            capacity,
        }
    }

    /// Follows a batch of events.
    pub(crate) fn follow(&mut self, batch: &[Event]) {
        let before = self.reads;
        for cache in &mut self.caches {
            self.reads = run(cache, batch, before);
        }
        run(&mut self.aged, batch, before);
    }

    /// Returns where the true cache should change by what was followed. `most` is how many entries the limit in bytes leaves room for.
    pub(crate) fn decide(&mut self, most: u64) -> Option<Change> {
        if self.reads - self.looked.reads < STEP {
            return None;
        }
        let fresh = self.look();
        let Self { recent, long, sizes, capacity, .. } = self;
        let seen = Seen {
            recent: &recent.curve(sizes),
            long: &long.curve(sizes),
            reads: fresh,
            capacity: *capacity,
            most,
        };
        self.sizer.decide(&seen)
    }

    /// Notes that the true cache has another capacity, and whether somebody asked for it.
    pub(crate) fn resized(&mut self, capacity: u64, asked: bool) {
        self.capacity = capacity;
        self.aged.resize(scaled(capacity, self.aged.bits()));
        if asked {
            self.sizer.asked();
        }
    }

    /// Returns the hashes a cache of about `capacity` entries would hold, the youngest first; none where only a sample is followed.
    pub(crate) fn youngest_first(&mut self, capacity: u64) -> Vec<u64> {
        let index = self.sizes.partition_point(|&size| size < capacity).min(self.sizes.len() - 1);
        let cache = &mut self.caches[index];
        if cache.bits() > 0 {
            return Vec::new();
        }
        // The last to come are judged by now, as in the true cache.
        cache.flush();
        cache.youngest_first().collect()
    }

    /// Returns what other sizes and TTLs would bring.
    pub(crate) fn forecast(&self, ttl: Duration) -> Forecast {
        let curve = self.long.curve(&self.sizes);
        let ages = self.ages.ratios();
        let ttls: Vec<_> =
            TTLS.iter().map(|ticks| ttl.saturating_mul(*ticks) / TICKS).zip(ages.iter().copied()).collect();
        let second = |from: usize, to: usize| match (ttls.get(from), ttls.get(to)) {
            (Some((short, few)), Some((long, many))) => (many - few) / (*long - *short).as_secs_f64(),
            _ => 0.0,
        };
        let (per_second_shorter, per_second_longer) = (second(1, 2), second(2, 3));
        let bits = self.caches.last().map_or(0, Simulated::bits);
        let per_entry = curve.per_entry(self.capacity);
        let sampling = f64::from(1 << bits).recip();
        Forecast { curve, per_entry, ttls, per_second_longer, per_second_shorter, sampling }
    }

    /// Takes what was counted since the last look into the windows and returns how many reads that was.
    fn look(&mut self) -> f64 {
        let reads = self.reads;
        let now = Look {
            reads,
            hits: self.caches.iter().map(|cache| corrected(cache, reads)[0]).collect(),
            ages: corrected(&self.aged, reads).to_vec(),
        };
        let fresh = (reads - self.looked.reads) as f64;
        let (recent, long) = self.sizer.windows(self.capacity);
        self.recent.take(fresh, &now.hits, &self.looked.hits, recent);
        self.long.take(fresh, &now.hits, &self.looked.hits, long);
        self.ages.take(fresh, &now.ages, &self.looked.ages, long);
        self.looked = now;
        fresh
    }
}

/// Follows `batch` with one cache and returns how many reads there were, counted on from `reads`.
fn run<const N: usize>(cache: &mut Simulated<N>, batch: &[Event], mut reads: u64) -> u64 {
    for event in batch {
        if matches!(event.kind, Kind::Hit | Kind::Miss) {
            if reads.is_multiple_of(FLUSH) {
                cache.flush();
            }
            reads += 1;
        }
        cache.follow(event);
    }
    reads
}

/// Returns the hits of all keys, estimated from those of the sample: a sample that got fewer reads than its share lacks hot keys, whose
/// reads would have been hits at any size.
fn corrected<const N: usize>(cache: &Simulated<N>, reads: u64) -> [f64; N] {
    let times = f64::from(1 << cache.bits());
    cache.hits.map(|hits| (hits as f64 - cache.reads as f64) * times + reads as f64)
}

/// Returns the sizes to follow: evenly spaced by ratio, both ends among them.
fn sizes(least: u64, most: u64) -> Vec<u64> {
    let (least, most) = (least.max(1), most.max(least).max(1));
    let doublings = (most as f64 / least as f64).log2();
    let steps = (doublings * PER_DOUBLING).ceil().max(1.0);
    let size = |step: f64| (least as f64 * (doublings * step / steps).exp2()).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two sizes")]
    let mut sizes: Vec<u64> = (0..=steps as u32).map(|step| size(step.into()) as u64).collect();
    sizes.dedup();
    sizes
}

/// Returns how many bits of a hash must be zero so that `most` hold a sample of `size`.
fn sample(size: u64, most: u64) -> u32 {
    size.div_ceil(most).next_power_of_two().trailing_zeros()
}

fn scaled(size: u64, bits: u32) -> u32 {
    u32::try_from(size >> bits).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
