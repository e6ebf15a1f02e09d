//! Many observations.

use std::time::Duration;

use contracts::llm::{self as wire, observation_result::Outcome};
use llm_gateway::Config;
use testkit::upstream::{Reply, Script, Upstream};
use tonic::Code;

use crate::harness::{Gateway, analyst, answer_to, ask, asked, by, config_for, pool, subjects};

fn pools(count: usize) -> wire::AnalyzeRequest {
    wire::AnalyzeRequest { observations: (0..count).map(pool).collect(), ..wire::AnalyzeRequest::default() }
}

fn gas(id: &str, gas_price: f64) -> wire::Observation {
    wire::Observation {
        id: id.into(),
        r#type: "gas".into(),
        subject: "ethereum".into(),
        values: [("gas_price".to_owned(), gas_price), ("avg_gas".to_owned(), 10.0)].into(),
        ..wire::Observation::default()
    }
}

async fn analyze(gateway: &Gateway, request: wire::AnalyzeRequest) -> wire::AnalyzeResponse {
    gateway.client().analyze(request).await.unwrap().into_inner()
}

fn summary(result: &wire::ObservationResult) -> &str {
    match result.outcome.as_ref().unwrap() {
        Outcome::Analysis(analysis) => &analysis.summary,
        Outcome::Failure(failure) => &failure.reason,
    }
}

fn served_by(response: &wire::AnalyzeResponse) -> Vec<wire::ServedBy> {
    response.results.iter().map(|result| by(result.served.as_ref())).collect()
}

