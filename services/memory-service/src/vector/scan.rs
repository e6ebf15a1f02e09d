//! A pass over the codes of candidates: between what does each one's score lie, and which may be among the best.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::{
    arena::{Chunk, Rows},
    code::Query,
    interval::Interval,
    kernel::Kernel,
    metric::Metric,
    pool::{Failed, Pool},
    stretch::each_chunk,
};
use crate::stop::{Stop, Stopped};

/// Rows in doubt that a part keeps before it looks which of them still are.
const TIDY_FROM: usize = 4096;

/// What a row's total holds beside its score, known without its vector: at first within bounds, and exactly once it is settled.
pub(crate) trait Known: Send + Sync + 'static {
    /// Returns between what lies what is added for `row`; finite.
    fn within(&self, row: u32) -> Interval;

    /// Returns no less than [`Known::within`] allows, in less time.
    fn most(&self, row: u32) -> f32;

    /// Returns no less than what is added for any row, infinite if that is not known.
    fn greatest(&self) -> f32 {
        f32::INFINITY
    }

    /// Finds out what is added for `rows`, which rise; called once, before [`Known::of`].
    fn settle(&self, rows: &[u32]);

    /// Returns what is added for `row`, one of those that were settled.
    fn of(&self, row: u32) -> f32;
}

/// Nothing is added to any score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unknown;

/// Candidates and what they are ranked by: `weight` · score + what is known.
#[derive(Clone, Debug)]
pub(crate) struct Scan<K = Unknown> {
    /// The rows at the moment of the scan.
    pub(crate) rows: Rows,
    /// Those of them that count.
    pub(crate) candidates: RoaringBitmap,
    /// What they are compared with.
    pub(crate) query: Query,
    /// How much a score counts; finite, not negative.
    pub(crate) weight: f32,
    /// What is added to it.
    pub(crate) known: K,
    /// Candidates of a part, about: fewer are not shared among threads.
    pub(crate) part: u64,
}

/// A row that may be among the best, and between what its score and its total lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub(crate) row: u32,
    pub(crate) total: Interval,
    score: Interval,
}

/// Why a scan has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ended {
    /// Its deadline was over, or its caller gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The pool did not do it.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// What the parts of a scan for the best tell each other.
#[derive(Debug)]
struct Shared {
    limit: usize,
    /// A total that as many rows as are wanted are known to reach, as an integer of the same order.
    threshold: AtomicI32,
    /// The greatest lower bounds of the parts that are done.
    lowers: Mutex<Lowers>,
    doubts: Mutex<Vec<Doubt>>,
    compared: AtomicU64,
}

/// The greatest lower bounds, as many as rows are wanted; the least of them first.
type Lowers = BinaryHeap<Reverse<Total>>;

/// A total as it is ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Total(f32);

/// What one part of a scan for the best has seen.
struct Part<'a, K> {
    scan: &'a Scan<K>,
    kernel: Kernel,
    shared: &'a Shared,
    /// Rows whose totals do not reach it are out.
    threshold: f32,
    lowers: Lowers,
    doubts: Vec<Doubt>,
    tidy_at: usize,
    /// Where in a chunk's candidates those are that are not far off.
    passed: Vec<u16>,
    places: Vec<u16>,
    upper: Vec<i32>,
    lower: Vec<i32>,
}

impl Known for Unknown {
    fn within(&self, _row: u32) -> Interval {
        Interval { lower: 0.0, upper: 0.0 }
    }

    #[inline]
    fn most(&self, _row: u32) -> f32 {
        0.0
    }

    fn greatest(&self) -> f32 {
        0.0
    }

    fn settle(&self, _rows: &[u32]) {}

    fn of(&self, _row: u32) -> f32 {
        0.0
    }
}

