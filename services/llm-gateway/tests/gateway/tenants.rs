//! What tenants may use of upstreams.

use std::time::Duration;

use contracts::llm as wire;
use llm_gateway::Config;
use testkit::upstream::{Reply, Script, Upstream};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, ask, by, config_for, pool};

/// A gateway at 1 and 2 USD a million tokens; the tenants acme and globex call it, and an admin.
async fn limited(upstream: &Upstream, tenants: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    std::fs::write(&path, tenants).unwrap();
    let mut config = Config { llm_routes: Some(path), ..config_for(upstream) };
    config.host.auth_tokens = config::Value::parse("a=acme:agent,g=globex:agent,o=ops:admin").unwrap();
    Gateway::start(config).await
}

fn reason(status: &Status) -> (Code, String, Option<Duration>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason, details.retry_info().and_then(|info| info.retry_delay))
}

#[tokio::test]
async fn calls_a_minute_are_limited_and_hits_are_free() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = limited(&upstream, "[[tenant]]\nname = \"*\"\nrequests_per_minute = 2\n").await;
    let ask_as = async |token, words: &str| gateway.client_of(token).generate(ask(words)).await;
    ask_as("a", "1?").await.unwrap();
    ask_as("a", "2?").await.unwrap();
    let refused = ask_as("a", "3?").await.unwrap_err();
    let expected = (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), Some(Duration::from_secs(30)));
    assert_eq!(reason(&refused), expected);
    let hit = ask_as("a", "1?").await.unwrap().into_inner();
    assert_eq!(by(hit.served.as_ref()), wire::ServedBy::Exact);
    ask_as("g", "3?").await.expect("another tenant has its own");
    gateway.hand.advance(Duration::from_secs(30));
    ask_as("a", "3?").await.unwrap();
    assert_eq!(upstream.calls(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn a_days_money_warns_then_stops_and_comes_back_at_midnight() {
    // 1,000 tokens written cost 0.002 USD, as many as are estimated.
    let upstream = Upstream::start(Script::function(|_| Reply::text("low").counted(0, 1_000)));
    let gateway =
        limited(&upstream, "[[tenant]]\nname = \"acme\"\nusd_per_day = 0.0051\nwarn_at = 0.7\n").await;
    let call = async |words: &str| {
        let request = wire::GenerateRequest { max_output_tokens: Some(1_000), ..ask(words) };
        gateway.client_of("a").generate(request).await
    };
    let usage = async || {
        let stats = gateway.admin(Some("o")).get_stats(wire::GetStatsRequest {}).await.unwrap().into_inner();
        stats.tenants.into_iter().next().unwrap()
    };
    call("1?").await.unwrap();
    assert!(!usage().await.warned);
    call("2?").await.unwrap();
    let used = usage().await;
    assert_eq!((&*used.tenant, used.calls, used.tokens, used.warned), ("acme", 2, 2_000, true));
    assert!((used.usd_today - 0.004).abs() < 1e-9, "{}", used.usd_today);
    let (code, word, delay) = reason(&call("3?").await.unwrap_err());
    assert_eq!((code, &*word), (Code::ResourceExhausted, "BUDGET_EXHAUSTED"));
    call("1?").await.expect("a hit costs nothing");
    let text = gateway.telemetry.prometheus_text();
    for reason in ["warned", "budget"] {
        let line = format!("athena_llm_tenant_limited_total{{reason=\"{reason}\",tenant=\"acme\"}} 1");
        assert!(text.contains(&line), "{text}");
    }
    assert_eq!((usage().await.refused, upstream.calls()), (1, 2));
    gateway.hand.advance(delay.unwrap());
    call("3?").await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_fails_gives_its_money_back() {
    let upstream = Upstream::start(Script::failing(500, "down"));
    let gateway = limited(&upstream, "[[tenant]]\nname = \"acme\"\nusd_per_day = 0.0021\n").await;
    let call = async || {
        let request = wire::GenerateRequest { max_output_tokens: Some(1_000), ..ask("?") };
        gateway.client_of("a").generate(request).await
    };
    for _ in 0..3 {
        assert_eq!(call().await.unwrap_err().code(), Code::Unavailable);
    }
    upstream.change(Script::Echo);
    call().await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_limited_analysis_keeps_what_needed_no_call() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = limited(&upstream, "[[tenant]]\nname = \"acme\"\nusd_per_day = 0.0\n").await;
    let mut young = pool(1);
    young.values.insert("pool_age_days".into(), 0.5);
    let request =
        wire::AnalyzeRequest { observations: vec![young, pool(2)], ..wire::AnalyzeRequest::default() };
    let report = gateway.client_of("a").analyze(request).await.unwrap().into_inner();
    let outcomes: Vec<bool> = report
        .results
        .iter()
        .map(|result| matches!(result.outcome, Some(wire::observation_result::Outcome::Analysis(_))))
        .collect();
    assert_eq!((outcomes, upstream.calls()), (vec![true, false], 0));
    let alone = wire::AnalyzeRequest { observations: vec![pool(2)], ..wire::AnalyzeRequest::default() };
    let (code, word, _) = reason(&gateway.client_of("a").analyze(alone).await.unwrap_err());
    assert_eq!((code, &*word), (Code::FailedPrecondition, "MAX_COST_EXCEEDED"), "on no day is there room");
    gateway.stop().await;
}
