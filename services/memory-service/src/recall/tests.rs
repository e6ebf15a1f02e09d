//! Every plan and every ranking, against a look at every memory.

mod model;

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

use self::model::Model;
use super::{Halt, Means, Ran, fusion::Weights, plan, run, wanted};
use crate::{
    explain::Node,
    held::Held,
    index::Index,
    memory::{Change, Memory, Place, Record},
    plan::{Planner, Strategy, Wish},
    query::{Filter, Likeness, Query, Ranking},
    space::Space,
    stop::Stop,
    vector::{metric::Metric, pool::Pool},
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
const POOLS: [&str; 4] = ["usdc", "weth", "dai", "wbtc"];
const WORDS: [&str; 5] = ["barn", "cello", "delta", "gallop", "quartz"];
/// What memories of one template begin with: words that tell none from another.
const TEMPLATE: &str = "usual common ";
const HALF_LIFE: Duration = Duration::from_hours(10);

fn hour(hour: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(hour)
}

fn names(of: &'static [&'static str]) -> impl Made<Value = Vec<String>> {
    vec(select(of).prop_map(str::to_owned), 0..3)
}

/// Names as a condition asks for them: often none.
fn some_names(of: &'static [&'static str]) -> impl Made<Value = Vec<String>> {
    prop_oneof![3 => Just(Vec::new()), 1 => names(of)]
}

fn words(template: &'static str) -> impl Made<Value = String> {
    vec(select(&WORDS[..]), 1..6).prop_map(move |words| format!("{template}{}", words.join(" ")))
}

prop_compose! {
    fn records(threads: bool, template: &'static str)(
        id in 0..40_u32, category in select(&NAMES[..]), pools in names(&POOLS), time in 0..30_u64,
        agent in option::of(select(&NAMES[..])), tags in names(&NAMES), thread in option::of(select(&NAMES[..])),
        expires in option::of(0..30_u64), content in words(template), importance in select(&[0.0, 0.3, 0.9][..]),
        confidence in select(&[0.0, 0.25, 0.5, 1.0][..]), vector in select(&VECTORS[..]),
    ) -> Record {
        let place = thread.filter(|_| threads);
        let memory = Memory {
            id: id.to_string().into(), category: category.to_owned(), content, pools,
            time: hour(time), confidence, importance, tags, agent: agent.unwrap_or_default().to_owned(),
            place: place.map(|thread| Place { thread: thread.to_owned(), position: time }),
            expires: expires.map(hour), ..Memory::bare()
        };
        Record::new(memory, vector.to_vec())
    }
}

fn changes(threads: bool, template: &'static str) -> impl Made<Value = Change> {
    prop_oneof![
        4 => vec(records(threads, template), 1..8).prop_map(Change::Put),
        1 => vec(0..40_u32, 1..8)
            .prop_map(|ids| Change::Forget(ids.iter().map(u32::to_string).collect())),
    ]
}

/// Writes with and without threads: without any, nobody lends, and rankings take a shorter way. And with and without words that all memories
/// share, which are not read for all of them.
fn histories() -> impl Made<Value = Vec<Change>> {
    let kinds = (proptest::bool::ANY, select(&["", TEMPLATE][..]));
    kinds.prop_flat_map(|(threads, template)| vec(changes(threads, template), 1..12))
}

prop_compose! {
    fn questions()(
        words in prop_oneof![words(""), words(TEMPLATE)], pool in option::of(select(&POOLS[..])), vector in option::of(select(&VECTORS[..7])),
        has_words in proptest::bool::ANY,
    ) -> Likeness {
        let text = format!("{words} {}", pool.unwrap_or_default());
        match (vector, has_words) {
            (None, _) => Likeness::Newest,
            (Some(vector), false) => Likeness::Vector(vector.to_vec()),
            (Some(vector), true) => Likeness::Both(text, vector.to_vec()),
        }
    }
}

