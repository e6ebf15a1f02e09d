//! A recall, from a question to an answer: embed, filter, scan, rank. All but the first blocks and runs off the async
//! workers.

#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod fusion;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod period;
#[cfg_attr(not(test), expect(dead_code, reason = "recall is wired to it next"))]
pub(crate) mod settle;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use embedding::Embedder;

use crate::{
    explain::Stage,
    index::Selection,
    memory::Memory,
    query::{Likeness, Query},
    scan::{Stop, Stopped, scan, unit},
    space::Space,
};

/// What a recall found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The best first; equal scores newest first, then by id.
    pub(crate) found: Vec<Found>,
    /// Memories that passed the filter; every one was compared.
    pub(crate) candidates: u64,
    /// From when on it may hold an expired memory; absent: never.
    pub(crate) fresh_until: Option<SystemTime>,
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
    stage: Stage,
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
    let (detail, duration) = (detail.to_owned(), start.elapsed());
    Ok(Wanted { ranking, stage: Stage { name: "embed", detail, rows_in: 0, rows_out: 0, duration } })
}

/// Answers `query` from the memories of `space` as they are at `now`, on up to `threads` threads.
///
/// # Errors
/// [`Stopped`] if `stop` took effect first.
pub(crate) fn run(
    space: &Space,
    query: &Query,
    wanted: Wanted,
    now: SystemTime,
    threads: usize,
    stop: &Stop,
) -> Result<(Answer, Vec<Stage>), Stopped> {
    let Wanted { ranking, stage } = wanted;
    let mut stages = Vec::with_capacity(7);
    stages.push(stage);
    let mut selection = {
        let index = space.index();
        stop.check()?;
        index.select(&query.filter, now, &mut stages)
    };
    stop.check()?;
    selection.keep_confident(query.filter.min_confidence, &mut stages);
    let (rows, candidates) = (&selection.rows, selection.candidates.len());

    let start = Instant::now();
    let scanned = scan(rows, &selection.candidates, ranking.as_deref(), query.limit, threads, stop)?;
    let detail = match &ranking {
        Some(_) => format!("exact cosine over every candidate, threads: {}", scanned.parts()),
        None => format!("no ranking, every candidate by time, threads: {}", scanned.parts()),
    };
    let kept = scanned.kept();
    stages.push(Stage {
        name: "scan",
        detail,
        rows_in: candidates,
        rows_out: kept,
        duration: start.elapsed(),
    });

    let start = Instant::now();
    let hits = scanned.rank().into_iter();
    let found: Vec<_> = hits
        .filter_map(|hit| {
            let embedding = query.include_embedding.then(|| rows.vector(hit.row).to_vec());
            Some(Found { memory: Arc::clone(rows.memory(hit.row)?), score: f64::from(hit.score), embedding })
        })
        .collect();
    let detail = format!("the best {} by score, then newest, then id", query.limit);
    let rows_out = found.len() as u64;
    stages.push(Stage { name: "rank", detail, rows_in: kept, rows_out, duration: start.elapsed() });
    let Selection { fresh_until, generation, .. } = selection;
    Ok((Answer { found, candidates, fresh_until, generation }, stages))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::Arc,
        time::{Duration, Instant, SystemTime},
    };

    use embedding::Hashing;
    use futures::FutureExt as _;
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::{run, wanted};
    use crate::{
        index::Index,
        memory::{Change, Memory, Place, Record},
        query::{Filter, Likeness, Query},
        scan::Stop,
        space::{Metric, Shape, Space},
    };

    /// Vectors whose lengths and products are exact in `f32`, so that the reference has the same ties.
    const VECTORS: [[f32; 4]; 8] = [
        [1.0, 0.0, 0.0, 0.0],
        [4.0, 0.0, 0.0, 0.0],
        [0.0, -2.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 1.0],
        [-2.0, 2.0, 2.0, 2.0],
        [0.5, -0.5, 0.5, 0.5],
        [0.0, 0.0, 0.0, 0.25],
        [0.0, 0.0, 0.0, 0.0],
    ];
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    fn hour(hour: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(hour)
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        vec(select(&NAMES[..]).prop_map(str::to_owned), 0..3)
    }

    prop_compose! {
        fn records()(
            id in 0..40_u32, category in select(&NAMES[..]), pools in names(), time in 0..30_u64,
            agent in option::of(select(&NAMES[..])), tags in names(), thread in option::of(select(&NAMES[..])),
            expires in option::of(0..30_u64),
            confidence in select(&[0.0, 0.25, 0.5, 1.0][..]), vector in select(&VECTORS[..]),
        ) -> Record {
            let memory = Memory {
                id: id.to_string().into(), category: category.to_owned(), content: "x".to_owned(), pools,
                time: hour(time), confidence, tags, agent: agent.unwrap_or_default().to_owned(),
                place: thread.map(|thread| Place { thread: thread.to_owned(), position: time }),
                expires: expires.map(hour), ..Memory::bare()
            };
            Record { memory: Arc::new(memory), embedding: vector.to_vec() }
        }
    }

    fn changes() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => vec(records(), 1..8).prop_map(Change::Put),
            1 => vec(0..40_u32, 1..8)
                .prop_map(|ids| Change::Forget(ids.iter().map(u32::to_string).collect())),
        ]
    }

    prop_compose! {
        fn queries()(
            vector in option::of(select(&VECTORS[..7])), categories in names(), pools in names(),
            agents in names(), tags in names(), threads in names(),
            start in option::of(0..30_u64), end in option::of(0..30_u64),
            min_confidence in select(&[0.0, 0.25, 0.6][..]), limit in 1..12_usize,
        ) -> Query {
            let likeness = vector.map_or(Likeness::Newest, |vector| Likeness::Vector(vector.to_vec()));
            let filter =
                Filter {
                    categories, pools, agents, tags, threads, start: start.map(hour), end: end.map(hour), min_confidence,
                };
            Query { likeness, filter, limit, include_embedding: true }.canonical()
        }
    }

    /// What the contract says, one memory after the other.
    fn reference(
        model: &BTreeMap<Arc<str>, Record>,
        query: &Query,
        now: SystemTime,
    ) -> (u64, Vec<(String, f64)>) {
        let filter = &query.filter;
        let passes = |memory: &Memory| {
            (filter.categories.is_empty() || filter.categories.contains(&memory.category))
                && (filter.pools.is_empty() || memory.pools.iter().any(|pool| filter.pools.contains(pool)))
                && (filter.agents.is_empty() || filter.agents.contains(&memory.agent))
                && (filter.tags.is_empty() || memory.tags.iter().any(|tag| filter.tags.contains(tag)))
                && (filter.threads.is_empty()
                    || memory.place.as_ref().is_some_and(|place| filter.threads.contains(&place.thread)))
                && memory.expires.is_none_or(|at| now < at)
                && filter.start.is_none_or(|start| start <= memory.time)
                && filter.end.is_none_or(|end| memory.time < end)
                && memory.confidence >= filter.min_confidence
        };
        let product = |left: &[f32], right: &[f32]| -> f64 {
            left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
        };
        let cosine = |vector: &[f32]| match &query.likeness {
            Likeness::Vector(wanted) if product(vector, vector) > 0.0 => {
                product(wanted, vector) / (product(wanted, wanted) * product(vector, vector)).sqrt()
            }
            _ => 0.0,
        };
        let passing = model.values().filter(|record| passes(&record.memory));
        let mut found: Vec<_> = passing.map(|record| (cosine(&record.embedding), &record.memory)).collect();
        let candidates = found.len() as u64;
        found.sort_by(|(left_score, left), (right_score, right)| {
            let by_score = right_score.partial_cmp(left_score).unwrap();
            by_score.then(right.time.cmp(&left.time)).then(left.id.cmp(&right.id))
        });
        found.truncate(query.limit);
        (candidates, found.into_iter().map(|(score, memory)| (memory.id.to_string(), score)).collect())
    }

    proptest! {
        #[test]
        fn a_filtered_recall_finds_what_a_look_at_every_memory_finds(
            changes in vec(changes(), 1..12), queries in vec(queries(), 1..6), now in 0..30_u64,
        ) {
            let mut index = Index::new(4, 0);
            let mut model = BTreeMap::new();
            for (generation, change) in (1..).zip(&changes) {
                index.apply(change, generation);
                match change {
                    Change::Put(records) => records.iter().for_each(|record| {
                        model.insert(Arc::clone(&record.memory.id), record.clone());
                    }),
                    Change::Forget(ids) => ids.iter().for_each(|id| drop(model.remove(id.as_str()))),
                }
            }
            let shape = Shape { embedder: "hashing-4".into(), dimensions: 4, metric: Metric::Cosine };
            let space = Space::new(1, shape, index);
            for query in queries {
                let stop = Stop::at(Instant::now() + Duration::from_secs(600));
                let wanted = wanted(&query.likeness, &Hashing::new(4)).now_or_never().unwrap().unwrap();
                let (answer, stages) = run(&space, &query, wanted, hour(now), 2, &stop).unwrap();
                let (candidates, expected) = reference(&model, &query, hour(now));
                let found: Vec<_> =
                    answer.found.iter().map(|found| (found.memory.id.to_string(), found.score)).collect();
                prop_assert_eq!(&found, &expected);
                prop_assert_eq!(answer.candidates, candidates);
                for found in &answer.found {
                    prop_assert_eq!(found.embedding.as_ref(), Some(&model[&found.memory.id].embedding));
                }
                let rows: Vec<_> = stages[1..].iter().map(|stage| (stage.rows_in, stage.rows_out)).collect();
                prop_assert_eq!(rows[0].0, model.len() as u64);
                prop_assert!(rows.windows(2).all(|pair| pair[0].1 == pair[1].0), "{:?}", stages);
                prop_assert_eq!(rows[rows.len() - 1].1, expected.len() as u64);
            }
        }
    }
}
