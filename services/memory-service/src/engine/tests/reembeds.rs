//! A namespace is re-embedded while it is written to and asked, over restarts and failures; no answer is of two makers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, UNIX_EPOCH},
};

use clock::{Clock, Hand};
use embedding::{Embedder, Hashing};
use futures::future::BoxFuture;
use telemetry::Telemetry;
use tokio::sync::Semaphore;

use super::draft;
use crate::{
    backend::Backend as _,
    config::Config,
    engine::{Engine, Makers, Reembedding},
    error::Error,
    memory::Draft,
    query::{Likeness, Query, Ranking},
    recall::{Answer, Found},
    shape::SpaceKey,
    upkeep::reembed::{Job, State},
};

/// Values of every vector: only their makers tell them apart.
const VALUES: usize = 256;
/// As many batches as anybody wants.
const ANY: usize = Semaphore::MAX_PERMITS / 2;

/// Makes the vectors of hashing, turned round, as often as it is allowed to.
#[derive(Debug)]
struct Turned {
    fails: AtomicBool,
    /// Batches that it may still embed.
    allowed: Semaphore,
    /// Texts that it embedded.
    made: AtomicU32,
}

impl Turned {
    fn new(allowed: usize) -> Arc<Self> {
        let (fails, made) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { fails, allowed: Semaphore::new(allowed), made })
    }

    fn vector(text: &str) -> Vec<f32> {
        let mut vector = Hashing::new(VALUES).vector(text);
        vector.rotate_right(VALUES / 3);
        vector
    }
}

impl Embedder for Turned {
    fn name(&self) -> &'static str {
        "turned"
    }

    fn dimensions(&self) -> usize {
        VALUES
    }

    fn embed<'a>(&'a self, texts: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<f32>>, embedding::Error>> {
        Box::pin(async move {
            if self.fails.load(SeqCst) {
                return Err(embedding::Error::Malformed("the model is away".into()));
            }
            if let Ok(permit) = self.allowed.acquire().await {
                permit.forget();
            }
            self.made.fetch_add(u32::try_from(texts.len()).unwrap(), SeqCst);
            Ok(texts.iter().map(|text| Self::vector(text)).collect())
        })
    }
}

/// An engine's folder, settings and clock.
struct House {
    folder: tempfile::TempDir,
    config: Config,
    hand: Hand,
    clock: Clock,
}

impl House {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            memory_dir: folder.path().to_owned(),
            memory_upkeep_batch: 4,
            query_timeout: Duration::from_secs(2),
            memory_checkpoint_min: u64::MAX,
            ..Config::defaults()
        };
        change(&mut config);
        let (clock, hand) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_750_000_000));
        Self { folder, config, hand, clock }
    }

    async fn open(&self, turned: &Arc<Turned>) -> Arc<Engine> {
        let ours: Arc<dyn Embedder> = Arc::new(Hashing::new(VALUES));
        let next: Arc<dyn Embedder> = Arc::<Turned>::clone(turned);
        let makers = Makers::new(ours, Some(next), &self.config, &self.clock);
        let silent = Telemetry::silent("memory-service");
        Engine::open_with(&self.config, makers, silent, self.clock.clone()).await.unwrap()
    }
}

fn key() -> SpaceKey {
    SpaceKey::new("t", "n")
}

fn text(number: usize) -> String {
    format!("gas is low in the week of {number} and of w{number}")
}

fn said(number: usize) -> Draft {
    Draft { content: text(number), ..draft(&number.to_string()) }
}

async fn remember(engine: &Arc<Engine>, draft: Draft) {
    engine.remember(key(), vec![draft], None).await.unwrap();
}

async fn fill(engine: &Arc<Engine>, count: usize) {
    for number in 0..count {
        remember(engine, said(number)).await;
    }
}

async fn begin(engine: &Arc<Engine>) -> Reembedding {
    engine.reembed(key(), "turned".into(), 0).await.unwrap()
}

async fn stands(engine: &Arc<Engine>) -> Reembedding {
    engine.reembedding(&key()).await.unwrap()
}

/// Runs the background until `work` is done.
async fn beside<T>(engine: &Arc<Engine>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = engine.keep_reembedding() => match never {},
    }
}

/// Waits until the job is as wanted.
async fn until(engine: &Arc<Engine>, wanted: impl Fn(&Reembedding) -> bool) {
    while !wanted(&stands(engine).await) {
        tokio::task::yield_now().await;
    }
}

/// Waits until the store has no more than so many vectors.
async fn freed(engine: &Arc<Engine>, most: u64) {
    while engine.store.vectors().await > most {
        tokio::task::yield_now().await;
    }
}

