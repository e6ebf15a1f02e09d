//! A recall, from a question to an answer: embed, plan, select, scan, rank. All but the first blocks and runs off the async
//! workers.

pub(crate) mod calibration;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod fusion;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod period;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod settle;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use embedding::Embedder;
use roaring::RoaringBitmap;

use crate::{
    explain::Node,
    index::{Fresh, Report, Rows, Test},
    memory::Memory,
    plan::{Cost, Plan, Planner, Rejected, Run, Strategy, Unfit, Wish, comparing},
    query::{Likeness, Query},
    scan::{Job, Stop, Stopped, scan, unit},
    space::Space,
};

/// What a recall found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The best first; equal scores newest first, then by id.
    pub(crate) found: Vec<Found>,
    /// Memories that passed the filter; every one was compared, but where the newest are wanted.
    pub(crate) candidates: u64,
    /// Outside of it, a memory of it may have expired, or one that it lacks not yet.
    pub(crate) fresh: Fresh,
    /// The last write of the space that the answer knows of.
    pub(crate) generation: u64,
}

/// A memory and why it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// The memory.
    pub(crate) memory: Arc<Memory>,
    /// Cosine similarity, -1 to 1; 0 where nothing is ranked by.
    pub(crate) score: f64,
    /// The memory's vector, if it was asked for.
    pub(crate) embedding: Option<Vec<f32>>,
}

/// What the candidates are ranked by, in numbers.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// A vector of length 1; nothing where all score alike.
    ranking: Option<Vec<f32>>,
    /// How it came about.
    step: Node,
}

/// What a recall may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means<'a> {
    /// Who chooses the plan.
    pub(crate) planner: &'a Planner,
    /// Threads, and the strategy that has to be taken.
    pub(crate) wish: Wish,
    /// Most candidates that a task of the scan takes.
    pub(crate) batch: usize,
    /// Rows that hold a word of the query; absent without an index of words.
    pub(crate) words: Option<&'a RoaringBitmap>,
}

/// What came of a recall.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it found.
    pub(crate) answer: Answer,
    /// The plan, with what its steps did.
    pub(crate) plan: Plan,
    /// The plans that were not taken.
    pub(crate) rejected: Vec<Rejected>,
}

/// Why a recall was not run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It was stopped.
    Stopped,
    /// The plan asked for cannot be taken.
    Unfit(Unfit),
}

