//! The contract as tests: one suite, which each backend passes by one line.

mod forgetting;
mod histories;
mod questions;
mod writes;

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clock::Clock;
use embedding::Hashing;
use telemetry::Telemetry;

use super::{
    Backend, Done, Forget, Question, Which,
    naive::{NAMESPACES, Naive},
};
use crate::{
    config::Config,
    engine::{Engine, Makers},
    error::Error,
    local::Local,
    memory::{Draft, Memory, Record},
    query::{Filter, Likeness, Query, Ranking},
    recall::{self, Answer},
    shape::{Metric, Shape, SpaceKey},
    stop::Stop,
    upkeep::forgettings::Cause,
};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn the_store_and_index_of_this_process_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (memory_dir, memory_namespaces) = (folder.path().to_owned(), u32::try_from(NAMESPACES).unwrap());
    let config = Config { memory_dir, memory_namespaces, ..Config::defaults() };
    let silent = Telemetry::silent("memory-service");
    suite(async || Local::open(&config, &shape(4), None, silent.clone(), &Clock::system()).await.unwrap())
        .await;
}

#[tokio::test]
async fn a_look_at_every_memory_keeps_the_contract() {
    let naive = Naive::default();
    suite(async || naive.again()).await;
}

#[tokio::test]
async fn the_engine_serves_from_any_backend() {
    let (clock, silent) = (Clock::manual(at(0)).0, Telemetry::silent("memory-service"));
    let (store, config) = (Naive::default(), Config::defaults());
    let makers = Makers::new(Arc::new(Hashing::new(4)), None, &config, &clock);
    let engine = Engine::over(store, makers, &config, silent, clock).unwrap();
    let key = SpaceKey::new("t", "");
    let draft =
        |id: &str| Draft { id: Some(id.to_owned()), content: "gas is low".to_owned(), ..Draft::default() };
    engine.remember(key.clone(), vec![draft("a"), draft("b")], None).await.unwrap();
    let recall = async || engine.recall(&key, Query::newest(9), None).await.unwrap();
    assert_eq!((named(&recall().await.0), recall().await.1), (strings(&["b", "a"]), true));
    let (forgotten, number) = engine.forget(key.clone(), strings(&["a"])).await.unwrap();
    assert_eq!((forgotten, named(&recall().await.0)), (1, strings(&["b"])));
    assert_eq!(engine.undo(key.clone(), number.unwrap()).await.unwrap(), (1, 0));
    assert_eq!(
        (engine.stats(&key).memories, engine.page(&key, &shape(4), 0).await.unwrap().found.len()),
        (2, 2)
    );
    engine.close().await;
}

/// Runs every part of the contract; `open` opens the same backend again after it was closed.
async fn suite<B: Backend>(open: impl AsyncFn() -> B) {
    let hand = |store: &B, tenant: &str| Hand { store: store.clone(), key: SpaceKey::new(tenant, "") };
    writes::what_is_acknowledged_outlives_a_restart(async || hand(&open().await, "restart")).await;
    let store = open().await;
    let hand = |tenant: &str| hand(&store, tenant);
    writes::what_is_written_is_read_found_and_replaced(hand("written")).await;
    writes::each_write_makes_the_next_generation(hand("generation")).await;
    writes::numbers_only_grow(hand("numbers")).await;
    writes::spaces_never_mix(hand("spaces")).await;
    writes::vectors_of_another_shape_are_refused(hand("shapes")).await;
    questions::every_part_of_a_filter_decides(hand("filters")).await;
    questions::the_best_come_first_and_never_fewer_than_there_are(hand("order")).await;
    questions::what_has_expired_is_found_no_more(hand("expiry")).await;
    forgetting::what_is_forgotten_comes_back_until_it_is_purged(hand("forgetting")).await;
    forgetting::an_undo_overwrites_nothing(hand("undo")).await;
    forgetting::what_becomes_one_comes_apart_again(hand("merging")).await;
    forgetting::what_is_over_is_due(hand("due")).await;
    histories::whatever_happens_it_answers_as_a_look_at_every_memory(hand("random")).await;
    writes::a_closed_backend_takes_no_writes(hand("closed")).await;
}

/// One backend and one space of it.
struct Hand<B> {
    store: B,
    key: SpaceKey,
}

impl<B: Backend> Hand<B> {
    fn in_space(&self, tenant: &str, namespace: &str) -> Self {
        Self { store: self.store.clone(), key: SpaceKey::new(tenant, namespace) }
    }

