//! The exact scan: every candidate is compared, the best are kept.
//!
//! The candidates come in partitions and are cut into tasks, which the threads of a scan take one after the other; a task looks
//! at its [`Stop`] every [`CHUNK_ROWS`](crate::index::CHUNK_ROWS) rows, so that a recall nobody waits for any more ends
//! within microseconds.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Instant, SystemTime},
};

use roaring::RoaringBitmap;

use crate::index::{CHUNK_ROWS, Rows};

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

/// What a scan is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// A vector of length 1 to compare with; absent: all score 0, so that the newest come first.
    pub(crate) ranking: Option<&'a [f32]>,
    /// Most rows kept.
    pub(crate) limit: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// Most candidates of a task.
    pub(crate) batch: usize,
    /// Whether each partition is newer than the next, so that the newest need not all be looked at.
    pub(crate) newest_first: bool,
}

/// What the threads of a scan kept, not yet merged.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    parts: Vec<BinaryHeap<Ranked<'a>>>,
    limit: usize,
    compared: u64,
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
    /// Returns how many candidates were compared.
    pub(crate) fn compared(&self) -> u64 {
        self.compared
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

/// Compares the rows of `parts`, which share none, and keeps the best of each thread.
///
/// # Errors
/// [`Stopped`] if `stop` took effect before the end.
pub(crate) fn scan<'a>(
    rows: &'a Rows,
    parts: &[RoaringBitmap],
    job: &Job<'_>,
    stop: &Stop,
) -> Result<Scanned<'a>, Stopped> {
    stop.check()?;
    let limit = job.limit;
    if job.newest_first && job.ranking.is_none() {
        let (best, compared) = newest(rows, parts, job, stop)?;
        return Ok(Scanned { parts: vec![best], limit, compared });
    }
    let tasks = tasks(parts, job.batch);
    let next = AtomicUsize::new(0);
    let run = || {
        let mut best = BinaryHeap::with_capacity(limit.min(1024));
        while let Some(task) = tasks.get(next.fetch_add(1, Relaxed)) {
            task.iter().try_for_each(|piece| compare(rows, piece, job, &mut best, stop))?;
        }
        Ok(best)
    };
    let threads = job.threads.clamp(1, tasks.len().max(1));
    let kept: Result<Vec<_>, Stopped> = if threads == 1 {
        run().map(|best| vec![best])
    } else {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|thread| thread.join().unwrap_or(Err(Stopped))).collect()
        })
    };
    let compared = parts.iter().map(RoaringBitmap::len).sum();
    Ok(Scanned { parts: kept?, limit, compared })
}

/// Looks at one partition after the other until there are as many rows as wanted: all others are older.
fn newest<'a>(
    rows: &'a Rows,
    parts: &[RoaringBitmap],
    job: &Job<'_>,
    stop: &Stop,
) -> Result<(BinaryHeap<Ranked<'a>>, u64), Stopped> {
    let mut best = BinaryHeap::with_capacity(job.limit.min(1024));
    let mut compared = 0;
    for rows_of in parts {
        if best.len() >= job.limit {
            break;
        }
        compare(rows, &Piece { rows: rows_of, first: 0, count: usize::MAX }, job, &mut best, stop)?;
        compared += rows_of.len();
    }
    Ok((best, compared))
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

/// Candidates of one partition.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    rows: &'a RoaringBitmap,
    /// How many of its rows come before.
    first: u32,
    count: usize,
}

