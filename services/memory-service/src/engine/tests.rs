//! The engine by itself.

mod reembeds;

use std::{sync::Arc, time::Duration};

use clock::Clock;
use telemetry::Telemetry;

use super::Engine;
use crate::{config::Config, error::Error, memory::Draft, query::Query, shape::SpaceKey};

fn draft(id: &str) -> Draft {
    Draft { id: Some(id.to_owned()), category: "c".into(), content: "content".into(), ..Draft::default() }
}

pub(super) fn newest() -> Query {
    Query::newest(10)
}

pub(super) async fn open(folder: &tempfile::TempDir) -> Arc<Engine> {
    let config = Config { memory_dir: folder.path().to_owned(), ..Config::defaults() };
    Engine::open(&config, Telemetry::silent("memory-service"), Clock::system()).await.unwrap()
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, tenant) = (open(&folder).await, SpaceKey::new("t", ""));
    {
        let call = std::pin::pin!(engine.remember(tenant.clone(), vec![draft("a")], None));
        assert!(futures::poll!(call).is_pending());
    }
    while engine.stats(&tenant).memories == 0 {
        tokio::task::yield_now().await;
    }
    engine.close().await;
    assert_eq!(open(&folder).await.stats(&tenant).memories, 1, "what memory shows is on disk");
}

#[tokio::test]
async fn a_closed_engine_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, tenant) = (open(&folder).await, SpaceKey::new("t", ""));
    engine.close().await;
    let refused = engine.remember(tenant, vec![draft("a")], None).await;
    assert!(matches!(refused, Err(Error::NotReady)), "{refused:?}");
}

#[tokio::test]
async fn what_is_forgotten_leaves_the_query_cache_too() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, tenant) = (open(&folder).await, SpaceKey::new("t", ""));
    engine.remember(tenant.clone(), vec![draft("a")], None).await.unwrap();
    engine.recall(&tenant, newest(), None).await.unwrap();
    assert_eq!(engine.answers.stats().stats.entries, 1);
    engine.forget(tenant.clone(), vec!["a".into()]).await.unwrap();
    assert_eq!(engine.answers.stats().stats.entries, 0);
}

#[tokio::test]
async fn what_is_learned_makes_the_query_cache_let_go_of_older_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, tenant) = (open(&folder).await, SpaceKey::new("t", ""));
    for id in ["a", "b", "c"] {
        engine.remember(tenant.clone(), vec![draft(id)], None).await.unwrap();
        engine.recall(&tenant, newest(), None).await.unwrap();
    }
    assert_eq!(engine.answers.stats().stats.entries, 1);
}

#[tokio::test]
async fn an_answer_with_vectors_is_not_cached() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, tenant) = (open(&folder).await, SpaceKey::new("t", ""));
    engine.remember(tenant.clone(), vec![draft("a")], None).await.unwrap();
    let heavy = || Query { include_embedding: true, ..newest() };
    engine.recall(&tenant, heavy(), None).await.unwrap();
    assert!(!engine.recall(&tenant, heavy(), None).await.unwrap().1);
    engine.recall(&tenant, newest(), None).await.unwrap();
    assert!(engine.recall(&tenant, newest(), None).await.unwrap().1);
}

#[tokio::test]
async fn a_load_of_many_memories_has_a_checkpoint_before_the_interval_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        memory_dir: folder.path().to_owned(),
        memory_checkpoint_interval: Duration::from_hours(24),
        memory_checkpoint_min: 1,
        ..Config::defaults()
    };
    let silent = Telemetry::silent("memory-service");
    let engine = Engine::open(&config, silent, Clock::system()).await.unwrap();
    let load = async {
        let ids: Vec<String> = (0..15).map(|number| number.to_string()).collect();
        for id in &ids {
            engine.remember(SpaceKey::new("t", ""), vec![draft(id)], None).await.unwrap();
        }
        let written = || std::fs::read_dir(folder.path().join("checkpoints")).map_or(0, Iterator::count);
        while written() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = load => {}
        never = engine.store.keep_checkpoints() => match never {},
    }
    engine.close().await;
}
