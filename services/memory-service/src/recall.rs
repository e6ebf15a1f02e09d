//! A recall, from a question to an answer: embed, plan, select, scan, rank. All but the first blocks and runs off the async
//! workers.

pub(crate) mod calibration;
pub(crate) mod contents;
pub(crate) mod fusion;
mod period;
mod rank;
mod settle;
mod standing;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use embedding::Embedder;
use roaring::{MultiOps as _, RoaringBitmap};

use self::{
    contents::Contents,
    fusion::Parts,
    rank::{Field, Placed, Tools},
    standing::Standing,
};
use crate::{
    explain::Node,
    hygiene::saying::Saying,
    index::{Fresh, Report, Test, View, column::Column, facts::Facts},
    memory::{Memory, length},
    plan::{Cost, Plan, Planner, Rejected, Run, Strategy, Unfit, Wish, comparing},
    query::{Query, Ranking},
    space::Space,
    stop::{Stop, Stopped},
    vector::{pool::Pool, search::Unfound, source::Unread},
};

/// What a recall found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The best first; equal scores newest first, then the last written first.
    pub(crate) found: Vec<Found>,
    /// Memories that passed the filter; every one was compared, but where the newest are wanted.
    pub(crate) candidates: u64,
    /// By how much a memory that is missing may score better than the last that was found; 0: none does.
    pub(crate) error: f64,
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
    /// What it is ranked by; 0 where nothing is.
    pub(crate) score: f64,
    /// What speaks for it; absent where nothing is ranked by.
    pub(crate) parts: Option<Parts>,
    /// The memory's vector, if it was asked for.
    pub(crate) embedding: Option<Vec<f32>>,
    /// Its number.
    pub(crate) seq: u64,
    /// What it says.
    pub(crate) saying: Saying,
    /// The ids of memories that contradict it, the last written first; told by whoever asks for them.
    pub(crate) against: Vec<Arc<str>>,
}

/// What the candidates are compared with, in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// A vector that is not all zero; absent where none is compared.
    vector: Option<Vec<f32>>,
    /// How it came about.
    step: Node,
}

impl Wanted {
    /// Returns the vector that candidates are compared with, if they are.
    #[cfg(test)]
    pub(crate) fn vector(&self) -> Option<&[f32]> {
        self.vector.as_deref()
    }
}

