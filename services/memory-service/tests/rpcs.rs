//! The rpcs of a memory service, over real gRPC and a real store.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod forgetting;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hygiene;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod rankings;
#[cfg(test)]
mod reembedding;
#[cfg(test)]
mod refusals;

use std::{collections::HashMap, time::Duration};

use contracts::memory::*;
use harness::{Service, at, embedded, fault, memory, recalled};
use rpc::{Client as _, Code};

#[tokio::test]
async fn the_next_call_finds_what_was_remembered() {
    let service = Service::start().await;
    let mut client = service.client();
    client
        .remember(RememberRequest {
            memory: Some(memory("gas", "gas is low on sunday nights")),
            ..RememberRequest::default()
        })
        .await
        .unwrap();
    client
        .remember(RememberRequest {
            memory: Some(memory("fees", "fees of the weth pool doubled")),
            ..RememberRequest::default()
        })
        .await
        .unwrap();
    let query = Query { text: "when is gas low?".into(), ..Query::default() };
    let answer = client
        .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(recalled(&answer), ["gas", "fees"]);
    assert!(answer.memories[0].score > answer.memories[1].score);
    assert_eq!((answer.candidates, answer.exact, answer.cached), (2, true, false));
    assert!(
        answer.memories[0].memory.as_ref().unwrap().embedding.is_empty(),
        "vectors are returned on request only"
    );
    service.stop().await;
}