impl<K: Known> Scan<K> {
    /// Returns the rows that may be among the `limit` best, equal totals included, and how many candidates were compared.
    ///
    /// # Errors
    /// [`Ended::Stopped`] if `stop` took effect before the end, [`Ended::Failed`] if the pool did not do it.
    pub(crate) fn doubts(
        self: &Arc<Self>,
        pool: &Pool,
        limit: usize,
        stop: &Arc<Stop>,
    ) -> Result<(Vec<Doubt>, u64), Ended> {
        let shared = Arc::new(Shared::new(limit));
        let told = Arc::clone(&shared);
        self.run(pool, stop, move |scan, range, stop| {
            let mut part = Part::new(scan, &told);
            let count =
                scan.each_chunk(range, stop, |chunk, first, places| part.look(chunk, first, places))?;
            told.compared.fetch_add(count, Relaxed);
            part.end();
            Ok(())
        })?;
        let threshold = shared.threshold();
        let mut doubts = std::mem::take(&mut *shared.doubts.lock());
        doubts.retain(|doubt: &Doubt| doubt.total.upper >= threshold);
        self.settle(&mut doubts, limit);
        Ok((doubts, shared.compared.load(Relaxed)))
    }

    /// Finds out what is known of rows in doubt, and drops those that are out by that.
    fn settle(&self, doubts: &mut Vec<Doubt>, limit: usize) {
        doubts.sort_unstable_by_key(|doubt| doubt.row);
        let rows: Vec<u32> = doubts.iter().map(|doubt| doubt.row).collect();
        self.known.settle(&rows);
        let (mut lowers, mut threshold) = (Lowers::new(), f32::NEG_INFINITY);
        for doubt in doubts.iter_mut() {
            let known = self.known.of(doubt.row);
            doubt.total = self.within(doubt.score, Interval { lower: known, upper: known });
            threshold = note(&mut lowers, Total(doubt.total.lower), limit);
        }
        doubts.retain(|doubt| doubt.total.upper >= threshold);
    }

    /// Returns between what the score of every candidate lies, without weight and what is known, by the number of the row; 0 for
    /// others.
    ///
    /// # Errors
    /// Those of [`Scan::doubts`].
    pub(crate) fn intervals(self: &Arc<Self>, pool: &Pool, stop: &Arc<Stop>) -> Result<Vec<Interval>, Ended> {
        const NOTHING: Interval = Interval { lower: 0.0, upper: 0.0 };
        let shared = Arc::new(Mutex::new(vec![NOTHING; self.rows.len()]));
        let results = Arc::clone(&shared);
        self.run(pool, stop, move |scan, range, stop| {
            let (kernel, query, start) = (Kernel::detect(), &scan.query, range.start);
            let mut found = vec![NOTHING; range.len()];
            let (mut upper, mut lower) = (Vec::new(), Vec::new());
            scan.each_chunk(range.clone(), stop, |chunk, first, places| {
                upper.resize(places.len(), 0);
                lower.resize(places.len(), 0);
                chunk.upper(kernel, &query.factors, places, &mut upper);
                chunk.lower(kernel, &query.factors, places, &mut lower);
                for (place, (upper, lower)) in places.iter().zip(upper.iter().zip(&lower)) {
                    let cosine = chunk.estimate((*place).into(), query, *upper, *lower);
                    let at = first - start + u32::from(*place);
                    found[at as usize] = scan.score(chunk, *place, cosine);
                }
            })?;
            results.lock()[range.start as usize..range.end as usize].copy_from_slice(&found);
            Ok(())
        })?;
        Ok(std::mem::take(&mut *shared.lock()))
    }

