use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use embedding::Hashing;
use futures::FutureExt as _;
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy as Made, prop_assert, prop_assert_eq, prop_compose, prop_oneof},
    sample::select,
    test_runner::{Config, TestRunner},
};
use roaring::RoaringBitmap;

use super::{Halt, Means, Ran, plan, run, wanted};
use crate::{
    explain::Node,
    index::Index,
    memory::{Change, Memory, Place, Record},
    plan::{Planner, Strategy, Wish},
    query::{Filter, Likeness, Query},
    scan::Stop,
    space::Space,
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

fn names() -> impl Made<Value = Vec<String>> {
    vec(select(&NAMES[..]).prop_map(str::to_owned), 0..3)
}

/// Names as a condition asks for them: often none.
fn some_names() -> impl Made<Value = Vec<String>> {
    prop_oneof![3 => Just(Vec::new()), 1 => names()]
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

fn changes() -> impl Made<Value = Change> {
    prop_oneof![
        4 => vec(records(), 1..8).prop_map(Change::Put),
        1 => vec(0..40_u32, 1..8)
            .prop_map(|ids| Change::Forget(ids.iter().map(u32::to_string).collect())),
    ]
}

prop_compose! {
    fn queries()(
        vector in option::of(select(&VECTORS[..7])), categories in some_names(), pools in names(),
        agents in some_names(), tags in some_names(), threads in some_names(),
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

/// What a recall found: ids and scores in order, and how many passed the filter.
type Outcome = (u64, Vec<(String, f64)>);

fn outcome(ran: &Ran) -> Outcome {
    let found = ran.answer.found.iter().map(|found| (found.memory.id.to_string(), found.score));
    (ran.answer.candidates, found.collect())
}

/// The steps that were run, where they have a number of rows, come to the answer's figures; each was expected to do something.
fn check_tree(ran: &Ran, live: u64) {
    let root = &ran.plan.root;
    let rows = |name: &str| root.find(name).and_then(|node| node.rows);
    assert_eq!(root.rows, Some(ran.answer.found.len() as u64));
    if ran.plan.strategy != Strategy::Empty {
        assert_eq!(rows("select"), Some(ran.answer.candidates), "{root:?}");
        assert_eq!(rows("rank"), root.rows);
        assert!(rows("scan") <= rows("select"));
    }
    let steps = ["filter.category", "filter.pool", "filter.confidence", "partitions", "select"];
    for node in steps.iter().filter_map(|name| root.find(name)) {
        assert!(node.rows.is_some_and(|rows| rows <= live), "{node:?}");
        assert!((0.0..=live as f64).contains(&node.estimated_rows), "{node:?}");
    }
}

#[test]
fn every_plan_finds_what_a_look_at_every_memory_finds() {
    let taken = RefCell::new(BTreeMap::<_, u32>::new());
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let cases = (vec(changes(), 1..12), vec(queries(), 1..6), 0..30_u64, vec(0..40_u32, 0..20));
    let tested = runner.run(&cases, |(changes, queries, now, words)| {
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
        let (space, planner) = (Space::apart(index), Planner::default());
        let words = RoaringBitmap::from_iter(words);
        for query in queries {
            let expected = reference(&model, &query, hour(now));
            for strategy in Strategy::ALL.map(Some).into_iter().chain([None]) {
                let stop = Stop::at(Instant::now() + Duration::from_secs(600));
                let wanted = wanted(&query.likeness, &Hashing::new(4)).now_or_never().unwrap().unwrap();
                let means = Means {
                    planner: &planner,
                    wish: Wish { threads: 2, strategy },
                    batch: 3,
                    words: Some(&words),
                };
                match run(&space, &query, wanted, hour(now), &means, &stop) {
                    Ok(ran) => {
                        prop_assert_eq!(outcome(&ran), expected.clone(), "{:?}", strategy);
                        for found in &ran.answer.found {
                            prop_assert_eq!(
                                found.embedding.as_ref(),
                                Some(&model[&found.memory.id].embedding)
                            );
                        }
                        check_tree(&ran, model.len() as u64);
                        prop_assert_eq!(ran.rejected.len(), Strategy::ALL.len() - 1);
                        *taken.borrow_mut().entry(ran.plan.strategy).or_default() += 1;
                    }
                    Err(Halt::Unfit(unfit)) => prop_assert_eq!(Some(unfit.strategy), strategy),
                    Err(Halt::Stopped) => prop_assert!(false, "there was time"),
                }
            }
        }
        Ok(())
    });
    tested.unwrap();
    for strategy in Strategy::ALL {
        let times = taken.borrow().get(&strategy).copied().unwrap_or_default();
        assert!(times >= 50, "{strategy:?} was taken {times} times");
    }
}

#[test]
fn what_is_planned_is_what_is_run() {
    let mut index = Index::new(4, 0);
    let records = (0..50).map(|number| {
        let memory = Memory { id: number.to_string().into(), category: "a".into(), ..Memory::bare() };
        Record { memory: Arc::new(memory), embedding: vec![1.0, 0.0, 0.0, 0.0] }
    });
    index.apply(&Change::Put(records.collect()), 1);
    let (space, planner) = (Space::apart(index), Planner::default());
    let filter = Filter { categories: vec!["a".into()], ..Filter::default() };
    let likeness = Likeness::Vector(vec![1.0, 0.0, 0.0, 0.0]);
    let query = Query { likeness, filter, limit: 5, include_embedding: false };
    let means =
        Means { planner: &planner, wish: Wish { threads: 1, strategy: None }, batch: 10, words: None };
    let (planned, _) = plan(&space, &query, hour(0), &means).unwrap();
    assert_eq!(planned.root.rows, None, "nothing was run");
    assert_eq!(space.plans().map(|(_, times)| times).sum::<u64>(), 0);
    let wanted = wanted(&query.likeness, &Hashing::new(4)).now_or_never().unwrap().unwrap();
    let stop = Stop::at(Instant::now() + Duration::from_secs(600));
    let ran = run(&space, &query, wanted, hour(0), &means, &stop).unwrap();
    assert_eq!(ran.plan.strategy, planned.strategy);
    let names = |node: &Node| node.children.iter().map(|child| child.name).collect::<Vec<_>>();
    assert_eq!(names(&ran.plan.root), [&["embed", "plan"], names(&planned.root).as_slice()].concat());
}