fn is_changed(stands: &Reembedding) -> bool {
    stands.job.state == State::Changed
}

async fn ask(engine: &Arc<Engine>, likeness: Likeness) -> Arc<Answer> {
    let query = Query { likeness, ranking: Ranking::Vector, include_embedding: true, ..Query::newest(1_000) };
    engine.recall(&key(), query, None).await.unwrap().0
}

/// Returns whether an answer is of the new vectors; it must not be of both.
fn is_new(answer: &Answer) -> bool {
    let of = |found: &Found| {
        let (content, vector) = (&found.memory.content, found.embedding.as_ref().unwrap());
        let is_new = *vector == Turned::vector(content);
        assert!(is_new || *vector == Hashing::new(VALUES).vector(content), "{content}");
        is_new
    };
    let makers: Vec<bool> = answer.found.iter().map(of).collect();
    assert!(makers.windows(2).all(|two| two[0] == two[1]), "an answer is of one maker");
    makers.first().copied().unwrap_or_default()
}

/// Asks for the memory that says what is asked, and checks that it is the first and wholly like.
async fn finds(engine: &Arc<Engine>, number: usize) -> bool {
    let answer = ask(engine, Likeness::Text(text(number))).await;
    let best = &answer.found[0];
    assert_eq!(best.memory.content, text(number));
    assert!(best.score > 0.999, "question and memory are of one maker: {}", best.score);
    is_new(&answer)
}

/// Checks that what is there is what was written, in memory and in the store, and by which maker.
async fn check(engine: &Arc<Engine>, expected: &BTreeMap<String, String>, new: bool) {
    let answer = ask(engine, Likeness::Text(text(0))).await;
    let found = answer.found.iter();
    let found: BTreeMap<String, String> =
        found.map(|found| (found.memory.id.to_string(), found.memory.content.clone())).collect();
    assert_eq!(found, *expected, "nothing is lost, and nothing comes back");
    assert_eq!(is_new(&answer), new);
    for (id, content) in expected {
        let (_, vector, _) = engine.get(&key(), id.clone()).await.unwrap();
        let made = if new { Turned::vector(content) } else { Hashing::new(VALUES).vector(content) };
        assert_eq!(vector, made);
    }
}

fn all(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|number| (number.to_string(), text(number))).collect()
}

/// Asks again and again until nobody wants to know; returns how many answers were of the new vectors, and how many there were.
async fn keep_asking(engine: Arc<Engine>, asked: Arc<AtomicBool>) -> (usize, usize) {
    let (mut news, mut turns) = (0, 0);
    while asked.load(SeqCst) {
        // The first ones are never written again.
        let is_new = finds(&engine, turns % 10).await;
        assert!(is_new || news == 0, "nobody hears of the old ones once the new ones are there");
        news += usize::from(is_new);
        turns += 1;
    }
    (news, turns)
}

