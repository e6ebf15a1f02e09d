//! A filter whose names and times are resolved: what is known of it by counts, and the candidates by every strategy.

use std::{
    borrow::Cow,
    time::{Duration, Instant, SystemTime},
};

use roaring::{MultiOps as _, RoaringBitmap};

use super::{Index, column::Column, facts::Facts};
use crate::{
    explain::{Node, named},
    plan::{Condition, Cost, Kind, Sample, Seen, Statistics, Strategy, Work},
    query::{Filter, Ranking},
};

/// Rows of a sample at first; those of a smaller bitmap are all seen.
const SAMPLE: u64 = 64;
/// Rows of a sample that pass from which on it is large enough: a share is then right within a third.
const HITS: f64 = 8.0;
/// Most rows of a sample, and the share of the walked rows that it may be beyond [`SAMPLE`].
const LARGEST: (u64, u64) = (1024, 64);

/// A filter at one moment of an index.
#[derive(Debug)]
pub(crate) struct Narrow<'a> {
    index: &'a Index,
    /// Rarest first; confidence, which has no bitmap, last.
    parts: Vec<Part<'a>>,
    /// The buckets that a condition on time touches, newest first, and which of them reach beyond it; none without one.
    buckets: Vec<(&'a RoaringBitmap, bool)>,
    timed: bool,
    pools: Vec<(&'a str, &'a RoaringBitmap)>,
}

/// A condition.
#[derive(Debug)]
struct Part<'a> {
    condition: Condition,
    /// The rows that pass; of [`Kind::Expiry`] those that do not.
    bitmaps: Vec<&'a RoaringBitmap>,
    /// How one row is judged by its columns; absent: by the bitmaps.
    test: Option<Test>,
}

/// A condition that the columns of a row decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Test {
    /// Not expired at this time.
    Alive(SystemTime),
    /// From the one time on and before the other.
    Within(Option<SystemTime>, Option<SystemTime>),
    /// At least this sure.
    Sure(f64),
}

/// The candidates of a filter.
#[derive(Debug)]
pub(crate) struct Picked {
    /// Partitions that share no row.
    pub(crate) parts: Vec<RoaringBitmap>,
    /// What their rows have still to pass; it needs no index any more.
    pub(crate) tests: Vec<Test>,
}

/// What a plan did, written as it runs.
#[derive(Debug)]
pub(crate) struct Report {
    /// The steps.
    pub(crate) root: Node,
    /// The work of each step that was measured, and its time.
    pub(crate) took: Vec<(Vec<Work>, Duration)>,
}

impl Report {
    /// Begins a report on the plan of `root`.
    pub(crate) fn of(root: Node) -> Self {
        Self { root, took: Vec::new() }
    }

    /// Notes what came out of a step that did `work` since `start`.
    pub(crate) fn note(&mut self, name: &str, rows: u64, start: Instant, work: impl Into<Vec<Work>>) {
        let duration = start.elapsed();
        self.root.note(name, rows, Some(duration));
        self.took.push((work.into(), duration));
    }
}

impl Test {
    /// Returns whether a row of these facts passes.
    pub(crate) fn passes(self, facts: &Facts) -> bool {
        match self {
            Self::Alive(now) => facts.expires.is_none_or(|at| now < at),
            Self::Within(start, end) => {
                start.is_none_or(|start| start <= facts.time) && end.is_none_or(|end| facts.time < end)
            }
            Self::Sure(least) => facts.confidence >= least,
        }
    }

    /// Returns what it looks at.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Alive(_) => Kind::Expiry,
            Self::Within(..) => Kind::Time,
            Self::Sure(_) => Kind::Confidence,
        }
    }
}

impl Part<'_> {
    fn passes(&self, facts: &Column<Facts>, row: u32) -> bool {
        match self.test {
            Some(test) => test.passes(&facts.get(row)),
            None => self.bitmaps.iter().any(|bitmap| bitmap.contains(row)),
        }
    }

    /// Returns one bitmap: of the rows that pass, of [`Kind::Expiry`] of those that do not.
    fn bitmap(&self, facts: &Column<Facts>, buckets: &[(&RoaringBitmap, bool)]) -> Cow<'_, RoaringBitmap> {
        if let (Kind::Time, Some(test)) = (self.condition.kind, self.test) {
            let whole = buckets.iter().filter(|(_, beyond)| !beyond).map(|(rows, _)| *rows);
            let edges = buckets.iter().filter(|(_, beyond)| *beyond).flat_map(|(rows, _)| rows.iter());
            let edges: RoaringBitmap = edges.filter(|row| test.passes(&facts.get(*row))).collect();
            return Cow::Owned(whole.union() | edges);
        }
        match self.bitmaps.as_slice() {
            [one] => Cow::Borrowed(one),
            several => Cow::Owned(several.iter().copied().union()),
        }
    }
}