    /// Returns the total of a row for its score.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "weight, score and what is known are finite in `f32`"
    )]
    pub(crate) fn total(&self, score: f32, known: f32) -> f32 {
        (f64::from(self.weight) * f64::from(score) + f64::from(known)) as f32 + 0.0
    }

    #[inline]
    fn within(&self, score: Interval, known: Interval) -> Interval {
        Interval { lower: self.total(score.lower, known.lower), upper: self.total(score.upper, known.upper) }
    }

    /// Returns the least cosine by which a row's total may reach `threshold`.
    #[expect(clippy::cast_possible_truncation, reason = "what is not finite leaves nothing out")]
    fn needed(&self, threshold: f32) -> f32 {
        let (weight, greatest) = (f64::from(self.weight), f64::from(self.known.greatest()));
        match self.rows.metric() {
            // A total is rounded to `f32`.
            Metric::Cosine if weight > 0.0 && greatest.is_finite() && threshold.is_finite() => {
                let slack = f64::from(f32::EPSILON) * (1.0 + f64::from(threshold).abs());
                ((f64::from(threshold) - greatest - slack) / weight) as f32
            }
            _ => f32::NEG_INFINITY,
        }
    }

    #[inline]
    fn score(&self, chunk: &Chunk, place: u16, cosine: Interval) -> Interval {
        self.rows.metric().interval(cosine, chunk.length(place.into()), self.query.length())
    }

    /// Does `part` for each stretch of rows, on the pool if there are several.
    fn run(
        self: &Arc<Self>,
        pool: &Pool,
        stop: &Arc<Stop>,
        part: impl Fn(&Self, Range<u32>, &Stop) -> Result<(), Stopped> + Send + Sync + 'static,
    ) -> Result<(), Ended> {
        stop.check()?;
        let ranges = self.ranges();
        let stopped = Arc::new(AtomicBool::new(false));
        let (scan, until, seen) = (Arc::clone(self), Arc::clone(stop), Arc::clone(&stopped));
        pool.run(ranges.len(), move |number| {
            let done = part(&scan, ranges[number].clone(), &until);
            if done.is_err() {
                seen.store(true, Relaxed);
            }
        })?;
        if stopped.load(Relaxed) { Err(Stopped.into()) } else { Ok(()) }
    }

    /// Cuts the rows where chunks end, so that each stretch has about as many candidates.
    fn ranges(&self) -> Vec<Range<u32>> {
        let (count, part) = (self.candidates.len(), self.part.max(1));
        let parts = count.div_ceil(part);
        let chunk = u32::try_from(self.rows.chunk_rows()).unwrap_or(u32::MAX);
        let cuts = (1..parts).filter_map(|number| {
            let first = self.candidates.select(u32::try_from(count * number / parts).ok()?)?;
            Some(first / chunk * chunk)
        });
        let end = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let mut cuts: Vec<_> = [0].into_iter().chain(cuts).chain([end]).collect();
        cuts.dedup();
        cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Hands over the candidates of `range`, chunk by chunk, with the number of the chunk's first row, and returns how many there are.
    fn each_chunk(
        &self,
        range: Range<u32>,
        stop: &Stop,
        mut each: impl FnMut(&Chunk, u32, &[u16]),
    ) -> Result<u64, Stopped> {
        let (rows, mut count) = (self.rows.chunk_rows(), 0);
        each_chunk(&self.candidates, range, rows, |number, places| {
            stop.check()?;
            count += places.len() as u64;
            #[expect(clippy::cast_possible_truncation, reason = "the number of a row fits `u32`")]
            each(self.rows.chunk(number), (number * rows) as u32, places);
            Ok(())
        })?;
        Ok(count)
    }
}

impl<'a, K: Known> Part<'a, K> {
    fn new(scan: &'a Scan<K>, shared: &'a Shared) -> Self {
        Self {
            scan,
            kernel: Kernel::detect(),
            shared,
            threshold: f32::NEG_INFINITY,
            lowers: BinaryHeap::new(),
            doubts: Vec::new(),
            tidy_at: TIDY_FROM,
            passed: Vec::new(),
            places: Vec::new(),
            upper: Vec::new(),
            lower: Vec::new(),
        }
    }

