//! The curve against the true cache.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::{Duration, UNIX_EPOCH},
};

use clock::Clock;
use proptest::{prelude::*, test_runner::RngSeed};

use super::{Event, FLUSH, Ghost, Kind, Simulated, corrected, run, sample, sizes};
use crate::{Cache, sizing::Sizing};

/// A load of keys, made from a few numbers: skewed references, some of them to keys that come once.
#[derive(Clone, Copy, Debug)]
struct Load {
    keys: u64,
    skew: f64,
    once: f64,
    looping: bool,
}

impl Load {
    fn references(self, count: u64, seed: u64) -> Vec<u64> {
        let mut state = seed;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let refer = |number: u64| match random() {
            chance if chance < self.once => 1_000_000 + number,
            _ if self.looping => number % self.keys,
            _ => (random().powf(self.skew) * self.keys as f64) as u64,
        };
        (0..count).map(refer).collect()
    }
}

fn loads() -> impl Strategy<Value = Load> {
    (100_u64..3_000, 1.0..6.0_f64, 0.0..0.5_f64, any::<bool>()).prop_map(|(keys, skew, once, looping)| Load {
        keys,
        skew,
        once,
        looping,
    })
}

fn event(key: u64, kind: Kind) -> Event {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    Event { hash, tick: 0, kind }
}

fn events(references: &[u64]) -> Vec<Event> {
    references.iter().flat_map(|key| [event(*key, Kind::Miss), event(*key, Kind::Store)]).collect()
}

fn true_ratio(references: &[u64], capacity: u64) -> f64 {
    let cache = Cache::new(capacity, Duration::from_secs(1), Clock::manual(UNIX_EPOCH).0);
    let hits = references.iter().copied().filter(|key| {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, ());
        }
        hit
    });
    hits.count() as f64 / references.len() as f64
}

fn mean(ratio: impl Fn(u64) -> f64) -> f64 {
    (0..3).map(ratio).sum::<f64>() / 3.0
}

proptest! {
    // Both compare what chance has a part in: the same loads each time, or a run in some hundred would fail.
    #![proptest_config(ProptestConfig { cases: 6, rng_seed: RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn a_simulated_cache_answers_what_a_true_one_does(load in loads(), seed in any::<u64>()) {
        let references = load.references(20_000, seed);
        for size in [128, 600, 2_048] {
            // Where all keys are asked for alike, chance decides who stays: either is a mean over several hashes.
            let simulated = mean(|salt| {
                let mut cache = Simulated::new(size, 0, [1]);
                let salted: Vec<u64> = references.iter().map(|key| key ^ salt << 40).collect();
                let reads = run(&mut cache, &events(&salted), 0);
                cache.hits[0] as f64 / reads as f64
            });
            let measured = mean(|_| true_ratio(&references, size.into()));
            prop_assert!((simulated - measured).abs() < 0.04, "{size}: {simulated} simulated, {measured} measured");
        }
    }

    #[test]
    fn a_sample_tells_nearly_what_all_keys_tell(load in loads(), seed in any::<u64>()) {
        // The few hottest keys of a very skewed load are in the sample or not: no correction is good enough for a few thousand entries.
        let load = Load { keys: load.keys * 10, skew: load.skew.min(2.5), ..load };
        let references = load.references(40_000, seed);
        let ratio = |bits: u32| {
            let mut cache = Simulated::new(8_192 >> bits, bits, [1]);
            let reads = run(&mut cache, &events(&references), 0);
            corrected(&cache, reads)[0] / reads as f64
        };
        let (all, sampled) = (ratio(0), ratio(2));
        prop_assert!((all - sampled).abs() < 0.07, "{all} of all keys, {sampled} of a quarter");
    }
}

#[test]
fn each_point_of_the_curve_belongs_to_its_size() {
    let mut ghost = Ghost::new(&Sizing { least: 128, most: 2_048, auto: false }, 500);
    // 700 keys in turn: what is smaller holds its share of them, what is larger all.
    for batch in events(&(0..60_000).map(|number| number % 700).collect::<Vec<u64>>()).chunks(256) {
        ghost.follow(batch);
        ghost.decide(u64::MAX);
    }
    for point in ghost.forecast(Duration::from_secs(1)).curve.points {
        let share = (point.size as f64 / 700.0).min(1.0);
        assert!((point.hit_ratio - share).abs() < 0.08, "{point:?}, {share} of the keys fit");
    }
}

#[test]
fn every_key_is_followed_up_to_the_bound_and_a_share_of_them_above() {
    let most = super::MOST_HASHES;
    assert_eq!([1, most, most + 1, 2 * most, 16 * most].map(|size| sample(size, most)), [0, 0, 1, 1, 4]);
    let ghost = Ghost::new(&Sizing { least: 100, most: 16 * most, auto: false }, 100);
    assert!((ghost.forecast(Duration::from_secs(1)).sampling - 1.0 / 16.0).abs() < 1e-12);
}

#[test]
fn the_sizes_reach_from_the_least_to_the_most() {
    let all = sizes(100, 16_384);
    assert_eq!((all.first(), all.last(), all.len()), (Some(&100), Some(&16_384), 16));
    assert!(
        all.windows(2).all(|pair| pair[0] < pair[1] && pair[1] as f64 <= 1.45 * pair[0] as f64),
        "{all:?}"
    );
    assert_eq!(sizes(7, 7), [7]);
    assert_eq!(sizes(0, 0), [1]);
}

#[test]
fn a_longer_ttl_is_worth_the_reads_that_come_after_this_one() {
    // One key, read every one and a half TTLs: never a hit now, every other time with twice the TTL.
    let mut ghost = Ghost::new(&Sizing { least: 10, most: 20, auto: false }, 10);
    let ttl = Duration::from_secs(100);
    let read = |number: u32| {
        let tick = number * super::TICKS * 3 / 2;
        [Kind::Miss, Kind::Store].map(|kind| Event { tick, ..event(1, kind) })
    };
    for number in 0..2_000 {
        ghost.follow(&read(number));
        ghost.decide(u64::MAX);
    }
    let forecast = ghost.forecast(ttl);
    let ratios: Vec<f64> = forecast.ttls.iter().map(|(_, ratio)| (ratio * 100.0).round()).collect();
    assert_eq!(ratios, [0.0, 0.0, 0.0, 50.0, 67.0]);
    assert_eq!(forecast.ttls[2].0, ttl);
    assert!((forecast.per_second_longer - 0.005).abs() < 1e-4, "{forecast:?}");
    assert!(forecast.per_second_shorter.abs() < 1e-12);
    assert!(forecast.curve.at(20) < 1e-9, "what has expired is no hit at any size");
}

#[test]
fn newcomers_are_judged_after_as_many_reads_as_in_the_true_cache() {
    let mut cache = Simulated::new(4, 0, [1]);
    let references: Vec<u64> = (0..FLUSH).collect();
    run(&mut cache, &events(&references), 0);
    assert_eq!(cache.youngest_first().count(), 0);
    run(&mut cache, &[event(0, Kind::Miss)], FLUSH);
    assert_eq!(cache.youngest_first().count(), 4);
}