/// Leaves in `candidates` what passes a condition of `kind`.
fn join(candidates: &mut RoaringBitmap, kind: Kind, bitmap: &RoaringBitmap) {
    if kind == Kind::Expiry {
        *candidates -= bitmap;
    } else {
        *candidates &= bitmap;
    }
}

#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
impl<'a> Narrow<'a> {
    pub(super) fn new(index: &'a Index, filter: &'a Filter, now: SystemTime) -> Self {
        let live = index.live.len();
        let timed = filter.start.is_some() || filter.end.is_some();
        let buckets: Vec<_> =
            if timed { index.times.between(filter.start, filter.end).collect() } else { Vec::new() };
        let pools: Vec<_> =
            filter.pools.iter().filter_map(|pool| Some((pool.as_str(), index.pools.get(pool)?))).collect();
        let mut parts: Vec<Part<'a>> = Vec::new();
        for (kind, what, wanted, known) in [
            (Kind::Category, "categories", &filter.categories, &index.categories),
            (Kind::Pool, "pools", &filter.pools, &index.pools),
            (Kind::Agent, "agents", &filter.agents, &index.agents),
            (Kind::Tag, "tags", &filter.tags, &index.tags),
            (Kind::Thread, "threads", &filter.threads, &index.threads),
        ] {
            if !wanted.is_empty() {
                let bitmaps: Vec<_> = wanted.iter().filter_map(|name| known.get(name)).collect();
                let keeps_all = bitmaps.iter().any(|bitmap| bitmap.len() == live);
                parts.push(Part::new(kind, named(what, wanted), bitmaps, keeps_all, None));
            }
        }
        if timed {
            let test = Test::Within(filter.start, filter.end);
            let bitmaps = buckets.iter().map(|(rows, _)| *rows).collect();
            let detail = format!("buckets of 6 h {}", edges(filter));
            parts.push(Part::new(Kind::Time, detail, bitmaps, false, Some(test)));
        }
        let dead: Vec<_> = index.expiries.range(..=now).map(|(_, rows)| rows).collect();
        if !dead.is_empty() {
            let alive = live - dead.iter().map(|rows| rows.len()).sum::<u64>();
            let detail = "what has not expired".to_owned();
            let mut part = Part::new(Kind::Expiry, detail, dead, false, Some(Test::Alive(now)));
            part.condition.rows = alive;
            parts.push(part);
        }
        parts.sort_by_key(|part| part.condition.rows);
        if filter.min_confidence > 0.0 {
            let detail = format!("column scan for at least {}", filter.min_confidence);
            let test = Some(Test::Sure(filter.min_confidence));
            let mut part = Part::new(Kind::Confidence, detail, Vec::new(), false, test);
            part.condition.rows = live;
            parts.push(part);
        }
        Self { index, parts, buckets, timed, pools }
    }

    /// Returns what the planner is told; `words` are the rows that hold a word of the query, at most.
    pub(crate) fn statistics(&self, ranking: Ranking, limit: usize, words: Option<u64>) -> Statistics {
        let conditions: Vec<_> = self.parts.iter().map(|part| part.condition.clone()).collect();
        let mut statistics = Statistics {
            live: self.index.live.len(),
            dimensions: if ranking.by_vector() { self.index.dimensions } else { 0 },
            ranked: ranking != Ranking::Newest,
            limit: limit as u64,
            conditions,
            buckets: if self.timed { self.buckets.len() } else { self.index.times.len() } as u64,
            pools: self.pools.iter().map(|(pool, rows)| ((*pool).to_owned(), rows.len())).collect(),
            // Only by words alone can a row with one not be worse than any without.
            words: words.filter(|_| ranking == Ranking::Text),
            sample: Sample::default(),
        };
        let all = (1 << self.parts.len()) - 1;
        if !statistics.is_counted(all) {
            statistics.sample = self.sample(all);
        }
        statistics
    }

