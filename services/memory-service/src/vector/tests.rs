//! What the scan promises, against a look at every full vector.

use std::{
    cmp::Ordering,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*, sample::select};
use roaring::RoaringBitmap;

use super::{
    arena::Arena,
    code::Query,
    interval::Interval,
    kernel::Kernel,
    metric::Metric,
    pool::Pool,
    scan::{Known, Scan, Unknown},
    search::{Best, Order, Wanted, best},
    source::InMemory,
};
use crate::{
    memory::length,
    stop::{Stop, Stopped},
};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// The later row is the newer one, but of two in a row the first.
struct Newest;

impl Order for Newest {
    fn compare(&self, left: u32, right: u32) -> Ordering {
        (right / 2).cmp(&(left / 2)).then(left.cmp(&right))
    }
}

/// At first known more or less well, from row to row.
impl Known for Vec<f32> {
    fn within(&self, row: u32) -> Interval {
        let known = self.of(row);
        Interval { lower: known - (row % 3) as f32 * 0.05, upper: known + (row % 5) as f32 * 0.05 }
    }

    fn most(&self, row: u32) -> f32 {
        self.within(row).upper + (row % 2) as f32 * 0.1
    }

    fn settle(&self, rows: &[u32]) {
        assert!(rows.is_sorted_by(|one, next| one < next));
    }

    fn of(&self, row: u32) -> f32 {
        self[row as usize]
    }
}

fn later() -> Arc<Stop> {
    Arc::new(Stop::at(Instant::now() + Duration::from_secs(600)))
}

fn arena(metric: Metric, vectors: &InMemory) -> Arena {
    let mut arena = Arena::new(metric, vectors.dimensions);
    for (seq, vector) in (0..).zip(vectors.values.chunks(vectors.dimensions)) {
        arena.push(seq, vector);
    }
    arena
}

fn scan<K>(metric: Metric, vectors: &InMemory, query: &[f32], weight: f32, known: K) -> Scan<K> {
    let rows = arena(metric, vectors).rows().clone();
    let candidates = (0..u32::try_from(rows.len()).unwrap()).collect();
    Scan { rows, candidates, query: Query::new(query), weight, known, part: 500 }
}

/// The score as the metric is defined.
fn score(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    let pairs = || query.iter().zip(row).map(|(left, right)| (f64::from(*left), f64::from(*right)));
    let product: f64 = pairs().map(|(left, right)| left * right).sum();
    match metric {
        Metric::Dot => product,
        Metric::Euclidean => -pairs().map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt(),
        Metric::Cosine if product == 0.0 => 0.0,
        Metric::Cosine => product / (length(query) * length(row)),
    }
}

/// All candidates in their order: row and total.
fn reference<K: Known>(scan: &Scan<K>, vectors: &InMemory) -> Vec<(u32, f32)> {
    let metric = scan.rows.metric();
    let total = |row: u32| {
        let score = score(metric, scan.query.values(), vectors.vector(row as usize)) as f32;
        (row, scan.total(score, scan.known.of(row)))
    };
    let mut all: Vec<_> = scan.candidates.iter().map(total).collect();
    all.sort_by(|left, right| {
        right.1.partial_cmp(&left.1).unwrap().then_with(|| Newest.compare(left.0, right.0))
    });
    all
}

fn run<K: Known>(scan: Scan<K>, vectors: &InMemory, limit: usize, reads: usize) -> Best {
    let pool = Pool::new(2, 4).unwrap();
    best(&Arc::new(scan), Wanted { limit, reads }, &pool, vectors, &Newest, &later()).unwrap()
}

fn found(best: &Best) -> Vec<(u32, f32)> {
    best.found.iter().map(|found| (found.row, found.total)).collect()
}

/// A value of any sort: ordinary, far from the others, zero.
fn values() -> impl Strategy<Value = f32> {
    prop_oneof![6 => -1.0..1.0_f32, 1 => select(&[0.0, -0.0, 1e-4, 50.0, -1000.0][..])]
}