fn compare<'a>(
    rows: &'a Rows,
    piece: &Piece<'_>,
    job: &Job<'_>,
    best: &mut BinaryHeap<Ranked<'a>>,
    stop: &Stop,
) -> Result<(), Stopped> {
    let Some(first) = piece.rows.select(piece.first) else { return Ok(()) };
    for (seen, row) in piece.rows.range(first..).take(piece.count).enumerate() {
        if seen % CHUNK_ROWS == 0 {
            stop.check()?;
        }
        // Clamped against rounding; adding zero turns -0.0 into 0.0, which sorts with it.
        let score = job
            .ranking
            .map_or(0.0, |ranking| (dot(ranking, rows.vector(row)) * rows.scale(row)).clamp(-1.0, 1.0) + 0.0);
        offer(best, rows, row, score, job.limit);
    }
    Ok(())
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

/// Cuts partitions into tasks of `batch` candidates; small ones share a task.
fn tasks(parts: &[RoaringBitmap], batch: usize) -> Vec<Vec<Piece<'_>>> {
    let batch = batch.max(1);
    let (mut tasks, mut task, mut held) = (Vec::new(), Vec::new(), 0);
    for rows in parts {
        let (mut first, total) = (0, usize::try_from(rows.len()).unwrap_or(usize::MAX));
        while first < total {
            let count = (total - first).min(batch - held);
            // Row numbers have 32 bits, so their count does but for the one bitmap that holds all.
            task.push(Piece { rows, first: u32::try_from(first).unwrap_or(u32::MAX), count });
            (first, held) = (first + count, held + count);
            if held == batch {
                tasks.push(std::mem::take(&mut task));
                held = 0;
            }
        }
    }
    tasks.extend((!task.is_empty()).then_some(task));
    tasks
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant, UNIX_EPOCH},
    };

    use roaring::RoaringBitmap;

    use super::{Job, Stop, Stopped, dot, scan, tasks, unit};
    use crate::{
        index::{
            Index,
            tests::{candidates, record},
        },
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
        let rows = candidates(&index, &Filter::default(), UNIX_EPOCH);
        let ranking = ranking.map(|vector| unit(vector).unwrap());
        let job = Job { ranking: ranking.as_deref(), limit, threads, batch: 1_000, newest_first: false };
        let hits = scan(index.rows(), &[rows], &job, &later()).unwrap().rank().into_iter();
        hits.map(|hit| (index.rows().memory(hit.row).unwrap().id.to_string(), hit.score)).collect()
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
        let records: Vec<_> = (0..25_000)
            .map(|number| {
                let angle = (number * 7919 % 30_011) as f32;
                record(&number.to_string(), &[angle.cos(), angle.sin()])
            })
            .collect();
        let one = best(records.clone(), Some(&[0.3, 0.7]), 50, 1);
        assert_eq!(best(records, Some(&[0.3, 0.7]), 50, 3), one);
    }

    #[test]
    fn tasks_cover_every_candidate_once_and_small_partitions_share_one() {
        let parts: Vec<RoaringBitmap> =
            vec![(0..25).collect(), RoaringBitmap::new(), (30..33).collect(), (40..42).collect()];
        let tasks = tasks(&parts, 10);
        let rows = |task: &Vec<super::Piece<'_>>| -> Vec<u32> {
            let of = |piece: &super::Piece<'_>| {
                piece.rows.iter().skip(piece.first as usize).take(piece.count).collect::<Vec<_>>()
            };
            task.iter().flat_map(of).collect()
        };
        let all: Vec<Vec<u32>> = tasks.iter().map(rows).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 10]);
        assert_eq!(all.concat(), (0..25).chain(30..33).chain(40..42).collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_end_with_the_partition_that_fills_the_limit() {
        let records = (0..100).map(|second| at(record(&second.to_string(), &[1.0]), second)).collect();
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(records), 1);
        let parts: Vec<RoaringBitmap> =
            (0..10).rev().map(|ten| (10 * ten..10 * ten + 10).collect()).collect();
        let job = Job { ranking: None, limit: 12, threads: 2, batch: 5, newest_first: true };
        let scanned = scan(index.rows(), &parts, &job, &later()).unwrap();
        assert_eq!(scanned.compared(), 20);
        let ids: Vec<_> = scanned.rank().iter().map(|hit| hit.row).collect();
        assert_eq!(ids, (88..100).rev().collect::<Vec<u32>>());
    }

    #[test]
    fn a_stopped_scan_returns_nothing() {
        let mut index = Index::new(1, 0);
        index.apply(&Change::Put(vec![record("a", &[1.0])]), 1);
        let parts = [RoaringBitmap::from_iter([0])];
        let job = Job { ranking: None, limit: 1, threads: 1, batch: 1, newest_first: false };
        let run = |stop: &Stop| scan(index.rows(), &parts, &job, stop).map(|_| ());
        assert_eq!(run(&Stop::at(Instant::now())), Err(Stopped));
        let stop = later();
        assert_eq!(run(&stop), Ok(()));
        stop.cancel();
        assert_eq!(run(&stop), Err(Stopped));
    }
}
