//! The exact scan: every candidate is compared, the best are kept.
//!
//! A scan is cut into parts of equal size where that pays, each on a thread of its own; a part looks at its [`Stop`]
//! every [`CHUNK_ROWS`](crate::index::CHUNK_ROWS) rows, so that a recall nobody waits for any more ends within
//! microseconds.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use roaring::RoaringBitmap;

use crate::index::{CHUNK_ROWS, Rows};

/// Candidates from which on a scan is split over threads: 20,000 rows of 256 values take a good millisecond on one core, some
/// ten times what starting the threads costs.
pub(crate) const SPLIT_FROM: u64 = 20_000;

/// Values that are multiplied side by side; independent sums are what lets the compiler use vector registers.
const LANES: usize = 16;

/// Tells a running scan to end.
#[derive(Debug)]
pub(crate) struct Stop {
    deadline: Instant,
    cancelled: AtomicBool,
}

/// The scan was stopped before it had seen every candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scan was stopped before it had seen every candidate")]
pub(crate) struct Stopped;

/// A row that was kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hit {
    /// The row.
    pub(crate) row: u32,
    /// Its cosine similarity, or 0 where nothing is ranked by.
    pub(crate) score: f32,
}

/// What the parts of a scan kept, not yet merged.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    parts: Vec<BinaryHeap<Ranked<'a>>>,
    limit: usize,
}

/// A kept row as it is ordered: the greatest is the worst, so that a heap gives up the worst first.
#[derive(Clone, Copy, Debug)]
struct Ranked<'a> {
    score: f32,
    time: SystemTime,
    id: &'a str,
    row: u32,
}

impl Stop {
    /// Makes a stop that takes effect at `deadline`, or earlier if it is [cancelled](Self::cancel).
    pub(crate) fn at(deadline: Instant) -> Self {
        Self { deadline, cancelled: AtomicBool::new(false) }
    }

    /// Ends the scan now.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Refuses to go on once stopped.
    pub(crate) fn check(&self) -> Result<(), Stopped> {
        if self.cancelled.load(Relaxed) || Instant::now() >= self.deadline { Err(Stopped) } else { Ok(()) }
    }
}

impl Scanned<'_> {
    /// Returns how many threads scanned.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Returns how many rows the parts kept in all.
    pub(crate) fn kept(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Merges the parts: the best first, equal scores newest first, then by id.
    pub(crate) fn rank(self) -> Vec<Hit> {
        let mut all: Vec<_> = self.parts.into_iter().flat_map(BinaryHeap::into_vec).collect();
        all.sort_unstable();
        all.truncate(self.limit);
        all.into_iter().map(|ranked| Hit { row: ranked.row, score: ranked.score }).collect()
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let worse_score = other.score.total_cmp(&self.score);
        worse_score.then_with(|| other.time.cmp(&self.time)).then_with(|| self.id.cmp(other.id))
    }
}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked<'_> {}

/// Compares `candidates` with `ranking` (a vector of length 1; absent: all score 0) and keeps the `limit` best of each
/// of at most `threads` parts.
///
/// # Errors
/// [`Stopped`] if `stop` took effect before the end.
pub(crate) fn scan<'a>(
    rows: &'a Rows,
    candidates: &RoaringBitmap,
    ranking: Option<&[f32]>,
    limit: usize,
    threads: usize,
    stop: &Stop,
) -> Result<Scanned<'a>, Stopped> {
    stop.check()?;
    let ranges = split(candidates, threads);
    let parts: Result<Vec<_>, Stopped> = match ranges.as_slice() {
        [range] => part(rows, candidates, range.clone(), ranking, limit, stop).map(|best| vec![best]),
        ranges => std::thread::scope(|scope| {
            let running: Vec<_> = ranges
                .iter()
                .map(|range| scope.spawn(|| part(rows, candidates, range.clone(), ranking, limit, stop)))
                .collect();
            running.into_iter().map(|thread| thread.join().unwrap_or(Err(Stopped))).collect()
        }),
    };
    Ok(Scanned { parts: parts?, limit })
}

