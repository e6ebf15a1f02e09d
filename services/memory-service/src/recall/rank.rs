//! Orders the candidates of a recall, by each of the rankings.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap, binary_heap::PeekMut},
    sync::Arc,
};

use roaring::{MultiOps as _, RoaringBitmap};

use super::{
    fusion::{self, Parts},
    settle::{Bounds, settle, shortlist},
    standing::Standing,
};
use crate::{
    index::{
        View,
        column::Column,
        facts::{Facts, newest_first},
        threads::Lending,
    },
    query::Ranking,
    stop::Stop,
    vector::{
        code::Query,
        interval::Interval,
        pool::Pool,
        scan::{Known, Scan, Unknown},
        search::{self, Order, Unfound, Wanted},
        source::Vectors,
    },
};

/// Rows between two looks at the time.
const UNCHECKED: usize = 4096;
/// By how much a bound is widened for what `f32` rounds off on the way to it.
const ROUNDING: f64 = 1e-6;
/// Ranks by vector and by words that are fused: so many times as many as memories are wanted, and at least so many.
const FUSED: (usize, usize) = (10, 100);

/// What is ranked.
#[derive(Debug)]
pub(crate) struct Field {
    /// The rows at the moment of the recall.
    pub(crate) view: View,
    /// The candidates, in partitions that share no row.
    pub(crate) parts: Vec<RoaringBitmap>,
    /// Whether no row of a partition can come before one of an earlier partition.
    pub(crate) in_order: bool,
    /// What is known of rows beside their vectors.
    pub(crate) standing: Arc<Standing>,
}

/// What a ranking may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tools<'a, V> {
    /// Threads.
    pub(crate) pool: &'a Pool,
    /// Candidates of a part of the scan.
    pub(crate) batch: u64,
    /// Most full vectors read.
    pub(crate) reads: usize,
    /// Where they are read.
    pub(crate) vectors: &'a V,
    /// When to end.
    pub(crate) stop: &'a Arc<Stop>,
}

/// The best rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranked {
    /// The best first.
    pub(crate) best: Vec<Placed>,
    /// Candidates that were compared.
    pub(crate) compared: u64,
    /// By how much a row that is missing may be better than the last of `best`; 0 if none is: the order is proven.
    pub(crate) error: f64,
}

/// A row that was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// The row.
    pub(crate) row: u32,
    /// What it was ranked by.
    pub(crate) score: f64,
    /// What speaks for it; nothing where the newest were wanted.
    pub(crate) parts: Option<Parts>,
}

/// A row as it is ordered where no vector has to be read: the greatest is the worst, so that a heap gives up the worst first.
struct Entry<'a> {
    score: f32,
    row: u32,
    facts: &'a Column<Facts>,
}

struct Newest<'a>(&'a Column<Facts>);

impl Order for Newest<'_> {
    fn compare(&self, left: u32, right: u32) -> Ordering {
        newest_first(self.0, left, right)
    }
}

impl Field {
    /// Finds the `limit` best by `ranking`; `vector` is what they are compared with, if there is something to compare with.
    ///
    /// # Errors
    /// Those of [`search::best`].
    pub(crate) fn rank<V: Vectors>(
        &self,
        ranking: Ranking,
        vector: Option<&[f32]>,
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<Ranked, Unfound> {
        match (ranking, vector) {
            (Ranking::Vector, Some(vector)) => self.by_vector(vector, limit, tools),
            (Ranking::Hybrid, Some(vector)) if self.view.links.is_empty() => {
                self.by_all(vector, limit, tools)
            }
            (Ranking::Hybrid, Some(vector)) => self.by_all_and_neighbours(vector, limit, tools),
            (Ranking::Ranks, Some(vector)) => self.by_ranks(vector, limit, tools),
            (Ranking::Hybrid, None) => {
                let parts = |row, _| Some(self.standing.parts(row, 0.0));
                self.by_known(limit, tools.stop, |row| Some(self.standing.of(row)), parts)
            }
            (Ranking::Text | Ranking::Ranks, _) => {
                self.by_known(limit, tools.stop, |row| Some(self.standing.text(row)), text_alone)
            }
            (Ranking::Newest | Ranking::Usual | Ranking::Vector, _) => {
                self.by_known(limit, tools.stop, |_| Some(0.0), |_, _| None)
            }
        }
    }

    /// Ranks rows by their scores, which need no vector, and says by which `parts` of the best; a row without a score is left out.
    fn by_known(
        &self,
        limit: usize,
        stop: &Stop,
        score: impl Fn(u32) -> Option<f32>,
        parts: impl Fn(u32, f32) -> Option<Parts>,
    ) -> Result<Ranked, Unfound> {
        let (mut heap, mut compared) = (BinaryHeap::with_capacity(limit.min(1024)), 0);
        for part in &self.parts {
            if self.in_order && heap.len() >= limit {
                break;
            }
            for (seen, row) in part.iter().enumerate() {
                if seen % UNCHECKED == 0 {
                    stop.check()?;
                }
                if let Some(score) = score(row) {
                    offer(&mut heap, Entry { score: score + 0.0, row, facts: &self.view.facts }, limit);
                }
            }
            compared += part.len();
        }
        let place = |Entry { score, row, .. }: Entry<'_>| Placed {
            row,
            score: score.into(),
            parts: parts(row, score),
        };
        let best = heap.into_sorted_vec().into_iter().map(place).collect();
        Ok(Ranked { best, compared, error: 0.0 })
    }