    /// Picks the candidates by `strategy` and reports on it; `words` are the rows that hold a word of the query.
    pub(crate) fn pick(
        &self,
        strategy: Strategy,
        words: Option<&RoaringBitmap>,
        report: &mut Report,
    ) -> Picked {
        let start = Instant::now();
        let parts = match strategy {
            Strategy::Empty => Vec::new(),
            Strategy::Direct => vec![self.walked(report)],
            Strategy::Full => vec![self.index.live.clone()],
            Strategy::Filtered => vec![self.joined(None, report)],
            Strategy::Time => self.by_time(report),
            Strategy::Pools => self.by_pool(report),
            Strategy::Text => {
                let all = self.joined(None, report);
                let first = words.map(|words| words & &all).unwrap_or_default();
                report.root.note("words", first.len(), Some(start.elapsed()));
                let rest = all - &first;
                vec![first, rest]
            }
        };
        let tests = self.parts.iter().filter_map(|part| part.test);
        let left = |test: &Test| match strategy {
            Strategy::Empty | Strategy::Direct => false,
            Strategy::Full => true,
            _ => test.kind() == Kind::Confidence,
        };
        let tests = tests.filter(left).collect();
        let rows = parts.iter().map(RoaringBitmap::len).sum();
        if strategy == Strategy::Full {
            self.parts.iter().for_each(|part| report.root.note(part.condition.kind.as_str(), rows, None));
        }
        report.root.note("select", rows, Some(start.elapsed()));
        Picked { parts, tests }
    }

    fn mapped(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().filter(|part| part.condition.kind != Kind::Confidence)
    }

    /// Joins the bitmaps of all conditions, but for that of `left_out`; every row where there is none.
    fn joined(&self, left_out: Option<Kind>, report: &mut Report) -> RoaringBitmap {
        let (facts, live) = (&self.index.facts, &self.index.live);
        let mut candidates: Option<RoaringBitmap> = None;
        for part in self.mapped().filter(|part| Some(part.condition.kind) != left_out) {
            let (start, kind) = (Instant::now(), part.condition.kind);
            let bitmap = part.bitmap(facts, &self.buckets);
            let joined = match candidates.take() {
                None if kind == Kind::Expiry => live - &*bitmap,
                None => bitmap.into_owned(),
                Some(mut candidates) => {
                    join(&mut candidates, kind, &bitmap);
                    candidates
                }
            };
            report.note(kind.as_str(), joined.len(), start, part.condition.work(live.len()));
            candidates = Some(joined);
        }
        candidates.unwrap_or_else(|| live.clone())
    }

    /// Walks the rows of the rarest condition and asks the others.
    fn walked(&self, report: &mut Report) -> RoaringBitmap {
        let start = Instant::now();
        let (facts, Some(first)) = (&self.index.facts, self.mapped().next()) else {
            return self.index.live.clone();
        };
        let bitmap = first.bitmap(facts, &self.buckets);
        let alive;
        let walked = if first.condition.kind == Kind::Expiry {
            alive = &self.index.live - &*bitmap;
            &alive
        } else {
            &*bitmap
        };
        let mut passed = vec![0_u64; self.parts.len()];
        let passes = |row: &u32| {
            passed[0] += 1;
            self.parts.iter().enumerate().skip(1).all(|(place, part)| {
                let passes = part.passes(facts, *row);
                passed[place] += u64::from(passes);
                passes
            })
        };
        let candidates: RoaringBitmap = walked.iter().filter(passes).collect();
        let probes: u64 = passed.iter().take(passed.len() - 1).sum();
        let duration = start.elapsed();
        for (part, rows) in self.parts.iter().zip(&passed) {
            report.root.note(part.condition.kind.as_str(), *rows, None);
        }
        let work = vec![(Cost::Walk, walked.len() as f64), (Cost::Probe, probes as f64)];
        report.took.push((work, duration));
        candidates
    }

    /// One partition a bucket of time, the newest first.
    fn by_time(&self, report: &mut Report) -> Vec<RoaringBitmap> {
        let (start, facts) = (Instant::now(), &self.index.facts);
        let others: Vec<_> = self
            .mapped()
            .filter(|part| part.condition.kind != Kind::Time)
            .map(|part| (part.condition.kind, part.bitmap(facts, &self.buckets)))
            .collect();
        let test = self.parts.iter().filter_map(|part| part.test).find(|test| test.kind() == Kind::Time);
        let mut looked = 0;
        let mut buckets = 0;
        let partition = |(bucket, beyond): (&RoaringBitmap, bool)| {
            (buckets, looked) = (buckets + 1, looked + bucket.len());
            let mut candidates = bucket.clone();
            if let Some(test) = test.filter(|_| beyond) {
                candidates.retain(|row| test.passes(&facts.get(row)));
            }
            others.iter().for_each(|(kind, bitmap)| join(&mut candidates, *kind, bitmap));
            candidates
        };
        let parts: Vec<_> = if self.timed {
            self.buckets.iter().copied().map(partition).filter(|part| !part.is_empty()).collect()
        } else {
            self.index.times.between(None, None).map(partition).filter(|part| !part.is_empty()).collect()
        };
        let work = [(Cost::Part, f64::from(buckets)), (Cost::Join, (looked * others.len() as u64) as f64)];
        report.note("partitions", parts.iter().map(RoaringBitmap::len).sum(), start, work);
        parts
    }