/// Writes, forgets and writes again until the namespace has changed, and some after that; returns what is there in the end.
async fn keep_writing(engine: &Arc<Engine>) -> BTreeMap<String, String> {
    let mut expected = all(40);
    let mut number = 40;
    let mut after = 0;
    while after < 10 {
        after += usize::from(is_changed(&stands(engine).await));
        remember(engine, said(number)).await;
        expected.insert(number.to_string(), text(number));
        let gone = (10 + number % 30).to_string();
        match number % 3 {
            0 => {
                engine.forget(key(), vec![gone.clone()]).await.unwrap();
                expected.remove(&gone);
            }
            1 => {
                remember(engine, Draft { content: text(number + 1_000), ..draft(&gone) }).await;
                expected.insert(gone, text(number + 1_000));
            }
            _ => {}
        }
        number += 1;
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_recalls_go_on_and_every_answer_is_of_one_maker() {
    let house = House::new(|_| {});
    let engine = house.open(&Turned::new(ANY)).await;
    fill(&engine, 40).await;
    assert!(!finds(&engine, 0).await);
    let asked = Arc::new(AtomicBool::new(true));
    let asking = engine.telemetry.spawn(keep_asking(Arc::clone(&engine), Arc::clone(&asked)));
    begin(&engine).await;
    let expected = beside(&engine, keep_writing(&engine)).await;
    assert!(finds(&engine, 0).await);
    asked.store(false, SeqCst);
    asking.await.unwrap();
    check(&engine, &expected, true).await;
    engine.close().await;
    let engine = house.open(&Turned::new(ANY)).await;
    check(&engine, &expected, true).await;
}

#[tokio::test]
async fn a_job_goes_on_after_a_restart_where_it_was() {
    let house = House::new(|_| {});
    let first = Turned::new(2);
    let engine = house.open(&first).await;
    fill(&engine, 20).await;
    let began = begin(&engine).await;
    assert_eq!((began.left, began.job.done), (20, 0));
    beside(&engine, until(&engine, |stands| stands.job.done == 8)).await;
    let middle = stands(&engine).await;
    assert_eq!(middle.left, 12);
    assert!((middle.job.progress(middle.left) - 0.4).abs() < 1e-9);
    check(&engine, &all(20), false).await;
    engine.close().await;
    let second = Turned::new(ANY);
    let engine = house.open(&second).await;
    beside(&engine, until(&engine, is_changed)).await;
    assert_eq!((first.made.load(SeqCst), second.made.load(SeqCst)), (8, 12), "nothing is made twice");
    check(&engine, &all(20), true).await;
}

#[tokio::test]
async fn an_embedder_that_fails_makes_it_pause_and_go_on() {
    let house = House::new(|_| {});
    let turned = Turned::new(ANY);
    let engine = house.open(&turned).await;
    fill(&engine, 6).await;
    turned.fails.store(true, SeqCst);
    begin(&engine).await;
    let failing = async {
        for times in 1..=3 {
            let is_so = |stands: &Reembedding| {
                matches!(&stands.job.state, State::Waiting { failures, reason, .. }
                    if *failures == times && reason.contains("the model is away"))
            };
            until(&engine, is_so).await;
            turned.fails.store(times < 3, SeqCst);
            house.hand.advance(Duration::from_secs(5));
        }
        until(&engine, is_changed).await;
    };
    beside(&engine, failing).await;
    check(&engine, &all(6), true).await;
}

#[tokio::test]
async fn a_cancelled_job_frees_its_vectors_and_another_can_begin() {
    let house = House::new(|_| {});
    let turned = Turned::new(1);
    let engine = house.open(&turned).await;
    fill(&engine, 10).await;
    begin(&engine).await;
    let refused = engine.reembed(key(), "hashing-32".into(), 0).await;
    assert!(matches!(refused, Err(Error::Reembedding(_))), "{refused:?}");
    assert_eq!(begin(&engine).await.job.done, 0, "the same aim is the same job");
    beside(&engine, until(&engine, |stands| stands.job.done == 4)).await;
    assert_eq!(engine.store.vectors().await, 14);
    assert_eq!(engine.cancel_reembedding(key()).await.unwrap().job.state, State::Cancelled);
    freed(&engine, 10).await;
    check(&engine, &all(10), false).await;
    turned.allowed.add_permits(100);
    begin(&engine).await;
    beside(&engine, until(&engine, is_changed)).await;
    check(&engine, &all(10), true).await;
    assert!(is_changed(&engine.cancel_reembedding(key()).await.unwrap()), "too late");
    assert!(is_changed(&begin(&engine).await), "it is of these vectors already");
}

#[tokio::test]
async fn the_old_vectors_are_gone_once_no_recall_can_be_at_them() {
    let house = House::new(|config| config.query_timeout = Duration::from_millis(200));
    let engine = house.open(&Turned::new(ANY)).await;
    fill(&engine, 10).await;
    let old = engine.store.find(&key()).unwrap();
    begin(&engine).await;
    beside(&engine, until(&engine, is_changed)).await;
    let is_over = async {
        while !old.is_over() {
            tokio::task::yield_now().await;
        }
    };
    beside(&engine, is_over).await;
    freed(&engine, 10).await;
    // Back again, by an embedder that needs no setting; a start removes what was left.
    engine.reembed(key(), "hashing-256".into(), 256).await.unwrap();
    beside(&engine, until(&engine, is_changed)).await;
    engine.close().await;
    let engine = house.open(&Turned::new(0)).await;
    freed(&engine, 10).await;
    check(&engine, &all(10), false).await;
}

#[tokio::test]
async fn the_change_outlives_a_restart_with_and_without_a_checkpoint() {
    for least in [1, u64::MAX] {
        let house = House::new(|config| config.memory_checkpoint_min = least);
        let engine = house.open(&Turned::new(ANY)).await;
        fill(&engine, 12).await;
        engine.close().await;
        let engine = house.open(&Turned::new(ANY)).await;
        begin(&engine).await;
        beside(&engine, until(&engine, is_changed)).await;
        remember(&engine, said(12)).await;
        // Writes a checkpoint, where there are any.
        engine.close().await;
        let written = std::fs::read_dir(house.folder.path().join("checkpoints")).map_or(0, Iterator::count);
        assert_eq!(written, usize::from(least == 1));
        let engine = house.open(&Turned::new(ANY)).await;
        check(&engine, &all(13), true).await;
        engine.forget(key(), vec!["1".into()]).await.unwrap();
        let mut expected = all(13);
        expected.remove("1");
        check(&engine, &expected, true).await;
        engine.close().await;
        check(&house.open(&Turned::new(ANY)).await, &expected, true).await;
    }
}

#[tokio::test]
async fn a_write_that_was_embedded_before_the_change_is_embedded_again() {
    let house = House::new(|_| {});
    let engine = house.open(&Turned::new(ANY)).await;
    fill(&engine, 3).await;
    let old = engine.shape(&key());
    let (mut records, mut made) = engine.complete(&key(), vec![said(3)], None).await.unwrap();
    begin(&engine).await;
    beside(&engine, until(&engine, is_changed)).await;
    let refused = engine.write(&key(), &made.shape, records.clone()).await;
    assert!(matches!(refused, Err(Error::Reembedded)), "{refused:?}");
    engine.make_anew(&key(), &mut made, records.iter_mut()).await.unwrap();
    assert_eq!(records[0].embedding, Turned::vector(&text(3)));
    let lines = engine.import(key(), vec![said(4)], old).await;
    assert!(matches!(lines, Err(Error::Reembedded)), "lines of an export say of whom their vectors are");
    remember(&engine, said(3)).await;
    check(&engine, &all(4), true).await;
}

#[tokio::test]
async fn writers_wait_for_a_job_that_came_too_late_too_often_and_recalls_do_not() {
    let house = House::new(|_| {});
    let turned = Turned::new(0);
    let engine = house.open(&turned).await;
    fill(&engine, 3).await;
    let late = Job { state: State::Embedding(3), ..begin(&engine).await.job };
    engine.store.bring(&key(), late, Vec::new()).await.unwrap();
    let gate = engine.store.find(&key()).unwrap().gate();
    let work = async {
        while gate.try_read().is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!finds(&engine, 1).await);
        let writing = remember(&engine, said(3));
        turned.allowed.add_permits(ANY);
        writing.await;
    };
    beside(&engine, work).await;
    assert_eq!(turned.made.load(SeqCst), 4, "three of before, and the write");
    assert!(is_changed(&stands(&engine).await));
    check(&engine, &all(4), true).await;
}

#[tokio::test]
async fn a_recall_whose_memory_goes_after_the_change_is_asked_again() {
    let house = House::new(|_| {});
    let engine = house.open(&Turned::new(ANY)).await;
    fill(&engine, 3).await;
    let old = engine.store.find(&key()).unwrap();
    begin(&engine).await;
    beside(&engine, until(&engine, is_changed)).await;
    let newest = || Query { include_embedding: true, ..Query::newest(9) };
    let ran = engine.run(&old, newest(), None, None, false).await.unwrap();
    assert_eq!((ran.answer.found.len(), is_new(&ran.answer)), (3, false), "it ends as it began");
    engine.forget(key(), vec!["1".into()]).await.unwrap();
    let ran = engine.run(&old, newest(), None, None, false).await;
    assert!(matches!(ran, Err(Error::Reembedded)), "{ran:?}");
}

#[tokio::test]
async fn a_namespace_that_is_dropped_meanwhile_ends_its_job() {
    let house = House::new(|_| {});
    let turned = Turned::new(1);
    let engine = house.open(&turned).await;
    fill(&engine, 10).await;
    begin(&engine).await;
    beside(&engine, until(&engine, |stands| stands.job.done == 4)).await;
    engine.drop_space(key()).await.unwrap();
    turned.allowed.add_permits(100);
    beside(&engine, freed(&engine, 0)).await;
    assert!(matches!(engine.reembedding(&key()).await, Err(Error::NoNamespace)));
    assert!(matches!(engine.reembed(key(), String::new(), 0).await, Err(Error::NoNamespace)));
    fill(&engine, 2).await;
    check(&engine, &all(2), false).await;
}

#[tokio::test]
async fn an_aim_that_nobody_here_makes_is_refused_by_its_field() {
    let house = House::new(|_| {});
    let engine = house.open(&Turned::new(0)).await;
    fill(&engine, 1).await;
    for (embedder, dimensions, field) in
        [("none", 0, "embedder"), ("word2vec", 0, "embedder"), ("turned", 255, "dimensions")]
    {
        match engine.reembed(key(), embedder.into(), dimensions).await {
            Err(Error::Aim(named, _)) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
}