    fn by_vector<V: Vectors>(
        &self,
        vector: &[f32],
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<Ranked, Unfound> {
        let best = self.search(vector, 1.0, Unknown, limit, tools)?;
        Ok(ranked(&best, |_, score| Parts { vector: score, ..Parts::default() }))
    }

    /// Ranks rows of which none has a neighbour.
    fn by_all<V: Vectors>(
        &self,
        vector: &[f32],
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<Ranked, Unfound> {
        let weight = self.standing.share_of_vector() as f32;
        let best = self.search(vector, weight, Arc::clone(&self.standing), limit, tools)?;
        Ok(ranked(&best, |row, score| self.standing.parts(row, score)))
    }

    fn search<K: Known, V: Vectors>(
        &self,
        vector: &[f32],
        weight: f32,
        known: K,
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<search::Best, Unfound> {
        let scan = self.scan(vector, weight, known, self.candidates(), tools);
        let wanted = Wanted { limit, reads: tools.reads };
        search::best(&scan, wanted, tools.pool, tools.vectors, &Newest(&self.view.facts), tools.stop)
    }

    /// Ranks rows whose neighbours lend them likeness: a row's may be proven best only with theirs.
    fn by_all_and_neighbours<V: Vectors>(
        &self,
        vector: &[f32],
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<Ranked, Unfound> {
        let (lending, candidates) = (Lending::default(), self.candidates());
        let count = u32::try_from(self.view.rows.len()).unwrap_or(u32::MAX);
        let looked_at = self.view.links.with_lenders(&candidates, lending, count);
        let scan = self.scan(vector, 1.0, Unknown, looked_at, tools);
        let likeness = scan.intervals(tools.pool, tools.stop)?;
        tools.stop.check()?;
        let shortlist = self.shortlist(&candidates, &likeness, lending, limit);
        tools.stop.check()?;
        let mut exact = Exact { field: self, scan: &scan, lending, scores: HashMap::new() };
        exact.read(shortlist.iter().take(limit).map(|bounds| bounds.row), tools.vectors)?;
        let score = |row: u32| {
            tools.stop.check()?;
            exact.read([row], tools.vectors)?;
            Ok::<_, Unfound>(round(self.standing.score(row, exact.lent(row))))
        };
        let between = |left, right| newest_first(&self.view.facts, left, right);
        let settled = settle(&shortlist, limit, tools.reads, score, between)?;
        let place = |(row, score): &(u32, f64)| {
            let parts = Some(self.standing.parts(*row, exact.lent(*row)));
            Placed { row: *row, score: *score, parts }
        };
        let best = settled.best.iter().map(place).collect();
        Ok(Ranked { best, compared: candidates.len(), error: settled.gap })
    }

    /// Returns the candidates that may be among the `limit` best; `likeness` is each row's own, and what is known of the rest is settled.
    ///
    /// From the cheapest bound to the dearest: a mean of likenesses is no greater than the greatest of all, and no greater than the mean of their
    /// upper bounds; what facts add is no more than they can.
    fn shortlist(
        &self,
        candidates: &RoaringBitmap,
        likeness: &[Interval],
        lending: Lending,
        limit: usize,
    ) -> Vec<Bounds> {
        let (links, standing, share) = (&self.view.links, &self.standing, self.standing.share_of_vector());
        let lower = |row| fusion::lent(row, links, lending, |row| likeness[row as usize].lower);
        let upper = |row| fusion::lent(row, links, lending, |row| likeness[row as usize].upper);
        let greatest = likeness.iter().fold(-1.0_f32, |greatest, interval| greatest.max(interval.upper));
        let most = |likeness: f32, known: f32| share * f64::from(likeness) + f64::from(known) + ROUNDING;
        let bounds = |row, upper: f32, known: Interval| Bounds {
            row,
            lower: share * f64::from(lower(row)) + f64::from(known.lower) - ROUNDING,
            upper: most(upper, known.upper),
        };
        let roughly = |row, least| {
            let known = standing.most(row);
            if most(greatest, known) < least {
                return None;
            }
            let upper = upper(row);
            (most(upper, known) >= least).then(|| bounds(row, upper, standing.within(row)))
        };
        let mut rows: Vec<u32> =
            shortlist(candidates.iter(), limit, roughly).iter().map(|bounds| bounds.row).collect();
        rows.sort_unstable();
        standing.settle(&rows);
        shortlist(rows.into_iter(), limit, |row, _| {
            let known = standing.of(row);
            Some(bounds(row, upper(row), Interval { lower: known, upper: known }))
        })
    }

    /// Fuses the ranks of the best by vector and of the best by words.
    fn by_ranks<V: Vectors>(
        &self,
        vector: &[f32],
        limit: usize,
        tools: &Tools<'_, V>,
    ) -> Result<Ranked, Unfound> {
        let window = FUSED.1.max(limit.saturating_mul(FUSED.0));
        let by_vector = self.by_vector(vector, window, tools)?;
        let text = |row: u32| Some(self.standing.text(row)).filter(|text| *text > 0.0);
        let by_text = self.by_known(window, tools.stop, text, text_alone)?;
        let mut rows: HashMap<u32, Parts> = HashMap::new();
        for placed in by_vector.best.iter().chain(&by_text.best) {
            let parts = rows.entry(placed.row).or_insert(Parts { vector: f32::NAN, ..Parts::default() });
            let found = placed.parts.unwrap_or_default();
            if found.text > 0.0 { parts.text = found.text } else { parts.vector = found.vector }
        }
        let (rows, parts): (Vec<u32>, Vec<Parts>) = rows.into_iter().unzip();
        let of = |part: fn(&Parts) -> Option<f32>| parts.iter().map(part).collect::<Vec<_>>();
        let likeness = of(|parts| Some(parts.vector).filter(|vector| !vector.is_nan()));
        let words = of(|parts| Some(parts.text).filter(|text| *text > 0.0));
        let scores = fusion::reciprocal(&likeness, &words);
        let mut best: Vec<Placed> = rows
            .iter()
            .zip(parts.iter().zip(scores))
            .map(|(row, (parts, score))| {
                let vector = if parts.vector.is_nan() { 0.0 } else { parts.vector };
                Placed { row: *row, score: round(score), parts: Some(Parts { vector, ..*parts }) }
            })
            .collect();
        best.sort_by(|left, right| {
            let by_score = right.score.total_cmp(&left.score);
            by_score.then_with(|| newest_first(&self.view.facts, left.row, right.row))
        });
        best.truncate(limit);
        Ok(Ranked { best, compared: by_vector.compared, error: by_vector.error })
    }

    fn candidates(&self) -> RoaringBitmap {
        match self.parts.as_slice() {
            [one] => one.clone(),
            several => several.iter().union(),
        }
    }

    fn scan<K: Known, V>(
        &self,
        vector: &[f32],
        weight: f32,
        known: K,
        candidates: RoaringBitmap,
        tools: &Tools<'_, V>,
    ) -> Arc<Scan<K>> {
        let (rows, query) = (self.view.rows.clone(), Query::new(vector));
        Arc::new(Scan { rows, candidates, query, weight, known, part: tools.batch })
    }
}

/// Exact likeness, read row by row and kept.
struct Exact<'a> {
    field: &'a Field,
    scan: &'a Scan,
    lending: Lending,
    scores: HashMap<u32, f32>,
}

impl Exact<'_> {
    /// Reads what is missing to know the likeness of `rows` with what is lent to them.
    fn read(&mut self, rows: impl IntoIterator<Item = u32>, vectors: &impl Vectors) -> Result<(), Unfound> {
        let mut missing = RoaringBitmap::new();
        for row in rows {
            missing.insert(row);
            self.field.view.links.around(row, self.lending, |other, _| {
                missing.insert(other);
            });
        }
        let missing: Vec<u32> = missing.iter().filter(|row| !self.scores.contains_key(row)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let rows = &self.scan.rows;
        let seqs: Vec<u64> = missing.iter().map(|row| rows.seq(*row)).collect();
        let mut note = |place: usize, vector: &[f32]| {
            self.scores.insert(missing[place], rows.metric().score(&self.scan.query, vector));
        };
        Ok(vectors.read(&seqs, &mut note)?)
    }

    /// Returns the likeness of a row that was read, with what is lent to it.
    fn lent(&self, row: u32) -> f32 {
        let score = |row| self.scores.get(&row).copied().unwrap_or_default();
        fusion::lent(row, &self.field.view.links, self.lending, score)
    }
}

fn ranked(best: &search::Best, parts: impl Fn(u32, f32) -> Parts) -> Ranked {
    let place = |found: &search::Found| Placed {
        row: found.row,
        score: found.total.into(),
        parts: Some(parts(found.row, found.score)),
    };
    let last = best.found.last().map_or(0.0, |last| f64::from(last.total));
    let error = best.missing.map_or(0.0, |upper| (f64::from(upper) - last).max(0.0));
    Ranked { best: best.found.iter().map(place).collect(), compared: best.compared, error }
}

/// Rounds a score as the scan does, so that what is equal there is equal here.
fn round(score: f64) -> f64 {
    f64::from(score as f32) + 0.0
}

fn text_alone(_row: u32, text: f32) -> Option<Parts> {
    Some(Parts { text, ..Parts::default() })
}

fn offer<'a>(heap: &mut BinaryHeap<Entry<'a>>, entry: Entry<'a>, limit: usize) {
    if heap.len() < limit {
        heap.push(entry);
    } else if let Some(mut worst) = heap.peek_mut()
        && entry < *worst
    {
        *worst = entry;
        drop::<PeekMut<'_, _>>(worst);
    }
}

impl Ord for Entry<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.score.total_cmp(&self.score);
        by_score.then_with(|| newest_first(self.facts, self.row, other.row))
    }
}

impl PartialOrd for Entry<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry<'_> {}
