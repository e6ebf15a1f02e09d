//! Plans over gRPC: shown, asked for, counted.

use contracts::memory::*;
use rpc::Code;

use crate::harness::{Service, fault, memory};

#[tokio::test]
async fn explain_shows_every_step_and_counts_nothing() {
    let service = Service::start().await;
    let mut client = service.client();
    let memories = (0..10)
        .map(|number| Memory {
            category: if number < 6 { "gas" } else { "pool" }.into(),
            confidence: number as f64 / 10.0,
            ..memory(&number.to_string(), "text")
        })
        .collect();
    client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap();
    let query = Query {
        text: "text".into(),
        categories: vec!["gas".into()],
        min_confidence: 0.2,
        limit: 3,
        ..Query::default()
    };
    let explain =
        ExplainRequest { query: Some(query.clone()), plan: String::new(), ..ExplainRequest::default() };
    let explained = client.explain(explain.clone()).await.unwrap().into_inner();
    let root = explained.root.as_ref().unwrap();
    let rows = |node: &PlanNode| (node.name.clone(), node.actual_rows.unwrap());
    let steps: Vec<_> = root.children.iter().map(rows).collect();
    // The word is read for all ten: which of them pass the filter matters where they are compared.
    assert_eq!(
        steps,
        [("embed", 0), ("plan", 0), ("select", 4), ("text", 10), ("scan", 4), ("rank", 3)]
            .map(|(name, rows)| (name.to_owned(), rows))
    );
    let filters: Vec<_> = root.children[2].children.iter().map(rows).collect();
    let expected = [("filter.category", 6), ("filter.confidence", 4)];
    assert_eq!(filters, expected.map(|(name, rows)| (name.to_owned(), rows)));
    assert_eq!((explained.plan.as_str(), root.actual_rows), (root.name.as_str(), Some(3)));
    assert!((root.children[2].estimated_rows - 4.0).abs() < 1e-9, "so few rows are all seen");
    assert!(root.children.iter().all(|step| step.duration.is_some() && !step.detail.is_empty()));
    assert_eq!(explained.rejected.len(), 6);
    assert!(explained.rejected.iter().all(|rejected| !rejected.why.is_empty()), "{:?}", explained.rejected);
    assert!(explained.total.is_some() && !explained.would_hit_cache);
    assert!(
        !client.explain(explain.clone()).await.unwrap().into_inner().would_hit_cache,
        "explain fills no cache"
    );

    let recalled = client
        .recall(RecallRequest { query: Some(query), ..RecallRequest::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((recalled.memories.as_slice(), recalled.cached), (explained.memories.as_slice(), false));
    assert!(client.explain(explain).await.unwrap().into_inner().would_hit_cache);
    let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.cache_hits, stats.cache_misses), (0, 1), "only the recall counts");
    let metrics = service.telemetry.prometheus_text();
    assert!(metrics.contains("memory_query_latency_seconds_count{method=\"recall\""), "{metrics}");
    service.stop().await;
}

#[tokio::test]
async fn a_plan_can_be_asked_for_and_shown_without_being_run() {
    let service = Service::start().await;
    let mut client = service.client();
    let memories = (0..10).map(|number| memory(&number.to_string(), "text")).collect();
    client
        .remember_batch(RememberBatchRequest { memories, ..RememberBatchRequest::default() })
        .await
        .unwrap();
    let query = Query { text: "text".into(), categories: vec!["test".into()], ..Query::default() };
    for plan in ["direct", "filtered_scan", "full_scan"] {
        let explain =
            ExplainRequest { query: Some(query.clone()), plan: plan.into(), ..ExplainRequest::default() };
        let explained = client.explain(explain).await.unwrap().into_inner();
        assert_eq!((explained.plan.as_str(), explained.memories.len()), (plan, 10));
        let only = ExplainOnlyRequest {
            query: Some(query.clone()),
            plan: plan.into(),
            ..ExplainOnlyRequest::default()
        };
        let planned = client.explain_only(only).await.unwrap().into_inner();
        let root = planned.root.unwrap();
        assert_eq!((planned.plan.as_str(), root.actual_rows, root.duration), (plan, None, None));
        assert!(root.estimated_duration.is_some() && (root.estimated_rows - 10.0).abs() < 1e-9);
    }
    let unfit = ExplainOnlyRequest {
        query: Some(query.clone()),
        plan: "pool_partitioned".into(),
        ..ExplainOnlyRequest::default()
    };
    assert_eq!(client.explain_only(unfit).await.unwrap_err().code(), Code::FailedPrecondition);
    let unknown = ExplainRequest { query: Some(query), plan: "fastest".into(), ..ExplainRequest::default() };
    let refused = client.explain(unknown).await.unwrap_err();
    assert_eq!(fault(&refused), (Code::InvalidArgument, vec!["plan".to_owned()]));
    let stats = client.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.cache_hits, stats.cache_misses), (0, 0), "no access is counted");
    assert_eq!(stats.plans["direct"], 1, "only what was run");
    service.stop().await;
}

#[tokio::test]
async fn an_administrator_sees_the_query_cache_and_the_costs() {
    let service = Service::with(|config| {
        config.host.auth_tokens = config::Secret::new("a=t:agent,b=t:admin");
    })
    .await;
    let mut admin = service.client_of(Some("b"));
    let first = RememberRequest { memory: Some(memory("a", "a")), ..RememberRequest::default() };
    admin.remember(first).await.unwrap();
    for _ in 0..3 {
        admin.recall(RecallRequest::default()).await.unwrap();
    }
    let stats = admin.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    let cache = stats.query_cache.unwrap();
    assert_eq!((cache.entries, cache.capacity, cache.hits, cache.misses), (1, 500, 2, 1));
    assert!(cache.forecast.is_some_and(|forecast| forecast.auto_resize));
    assert!(stats.costs["value"] > 0.0);
    let mut agent = service.client_of(Some("a"));
    let stats = agent.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!((stats.query_cache, stats.costs.len()), (None, 0));
    assert_eq!(stats.plans.values().sum::<u64>(), 1, "the other two were answered by the query cache");
    service.stop().await;
}