/// Vectors of one length in values, many of them, long and short within what the service takes, or all zero.
fn vectors(
    dimensions: impl Strategy<Value = usize>,
    count: usize,
) -> impl Strategy<Value = (InMemory, Vec<f32>)> {
    dimensions.prop_flat_map(move |dimensions| {
        let factor = select(&[1.0, 1.0, 1.0, 0.0, 1e-15, 1e14][..]);
        let row = move || {
            (vec(values(), dimensions), factor.clone()).prop_map(|(mut row, factor)| {
                row.iter_mut().for_each(|value| *value *= factor);
                row
            })
        };
        (vec(row(), 1..count), row())
            .prop_map(move |(rows, query)| (InMemory { dimensions, values: rows.concat() }, query))
    })
}

fn holds(interval: Interval, score: f64) -> bool {
    f64::from(interval.lower) <= score && score <= f64::from(interval.upper)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn every_score_lies_in_its_interval(
        (vectors, query) in vectors(prop_oneof![1..70_usize, 1..=4096_usize], 9), metric in select(&METRICS[..]),
    ) {
        let scan = Arc::new(scan(metric, &vectors, &query, 1.0, Unknown));
        let (chunk, kernel) = (scan.rows.chunk(0), Kernel::baseline());
        let mut upper = vec![0; chunk.len()];
        let places: Vec<u16> = (0..).take(chunk.len()).collect();
        chunk.upper(kernel, &scan.query.factors, &places, &mut upper);
        let intervals = scan.intervals(&Pool::new(1, 1).unwrap(), &later()).unwrap();
        prop_assert_eq!(intervals.len(), chunk.len());
        for (at, interval) in intervals.into_iter().enumerate() {
            let score = score(metric, &query, vectors.vector(at));
            prop_assert!(holds(interval, score), "{metric:?} {at}: {interval:?} {score}");
            prop_assert!(holds(interval, f64::from(metric.score(&scan.query, vectors.vector(at)))));
            let cosine = chunk.guess(at, &scan.query, upper[at]);
            let guess = metric.interval(cosine, chunk.length(at), scan.query.length());
            prop_assert!(holds(guess, score), "{metric:?} {at}: {guess:?} {score}");
        }
    }

    #[test]
    fn the_best_are_those_of_a_look_at_every_vector(
        rows in vec(vec(-2..=2_i8, 3), 1..60), query in vec(-2..=2_i8, 3), metric in select(&METRICS[..]),
        count in 1..3_000_usize, kept in prop_oneof![Just(1_000_u32), 1..1_000_u32], limit in 0..40_usize,
        weight in select(&[1.0, 0.25, 0.0][..]), known in vec(select(&[0.0, 0.0, 0.5, -1.0][..]), 1..7),
    ) {
        // Whole numbers: the reference has the same ties, and repeated rows make many.
        let values = rows.iter().cycle().take(count).flatten().map(|value| f32::from(*value)).collect();
        let vectors = InMemory { dimensions: 3, values };
        let query: Vec<_> = query.into_iter().map(f32::from).collect();
        let known: Vec<f32> = known.into_iter().cycle().take(count).collect();
        let mut scan = scan(metric, &vectors, &query, weight, known);
        scan.candidates = scan.candidates.iter().filter(|row| row.wrapping_mul(0x9E37_79B9) % 1_000 < kept).collect();
        let candidates = scan.candidates.len();
        let mut expected = reference(&scan, &vectors);
        expected.truncate(limit);
        let best = run(scan, &vectors, limit, usize::MAX);
        prop_assert_eq!(found(&best), expected);
        prop_assert_eq!((best.compared, best.missing), (candidates, None));
    }

    #[test]
    fn the_best_totals_are_found_whatever_the_data(
        (vectors, query) in vectors(1..=600_usize, 200), metric in select(&METRICS[..]), limit in 1..20_usize,
    ) {
        let scan = scan(metric, &vectors, &query, 1.0, Unknown);
        let expected = reference(&scan, &vectors);
        let best = run(scan, &vectors, limit, usize::MAX);
        prop_assert_eq!(best.found.len(), limit.min(expected.len()));
        for (found, (_, expected)) in best.found.iter().zip(expected) {
            // Sums in another order may differ in the last digit.
            prop_assert!((found.total - expected).abs() <= expected.abs() * 1e-6 + 1e-30);
        }
    }

    #[test]
    fn a_capped_answer_says_what_it_may_miss(
        (vectors, query) in vectors(1..=40_usize, 300), metric in select(&METRICS[..]), limit in 1..4_usize,
    ) {
        let scan = scan(metric, &vectors, &query, 1.0, Unknown);
        // By our own sums: in another order they may differ in the last digit.
        let score = |row: u32| metric.score(&scan.query, vectors.vector(row as usize));
        let expected: Vec<_> = scan.candidates.iter().map(|row| (row, score(row))).collect();
        let best = run(scan, &vectors, limit, 0);
        prop_assert!(best.read <= limit);
        prop_assert_eq!(best.found.len(), limit.min(expected.len()));
        let last = best.found[best.found.len() - 1].total;
        let found = found(&best);
        let better = expected.iter().filter(|(row, total)| {
            let ahead = total.total_cmp(&last).then_with(|| Newest.compare(best.found[best.found.len() - 1].row, *row));
            ahead.is_gt() && found.iter().all(|(other, _)| other != row)
        });
        for (row, total) in better {
            prop_assert!(best.missing.is_some_and(|most| *total <= most), "{row} {total} {:?}", best.missing);
        }
    }
}