/// Returns `vector` with length 1, or nothing if it has no direction.
#[must_use]
pub(crate) fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let length = crate::memory::length(vector);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a value divided by the length of its vector is at most 1"
    )]
    let scaled = vector.iter().map(|value| (f64::from(*value) / length) as f32).collect();
    (length > 0.0).then_some(scaled)
}

/// Returns the sum of products of two vectors of equal length.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let (left_lanes, left_rest) = left.as_chunks::<LANES>();
    let (right_lanes, right_rest) = right.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (left, right) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

fn part<'a>(
    rows: &'a Rows,
    candidates: &RoaringBitmap,
    range: Range<u64>,
    ranking: Option<&[f32]>,
    limit: usize,
    stop: &Stop,
) -> Result<BinaryHeap<Ranked<'a>>, Stopped> {
    let mut best = BinaryHeap::with_capacity(limit.min(1024));
    let first = u32::try_from(range.start).ok().and_then(|rank| candidates.select(rank));
    let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let Some(first) = first else { return Ok(best) };
    for (seen, row) in candidates.range(first..).take(wanted).enumerate() {
        if seen % CHUNK_ROWS == 0 {
            stop.check()?;
        }
        // Clamped against rounding; adding zero turns -0.0 into 0.0, which sorts with it.
        let score = ranking
            .map_or(0.0, |ranking| (dot(ranking, rows.vector(row)) * rows.scale(row)).clamp(-1.0, 1.0) + 0.0);
        offer(&mut best, rows, row, score, limit);
    }
    Ok(best)
}

fn offer<'a>(best: &mut BinaryHeap<Ranked<'a>>, rows: &'a Rows, row: u32, score: f32, limit: usize) {
    let full = best.len() >= limit;
    if full && best.peek().is_some_and(|worst| score < worst.score) {
        return;
    }
    let Some(memory) = rows.memory(row) else { return };
    let ranked = Ranked { score, time: memory.time, id: &memory.id, row };
    if !full {
        best.push(ranked);
    } else if let Some(mut worst) = best.peek_mut()
        && ranked < *worst
    {
        *worst = ranked;
        drop::<PeekMut<'_, _>>(worst);
    }
}