impl From<Stopped> for Halt {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// Turns a likeness into what the candidates are ranked by.
///
/// # Errors
/// Those of the embedder.
pub(crate) async fn wanted(likeness: &Likeness, embedder: &dyn Embedder) -> Result<Wanted, embedding::Error> {
    let start = Instant::now();
    let (ranking, detail) = match likeness {
        Likeness::Newest => (None, "neither text nor vector: newest first"),
        Likeness::Vector(vector) => (unit(vector), "the vector of the query"),
        Likeness::Text(text) => match unit(&embedder.embed_one(text).await?) {
            Some(ranking) => (Some(ranking), "the text of the query"),
            None => (None, "the embedder finds nothing in the text: newest first"),
        },
    };
    let mut step = Node::new("embed", detail, 0.0, None);
    (step.rows, step.duration) = (Some(0), Some(start.elapsed()));
    Ok(Wanted { ranking, step })
}

/// Chooses how to answer `query` at `now`, and runs nothing. A text counts as one that the embedder finds something in.
///
/// # Errors
/// [`Unfit`] if the plan asked for cannot be taken.
pub(crate) fn plan(
    space: &Space,
    query: &Query,
    now: SystemTime,
    means: &Means<'_>,
) -> Result<(Plan, Vec<Rejected>), Unfit> {
    let ranked = query.likeness != Likeness::Newest;
    let statistics = {
        let index = space.index();
        let words = means.words.map(RoaringBitmap::len);
        index.narrow(&query.filter, now).statistics(ranked, query.limit, words)
    };
    let choice = means.planner.choose(&statistics, means.wish)?;
    Ok((choice.plan, choice.rejected))
}

/// Answers `query` from the memories of `space` as they are at `now`.
///
/// # Errors
/// [`Halt::Stopped`] if `stop` took effect first, [`Halt::Unfit`] if the plan asked for cannot be taken.
pub(crate) fn run(
    space: &Space,
    query: &Query,
    wanted: Wanted,
    now: SystemTime,
    means: &Means<'_>,
    stop: &Stop,
) -> Result<Ran, Halt> {
    let begun = Instant::now();
    let Wanted { ranking, step: embed } = wanted;
    let (rows, picked, statistics, choice, mut report, fresh, generation) = {
        let index = space.index();
        stop.check()?;
        let narrow = index.narrow(&query.filter, now);
        let words = means.words.map(RoaringBitmap::len);
        let statistics = narrow.statistics(ranking.is_some(), query.limit, words);
        let choice = means.planner.choose(&statistics, means.wish).map_err(Halt::Unfit)?;
        let mut report = Report::of(choice.plan.root.clone());
        let planned = begun.elapsed();
        let picked = narrow.pick(choice.plan.strategy, means.words, &mut report);
        let mut step = Node::new("plan", "counts and a sample of rows", 0.0, None);
        (step.rows, step.duration) = (Some(0), Some(planned));
        report.root.children.splice(0..0, [embed, step]);
        (index.rows().clone(), picked, statistics, choice, report, index.fresh(now), index.generation())
    };
    stop.check()?;
    let mut parts = picked.parts;
    look(&rows, &mut parts, &picked.tests, &mut report);
    let candidates: u64 = parts.iter().map(RoaringBitmap::len).sum();

    let start = Instant::now();
    let newest_first = choice.plan.strategy == Strategy::Time;
    let (ranking, threads) = (ranking.as_deref(), choice.plan.threads);
    let job = Job { ranking, limit: query.limit, threads, batch: means.batch, newest_first };
    let scanned = scan(&rows, &parts, &job, stop)?;
    let compared = scanned.compared();
    #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
    let work = comparing(compared as f64, ranking.map_or(0, <[f32]>::len), threads);
    report.note("scan", compared, start, work);

    let start = Instant::now();
    let hits = scanned.rank().into_iter();
    let found: Vec<_> = hits
        .filter_map(|hit| {
            let embedding = query.include_embedding.then(|| rows.vector(hit.row).to_vec());
            Some(Found { memory: Arc::clone(rows.memory(hit.row)?), score: f64::from(hit.score), embedding })
        })
        .collect();
    report.root.note("rank", found.len() as u64, Some(start.elapsed()));
    let Report { mut root, took } = report;
    let run = Run { statistics: &statistics, uncorrected: choice.uncorrected, candidates, took: &took };
    means.planner.learn(&run);
    space.count_plan(choice.plan.strategy);
    (root.rows, root.duration) = (Some(found.len() as u64), Some(begun.elapsed()));
    let plan = Plan { root, ..choice.plan };
    Ok(Ran { answer: Answer { found, candidates, fresh, generation }, plan, rejected: choice.rejected })
}

/// Drops the candidates that do not pass `tests`, and notes how many passed each.
#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
fn look(rows: &Rows, parts: &mut [RoaringBitmap], tests: &[Test], report: &mut Report) {
    if tests.is_empty() {
        return;
    }
    let start = Instant::now();
    let mut passed = vec![0_u64; tests.len()];
    let mut looked = 0_u64;
    for part in parts.iter_mut() {
        part.retain(|row| {
            tests.iter().zip(&mut passed).all(|(test, passed)| {
                looked += 1;
                let passes = test.passes(rows, row);
                *passed += u64::from(passes);
                passes
            })
        });
    }
    let duration = start.elapsed();
    report.took.push((vec![(Cost::Column, looked as f64)], duration));
    let apart = (tests.len() == 1).then_some(duration);
    for (test, passed) in tests.iter().zip(&passed) {
        report.root.note(test.kind().as_str(), *passed, apart);
    }
    let left = parts.iter().map(RoaringBitmap::len).sum();
    if let Some(select) = report.root.find_mut("select") {
        select.rows = Some(left);
        select.duration = select.duration.map(|picked| picked + duration);
    }
}