    /// One partition a pool that the query names; a row of two of them is in the first.
    fn by_pool(&self, report: &mut Report) -> Vec<RoaringBitmap> {
        let others = self.mapped().any(|part| part.condition.kind != Kind::Pool);
        let others = others.then(|| self.joined(Some(Kind::Pool), report));
        let mut seen = RoaringBitmap::new();
        let partition = |(_, rows): &(&str, &RoaringBitmap)| {
            let start = Instant::now();
            let mut candidates = others.as_ref().map_or_else(|| (*rows).clone(), |others| *rows & others);
            candidates -= &seen;
            seen |= &candidates;
            (candidates, start.elapsed())
        };
        let parts: Vec<_> = self.pools.iter().map(partition).collect();
        let nodes = report.root.find_mut("select").map(|select| select.children.iter_mut());
        let nodes = nodes.into_iter().flatten().filter(|node| node.name == "partition");
        for (node, (rows, duration)) in nodes.zip(&parts) {
            (node.rows, node.duration) = (Some(rows.len()), Some(*duration));
        }
        parts.into_iter().map(|(rows, _)| rows).collect()
    }

    /// Looks at some rows of the rarest condition; at more where few of them pass.
    fn sample(&self, all: u16) -> Sample {
        let first = self
            .parts
            .first()
            .filter(|first| !matches!(first.condition.kind, Kind::Expiry | Kind::Confidence));
        let base: Vec<&RoaringBitmap> =
            first.map_or_else(|| vec![&self.index.live], |first| first.bitmaps.clone());
        let from: u64 = base.iter().map(|rows| rows.len()).sum();
        let most = (from / LARGEST.1).clamp(2 * SAMPLE, LARGEST.0);
        let mut count = if from <= most { from } else { SAMPLE };
        loop {
            let sample = Sample { from, seen: self.look(&base, first, from, count) };
            if sample.is_whole() || count >= most || sample.hits(all) >= HITS {
                return sample;
            }
            count = (4 * count).min(most);
        }
    }

    fn look(&self, base: &[&RoaringBitmap], first: Option<&Part<'_>>, from: u64, count: u64) -> Vec<Seen> {
        let facts = &self.index.facts;
        let mut seen = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let (mut bitmap, mut before) = (0, 0);
        for number in 0..count {
            // The middle of each of `count` equal stretches.
            let at = (2 * number + 1) * from / (2 * count);
            while bitmap < base.len() && at - before >= base[bitmap].len() {
                before += base[bitmap].len();
                bitmap += 1;
            }
            let row =
                base.get(bitmap).zip(u32::try_from(at - before).ok()).and_then(|(rows, at)| rows.select(at));
            let Some(row) = row else { continue };
            let named = first.filter(|first| first.test.is_none());
            let held =
                named.map_or(1, |first| first.bitmaps.iter().filter(|rows| rows.contains(row)).count());
            let passed = self.parts.iter().enumerate();
            let passed =
                passed.fold(0, |bits, (place, part)| bits | u16::from(part.passes(facts, row)) << place);
            seen.push(Seen { weight: 1.0 / held.max(1) as f64, passed });
        }
        seen
    }
}

impl<'a> Part<'a> {
    fn new(
        kind: Kind,
        detail: String,
        bitmaps: Vec<&'a RoaringBitmap>,
        keeps_all: bool,
        test: Option<Test>,
    ) -> Self {
        let rows = bitmaps.iter().map(|rows| rows.len()).sum();
        let condition = Condition { kind, detail, rows, bitmaps: bitmaps.len() as u64, keeps_all };
        Self { condition, bitmaps, test }
    }
}

/// Says which edges of a filter's time are looked at row by row.
fn edges(filter: &Filter) -> &'static str {
    match (filter.start.is_some(), filter.end.is_some()) {
        (true, true) => "from start to end, both edges row by row",
        (true, false) => "from start on, the edge row by row",
        _ => "up to end, the edge row by row",
    }
}
