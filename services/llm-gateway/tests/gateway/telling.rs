//! What spans and metrics tell of upstreams, and of how requests were answered.

use std::time::Duration;

use contracts::llm as wire;
use llm_gateway::Config;
use serde_json::{Value, json};
use telemetry::{Captured, GenAi, SpanData, Telemetry};
use testkit::{
    faulty::Faulty,
    upstream::{Reply, Script, Upstream},
};

use crate::{
    harness::{Gateway, analyst, ask, config_for, pool},
    routes::{anthropic, claude, gathered},
};

const STANDARD: GenAi = GenAi { conventions: true, content: false };
const WORDS: GenAi = GenAi { conventions: true, content: true };

async fn telling(config: Config, gen_ai: GenAi) -> (Gateway, Captured) {
    let (telemetry, captured) = Telemetry::captured_telling("llm-gateway", gen_ai);
    (Gateway::started(config, telemetry).await, captured)
}

/// Waits for `count` spans of a name and returns them in the order in which they ended.
async fn spans(captured: &Captured, name: &str, count: usize) -> Vec<SpanData> {
    let of = |spans: &[SpanData]| -> Vec<SpanData> {
        spans.iter().filter(|span| span.name == name && is_ours(span)).cloned().collect()
    };
    let until = captured.until(|spans| of(spans).len() >= count);
    let spans = of(&tokio::time::timeout(Duration::from_secs(20), until).await.unwrap());
    assert_eq!(spans.len(), count);
    spans
}

/// The callers of these tests have spans as well, named as those of the server.
fn is_ours(span: &SpanData) -> bool {
    attribute(span, "rpc.method").is_none() || format!("{:?}", span.span_kind) == "Server"
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.to_string())
}