prop_compose! {
    fn queries()(
        likeness in questions(), ranks in select(&[Ranking::Usual, Ranking::Usual, Ranking::Text, Ranking::Ranks][..]),
        categories in some_names(&NAMES), pools in names(&POOLS),
        agents in some_names(&NAMES), tags in some_names(&NAMES), threads in some_names(&NAMES),
        start in option::of(0..30_u64), end in option::of(0..30_u64),
        recency in select(&[0.0, 0.0, 0.4][..]),
        min_confidence in select(&[0.0, 0.25, 0.6][..]), limit in 1..12_usize,
    ) -> Query {
        let filter =
            Filter {
                categories, pools, agents, tags, threads, start: start.map(hour), end: end.map(hour), min_confidence,
            };
        let ranking = if likeness.text().is_some() { ranks } else { Ranking::Usual };
        let weights = Weights { recency, ..Weights::default() };
        Query { likeness, ranking, weights, filter, limit, include_embedding: true }.canonical(Metric::Cosine)
    }
}

/// Memories, and who recalls them.
struct Asking {
    space: Space,
    held: Held,
    planner: Planner,
    pool: Pool,
}

impl Asking {
    fn new(changes: &[Change]) -> Self {
        let (mut index, mut held) = (Index::new(Metric::Cosine, 4, 0), Held::default());
        for (generation, change) in (1..).zip(changes) {
            index.apply(&held.write(change.clone()), generation);
        }
        let (planner, pool) = (Planner::default(), Pool::new(2, 2).unwrap());
        Self { space: Space::apart(index), held, planner, pool }
    }

    fn run(&self, query: &Query, now: SystemTime, strategy: Option<Strategy>) -> Result<Ran, Halt> {
        let stop = Arc::new(Stop::at(Instant::now() + Duration::from_secs(600)));
        let wanted = wanted(query, &Hashing::new(4)).now_or_never().unwrap().unwrap();
        let means = Means {
            planner: &self.planner,
            wish: Wish { threads: 2, strategy },
            batch: 3,
            reads: 1000,
            half_life: HALF_LIFE,
            pool: &self.pool,
            contents: &self.held,
        };
        run(&self.space, query, wanted, now, &means, &stop)
    }
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
    let cases = (histories(), vec(queries(), 1..6), 0..30_u64);
    let tested = runner.run(&cases, |(changes, queries, now)| {
        let (asking, model) = (Asking::new(&changes), Model::new(&changes));
        for query in queries {
            let expected = model.recall(&query, hour(now));
            let mut first = None;
            for strategy in [None].into_iter().chain(Strategy::ALL.map(Some)) {
                match asking.run(&query, hour(now), strategy) {
                    Ok(ran) => {
                        let found = outcome(&ran);
                        prop_assert!(
                            model.agrees(&query, &found, &expected),
                            "{strategy:?} {query:?} {found:?} {expected:?}"
                        );
                        prop_assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{:?}", strategy);
                        prop_assert_eq!(ran.answer.error, 0.0);
                        for found in &ran.answer.found {
                            let embedding = found.embedding.as_deref();
                            prop_assert_eq!(embedding, Some(model.embedding(&found.memory.id)));
                        }
                        check_tree(&ran, model.len());
                        prop_assert_eq!(ran.rejected.len(), Strategy::ALL.len() - 1);
                        *taken.borrow_mut().entry((query.ranking as u8, ran.plan.strategy)).or_default() += 1;
                    }
                    Err(Halt::Unfit(unfit)) => prop_assert_eq!(Some(unfit.strategy), strategy),
                    Err(halt) => prop_assert!(false, "{halt:?}"),
                }
            }
        }
        Ok(())
    });
    tested.unwrap();
    let taken = taken.into_inner();
    for strategy in Strategy::ALL {
        let times: u32 =
            taken.iter().filter(|((_, taken), _)| *taken == strategy).map(|(_, times)| times).sum();
        assert!(times >= 50, "{strategy:?} was taken {times} times");
    }
    for ranking in [Ranking::Newest, Ranking::Hybrid, Ranking::Vector, Ranking::Text, Ranking::Ranks] {
        let times: u32 =
            taken.iter().filter(|((by, _), _)| *by == ranking as u8).map(|(_, times)| times).sum();
        assert!(times >= 200, "{ranking:?} was asked for {times} times");
    }
}