/// What a recall may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means<'a, C> {
    /// Who chooses the plan.
    pub(crate) planner: &'a Planner,
    /// Threads, and the strategy that has to be taken.
    pub(crate) wish: Wish,
    /// Most candidates that a task of the scan takes.
    pub(crate) batch: usize,
    /// Most full vectors read to prove an order.
    pub(crate) reads: usize,
    /// After how long a memory is half as recent.
    pub(crate) half_life: Duration,
    /// Who takes the tasks.
    pub(crate) pool: &'a Pool,
    /// Where memories and their vectors are read.
    pub(crate) contents: &'a C,
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
#[derive(Debug)]
pub(crate) enum Halt {
    /// It was stopped.
    Stopped,
    /// The plan asked for cannot be taken.
    Unfit(Unfit),
    /// The memory of this number, which was there after the write `generation`, was not when it was read: it was replaced or deleted in
    /// between, or is lost.
    Overtaken { generation: u64, seq: u64 },
    /// The memory of this number is damaged.
    Damaged(u64),
    /// It cannot be run.
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Stopped> for Halt {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// Turns a question into what the candidates are compared with.
///
/// # Errors
/// Those of the embedder.
pub(crate) async fn wanted(query: &Query, embedder: &dyn Embedder) -> Result<Wanted, embedding::Error> {
    let start = Instant::now();
    let (vector, detail) = match (query.likeness.vector(), query.likeness.text()) {
        _ if !query.ranking.by_vector() => (None, "no vector is compared"),
        (Some(vector), _) => (Some(vector.to_vec()), "the vector of the query"),
        (None, Some(text)) => (Some(embedder.embed_one(text).await?), "the text of the query"),
        (None, None) => (None, "neither text nor vector"),
    };
    let (vector, detail) = match vector {
        Some(vector) if length(&vector) > 0.0 => (Some(vector), detail),
        Some(_) => (None, "the embedder finds nothing in the text"),
        None => (None, detail),
    };
    let mut step = Node::new("embed", detail, 0.0, None);
    (step.rows, step.duration) = (Some(0), Some(start.elapsed()));
    Ok(Wanted { vector, step })
}

/// Chooses how to answer `query` at `now`, and runs nothing. A text counts as one that the embedder finds something in.
///
/// # Errors
/// [`Unfit`] if the plan asked for cannot be taken.
pub(crate) fn plan(
    space: &Space,
    query: &Query,
    now: SystemTime,
    planner: &Planner,
    wish: Wish,
) -> Result<(Plan, Vec<Rejected>), Unfit> {
    let statistics = {
        let index = space.index();
        let words = query.words().map(|text| index.words(text).search.postings());
        index.narrow(&query.filter, now).statistics(query.ranking, query.limit, words)
    };
    let choice = planner.choose(&statistics, wish)?;
    Ok((choice.plan, choice.rejected))
}

/// Answers `query` from the memories of `space` as they are at `now`.
///
/// # Errors
/// [`Halt`].
pub(crate) fn run<C: Contents>(
    space: &Space,
    query: &Query,
    wanted: Wanted,
    now: SystemTime,
    means: &Means<'_, C>,
    stop: &Arc<Stop>,
) -> Result<Ran, Halt> {
    let begun = Instant::now();
    let Wanted { vector, step: embed } = wanted;
    let ranking = query.ranking.without(vector.is_none());
    let (view, picked, mut standing, words, statistics, choice, mut report, fresh) = {
        let index = space.index();
        stop.check()?;
        let narrow = index.narrow(&query.filter, now);
        let mut words = query.words().map(|text| (text, index.words(text)));
        let postings = words.as_ref().map(|(_, words)| words.search.postings());
        let statistics = narrow.statistics(ranking, query.limit, postings);
        let choice = means.planner.choose(&statistics, means.wish).map_err(Halt::Unfit)?;
        let mut report = Report::of(choice.plan.root.clone());
        let planned = begun.elapsed();
        let view = index.view();
        let mut standing = Standing::new(view.facts.clone(), query.weights, now, means.half_life);
        let text_first = words.take_if(|_| choice.plan.strategy == Strategy::Text);
        let first = text_first.map(|(text, words)| standing.hear(text, words, index.live(), &view.links));
        let picked = narrow.pick(choice.plan.strategy, first.as_ref(), &mut report);
        let mut step = Node::new("plan", "counts and a sample of rows", 0.0, None);
        (step.rows, step.duration) = (Some(0), Some(planned));
        report.root.children.splice(0..0, [embed, step]);
        (view, picked, standing, words, statistics, choice, report, index.fresh(now))
    };
    stop.check()?;
    let mut parts = picked.parts;
    look(&view.facts, &mut parts, &picked.tests, &mut report);
    let candidates: u64 = parts.iter().map(RoaringBitmap::len).sum();
    let in_order = matches!(
        (ranking, choice.plan.strategy),
        (Ranking::Newest, Strategy::Time) | (Ranking::Text, Strategy::Text)
    );
    if !in_order {
        parts = vec![parts.iter().union()];
    }
    if let (Some((text, words)), Some(all)) = (words, parts.first()) {
        let start = Instant::now();
        // Where a vector speaks too, words that nearly all rows have need not be read in order to find the best.
        let telling = ranking == Ranking::Hybrid && vector.is_some() && !words.search.is_sparse(all.len());
        let heard = if telling {
            standing.hear_telling(text, words, &view.links)
        } else {
            standing.hear(text, words, all, &view.links).len()
        };
        let mut step = Node::new("text", "words, entities and dates of the query", 0.0, None);
        (step.rows, step.duration) = (Some(heard), Some(start.elapsed()));
        let scan = report.root.children.iter().position(|child| child.name == "scan");
        report.root.children.insert(scan.unwrap_or_default(), step);
    }

    let (start, threads) = (Instant::now(), choice.plan.threads);
    let field = Field { view, parts, in_order, standing: Arc::new(standing) };
    let batch = if threads > 1 { means.batch as u64 } else { u64::MAX };
    let tools = Tools { pool: means.pool, batch, reads: means.reads, vectors: means.contents, stop };
    let overtaken = |unread| Halt::of(unread, field.view.generation);
    let ranked = field.rank(ranking, vector.as_deref(), query.limit, &tools);
    let ranked = ranked.map_err(|unfound| match unfound {
        Unfound::Stopped(stopped) => stopped.into(),
        Unfound::Failed(failed) => Halt::Failed(failed.into()),
        Unfound::Unread(unread) => overtaken(unread),
    })?;
    #[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
    let work = comparing(ranked.compared as f64, vector.as_ref().map_or(0, Vec::len), threads);
    report.note("scan", ranked.compared, start, work);

    let start = Instant::now();
    let found = read(&field.view, &ranked.best, query, means.contents).map_err(overtaken)?;
    report.root.note("rank", found.len() as u64, Some(start.elapsed()));
    let Report { mut root, took } = report;
    let run = Run { statistics: &statistics, uncorrected: choice.uncorrected, candidates, took: &took };
    means.planner.learn(&run);
    space.count_plan(choice.plan.strategy);
    (root.rows, root.duration) = (Some(found.len() as u64), Some(begun.elapsed()));
    let plan = Plan { root, ..choice.plan };
    let answer = Answer { found, candidates, error: ranked.error, fresh, generation: field.view.generation };
    Ok(Ran { answer, plan, rejected: choice.rejected })
}

/// Reads what was found.
fn read(view: &View, best: &[Placed], query: &Query, contents: &impl Contents) -> Result<Vec<Found>, Unread> {
    let seqs: Vec<u64> = best.iter().map(|placed| view.rows.seq(placed.row)).collect();
    let memories = contents.memories(&seqs)?;
    let mut embeddings = vec![None; seqs.len()];
    if query.include_embedding {
        contents.read(&seqs, &mut |place, vector| embeddings[place] = Some(vector.to_vec()))?;
    }
    let found = best.iter().zip(memories).zip(embeddings);
    let found = found.map(|((placed, memory), embedding)| Found {
        memory,
        score: placed.score,
        parts: placed.parts,
        embedding,
        seq: view.rows.seq(placed.row),
        saying: view.sayings.get(placed.row),
        against: Vec::new(),
    });
    Ok(found.collect())
}

impl Halt {
    /// Returns why a recall of the state that the write `generation` left was not run, if something was not read.
    fn of(unread: Unread, generation: u64) -> Self {
        match unread {
            Unread::Gone(seq) => Self::Overtaken { generation, seq },
            Unread::Damaged(seq) => Self::Damaged(seq),
            Unread::Failed(error) => Self::Failed(error),
        }
    }
}

/// Drops the candidates that do not pass `tests`, and notes how many passed each.
#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
fn look(facts: &Column<Facts>, parts: &mut [RoaringBitmap], tests: &[Test], report: &mut Report) {
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
                let passes = test.passes(&facts.get(row));
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