#[tokio::test]
async fn a_restart_finds_everything() {
    let service = Service::start().await;
    let mut client = service.client();
    let full = Memory {
        pools: vec!["weth/usdc".into(), "cbbtc".into()],
        time: Some(at(-5)),
        confidence: 0.75,
        metadata: HashMap::from([("source".into(), "replay".into())]),
        embedding: vec![0.25; 256],
        ..memory("full", "ünïcode")
    };
    let memories = vec![full.clone(), memory("plain", "plain"), memory("gone", "gone")];
    client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap();
    client.forget(ForgetRequest { ids: vec!["gone".into()], ..ForgetRequest::default() }).await.unwrap();
    let service = service.restart().await;
    let mut client = service.client();
    let get = GetRequest { id: "full".into(), include_embedding: true, ..GetRequest::default() };
    assert_eq!(client.get(get).await.unwrap().into_inner().memory, Some(full));
    let answer = client.recall(RecallRequest::default()).await.unwrap().into_inner();
    assert_eq!(recalled(&answer), ["plain", "full"]);
    let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.memories, stats.generation), (2, 2));
    service.stop().await;
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let service = Service::start().await;
    let mut client = service.client();
    let faulty = Memory { category: String::new(), ..memory("b", "b") };
    let memories = vec![memory("a", "a"), faulty, memory("c", "c")];
    let refused = client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["memories[1].category".to_owned()]));
    assert_eq!(client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner().memories, 0);

    let memories = vec![memory("a", "a"), memory("", "made"), memory("a", "again")];
    let stored = client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&*stored.ids[0], stored.ids[1].len(), &*stored.ids[2], stored.replaced), ("a", 26, "a", 1));
    let got = client
        .get(GetRequest { id: "a".into(), include_embedding: false, ..GetRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(got.memory.unwrap().content, "again", "the later of one batch wins");
    service.stop().await;
}

#[tokio::test]
async fn every_write_makes_the_query_cache_forget() {
    let service = Service::start().await;
    let mut client = service.client();
    client
        .remember(RememberRequest { memory: Some(memory("a", "a")), ..RememberRequest::default() })
        .await
        .unwrap();
    let mut recall = async || client.recall(RecallRequest::default()).await.unwrap().into_inner();
    assert!(!recall().await.cached);
    let cached = recall().await;
    assert_eq!((recalled(&cached), cached.cached), (vec!["a"], true));
    let mut writer = service.client();
    writer
        .remember(RememberRequest { memory: Some(memory("b", "b")), ..RememberRequest::default() })
        .await
        .unwrap();
    let fresh = recall().await;
    assert_eq!((recalled(&fresh).len(), fresh.cached), (2, false));
    assert!(recall().await.cached);
    writer.forget(ForgetRequest { ids: vec!["a".into()], ..ForgetRequest::default() }).await.unwrap();
    let fresh = recall().await;
    assert_eq!((recalled(&fresh), fresh.cached), (vec!["b"], false), "a dead memory is never served");
    // Nothing was written: the answer is still good.
    writer.forget(ForgetRequest { ids: vec!["unknown".into()], ..ForgetRequest::default() }).await.unwrap();
    assert!(recall().await.cached);
    service.stop().await;
}

#[tokio::test]
async fn a_cached_answer_expires_on_the_agent_clock() {
    let service = Service::start().await;
    let mut client = service.client();
    let mut cached = async || client.recall(RecallRequest::default()).await.unwrap().into_inner().cached;
    assert!(!cached().await);
    service.hand.advance(Duration::from_secs(61));
    assert!(!cached().await, "asked twice: not frequent");
    assert!(cached().await);
    service.hand.advance(Duration::from_secs(61));
    assert!(cached().await, "asked four times");
    service.hand.advance(Duration::from_secs(540));
    assert!(!cached().await);
    service.stop().await;
}

#[tokio::test]
async fn filters_let_only_matching_memories_pass() {
    let service = Service::start().await;
    let mut client = service.client();
    let memories = (0..24)
        .map(|hour| Memory {
            category: if hour % 2 == 0 { "gas" } else { "pool" }.into(),
            pools: vec![format!("pool-{}", hour % 3), "all".into()],
            time: Some(at(hour * 3600)),
            confidence: hour as f64 / 24.0,
            ..memory(&format!("{hour:02}"), "the same text")
        })
        .collect();
    client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap();
    let mut ids = async |query: Query| {
        let query = Query { text: "the same text".into(), ranking: Ranking::Vector.into(), ..query };
        let answer = client
            .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.candidates, answer.memories.len() as u64);
        recalled(&answer).join(" ")
    };
    let gas = Query { categories: vec!["gas".into()], pools: vec!["pool-0".into()], ..Query::default() };
    assert_eq!(ids(gas).await, "18 12 06 00", "equal scores are newest first");
    let pools =
        Query { pools: vec!["pool-1".into(), "pool-2".into()], min_confidence: 0.75, ..Query::default() };
    assert_eq!(ids(pools).await, "23 22 20 19");
    let time = Query { start_time: Some(at(5 * 3600)), end_time: Some(at(8 * 3600)), ..Query::default() };
    assert_eq!(ids(time).await, "07 06 05", "the end is not part of the range");
    let both =
        Query { categories: vec!["gas".into(), "pool".into()], min_confidence: 0.9, ..Query::default() };
    assert_eq!(ids(both).await, "23 22");
    assert_eq!(ids(Query { pools: vec!["none".into()], ..Query::default() }).await, "");
    service.stop().await;
}

#[tokio::test]
async fn a_recall_returns_the_best_of_the_candidates() {
    let service = Service::start().await;
    let mut client = service.client();
    let memories = (0..300).map(|number| embedded(number, 300)).collect();
    client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap();
    let wanted = embedded(100, 300).embedding;
    let query = Query { embedding: wanted.clone(), include_embedding: true, limit: 3, ..Query::default() };
    let answer = client
        .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.candidates, 300);
    let mut ids = recalled(&answer);
    assert_eq!(ids[0], "100");
    ids.sort_unstable();
    assert_eq!(ids, ["100", "101", "99"]);
    assert!((answer.memories[0].score - 1.0).abs() < 1e-5);
    assert_eq!(answer.memories[0].memory.as_ref().unwrap().embedding, wanted);
    let answer = client.recall(RecallRequest::default()).await.unwrap().into_inner();
    assert_eq!((answer.memories.len(), answer.candidates), (100, 300), "query_default_limit");
    service.stop().await;
}