#[test]
fn what_is_planned_is_what_is_run() {
    let records = (0..50).map(|number| {
        let memory = Memory { id: number.to_string().into(), category: "a".into(), ..Memory::bare() };
        Record::new(memory, vec![1.0, 0.0, 0.0, 0.0])
    });
    let asking = Asking::new(&[Change::Put(records.collect())]);
    let filter = Filter { categories: vec!["a".into()], ..Filter::default() };
    let likeness = Likeness::Vector(vec![1.0, 0.0, 0.0, 0.0]);
    let query = Query { likeness, ranking: Ranking::Vector, filter, ..Query::newest(5) };
    let wish = Wish { threads: 2, strategy: None };
    let (planned, _) = plan(&asking.space, &query, hour(0), &asking.planner, wish).unwrap();
    assert_eq!(planned.root.rows, None, "nothing was run");
    assert_eq!(asking.space.plans().map(|(_, times)| times).sum::<u64>(), 0);
    let ran = asking.run(&query, hour(0), None).unwrap();
    assert_eq!(ran.plan.strategy, planned.strategy);
    let names = |node: &Node| node.children.iter().map(|child| child.name).collect::<Vec<_>>();
    assert_eq!(names(&ran.plan.root), [&["embed", "plan"], names(&planned.root).as_slice()].concat());
}

#[test]
fn an_answer_that_may_not_read_enough_says_by_how_much_it_may_be_off() {
    let record = |number: u16| {
        let angle = f32::from(number) / 1e5;
        let memory = Memory { id: number.to_string().into(), category: "a".into(), ..Memory::bare() };
        Record::new(memory, vec![angle.cos(), angle.sin(), 0.0, 0.0])
    };
    let asking = Asking::new(&[Change::Put((0..500).map(record).collect())]);
    let likeness = Likeness::Vector(vec![1.0, 0.0, 0.0, 0.0]);
    let query = Query { likeness, ranking: Ranking::Vector, ..Query::newest(5) };
    let stop = Arc::new(Stop::at(Instant::now() + Duration::from_secs(600)));
    let wanted = wanted(&query, &Hashing::new(4)).now_or_never().unwrap().unwrap();
    let wish = Wish { threads: 1, strategy: None };
    let (planner, pool, contents) = (&asking.planner, &asking.pool, &asking.held);
    let means = Means { planner, wish, batch: 100, reads: 5, half_life: HALF_LIFE, pool, contents };
    let answer = run(&asking.space, &query, wanted, hour(0), &means, &stop).unwrap().answer;
    let last = answer.found.last().unwrap().score;
    assert_eq!(answer.found.len(), 5);
    assert!(answer.error > 0.0 && last + answer.error >= 1.0 - 1e-6, "{} {last}", answer.error);
}

#[test]
fn a_memory_that_is_gone_before_it_is_read_overtakes_the_recall() {
    let memory = Memory { id: "a".into(), category: "a".into(), ..Memory::bare() };
    let put = Change::Put(vec![Record::new(memory, vec![1.0; 4])]);
    let mut asking = Asking::new(&[put]);
    drop(asking.held.write(Change::Forget(vec!["a".into()])));
    for ranking in [Ranking::Newest, Ranking::Vector] {
        let likeness = Likeness::Vector(vec![1.0; 4]);
        let query = Query { likeness, ranking, ..Query::newest(5) };
        assert!(matches!(asking.run(&query, hour(0), None), Err(Halt::Overtaken { generation: 1, seq: 1 })));
    }
}