/// Returns the names of the attributes that begin with `prefix`, sorted.
fn named(span: &SpanData, prefix: &str) -> Vec<String> {
    let names = span.attributes.iter().map(|pair| pair.key.to_string());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

/// Adds up what `/metrics` says under a name.
fn metric(gateway: &Gateway, name: &str, label: &str) -> f64 {
    let text = gateway.telemetry.prometheus_text();
    let lines = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn streamed(words: &str) -> wire::GenerateStreamRequest {
    wire::GenerateStreamRequest { messages: ask(words).messages, ..wire::GenerateStreamRequest::default() }
}

const GENERATE: &str = "athena.llm.v1.LlmGatewayService/Generate";

#[tokio::test]
async fn without_the_opt_in_a_request_has_a_span_of_our_own_and_nothing_of_the_conventions() {
    let upstream = Upstream::start(Script::Echo);
    // Words alone are not enough: they belong to the conventions' spans.
    let gen_ai = GenAi { conventions: false, content: true };
    let (gateway, captured) = telling(config_for(&upstream), gen_ai).await;
    gateway.client().generate(ask("confidential words")).await.unwrap();
    upstream.change(Script::failing(401, "no"));
    gateway.client().generate(ask("other words")).await.unwrap_err();
    let [answered, failed] = spans(&captured, "athena.llm.request", 2).await.try_into().unwrap();
    assert_eq!(format!("{:?}", answered.span_kind), "Client");
    let told = ["athena.llm.upstream", "athena.llm.model", "athena.llm.finish"]
        .map(|name| attribute(&answered, name));
    assert_eq!(told, ["openai", "small", "stop"].map(|word| Some(word.to_owned())));
    assert!(attribute(&answered, "athena.llm.input_tokens").is_some());
    assert_eq!(attribute(&failed, "error.type").as_deref(), Some("credentials"));
    gateway.client().generate(ask("confidential words")).await.unwrap();
    let told = format!("{:?}{:?}", captured.spans(), captured.log_lines());
    assert!(!told.contains("confidential") && !told.contains("gen_ai."), "{told}");
    assert!(!gateway.telemetry.prometheus_text().contains("gen_ai"));
    gateway.stop().await;
}

#[tokio::test]
async fn with_the_opt_in_a_request_is_told_by_the_conventions_and_without_words() {
    let upstream = Upstream::start(Script::function(|_| Reply::text("a hidden answer").counted(1_000, 100)));
    let (gateway, captured) = telling(config_for(&upstream), STANDARD).await;
    let request = wire::GenerateRequest {
        temperature: Some(0.5),
        top_p: Some(0.25),
        max_output_tokens: Some(77),
        ..ask("confidential words")
    };
    gateway.client().generate(request).await.unwrap();
    let chat = spans(&captured, "chat small", 1).await.remove(0);
    assert_eq!(format!("{:?}", chat.span_kind), "Client");
    let port = upstream.url().rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
    let expected = [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.max_tokens", "77"),
        ("gen_ai.request.model", "small"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.request.top_p", "0.25"),
        ("gen_ai.response.finish_reasons", "[\"stop\"]"),
        ("gen_ai.response.id", "chatcmpl-fake"),
        ("gen_ai.response.model", "small"),
        ("gen_ai.usage.cache_read.input_tokens", "0"),
        ("gen_ai.usage.input_tokens", "1000"),
        ("gen_ai.usage.output_tokens", "100"),
    ];
    assert_eq!(named(&chat, "gen_ai."), expected.map(|(name, _)| name));
    for (name, value) in
        expected.into_iter().chain([("server.port", &*port), ("athena.llm.upstream", "openai")])
    {
        assert_eq!(attribute(&chat, name).as_deref(), Some(value), "{name}");
    }
    assert!(attribute(&chat, "server.address").is_some_and(|host| upstream.url().contains(&host)));
    assert!(
        (metric(&gateway, "gen_ai_client_token_usage_sum", "gen_ai_token_type=\"input\"") - 1e3).abs() < 1e-9
    );
    assert!(
        (metric(&gateway, "gen_ai_client_token_usage_sum", "gen_ai_token_type=\"output\"") - 1e2).abs()
            < 1e-9
    );
    assert_eq!(
        metric(&gateway, "gen_ai_client_operation_duration_seconds_count", "gen_ai_response_model=\"small\""),
        1.0
    );
    assert_eq!(metric(&gateway, "gen_ai_client_operation_time_to_first_chunk_seconds_count", ""), 0.0);
    let told = format!("{:?}{:?}", captured.spans(), captured.log_lines());
    assert!(!told.contains("confidential") && !told.contains("hidden"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_has_a_first_chunk_and_a_failure_a_type() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let (gateway, captured) = telling(config_for(&upstream), WORDS).await;
    gathered(&gateway, streamed("?")).await;
    let chat = spans(&captured, "chat small", 1).await.remove(0);
    assert_eq!(attribute(&chat, "gen_ai.request.stream").as_deref(), Some("true"));
    assert!(attribute(&chat, "gen_ai.response.time_to_first_chunk").is_some());
    assert_eq!(attribute(&chat, "gen_ai.response.id").as_deref(), Some("chatcmpl-fake"));
    let answer: Value = serde_json::from_str(&attribute(&chat, "gen_ai.output.messages").unwrap()).unwrap();
    let parts = json!([{"type": "text", "content": "gas is low"}]);
    assert_eq!(answer, json!([{"role": "assistant", "parts": parts, "finish_reason": "stop"}]));
    assert_eq!(metric(&gateway, "gen_ai_client_operation_time_to_first_chunk_seconds_count", ""), 1.0);
    assert_eq!(metric(&gateway, "gen_ai_client_operation_duration_seconds_count", ""), 1.0);

    upstream.change(Script::failing(401, "no"));
    gateway.client().generate(ask("other words")).await.unwrap_err();
    let failed = spans(&captured, "chat small", 2).await.remove(1);
    assert_eq!(attribute(&failed, "error.type").as_deref(), Some("credentials"));
    assert!(format!("{:?}", failed.status).starts_with("Error"), "{:?}", failed.status);
    let counted =
        metric(&gateway, "gen_ai_client_operation_duration_seconds_count", "error_type=\"credentials\"");
    assert_eq!(counted, 1.0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_told_as_cancelled() {
    let upstream = Upstream::start(Script::function(|_| Reply::text("late").after(Duration::from_secs(60))));
    let (gateway, captured) = telling(config_for(&upstream), STANDARD).await;
    gateway.hasty(Duration::from_millis(200)).generate(ask("?")).await.unwrap_err();
    let chat = spans(&captured, "chat small", 1).await.remove(0);
    let kind = attribute(&chat, "error.type").unwrap();
    assert!(["cancelled", "deadline"].contains(&&*kind), "{kind}");
    gateway.stop().await;
}

#[tokio::test]
async fn words_are_told_where_they_are_switched_on_and_bounded() {
    let upstream = Upstream::start(Script::Echo);
    let config = Config { llm_told_bytes: config::Value::parse("1KiB").unwrap(), ..config_for(&upstream) };
    let (gateway, captured) = telling(config, WORDS).await;
    let long = "confidential ".repeat(1_000);
    gateway.client().generate(ask("a few words")).await.unwrap();
    gateway.client().generate(ask(&long)).await.unwrap();
    let [short, cut] = spans(&captured, "chat small", 2).await.try_into().unwrap();
    let asked = json!([{"role": "user", "parts": [{"type": "text", "content": "a few words"}]}]);
    let read = |span: &SpanData, name: &str| -> Value {
        serde_json::from_str(&attribute(span, name).unwrap()).unwrap()
    };
    assert_eq!(read(&short, "gen_ai.input.messages"), asked);
    assert_eq!(read(&short, "gen_ai.output.messages")[0]["parts"][0]["content"], "a few words");
    assert_eq!(attribute(&short, "gen_ai.system_instructions"), None, "there are none");
    for name in ["gen_ai.input.messages", "gen_ai.output.messages"] {
        let told = attribute(&cut, name).unwrap();
        assert!((900..=1_024).contains(&told.len()), "{name}: {}", told.len());
        assert!(read(&cut, name)[0]["parts"][0]["content"].as_str().unwrap().starts_with("confidential"));
    }
    assert!(!format!("{:?}", captured.log_lines()).contains("confidential"), "no log line shows them");
    assert!(!gateway.telemetry.prometheus_text().contains("confidential"));
    gateway.stop().await;
}

#[tokio::test]
async fn instructions_stand_apart_where_the_api_takes_them_apart() {
    let upstream = Faulty::start(anthropic);
    let file = claude(&upstream.url());
    let (gateway, captured) = telling(file.config(), WORDS).await;
    let mut request = ask("gas?");
    let system = wire::Message {
        role: wire::Role::System.into(),
        content: "be brief".into(),
        ..wire::Message::default()
    };
    request.messages.insert(0, system);
    gateway.client().generate(request).await.unwrap();
    let chat = spans(&captured, "chat haiku", 1).await.remove(0);
    assert_eq!(attribute(&chat, "gen_ai.provider.name").as_deref(), Some("anthropic"));
    assert_eq!(attribute(&chat, "gen_ai.usage.cache_read.input_tokens").as_deref(), Some("900"));
    let told = attribute(&chat, "gen_ai.system_instructions").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&told).unwrap(),
        json!([{"type": "text", "content": "be brief"}])
    );
    assert!(!attribute(&chat, "gen_ai.input.messages").unwrap().contains("be brief"));
    gateway.stop().await;
}

#[tokio::test]
async fn hits_are_in_no_figure_of_an_upstream() {
    let upstream = Upstream::start(Script::function(|_| Reply::text("low").counted(1_000, 100)));
    let (gateway, _) = telling(config_for(&upstream), STANDARD).await;
    let figures = |gateway: &Gateway| {
        [
            "llm_response_time_seconds_count",
            "gen_ai_client_operation_duration_seconds_count",
            "gen_ai_client_token_usage_sum",
            "athena_llm_cost_total",
            "athena_llm_upstream_calls_total",
            "athena_llm_upstream_attempts_total",
        ]
        .map(|name| metric(gateway, name, ""))
    };
    gateway.client().generate(ask("gas?")).await.unwrap();
    let missed = figures(&gateway);
    assert!((missed[3] - 0.0012).abs() < 1e-12, "{missed:?}");
    assert_eq!([missed[0], missed[1], missed[2], missed[4], missed[5]], [1.0, 1.0, 1_100.0, 1.0, 1.0]);
    for _ in 0..3 {
        gateway.client().generate(ask("gas?")).await.unwrap();
        gathered(&gateway, streamed("gas?")).await;
    }
    assert_eq!(figures(&gateway), missed);
    let items = |tier: &str| metric(&gateway, "athena_llm_items_total", &format!("served=\"{tier}\""));
    assert_eq!((items("upstream"), items("exact")), (1.0, 6.0));
    let phase = |name: &str| {
        metric(&gateway, "athena_llm_phase_duration_seconds_count", &format!("phase=\"{name}\""))
    };
    assert_eq!((phase("cache"), phase("upstream"), phase("gateway"), phase("pattern")), (7.0, 1.0, 7.0, 0.0));
    gateway.stop().await;
}

#[tokio::test]
async fn the_span_of_a_request_says_how_it_was_answered() {
    let upstream = Upstream::start(Script::function(|_| Reply::text("low").counted(1_000, 100)));
    let (gateway, captured) = telling(config_for(&upstream), GenAi::default()).await;
    gateway.client().generate(ask("gas?")).await.unwrap();
    gateway.hand.advance(Duration::from_secs(61));
    gateway.client().generate(ask("gas?")).await.unwrap();
    let [missed, hit] = spans(&captured, GENERATE, 2).await.try_into().unwrap();
    let told = |span: &SpanData| {
        let names = ["served_by", "cost_usd", "saved_usd", "attempts", "age_seconds"];
        names.map(|name| attribute(span, &format!("athena.llm.{name}")).unwrap_or_default())
    };
    assert_eq!(told(&missed), ["upstream", "0.0012", "0", "1", ""]);
    assert_eq!(told(&hit), ["exact", "", "0.0012", "", "61"]);

    gathered(&gateway, streamed("gas?")).await;
    let stream = spans(&captured, "athena.llm.v1.LlmGatewayService/GenerateStream", 1).await.remove(0);
    assert_eq!(told(&stream), ["exact", "", "0.0012", "", "61"]);

    let body = json!({"model": "small", "messages": [{"role": "user", "content": "gas?"}]});
    let url = format!("{}/chat/completions", gateway.chat_url());
    reqwest::Client::new().post(url).json(&body).send().await.unwrap().bytes().await.unwrap();
    let http = spans(&captured, "POST /v1/chat/completions", 1).await.remove(0);
    assert_eq!(attribute(&http, "athena.llm.served_by").as_deref(), Some("exact"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_span_of_an_analysis_counts_what_answered() {
    let upstream = Upstream::start(analyst());
    let (gateway, captured) = telling(config_for(&upstream), GenAi::default()).await;
    let analyze = |pools: std::ops::Range<usize>| wire::AnalyzeRequest {
        observations: pools.map(pool).collect(),
        ..wire::AnalyzeRequest::default()
    };
    gateway.client().analyze(analyze(0..3)).await.unwrap();
    gateway.client().analyze(analyze(1..5)).await.unwrap();
    let [_, second] =
        spans(&captured, "athena.llm.v1.LlmGatewayService/Analyze", 2).await.try_into().unwrap();
    let counted = |tier: &str| attribute(&second, &format!("athena.llm.served_by.{tier}"));
    assert_eq!((counted("exact"), counted("merged")), (Some("2".into()), Some("2".into())));
    assert_eq!(counted("upstream"), None);
    assert_eq!(attribute(&second, "athena.llm.attempts").as_deref(), Some("1"));
    assert!(attribute(&second, "athena.llm.cost_usd").is_some_and(|usd| usd.parse::<f64>().unwrap() > 0.0));
    let phase = |name: &str| {
        metric(&gateway, "athena_llm_phase_duration_seconds_count", &format!("phase=\"{name}\""))
    };
    assert_eq!((phase("pattern"), phase("cache"), phase("upstream"), phase("gateway")), (2.0, 2.0, 2.0, 2.0));
    gateway.stop().await;
}
