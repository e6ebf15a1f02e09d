//! The cache as its users see it.

use std::time::{Duration, UNIX_EPOCH};

use clock::{Clock, Hand};
use proptest::prelude::*;

use crate::{Bytes, Cache, Hit, Options, Sizing, Why};

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
fn a_cache_of_no_entries_holds_nothing_until_it_is_given_room() {
    let sizing = Some(Sizing { least: 1, most: 100, auto: true });
    let bytes = Some(Bytes { most: 100, of: |_, _| 10 });
    let (clock, _hand) = Clock::manual(UNIX_EPOCH);
    let options = Options { entries: 0, ttl: Duration::from_secs(3600), bytes, sizing, resized: None };
    let cache = Cache::with(options, clock);
    cache.insert(1, "one");
    assert_eq!(cache.get(&1), None);
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.bytes, stats.evictions, stats.misses), (0, 0, 0, 1));
    assert_eq!(cache.outlook(), None);
    cache.resize(10);
    cache.insert(1, "one");
    assert_eq!(cache.get(&1).map(|hit| hit.value), Some("one"));
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

/// Values that say how many bytes they are.
fn weighed(entries: u64, most: u64) -> Cache<u32, u64> {
    let bytes = Some(Bytes { most, of: |_: &u32, value: &u64| *value });
    let options = Options { entries, ttl: Duration::from_secs(1), bytes, sizing: None, resized: None };
    Cache::with(options, Clock::manual(UNIX_EPOCH).0)
}

fn watched(capacity: u64, auto: bool) -> (Cache<u32, u32>, Hand) {
    let (clock, hand) = Clock::manual(UNIX_EPOCH);
    let sizing = Some(Sizing { least: 100, most: 4_096, auto });
    let ttl = Duration::from_secs(3600);
    (Cache::with(Options { entries: capacity, ttl, bytes: None, sizing, resized: None }, clock), hand)
}

/// Refers to a key as a user does and returns whether it was there.
fn refer(cache: &Cache<u32, u32>, key: u32) -> bool {
    let hit = cache.get(&key).is_some();
    if !hit {
        cache.insert(key, key);
    }
    hit
}

#[test]
fn small_values_are_limited_by_number_and_large_ones_by_bytes() {
    let cache = weighed(10, 1_000);
    for key in 0..100 {
        cache.insert(key, 1);
    }
    assert_eq!((cache.stats().entries, cache.stats().bytes), (10, 10));
    let cache = weighed(10, 1_000);
    for key in 0..100 {
        cache.insert(key, 400);
    }
    assert_eq!((cache.stats().entries, cache.stats().bytes), (2, 800));
    cache.insert(100, 1_001);
    assert!(cache.get(&100).is_none() || cache.stats().bytes <= 1_000);
}

proptest! {
    #[test]
    fn both_limits_hold_whatever_is_stored_and_resized(
        entries in 1_u64..50,
        most in 1_u64..5_000,
        steps in proptest::collection::vec((0_u32..100, 0_u64..2_000, proptest::option::weighted(0.1, 1_u64..80)), 1..200),
    ) {
        let (cache, mut capacity) = (weighed(entries, most), entries);
        for (key, bytes, resize) in steps {
            if let Some(to) = resize {
                cache.resize(to);
                capacity = to;
            }
            cache.get(&key);
            cache.insert(key, bytes);
            let stats = cache.stats();
            prop_assert!(stats.entries <= capacity, "{stats:?}");
            prop_assert!(stats.bytes <= most, "{stats:?}");
        }
        let held = (0..100).filter_map(|key| cache.peek(&key)).map(|hit| hit.value);
        prop_assert_eq!(held.sum::<u64>(), cache.stats().bytes);
    }

    #[test]
    fn a_resize_lets_go_of_nothing_fresh_that_there_is_room_for(
        stale in 0_u32..60, fresh in 0_u32..60, to in 1_u64..150, is_watched in any::<bool>()
    ) {
        let (cache, hand) = if is_watched { watched(128, false) } else {
            let (clock, hand) = Clock::manual(UNIX_EPOCH);
            (Cache::new(128, Duration::from_secs(3600), clock), hand)
        };
        for key in 0..stale {
            refer(&cache, key);
        }
        hand.advance(Duration::from_secs(3601));
        for key in 1_000..1_000 + fresh {
            refer(&cache, key);
            hand.advance(Duration::from_secs(1));
        }
        cache.resize(to);
        let stats = cache.stats();
        prop_assert_eq!(stats.entries, u64::from(fresh).min(to));
        prop_assert_eq!((stats.capacity, stats.resizes), (to, 1));
        let youngest = (1_000..1_000 + fresh).rev().take(usize::try_from(to).unwrap());
        prop_assert!(youngest.into_iter().all(|key| cache.peek(&key).is_some()));
    }
}