#[tokio::test]
async fn tenants_never_see_each_other() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("one=first:agent,two=second:agent");
    })
    .await;
    let (mut first, mut second) = (service.client_of(Some("one")), service.client_of(Some("two")));
    first
        .remember(RememberRequest {
            memory: Some(memory("same", "of the first")),
            ..RememberRequest::default()
        })
        .await
        .unwrap();
    second
        .remember(RememberRequest {
            memory: Some(memory("same", "of the second")),
            ..RememberRequest::default()
        })
        .await
        .unwrap();
    for (client, content) in [(&mut first, "of the first"), (&mut second, "of the second")] {
        let answer = client.recall(RecallRequest::default()).await.unwrap().into_inner();
        assert_eq!((answer.memories.len(), answer.cached), (1, false));
        assert_eq!(answer.memories[0].memory.as_ref().unwrap().content, content);
        let got = client
            .get(GetRequest { id: "same".into(), include_embedding: false, ..GetRequest::default() })
            .await
            .unwrap();
        assert_eq!(got.into_inner().memory.unwrap().content, content);
    }
    let done = second
        .forget(ForgetRequest { ids: vec!["same".into()], ..ForgetRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((done.forgotten, done.unknown), (1, 0));
    assert_eq!(first.get_stats(GetStatsRequest::default()).await.unwrap().into_inner().memories, 1);
    for token in [None, Some("wrong")] {
        let refused = service.client_of(token).recall(RecallRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_written_id_replaces_and_a_forgotten_one_is_gone() {
    let service = Service::start().await;
    let mut client = service.client();
    let first = client
        .remember(RememberRequest { memory: Some(memory("a", "old")), ..RememberRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&*first.id, first.replaced), ("a", false));
    let second = client
        .remember(RememberRequest { memory: Some(memory("a", "new")), ..RememberRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert!(second.replaced);
    let get = GetRequest { id: "a".into(), include_embedding: false, ..GetRequest::default() };
    let got = client.get(get.clone()).await.unwrap().into_inner().memory.unwrap();
    assert_eq!((&*got.content, got.time), ("new", Some(at(0))), "an absent time is the agent clock's now");
    let ids = vec!["a".into(), "a".into(), "b".into()];
    let done = client.forget(ForgetRequest { ids, ..ForgetRequest::default() }).await.unwrap().into_inner();
    assert_eq!((done.forgotten, done.unknown), (1, 1));
    assert_eq!(client.get(get.clone()).await.unwrap_err().code(), Code::NotFound);
    let service = service.restart().await;
    assert_eq!(service.client().get(get).await.unwrap_err().code(), Code::NotFound);
    service.stop().await;
}

#[tokio::test]
async fn statistics_are_those_of_the_tenant() {
    let service = Service::start().await;
    let mut client = service.client();
    let other = Memory { category: "other".into(), ..memory("b", "b") };
    client
        .remember_batch(RememberBatchRequest {
            memories: vec![memory("a", "a"), other],
            ..RememberBatchRequest::default()
        })
        .await
        .unwrap();
    for _ in 0..4 {
        client.recall(RecallRequest::default()).await.unwrap();
    }
    let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.memories, stats.dimensions, &*stats.embedder), (2, 256, "hashing-256"));
    assert_eq!(stats.categories, HashMap::from([("test".to_owned(), 1), ("other".to_owned(), 1)]));
    assert_eq!((stats.cache_hits, stats.cache_misses, stats.generation), (3, 1, 1));
    assert!(stats.store_bytes > 0);
    let metrics = service.telemetry.prometheus_text();
    let value = |name: &str| {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {metrics}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((value("cache_hit_rate_ratio{cache=\"memory_query\"") - 0.75).abs() < 1e-9);
    assert!((value("athena_memory_count") - 2.0).abs() < 1e-9);
    service.stop().await;
}

#[tokio::test]
async fn a_recall_over_its_time_is_stopped() {
    let service = Service::with(|config| config.query_timeout = Duration::ZERO).await;
    let mut client = service.client();
    let stopped = client.recall(RecallRequest::default()).await.unwrap_err();
    assert_eq!(stopped.code(), Code::DeadlineExceeded);
    assert_eq!(client.explain(ExplainRequest::default()).await.unwrap_err().code(), Code::DeadlineExceeded);
    client
        .remember(RememberRequest { memory: Some(memory("a", "a")), ..RememberRequest::default() })
        .await
        .unwrap();
    service.stop().await;
}

#[tokio::test]
async fn disk_and_memory_agree_after_writes_that_race() {
    let service = Service::start().await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..120 {
        let mut client = service.client();
        let work = async move {
            let id = (number % 5).to_string();
            if number % 7 == 6 {
                drop(
                    client.forget(ForgetRequest { ids: vec![id], ..ForgetRequest::default() }).await.unwrap(),
                );
            } else {
                let written = memory(&id, &format!("written by {number}"));
                drop(
                    client
                        .remember(RememberRequest { memory: Some(written), ..RememberRequest::default() })
                        .await
                        .unwrap(),
                );
            }
        };
        running.spawn(service.telemetry.carry(work));
    }
    running.join_all().await;
    let query = Some(Query { include_embedding: true, ..Query::default() });
    let everything = RecallRequest { query, ..RecallRequest::default() };
    let before = service.client().recall(everything.clone()).await.unwrap().into_inner();
    let stats = service.client().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    let service = service.restart().await;
    let after = service.client().recall(everything).await.unwrap().into_inner();
    assert_eq!(after.memories, before.memories);
    let again = service.client().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((again.generation, again.categories), (stats.generation, stats.categories));
    service.stop().await;
}

#[tokio::test]
async fn vectors_that_nobody_here_makes_end_the_start_with_the_name_of_the_setting() {
    let service = Service::start().await;
    let mut admin = memory_admin_service_client::MemoryAdminServiceClient::over(service.channel(None));
    let namespace = Namespace { embedder: "none".into(), dimensions: 17, ..Namespace::default() };
    admin.create_namespace(CreateNamespaceRequest { namespace: Some(namespace) }).await.unwrap();
    let brought = Memory { embedding: vec![1.0; 17], ..memory("a", "a") };
    let request = RememberRequest { memory: Some(brought), ..RememberRequest::default() };
    service.client().remember(request).await.unwrap();
    let error = service.restart_refused(|_| {}).await;
    assert!(matches!(error, memory_service::Error::Maker { setting: "memory_dimensions", .. }), "{error}");
}

#[tokio::test]
async fn a_recall_says_in_its_span_what_it_did() {
    let service = Service::start().await;
    let mut client = service.client();
    client
        .remember(RememberRequest { memory: Some(memory("a", "a")), ..RememberRequest::default() })
        .await
        .unwrap();
    let query = Query { limit: 7, ..Query::default() };
    client.recall(RecallRequest { query: Some(query), ..RecallRequest::default() }).await.unwrap();
    let spans = service.captured.until(|spans| spans.iter().any(|span| span.name == "memory.recall")).await;
    let span = spans.iter().find(|span| span.name == "memory.recall").unwrap();
    let value = |key: &str| {
        let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
        found.unwrap_or_else(|| panic!("{key}")).value.to_string()
    };
    assert_eq!(
        ["limit", "candidates", "returned", "cached"].map(|name| value(&format!("athena.memory.{name}"))),
        ["7", "1", "1", "false"]
    );
    service.stop().await;
}

#[tokio::test]
async fn an_answer_larger_than_a_message_is_refused_and_a_smaller_one_is_not() {
    let service =
        Service::with(|config| config.host.max_message_bytes = config::ByteSize::new(64 << 10)).await;
    let mut client = service.client();
    for id in ["a", "b"] {
        let large = memory(id, &"x".repeat(40 << 10));
        client.remember(RememberRequest { memory: Some(large), ..RememberRequest::default() }).await.unwrap();
    }
    let mut recall = async |limit| {
        let query = Query { limit, ..Query::default() };
        client
            .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
            .await
            .map_err(|status| status.code())
    };
    assert_eq!(recall(2).await.unwrap_err(), Code::OutOfRange);
    assert_eq!(recalled(&recall(1).await.unwrap().into_inner()), ["b"], "of one time, the last written");
    service.stop().await;
}