/// Cuts the candidates, counted from the smallest, into at most `threads` ranges of equal size; into one if they are few.
fn split(candidates: &RoaringBitmap, threads: usize) -> Vec<Range<u64>> {
    let count = candidates.len();
    let parts = if count > SPLIT_FROM { (threads.max(1) as u64).min(count / (SPLIT_FROM / 2)) } else { 1 };
    (0..parts).map(|part| count * part / parts..count * (part + 1) / parts).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant, UNIX_EPOCH},
    };

    use roaring::RoaringBitmap;

    use super::{SPLIT_FROM, Stop, Stopped, dot, scan, split, unit};
    use crate::{
        index::{Index, tests::record},
        memory::{Change, Record},
        query::Filter,
    };

    fn later() -> Stop {
        Stop::at(Instant::now() + Duration::from_secs(600))
    }

    fn at(mut record: Record, second: u64) -> Record {
        Arc::get_mut(&mut record.memory).unwrap().time = UNIX_EPOCH + Duration::from_secs(second);
        record
    }

    fn best(
        records: Vec<Record>,
        ranking: Option<&[f32]>,
        limit: usize,
        threads: usize,
    ) -> Vec<(String, f32)> {
        let mut index = Index::new(records[0].embedding.len(), 0);
        index.apply(&Change::Put(records), 1);
        let selection = index.select(&Filter::default(), UNIX_EPOCH, &mut Vec::new());
        let ranking = ranking.map(|vector| unit(vector).unwrap());
        let scanned =
            scan(&selection.rows, &selection.candidates, ranking.as_deref(), limit, threads, &later())
                .unwrap();
        let hits = scanned.rank().into_iter();
        hits.map(|hit| (selection.rows.memory(hit.row).unwrap().id.to_string(), hit.score)).collect()
    }

    #[test]
    fn the_product_is_that_of_the_definition() {
        for length in [0, 1, 15, 16, 17, 256, 257] {
            let left: Vec<f32> = (0..length).map(|number| (number % 7) as f32 - 3.0).collect();
            let right: Vec<f32> = (0..length).map(|number| (number % 5) as f32 - 2.0).collect();
            let expected: f32 = left.iter().zip(&right).map(|(left, right)| left * right).sum();
            assert!((dot(&left, &right) - expected).abs() < 1e-6, "{length}");
        }
    }

    #[test]
    fn the_most_alike_comes_first_whatever_its_length() {
        let records =
            vec![record("far", &[0.0, 9.0]), record("near", &[0.1, 0.0]), record("between", &[5.0, 5.0])];
        let hits = best(records, Some(&[2.0, 0.0]), 2, 1);
        assert_eq!(hits.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["near", "between"]);
        assert!((hits[0].1 - 1.0).abs() < 1e-6);
        assert!((hits[1].1 - 0.5_f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn equal_scores_are_newest_first_and_then_by_id() {
        let records = vec![
            at(record("b", &[1.0]), 1),
            at(record("a", &[2.0]), 1),
            at(record("old", &[1.0]), 0),
            at(record("new", &[4.0]), 2),
        ];
        let order = |limit| best(records.clone(), Some(&[1.0]), limit, 1).into_iter().map(|(id, _)| id);
        assert_eq!(order(10).collect::<Vec<_>>(), ["new", "a", "b", "old"]);
        assert_eq!(order(2).collect::<Vec<_>>(), ["new", "a"]);
    }

    #[test]
    fn without_a_ranking_the_newest_come_first() {
        let records = (0..100).map(|second| at(record(&second.to_string(), &[1.0]), second)).collect();
        let hits = best(records, None, 3, 1);
        assert_eq!(hits, [("99".to_owned(), 0.0), ("98".to_owned(), 0.0), ("97".to_owned(), 0.0)]);
    }

    #[test]
    fn a_vector_without_direction_scores_zero() {
        let hits =
            best(vec![record("none", &[0.0, 0.0]), record("against", &[-1.0, 0.0])], Some(&[1.0, 0.0]), 2, 1);
        assert_eq!(hits, [("none".to_owned(), 0.0), ("against".to_owned(), -1.0)]);
    }

    #[test]
    fn a_split_scan_finds_what_one_thread_finds() {
        let records: Vec<_> = (0..SPLIT_FROM + 5_000)
            .map(|number| {
                let angle = (number * 7919 % 30_011) as f32;
                record(&number.to_string(), &[angle.cos(), angle.sin()])
            })
            .collect();
        let one = best(records.clone(), Some(&[0.3, 0.7]), 50, 1);
        assert_eq!(best(records, Some(&[0.3, 0.7]), 50, 3), one);
    }

    #[test]
    fn parts_cover_every_candidate_once() {
        let candidates: RoaringBitmap = (0..100_001).step_by(2).collect();
        let ranges = split(&candidates, 3);
        assert_eq!(ranges.len(), 3);
        assert_eq!((ranges[0].start, ranges[2].end), (0, candidates.len()));
        assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(split(&RoaringBitmap::from_iter([1, 2]), 8).len(), 1);
        assert_eq!(split(&candidates, 0).len(), 1);
    }

    #[test]
    fn a_stopped_scan_returns_nothing() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        let selection = index.select(&Filter::default(), UNIX_EPOCH, &mut Vec::new());
        let run = |stop: &Stop| scan(&selection.rows, &selection.candidates, None, 1, 1, stop).map(|_| ());
        assert_eq!(run(&Stop::at(Instant::now())), Err(Stopped));
        let stop = later();
        assert_eq!(run(&stop), Ok(()));
        stop.cancel();
        assert_eq!(run(&stop), Err(Stopped));
    }
}