#[test]
fn a_watched_cache_keeps_what_it_would_hold_at_the_smaller_size() {
    let (cache, hand) = watched(1_000, false);
    for _ in 0..6 {
        for key in 0..90 {
            refer(&cache, key);
        }
    }
    hand.advance(Duration::from_secs(1));
    // Stored later, and asked for once.
    for key in 100..700 {
        refer(&cache, key);
    }
    cache.resize(100);
    // A newcomer that shares all its counters with hot keys may take the place of one.
    assert!((0..90).filter(|key| cache.peek(key).is_some()).count() > 80);
    assert_eq!(cache.stats().entries, 100);
}

#[test]
fn a_cache_over_a_cliff_finds_it_and_stays() {
    let (cache, _hand) = watched(1_000, true);
    let hits = (0..60_000).filter(|reference| refer(&cache, reference % 1_500)).count();
    let stats = cache.stats();
    assert!(stats.capacity >= 1_480 && stats.capacity < 2_250, "{stats:?}");
    assert!(stats.resizes <= 4, "{stats:?}");
    assert!(hits > 55_000, "{hits} of at most 58,500");
    let last = cache.outlook().unwrap().last.unwrap();
    assert_eq!(last.change.to, stats.capacity);
}

#[test]
fn a_cache_that_is_of_no_use_becomes_small() {
    let (cache, _hand) = watched(1_000, true);
    assert!((0..20_000).all(|reference| !refer(&cache, reference)));
    let last = cache.outlook().unwrap().last.unwrap();
    assert_eq!((cache.capacity(), last.from), (100, 1_000));
    assert!(matches!(last.change.why, Why::Spare(..)));
}

#[test]
fn one_that_may_not_resize_itself_shows_what_it_would_bring() {
    let (cache, _hand) = watched(200, false);
    for reference in 0..30_000 {
        refer(&cache, reference % 1_500);
    }
    let outlook = cache.outlook().unwrap();
    assert_eq!((cache.capacity(), outlook.last, outlook.auto), (200, None, false));
    assert!(outlook.forecast.curve.at(2_000) > 0.9, "{outlook:?}");
    assert!(outlook.forecast.curve.at(200) < 0.2, "{outlook:?}");
    assert!(outlook.forecast.per_entry > 0.0003, "a slot more holds one key in 1,500");
    assert_eq!(Cache::<u32, u32>::new(1, Duration::from_secs(1), Clock::system()).outlook(), None);
}

#[test]
fn whoever_wants_to_know_is_told_of_a_resize() {
    let told = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let hears = told.clone();
    let resized: crate::Told = std::sync::Arc::new(move |resize| {
        hears.store(resize.change.to, std::sync::atomic::Ordering::Relaxed)
    });
    let options = Options {
        entries: 10,
        ttl: Duration::from_secs(1),
        bytes: None,
        sizing: None,
        resized: Some(resized),
    };
    let cache: Cache<u32, u32> = Cache::with(options, Clock::system());
    assert_eq!(cache.resize(20), 10);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 20);
}

#[test]
fn a_value_that_does_not_serve_is_let_go_of() {
    let cache = Cache::new(10, Duration::from_secs(10), Clock::manual(UNIX_EPOCH).0);
    cache.insert("a", 1);
    assert_eq!(cache.get_if(&"a", |hit| hit.value == 1).map(|hit| hit.value), Some(1));
    assert!(cache.get_if(&"a", |hit| hit.value == 2).is_none());
    assert!(cache.get(&"a").is_none());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.expirations, stats.entries), (1, 2, 1, 0));
}