#[tokio::test]
async fn statistics_analyse_all_in_one_call_and_are_labelled() {
    let gateway = Gateway::alone().await;
    let response = analyze(&gateway, pools(30)).await;
    assert_eq!(response.upstream_calls, 1);
    assert!(served_by(&response).iter().all(|by| *by == wire::ServedBy::Merged));
    assert!(response.results.iter().all(|result| {
        let served = result.served.as_ref().unwrap();
        served.model == "builtin/statistics"
            && served.cost_usd == 0.0
            && served.usage == Some(wire::Usage::default())
    }));
    let assessment = response.assessment.unwrap();
    assert!(
        assessment
            .overall_assessment
            .starts_with("builtin/statistics (deterministic statistics, not a language model)")
    );
    assert!(
        assessment.correlations[0].contains("apr and tvl") && assessment.correlations[0].contains("n = 30")
    );
    let text = gateway.telemetry.prometheus_text();
    assert!(text.contains(r#"athena_llm_items_total{served="merged"} 30"#), "{text}");
    assert!(text.contains(r#"llm_response_time_seconds_count{model="builtin/statistics"} 1"#), "{text}");
    assert!(text.contains(r#"cache_hit_rate_ratio{cache="llm"} 0"#), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn statistics_never_repeat_the_figures_of_another_request() {
    let gateway = Gateway::alone().await;
    let first = analyze(&gateway, pools(30)).await;
    let second = analyze(&gateway, pools(10)).await;
    assert!(served_by(&second).iter().all(|by| *by == wire::ServedBy::Merged));
    assert_ne!(summary(&first.results[0]), summary(&second.results[0]), "it is compared with ten");
    assert_eq!(gateway.stats().await.entries, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn patterns_answer_first_then_the_cache_then_one_call() {
    let upstream = Upstream::start(analyst());
    let gateway = Gateway::before(&upstream).await;
    analyze(&gateway, wire::AnalyzeRequest { observations: vec![pool(0)], ..pools(0) }).await;
    let mut known = pool(0);
    known.id = "renamed".into();
    known.time = Some(prost_types::Timestamp { seconds: 1_750_000_000, nanos: 0 });
    let observations = vec![gas("hot", 25.0), known, pool(1), pool(2)];
    let response = analyze(&gateway, wire::AnalyzeRequest { observations, ..pools(0) }).await;
    use wire::ServedBy::{Exact, Merged, Pattern};
    assert_eq!(served_by(&response), [Pattern, Exact, Merged, Merged]);
    let ids: Vec<_> = response.results.iter().map(|result| result.observation_id.as_str()).collect();
    assert_eq!(ids, ["hot", "renamed", "pool-1", "pool-2"]);
    let template = response.results[0].served.as_ref().unwrap();
    assert_eq!((template.pattern.as_str(), template.model.as_str()), ("gas_high", ""));
    assert!(template.saved_usd > 0.0 && template.cost_usd == 0.0);
    assert_eq!((upstream.calls(), response.upstream_calls), (2, 1));
    assert_eq!(response.assessment.unwrap().overall_assessment, "all calm");
    gateway.stop().await;
}

#[tokio::test]
async fn fifty_observations_are_one_upstream_call_with_a_schema() {
    let upstream =
        Upstream::start(Script::function(|body| Reply::json(&answer_to(body)).counted(5_000, 1_000)));
    let gateway = Gateway::before(&upstream).await;
    let mut request = pools(50);
    request.observations[7] = gas("mild", 11.0);
    let response = analyze(&gateway, request.clone()).await;
    assert_eq!((upstream.calls(), response.upstream_calls), (1, 1));
    assert!(response.results.iter().all(|result| summary(result).starts_with("about ")));
    let body = &upstream.requests()[0].body;
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    let words = body["messages"][1]["content"].as_str().unwrap();
    assert!(words.contains("POOL3") && !words.contains("pool-3"), "a caller's id stays with the caller");
    let served = response.served.unwrap();
    assert_eq!(served.by(), wire::ServedBy::Merged);
    assert!((served.cost_usd - 0.007).abs() < 1e-12, "{}", served.cost_usd);
    let shares = response.results.iter().map(|result| result.served.as_ref().unwrap());
    let (tokens, cost) = shares.fold((0, 0.0), |(tokens, cost), served| {
        (tokens + served.usage.unwrap().input_tokens, cost + served.cost_usd)
    });
    assert!(tokens == 5_000 && (cost - 0.007).abs() < 1e-9, "{tokens} {cost}");
    let again = analyze(&gateway, request).await;
    assert!(served_by(&again).iter().all(|by| *by == wire::ServedBy::Exact));
    assert_eq!((upstream.calls(), again.upstream_calls, again.served.is_none()), (1, 0, true));
    assert!(again.assessment.unwrap().overall_assessment.contains("not a language model"));
    gateway.stop().await;
}

#[tokio::test]
async fn more_observations_than_one_call_takes_are_asked_about_side_by_side() {
    let upstream = Upstream::start(analyst());
    let config = Config { llm_merge_max_items: 4, ..config_for(&upstream) };
    let gateway = Gateway::start(config).await;
    let hold = upstream.hold();
    let mut client = gateway.client();
    let asking = gateway.telemetry.spawn(async move { client.analyze(pools(10)).await });
    upstream.arrived(3).await;
    drop(hold);
    let response = asking.await.unwrap().unwrap().into_inner();
    assert_eq!((upstream.calls(), response.upstream_calls), (3, 3));
    for (place, result) in response.results.iter().enumerate() {
        assert_eq!(summary(result), format!("about POOL{place}"));
    }
    assert_eq!(response.assessment.unwrap().overall_assessment, "all calm");
    let mut sizes: Vec<_> = upstream.requests().iter().map(|it| asked(&it.body).len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 4, 4]);
    let text = gateway.telemetry.prometheus_text();
    assert!(text.contains(r#"llm_response_time_seconds_count{model="openai/small"} 1"#), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_part_that_fails_spares_the_others() {
    let upstream = Upstream::start(Script::function(|body| match subjects(body) {
        subjects if subjects.contains(&"POOL0".to_owned()) => Reply::failure(503, "down"),
        _ => Reply::json(&answer_to(body)),
    }));
    let config = Config { llm_merge_max_items: 2, ..config_for(&upstream) };
    let gateway = Gateway::start(config).await;
    let response = analyze(&gateway, pools(4)).await;
    let summaries: Vec<_> = response.results.iter().map(summary).collect();
    assert_eq!(summaries, ["upstream", "upstream", "about POOL2", "about POOL3"]);
    assert_eq!((upstream.calls(), response.upstream_calls), (2, 2));
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_yields_what_it_holds_and_is_not_cached() {
    let upstream = Upstream::start(Script::function(|body| {
        Reply::json(&answer_to(body)["items"]).mangled().finished("length")
    }));
    let gateway = Gateway::before(&upstream).await;
    let response = analyze(&gateway, pools(8)).await;
    let answered = response.results.iter().filter(|result| summary(result).starts_with("about")).count();
    assert!((3..8).contains(&answered), "{answered}");
    assert_eq!(response.results.len(), 8);
    assert!(response.assessment.unwrap().overall_assessment.contains("not a language model"));
    assert_eq!(gateway.stats().await.entries, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_fails_spares_what_needed_no_model() {
    let upstream = Upstream::start(Script::failing(503, "down"));
    let gateway = Gateway::before(&upstream).await;
    let observations = vec![gas("hot", 25.0), pool(1)];
    let response = analyze(&gateway, wire::AnalyzeRequest { observations, ..pools(0) }).await;
    assert_eq!(served_by(&response)[0], wire::ServedBy::Pattern);
    assert_eq!(summary(&response.results[1]), "upstream");
    assert!(response.served.is_none());
    assert_eq!(response.upstream_calls, 1, "a call that failed was made");
    let nothing = gateway.client().analyze(pools(2)).await.unwrap_err();
    assert_eq!(nothing.code(), Code::Unavailable);
    let text = gateway.telemetry.prometheus_text();
    assert!(text.contains(r#"llm_response_time_seconds_count{model="openai/small"} 2"#), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn equal_observations_are_asked_about_once() {
    let upstream = Upstream::start(analyst());
    let gateway = Gateway::before(&upstream).await;
    let mut twin = pool(1);
    twin.id = "twin".into();
    let observations = vec![pool(1), twin];
    let response = analyze(&gateway, wire::AnalyzeRequest { observations, ..pools(0) }).await;
    assert_eq!(served_by(&response), [wire::ServedBy::Upstream, wire::ServedBy::Coalesced]);
    assert_eq!(subjects(&upstream.requests()[0].body), ["POOL1"]);
    assert_eq!(summary(&response.results[1]), "about POOL1");
    gateway.stop().await;
}

#[tokio::test]
async fn identical_requests_at_once_share_one_upstream_call() {
    let upstream = Upstream::start(analyst());
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let mut client = gateway.client();
        asking.spawn(async move { client.analyze(pools(5)).await.unwrap().into_inner() });
    }
    upstream.arrived(1).await;
    drop(hold);
    let responses = asking.join_all().await;
    assert_eq!(upstream.calls(), 1);
    assert_eq!(responses.iter().map(|response| response.upstream_calls).sum::<u32>(), 1);
    assert!(
        responses
            .iter()
            .all(|response| response.results.iter().all(|result| summary(result).starts_with("about")))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_analysis_expires_on_the_agent_clock_and_depends_on_the_question() {
    let upstream = Upstream::start(analyst());
    let gateway = Gateway::before(&upstream).await;
    analyze(&gateway, pools(3)).await;
    let other = wire::AnalyzeRequest { question: "why?".into(), ..pools(3) };
    assert_eq!(analyze(&gateway, other).await.upstream_calls, 1);
    gateway.hand.advance(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(analyze(&gateway, pools(3)).await.upstream_calls, 1);
    gateway.stop().await;
}

#[tokio::test]
async fn degenerate_input_is_reported() {
    let gateway = Gateway::alone().await;
    let mut request = pools(6);
    for observation in &mut request.observations {
        observation.values.insert("apr".into(), 0.0);
    }
    let response = analyze(&gateway, request).await;
    assert_eq!(response.input_warnings, ["`apr` is 0 in all 6 observations of type `pool`"]);
    assert!(response.assessment.unwrap().risk_warnings[0].contains("`apr` is 0"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_cost_limit_forbids_the_call_for_all() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let request = wire::AnalyzeRequest { max_cost_usd: Some(1e-6), ..pools(5) };
    assert_eq!(gateway.client().analyze(request).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(upstream.calls(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn more_observations_than_allowed_are_refused() {
    let gateway = Gateway::start(Config { llm_max_observations: 2, ..Config::defaults() }).await;
    let error = gateway.client().analyze(pools(3)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("observations"), "{}", error.message());
    gateway.stop().await;
}

#[tokio::test]
async fn the_default_model_and_its_name_share_answers() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::start(config_for(&upstream)).await;
    gateway.client().generate(ask("gas?")).await.unwrap();
    for name in ["small", "openai/small"] {
        let request = wire::GenerateRequest { model: name.into(), ..ask("gas?") };
        let answer = gateway.client().generate(request).await.unwrap().into_inner();
        assert_eq!(by(answer.served.as_ref()), wire::ServedBy::Exact, "{name}");
    }
    gateway.stop().await;
}