    async fn try_put(&self, records: Vec<Record>) -> Result<Done, Error> {
        let shape = self.store.find(&self.key).map_or_else(|| shape(4), |space| space.shape().clone());
        self.store.put(&self.key, &shape, records).await
    }

    async fn put(&self, records: Vec<Record>) -> Done {
        self.try_put(records).await.unwrap()
    }

    async fn forget(&self, which: Which, cause: Cause, hours: u32) -> (u32, Option<u64>) {
        let forget = Forget { which, cause, at: at(0), window: HOUR * hours };
        let (done, number) = self.store.forget(&self.key, forget).await.unwrap();
        assert_eq!(done.generation.is_some(), number.is_some());
        (done.touched, number)
    }

    async fn forget_ids(&self, named: &[&str], hours: u32) -> u64 {
        let (touched, number) = self.forget(ids(named), Cause::Named, hours).await;
        assert_eq!(touched as usize, named.len());
        number.unwrap()
    }

    async fn ask(&self, query: Query, now: SystemTime) -> Answer {
        let space = self.store.find(&self.key).unwrap();
        let query = query.canonical(space.shape().metric);
        let wanted = recall::wanted(&query, &Hashing::new(4)).await.unwrap();
        let stop = Arc::new(Stop::at(Instant::now() + Duration::from_secs(600)));
        let question = Question { query, wanted, now, plan: None };
        let answer = self.store.recall(&space, question, &stop).await.unwrap().answer;
        assert_eq!((answer.generation, answer.error), (space.generation(), 0.0));
        answer
    }

    /// The ids of the newest memories that pass `filter`.
    async fn found(&self, filter: Filter, now: SystemTime) -> Vec<String> {
        let answer = self.ask(Query { filter, ..Query::newest(100) }, now).await;
        assert_eq!(answer.candidates, answer.found.len() as u64);
        named(&answer)
    }

    async fn all(&self) -> Vec<String> {
        let mut ids = self.found(Filter::default(), at(0)).await;
        ids.sort();
        ids
    }

    async fn content(&self, id: &str) -> Option<String> {
        let space = self.store.find(&self.key).unwrap();
        let found = self.store.get(&space, id.to_owned()).await.unwrap();
        found.map(|(_, (memory, _))| memory.content.clone())
    }

    fn number(&self) -> u32 {
        self.store.find(&self.key).unwrap().number()
    }

    fn generation(&self) -> u64 {
        self.store.find(&self.key).unwrap().generation()
    }

    async fn seqs(&self) -> Vec<u64> {
        let look = |view: &dyn super::View| {
            let mut seqs = Vec::new();
            view.each(0, &mut |seq, memory| {
                assert_eq!(view.memory(seq).ok().flatten(), Some(memory));
                assert!(view.vector(seq).is_ok_and(|vector| vector.is_some()));
                seqs.push(seq);
                ControlFlow::Continue(())
            })?;
            Ok(seqs)
        };
        self.store.look(&self.key, look).await.unwrap().unwrap()
    }
}

fn shape(dimensions: usize) -> Shape {
    Shape { embedder: format!("hashing-{dimensions}"), dimensions, metric: Metric::Cosine }
}

fn at(hours: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(1000 + hours)
}

fn memory(id: &str) -> Memory {
    Memory { id: id.into(), category: "c".into(), content: "content".into(), time: at(0), ..Memory::bare() }
}

fn with(memory: Memory, embedding: [f32; 4]) -> Record {
    Record::new(memory, embedding.to_vec())
}

fn record(id: &str) -> Record {
    with(memory(id), [1.0, 0.0, 0.0, 0.0])
}

fn records(ids: &[&str]) -> Vec<Record> {
    ids.iter().map(|id| record(id)).collect()
}

fn saying(id: &str, content: &str) -> Vec<Record> {
    vec![with(Memory { content: content.to_owned(), ..memory(id) }, [1.0, 0.0, 0.0, 0.0])]
}

fn ids(ids: &[&str]) -> Which {
    Which::Ids(strings(ids))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn named(answer: &Answer) -> Vec<String> {
    answer.found.iter().map(|found| found.memory.id.to_string()).collect()
}

fn nearest(vector: [f32; 4], limit: usize) -> Query {
    let likeness = Likeness::Vector(vector.to_vec());
    Query { likeness, ranking: Ranking::Vector, ..Query::newest(limit) }
}