#[test]
fn equal_vectors_are_settled_by_their_order_alone() {
    let vectors = InMemory { dimensions: 2, values: [0.6, 0.8].repeat(5_000) };
    let best = run(scan(Metric::Cosine, &vectors, &[1.0, 0.0], 1.0, Unknown), &vectors, 3, 100);
    assert_eq!(best.found.iter().map(|found| found.row).collect::<Vec<_>>(), [4_998, 4_999, 4_996]);
    assert_eq!(best.read, 100);
    assert!(best.missing.is_some_and(|most| (0.6..0.62).contains(&most)), "{:?}", best.missing);
}

#[test]
fn few_full_vectors_are_read() {
    let vectors = spread(64, 20_000);
    let query = vectors.vector(77).to_vec();
    let best = run(scan(Metric::Cosine, &vectors, &query, 1.0, Unknown), &vectors, 10, usize::MAX);
    assert_eq!((best.found[0].row, best.compared), (77, 20_000));
    assert!(best.read < 200, "{}", best.read);
}

#[test]
fn a_stopped_scan_finds_nothing() {
    let vectors = spread(8, 3_000);
    let scan = Arc::new(scan(Metric::Cosine, &vectors, &[1.0; 8], 1.0, Unknown));
    let (pool, stop) = (Pool::new(2, 4).unwrap(), later());
    assert!(scan.doubts(&pool, 1, &stop).is_ok());
    stop.cancel();
    assert_eq!(scan.doubts(&pool, 1, &stop).err(), Some(Stopped.into()));
}

#[test]
fn intervals_come_by_row_from_all_parts() {
    let vectors = spread(8, 3_000);
    let mut scan = scan(Metric::Dot, &vectors, &[1.0; 8], 1.0, Unknown);
    scan.candidates = (0..3_000).filter(|row| row % 7 != 3).collect::<RoaringBitmap>();
    let (scan, query) = (Arc::new(scan), Query::new(&[1.0; 8]));
    let intervals = scan.intervals(&Pool::new(2, 4).unwrap(), &later()).unwrap();
    assert_eq!(intervals.len(), 3_000);
    for (row, interval) in (0..).zip(intervals) {
        let score = Metric::Dot.score(&query, vectors.vector(row as usize));
        let is_candidate = scan.candidates.contains(row);
        let expected = if is_candidate { score } else { 0.0 };
        assert!(interval.lower <= expected && expected <= interval.upper, "{row}: {interval:?} {expected}");
    }
}

/// Vectors without pattern.
fn spread(dimensions: usize, count: usize) -> InMemory {
    let mut state = 1_u64;
    let values = (0..dimensions * count).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    InMemory { dimensions, values: values.collect() }
}