    /// Compares the rows of a chunk at `places`: by their upper halves, and those that may do by both.
    fn look(&mut self, chunk: &Chunk, first: u32, places: &[u16]) {
        let Self { scan, kernel, .. } = *self;
        let factors = &scan.query.factors;
        self.threshold = self.threshold.max(self.shared.threshold());
        self.upper.resize(places.len(), 0);
        chunk.upper(kernel, factors, places, &mut self.upper);
        self.places.clear();
        let needed = scan.needed(self.threshold);
        chunk.sieve(kernel, &scan.query, places, &self.upper, needed, &mut self.passed);
        let mut kept = 0;
        for at in &self.passed {
            let (place, upper) = (places[usize::from(*at)], self.upper[usize::from(*at)]);
            let score = scan.score(chunk, place, chunk.guess(place.into(), &scan.query, upper));
            if scan.total(score.upper, scan.known.most(first + u32::from(place))) >= self.threshold {
                self.places.push(place);
                self.upper[kept] = upper;
                kept += 1;
            }
        }
        self.lower.resize(kept, 0);
        chunk.lower(kernel, factors, &self.places, &mut self.lower);
        for at in 0..kept {
            let place = self.places[at];
            let cosine = chunk.estimate(place.into(), &scan.query, self.upper[at], self.lower[at]);
            let (row, score) = (first + u32::from(place), scan.score(chunk, place, cosine));
            self.offer(Doubt { row, score, total: scan.within(score, scan.known.within(row)) });
        }
        self.shared.raise(self.threshold);
    }

    fn offer(&mut self, doubt: Doubt) {
        let limit = self.shared.limit;
        if doubt.total.upper < self.threshold || limit == 0 {
            return;
        }
        self.threshold = self.threshold.max(note(&mut self.lowers, Total(doubt.total.lower), limit));
        self.doubts.push(doubt);
        if self.doubts.len() >= self.tidy_at {
            self.tidy();
        }
    }

    /// Tells the others what this part has seen.
    fn end(mut self) {
        let limit = self.shared.limit;
        {
            let mut lowers = self.shared.lowers.lock();
            for Reverse(lower) in self.lowers.drain() {
                self.threshold = self.threshold.max(note(&mut lowers, lower, limit));
            }
        }
        self.shared.raise(self.threshold);
        self.tidy();
        self.shared.doubts.lock().append(&mut self.doubts);
    }

    /// Drops what was in doubt and no longer is.
    fn tidy(&mut self) {
        let threshold = self.threshold.max(self.shared.threshold());
        self.doubts.retain(|doubt| doubt.total.upper >= threshold);
        self.tidy_at = (2 * self.doubts.len()).max(TIDY_FROM);
    }
}

impl Shared {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            threshold: AtomicI32::new(ordered(f32::NEG_INFINITY.to_bits())),
            lowers: Mutex::default(),
            doubts: Mutex::default(),
            compared: AtomicU64::new(0),
        }
    }

    fn threshold(&self) -> f32 {
        f32::from_bits(ordered(self.threshold.load(Relaxed).cast_unsigned()).cast_unsigned())
    }

    fn raise(&self, to: f32) {
        self.threshold.fetch_max(ordered(to.to_bits()), Relaxed);
    }
}

/// Adds `lower` to the greatest, and returns what as many rows as are wanted reach.
fn note(lowers: &mut Lowers, lower: Total, limit: usize) -> f32 {
    if lowers.len() < limit {
        lowers.push(Reverse(lower));
    } else if let Some(mut least) = lowers.peek_mut()
        && lower > least.0
    {
        *least = Reverse(lower);
    }
    let reached = lowers.peek().filter(|_| lowers.len() == limit);
    reached.map_or(f32::NEG_INFINITY, |Reverse(Total(least))| *least)
}

/// Turns the bits of a float into an integer of the same order, and back: a negative float is the greater, the smaller its bits.
fn ordered(bits: u32) -> i32 {
    let bits = bits.cast_signed();
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Total {}
