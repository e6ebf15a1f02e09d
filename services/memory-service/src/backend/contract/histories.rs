//! Histories by chance, against a look at every memory.

use proptest::{
    collection::vec,
    option,
    prelude::{Strategy, prop_assert_eq, prop_compose, prop_oneof},
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::{Hand, at, memory, named, shape};
use crate::{
    backend::{Backend, Restored, Which, naive::Naive},
    error::Error,
    memory::{Memory, Record},
    query::{Filter, Likeness, Query, Ranking},
    recall::Answer,
    shape::{Metric, Shape},
    upkeep::forgettings::Cause,
};

/// Something that happens to a space.
#[derive(Clone, Debug)]
enum Event {
    Put(Vec<Record>),
    Forget(Vec<String>),
    /// Undoes one of the last forgettings.
    Undo(u64),
    Purge(u64),
    Ask(Box<Query>, u64),
}

prop_compose! {
    fn some_record()(
        id in 0..12_u32, category in select(&["a", "b"][..]), pool in option::of(select(&["p", "q"][..])),
        time in 0..9_u64, expires in option::of(0..9_u64), sure in select(&[0.0, 0.5][..]),
        value in vec(select(&[-1.0_f32, 0.0, 1.0, 2.0][..]), 4),
    ) -> Record {
        let memory = Memory {
            category: category.to_owned(), pools: pool.into_iter().map(str::to_owned).collect(), time: at(time),
            expires: expires.map(at), confidence: sure, ..memory(&id.to_string())
        };
        Record::new(memory, value)
    }
}

prop_compose! {
    fn some_query()(
        vector in option::of(vec(select(&[-1.0_f32, 0.0, 1.0][..]), 4)), category in option::of(select(&["a", "b"][..])),
        pool in option::of(select(&["p", "q"][..])), start in option::of(0..9_u64), sure in select(&[0.0, 0.5][..]),
        limit in 1..12_usize,
    ) -> Query {
        let names = |name: Option<&str>| name.into_iter().map(str::to_owned).collect();
        let (categories, pools, start) = (names(category), names(pool), start.map(at));
        let filter = Filter { categories, pools, start, min_confidence: sure, ..Filter::default() };
        let likeness = vector.map_or(Likeness::Newest, Likeness::Vector);
        Query { likeness, ranking: Ranking::Usual, filter, ..Query::newest(limit) }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => vec(some_record(), 1..5).prop_map(Event::Put),
        2 => vec(0..12_u32, 1..4).prop_map(|ids| Event::Forget(ids.iter().map(u32::to_string).collect())),
        1 => (1..5_u64).prop_map(Event::Undo),
        1 => (1..5_u64).prop_map(Event::Purge),
        5 => (some_query(), 0..9_u64).prop_map(|(query, now)| Event::Ask(Box::new(query), now)),
    ]
}

pub(super) async fn whatever_happens_it_answers_as_a_look_at_every_memory(hand: Hand<impl Backend>) {
    let metrics = select(&[Metric::Cosine, Metric::Dot, Metric::Euclidean][..]);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let (mut histories, mut count) = (Vec::new(), 0);
    for _ in 0..60 {
        let tree = (metrics.clone(), vec(event(), 1..30)).new_tree(&mut runner).unwrap();
        histories.push(tree.current());
    }
    for (metric, events) in histories {
        count += 1;
        let tested = hand.in_space(&format!("random {count}"), "");
        let plain = Hand { store: Naive::default(), key: tested.key.clone() };
        let shape = Shape { metric, ..shape(4) };
        tested.store.create(&tested.key, &shape).await.unwrap();
        plain.store.create(&plain.key, &shape).await.unwrap();
        for event in &events {
            let same = agree(&tested, &plain, event).await;
            assert!(same.is_ok(), "{same:?} at {event:?} of {metric:?} {events:?}");
        }
    }
}

/// Does the same to both, and says whether both did the same.
async fn agree<B: Backend>(one: &Hand<B>, other: &Hand<Naive>, event: &Event) -> Result<(), TestCaseError> {
    match event {
        Event::Put(records) => {
            let (one, other) = (one.put(records.clone()).await, other.put(records.clone()).await);
            prop_assert_eq!((one.generation, one.touched), (other.generation, other.touched));
        }
        Event::Forget(named) => {
            let mut named = named.clone();
            named.sort();
            named.dedup();
            let which = Which::Ids(named);
            let left = one.forget(which.clone(), Cause::Expired, 2).await;
            prop_assert_eq!(left, other.forget(which, Cause::Expired, 2).await);
        }
        Event::Undo(number) => {
            let left = one.store.undo(&one.key, *number, at(1)).await;
            let right = other.store.undo(&other.key, *number, at(1)).await;
            let told = |restored: Result<Restored, Error>| {
                let told =
                    restored.map(|restored| (restored.back, restored.stayed, restored.done.generation));
                told.map_err(|error| error.to_string())
            };
            prop_assert_eq!(told(left), told(right));
        }
        Event::Purge(number) => {
            let left = one.store.purge(one.number(), vec![*number], 9).await.unwrap();
            prop_assert_eq!(left, other.store.purge(other.number(), vec![*number], 9).await.unwrap());
        }
        Event::Ask(query, now) => {
            let (left, right) =
                (one.ask((**query).clone(), at(*now)).await, other.ask((**query).clone(), at(*now)).await);
            let told = |answer: &Answer| {
                let scores: Vec<f64> = answer.found.iter().map(|found| found.score).collect();
                (answer.candidates, named(answer), scores)
            };
            prop_assert_eq!(told(&left), told(&right));
        }
    }
    Ok(())
}
