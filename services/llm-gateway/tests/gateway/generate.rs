//! Conversations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::llm as wire;
use llm_gateway::Config;
use rpc::Serving;
use testkit::upstream::{Reply, Script, Upstream};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, MODEL, ask, by, config_for};

#[tokio::test]
async fn statistics_answer_without_a_key_and_say_what_they_are() {
    let gateway = Gateway::alone().await;
    let answer = gateway.client().generate(ask("apr 1, 2, 3 and 90")).await.unwrap().into_inner();
    let served = answer.served.unwrap();
    assert!(answer.text.contains("not a language model"), "{}", answer.text);
    assert_eq!((served.model.as_str(), served.cost_usd), ("builtin/statistics", 0.0));
    assert_eq!(served.usage.unwrap(), wire::Usage::default());
    assert_eq!(answer.finish_reason, i32::from(wire::FinishReason::Stop));
    gateway.stop().await;
}

#[tokio::test]
async fn a_repeated_question_is_served_from_the_cache_with_its_age_and_saving() {
    let upstream = Upstream::start(Script::function(|_| Reply::text("low").counted(1_000, 500)));
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    let first = client.generate(ask("gas?")).await.unwrap().into_inner().served.unwrap();
    assert_eq!(first.by(), wire::ServedBy::Upstream);
    assert_eq!(first.model, MODEL);
    assert!((first.cost_usd - 0.002).abs() < 1e-12, "{}", first.cost_usd);
    gateway.hand.advance(Duration::from_secs(60));
    let again = client.generate(ask("gas?")).await.unwrap().into_inner();
    let served = again.served.unwrap();
    assert_eq!((again.text.as_str(), served.by()), ("low", wire::ServedBy::Exact));
    assert_eq!(served.age.unwrap().seconds, 60);
    assert!(served.cost_usd.abs() < 1e-12 && (served.saved_usd - 0.002).abs() < 1e-12);
    assert!(served.phases.unwrap().upstream.is_none());
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_expires_on_the_agent_clock() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    client.generate(ask("gas?")).await.unwrap();
    gateway.hand.advance(Duration::from_secs(24 * 3600 - 1));
    client.generate(ask("gas?")).await.unwrap();
    assert_eq!(upstream.calls(), 1);
    gateway.hand.advance(Duration::from_secs(2));
    client.generate(ask("gas?")).await.unwrap();
    assert_eq!(upstream.calls(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn cache_control_is_honoured() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    let with = |cache: wire::CacheControl| wire::GenerateRequest { cache: Some(cache), ..ask("gas?") };
    let skip_store = wire::CacheControl { skip_store: true, ..wire::CacheControl::default() };
    client.generate(with(skip_store)).await.unwrap();
    client.generate(ask("gas?")).await.unwrap();
    assert_eq!(upstream.calls(), 2, "the first answer was not stored");
    let skip_read = wire::CacheControl { skip_read: true, ..wire::CacheControl::default() };
    client.generate(with(skip_read)).await.unwrap();
    assert_eq!(upstream.calls(), 3);
    gateway.hand.advance(Duration::from_secs(10));
    let young = prost_types::Duration { seconds: 9, nanos: 0 };
    let max_age = wire::CacheControl { max_age: Some(young), ..wire::CacheControl::default() };
    client.generate(with(max_age)).await.unwrap();
    assert_eq!(upstream.calls(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn a_hundred_identical_questions_at_once_are_one_upstream_call() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let mut client = gateway.client();
        asking.spawn(async move { client.generate(ask("gas?")).await.unwrap().into_inner() });
    }
    upstream.arrived(1).await;
    drop(hold);
    let answers = asking.join_all().await;
    let led = answers.iter().filter(|answer| by(answer.served.as_ref()) == wire::ServedBy::Upstream).count();
    assert_eq!((upstream.calls(), led), (1, 1));
    assert!(answers.iter().all(|answer| answer.text == "gas?"));
    let stats = gateway.stats().await;
    let served = stats.served.unwrap();
    assert_eq!(served.coalesced + served.exact, 99);
    assert_eq!(stats.hit_ratio, Some(0.99));
    gateway.stop().await;
}

#[tokio::test]
async fn an_independent_sample_joins_nobody() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let cache =
        wire::CacheControl { skip_read: true, skip_coalescing: true, ..wire::CacheControl::default() };
    let request = wire::GenerateRequest { cache: Some(cache), ..ask("gas?") };
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (mut client, request) = (gateway.client(), request.clone());
        asking.spawn(async move { client.generate(request).await.unwrap() });
    }
    upstream.arrived(3).await;
    drop(hold);
    asking.join_all().await;
    assert_eq!(upstream.calls(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_follower_takes_over_when_the_leader_gives_up() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let hold = upstream.hold();
    let mut leading = gateway.hasty(Duration::from_millis(300));
    let leader = gateway.telemetry.spawn(async move { leading.generate(ask("gas?")).await });
    upstream.arrived(1).await;
    let mut following = gateway.client();
    let follower = gateway.telemetry.spawn(async move { following.generate(ask("gas?")).await });
    assert_eq!(leader.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    upstream.arrived(2).await;
    drop(hold);
    let answer = follower.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.text, "gas?");
    assert_eq!(by(answer.served.as_ref()), wire::ServedBy::Upstream);
    let counted = gateway.stats().await.served.unwrap().upstream_calls;
    assert_eq!(counted, 2, "the call whose caller left was sent too");
    let text = gateway.telemetry.prometheus_text();
    assert!(text.contains(r#"llm_response_time_seconds_count{model="openai/small"} 2"#), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_away_is_told_and_takes_nothing_down() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    assert_eq!(gateway.health().await, (Serving::Yes, Some(Serving::Unknown)), "a question would cost money");
    gateway.client().generate(ask("gas?")).await.unwrap();
    assert_eq!(gateway.health().await, (Serving::Yes, Some(Serving::Yes)));
    upstream.change(Script::failing(500, "down"));
    gateway.client().generate(ask("apr?")).await.unwrap_err();
    assert_eq!(gateway.health().await, (Serving::Yes, Some(Serving::No)));
    gateway.stop().await;
    let alone = Gateway::alone().await;
    assert_eq!(alone.health().await, (Serving::Yes, None), "who has no upstream has none to lose");
    alone.stop().await;
}

#[tokio::test]
async fn errors_are_never_cached() {
    let upstream = Upstream::start(Script::failing(500, "down"));
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    let error = client.generate(ask("gas?")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(!error.message().contains("down"), "what the upstream says is not passed on");
    upstream.change(Script::Echo);
    assert_eq!(client.generate(ask("gas?")).await.unwrap().into_inner().text, "gas?");
    let stats = gateway.stats().await;
    assert_eq!((stats.refused, stats.served.unwrap().upstream_calls), (1, 2));
    gateway.stop().await;
}

#[tokio::test]
async fn cut_and_filtered_answers_are_never_cached() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    let reasons =
        [("length", wire::FinishReason::Length), ("content_filter", wire::FinishReason::ContentFilter)];
    for (reason, expected) in reasons {
        upstream.change(Script::function(move |_| Reply::text("half").finished(reason)));
        for _ in 0..2 {
            let answer = client.generate(ask(reason)).await.unwrap().into_inner();
            assert_eq!(answer.finish_reason(), expected);
            assert_eq!(by(answer.served.as_ref()), wire::ServedBy::Upstream);
        }
    }
    assert_eq!((upstream.calls(), gateway.stats().await.refused), (4, 4));
    gateway.stop().await;
}

#[tokio::test]
async fn a_tenant_is_never_served_anothers_answer() {
    let upstream = Upstream::start(Script::Echo);
    let mut config = config_for(&upstream);
    config.host.auth_tokens = config::Value::parse("one=acme:agent,two=globex:admin").unwrap();
    let gateway = Gateway::start(config).await;
    gateway.client_of("one").generate(ask("gas?")).await.unwrap();
    let other = gateway.client_of("two").generate(ask("gas?")).await.unwrap().into_inner();
    assert_eq!(by(other.served.as_ref()), wire::ServedBy::Upstream);
    let same = gateway.client_of("one").generate(ask("gas?")).await.unwrap().into_inner();
    assert_eq!(by(same.served.as_ref()), wire::ServedBy::Exact);
    assert_eq!(upstream.calls(), 2);
    let nobody = gateway.client().generate(ask("gas?")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    gateway.stop().await;
}

#[tokio::test]
async fn what_may_pass_is_asked_again() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let upstream = Upstream::start(Script::function(move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::failure(503, "busy"),
        1 => Reply::failure(429, "slow down").header("retry-after-ms", "1"),
        _ => Reply::text("low"),
    }));
    let gateway = Gateway::start(Config { llm_max_retries: 2, ..config_for(&upstream) }).await;
    let answer = gateway.client().generate(ask("gas?")).await.unwrap().into_inner();
    assert_eq!((answer.text.as_str(), upstream.calls()), ("low", 3));
    assert_eq!(
        gateway.stats().await.served.unwrap().upstream_calls,
        1,
        "one call, however often it was sent"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn failures_of_the_upstream_are_mapped() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let mut client = gateway.client();
    let cases = [(401, Code::FailedPrecondition), (404, Code::InvalidArgument), (502, Code::Unavailable)];
    for (status, code) in cases {
        upstream.change(Script::failing(status, "no"));
        assert_eq!(client.generate(ask("gas?")).await.unwrap_err().code(), code, "{status}");
    }
    upstream.change(Script::function(|_| Reply::failure(429, "slow down").header("retry-after", "7")));
    let throttled = client.generate(ask("gas?")).await.unwrap_err();
    assert_eq!(throttled.code(), Code::ResourceExhausted);
    let details = throttled.get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
    let broken = Reply { body: Some("<html>".into()), ..Reply::text("") };
    upstream.change(Script::function(move |_| broken.clone()));
    assert_eq!(client.generate(ask("gas?")).await.unwrap_err().code(), Code::Internal);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let nobody = testkit::port_nobody_listens_on();
    let upstream = Upstream::start(Script::Echo);
    let config =
        Config { llm_upstream_url: Some(format!("http://{}/v1", nobody.address())), ..config_for(&upstream) };
    let gateway = Gateway::start(config).await;
    assert_eq!(gateway.client().generate(ask("gas?")).await.unwrap_err().code(), Code::Unavailable);
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_silent_is_given_up_at_the_timeout() {
    let upstream = Upstream::start(Script::Echo);
    let gateway =
        Gateway::start(Config { llm_timeout: Duration::from_millis(100), ..config_for(&upstream) }).await;
    let _hold = upstream.hold();
    assert_eq!(gateway.client().generate(ask("gas?")).await.unwrap_err().code(), Code::Unavailable);
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_dearer_than_its_limit_is_not_made() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let request = |limit| wire::GenerateRequest {
        max_cost_usd: Some(limit),
        max_output_tokens: Some(100),
        ..ask("gas?")
    };
    let error = gateway.client().generate(request(0.0001)).await.unwrap_err();
    assert_eq!((error.code(), upstream.calls()), (Code::FailedPrecondition, 0));
    gateway.client().generate(request(0.001)).await.unwrap();
    gateway.client().generate(request(0.0)).await.expect("a cached answer costs nothing");
    gateway.stop().await;
}

#[tokio::test]
async fn bad_input_names_its_field() {
    let gateway = Gateway::alone().await;
    let fields = |status: &tonic::Status| -> Vec<String> {
        let bad = status.get_error_details().bad_request().cloned().unwrap();
        bad.field_violations.into_iter().map(|violation| violation.field).collect()
    };
    let error = gateway.client().generate(wire::GenerateRequest::default()).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["messages".to_owned()]));
    let unserved = wire::GenerateRequest { model: "gpt-x".into(), ..ask("?") };
    let error = gateway.client().generate(unserved).await.unwrap_err();
    assert_eq!((error.code(), fields(&error)), (Code::InvalidArgument, vec!["model".to_owned()]));
    gateway.stop().await;
}

#[tokio::test]
async fn the_key_is_sent_and_words_are_not_logged() {
    let upstream = Upstream::start(Script::Echo);
    let key = config::Value::parse("sk-very-secret").unwrap();
    let mut config = Config { llm_api_key: Some(key), llm_port: 0, ..config_for(&upstream) };
    config.host.log_filter = "trace".into();
    let (telemetry, captured) = telemetry::Telemetry::captured("llm-gateway");
    let bound = llm_gateway::bind(config, telemetry.clone(), clock::Clock::system()).await.unwrap();
    let url = format!("http://{}", bound.local_addr());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = telemetry.spawn(bound.run(async { drop(stopped.await) }));
    let channel = rpc::Channel::lazy(&url, rpc::ChannelOptions::default(), telemetry.clone()).unwrap();
    let mut client = wire::llm_gateway_service_client::LlmGatewayServiceClient::new(channel);
    client.generate(ask("confidential words")).await.unwrap();
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(upstream.requests()[0].headers["authorization"], "Bearer sk-very-secret");
    let spans = captured.spans();
    assert!(spans.iter().any(|span| span.name == "athena.llm.request"), "the upstream call has a span");
    let told = format!("{spans:?}{:?}", captured.log_lines());
    assert!(!told.contains("confidential") && !told.contains("sk-very-secret"));
}
