//! A cycle over a recorded day is complete, and one trace shows all of it.

use std::collections::{BTreeSet, HashMap};

use contracts::{
    agent::Completeness,
    monitor::{Span, SpanKind},
};
use tests::House;

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_over_a_recorded_day_is_complete() {
    let house = House::open().await.unwrap();
    let cycle = house.cycle().await.unwrap();
    assert_eq!(cycle.completeness(), Completeness::Complete, "{:#?}", cycle.stages);
    assert_eq!(cycle.recorded_date, "2025-07-19");
    assert!(cycle.pools >= 100, "{} pools", cycle.pools);
    assert_eq!(cycle.stages.len(), 6, "{:#?}", cycle.stages);
    assert!(cycle.stages.iter().all(|stage| stage.failures.is_empty()), "{:#?}", cycle.stages);
    assert_eq!(cycle.recalls, 1 + 2 * cycle.interesting);
    assert!(!cycle.decisions.is_empty() && !cycle.assessment.is_empty());
    house.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_recall_of_a_large_cycle_is_shed() {
    let large = [("agent_max_interesting", "400".to_owned()), ("max_queued_calls", "1000".to_owned())];
    let house = House::with(large).await.unwrap();
    let cycle = house.cycle().await.unwrap();
    assert!(cycle.recalls > 200, "{} recalls", cycle.recalls);
    assert_eq!(cycle.completeness(), Completeness::Complete, "{:#?}", cycle.stages);
    house.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_shows_a_cycle_over_five_services_without_an_orphan() {
    let house = House::open().await.unwrap();
    let cycle = house.cycle().await.unwrap();
    let trace = house.trace(&cycle.trace_id).await.unwrap();
    let spans: HashMap<&str, &Span> = trace.spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let roots: Vec<_> = trace.spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    assert_eq!(roots[0].name, "athena.agent.v1.OrchestratorService/RunCycle");
    assert_eq!(trace.summary.as_ref().unwrap().orphans, 0);
    let calls = |kind: SpanKind| trace.spans.iter().filter(move |span| span.kind() == kind);
    for server in calls(SpanKind::Server).filter(|span| !span.parent_span_id.is_empty()) {
        let parent = spans[server.parent_span_id.as_str()];
        assert_eq!((parent.kind(), &parent.name), (SpanKind::Client, &server.name));
        assert_ne!(parent.service, server.service, "{}", server.name);
    }
    for client in calls(SpanKind::Client) {
        let answered = calls(SpanKind::Server).filter(|span| span.parent_span_id == client.span_id).count();
        assert_eq!(answered, 1, "{client:#?}");
    }
    let services: BTreeSet<&str> = trace.spans.iter().map(|span| span.service.as_str()).collect();
    let all: BTreeSet<&str> = athena::Service::ALL.iter().map(|service| service.name()).collect();
    assert_eq!(services, all);
    house.close().await.unwrap();
}
