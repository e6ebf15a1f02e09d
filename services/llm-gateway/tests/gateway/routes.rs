//! Upstreams, weights, fallbacks and dialects of a routes file.

use std::{path::PathBuf, time::Duration};

use contracts::llm::{self as wire, generate_stream_response::Part};
use llm_gateway::{Config, Error, bind};
use rpc::Serving;
use serde_json::{Value, json};
use telemetry::Telemetry;
use testkit::{
    faulty::{Act, Faulty, Request, head, response},
    upstream::{Reply, Script, Upstream},
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Gateway, ask};

/// A routes file in a folder of its own.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.toml");
        std::fs::write(&path, text).unwrap();
        Self { _folder: folder, path }
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            llm_model: "fast".into(),
            llm_routes: Some(self.path.clone()),
            llm_max_retries: 0,
            ..Config::defaults()
        }
    }
}

fn upstream(name: &str, url: &str, more: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\ndialect = \"openai\"\nurl = \"{url}\"\n{more}\n")
}

/// Two upstreams, of which the second is the fallback of the model `fast`.
fn with_fallback(one: &str, two: &str) -> File {
    File::of(&format!(
        "{}{}[[model]]\nname = \"fast\"\nupstreams = [{{ upstream = \"one\", model = \"small\" }}]\n\
         fallback = [{{ upstream = \"two\", model = \"large\" }}]\n\
         [[price]]\nupstream = \"two\"\nmodel = \"*\"\ninput = 3.0\noutput = 15.0\nsource = \"a test\"\ndate = \"2026-11-25\"\n",
        upstream("one", one, ""),
        upstream("two", two, ""),
    ))
}

#[tokio::test]
async fn calls_are_shared_by_weight() {
    let (one, two) = (Upstream::start(Script::Echo), Upstream::start(Script::Echo));
    let model = "[[model]]\nname = \"fast\"\nupstreams = [{ upstream = \"one\", model = \"a\", weight = 3 }, { upstream = \"two\", model = \"b\" }]\n";
    let file =
        File::of(&format!("{}{}{model}", upstream("one", &one.url(), ""), upstream("two", &two.url(), "")));
    let gateway = Gateway::start(file.config()).await;
    for call in 0..200 {
        let answer = gateway.client().generate(ask(&format!("gas {call}?"))).await.unwrap().into_inner();
        let served = answer.served.unwrap();
        assert_eq!((served.model.as_str(), served.attempts), ("fast", 1));
        assert!(["one/a", "two/b"].contains(&&*served.upstream), "{}", served.upstream);
    }
    // Three of four, give or take six standard deviations.
    assert!((113..=187).contains(&one.calls()), "{}", one.calls());
    assert_eq!((one.calls() + two.calls(), &one.requests()[0].body["model"]), (200, &json!("a")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_fallback_answers_for_an_upstream_that_fails_at_its_own_price() {
    let one = Upstream::start(Script::failing(500, "down"));
    let two = Upstream::start(Script::function(|_| Reply::text("low").counted(1_000, 100)));
    let file = with_fallback(&one.url(), &two.url());
    let gateway = Gateway::start(Config { llm_max_retries: 1, ..file.config() }).await;
    let served = gateway.client().generate(ask("gas?")).await.unwrap().into_inner().served.unwrap();
    assert_eq!((&*served.upstream, served.attempts, one.calls()), ("two/large", 3, 2));
    assert!((served.cost_usd - 0.0045).abs() < 1e-12, "{}", served.cost_usd);
    let again = gateway.client().generate(ask("gas?")).await.unwrap().into_inner().served.unwrap();
    assert_eq!((again.by(), &*again.upstream, again.attempts), (wire::ServedBy::Exact, "", 0));
    assert_eq!(gateway.part("upstream/one").await, Some(Serving::No));
    assert_eq!(gateway.part("upstream/two").await, Some(Serving::Yes));
    gateway.stop().await;
}

#[tokio::test]
async fn what_another_upstream_may_answer_is_asked_there_and_a_bad_request_is_not() {
    let (one, two) = (Upstream::start(Script::Echo), Upstream::start(Script::Echo));
    let file = with_fallback(&one.url(), &two.url());
    let gateway = Gateway::start(file.config()).await;
    let page = Reply { body: Some("<html>".into()), ..Reply::text("") };
    let elsewhere = [
        Script::failing(401, "key"),
        Script::failing(404, "no such model"),
        Script::function(move |_| page.clone()),
        Script::function(|_| Reply::failure(429, "busy").header("retry-after", "60")),
    ];
    for (call, script) in (1..).zip(elsewhere) {
        one.change(script);
        gateway.client().generate(ask(&format!("{call}?"))).await.unwrap();
        assert_eq!((one.calls(), two.calls()), (call, call));
    }
    one.change(Script::failing(400, "bad"));
    // The first one asked for a minute: while it has it, the second is asked.
    gateway.client().generate(ask("gas?")).await.unwrap();
    assert_eq!((one.calls(), two.calls()), (4, 5));
    two.change(Script::failing(400, "bad"));
    let error = gateway.client().generate(ask("apr?")).await.unwrap_err();
    assert_eq!((error.code(), one.calls(), two.calls()), (Code::InvalidArgument, 4, 6));
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_falls_back_before_its_first_piece() {
    let one = Faulty::start(|_| vec![Act::Send(head("text/event-stream")), Act::Reset]);
    let two = Upstream::start(Script::Fixed("gas is low".into()));
    let file = with_fallback(&one.url(), &two.url());
    let gateway = Gateway::start(file.config()).await;
    let request =
        wire::GenerateStreamRequest { messages: ask("?").messages, ..wire::GenerateStreamRequest::default() };
    let (text, end) = gathered(&gateway, request).await;
    let served = end.served.unwrap();
    assert_eq!(
        (&*text, &*served.upstream, served.attempts, one.requests()),
        ("gas is low", "two/large", 2, 1)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_lets_the_others_wait() {
    let one = Upstream::start(Script::Echo);
    let hold = one.hold();
    let bounds = "max_concurrent = 1\nmax_queued = 1\nmax_queue_wait = \"10s\"";
    let model = "[[model]]\nname = \"fast\"\nupstreams = [{ upstream = \"one\", model = \"a\" }]\n";
    let file = File::of(&format!("{}{model}", upstream("one", &one.url(), bounds)));
    let gateway = Gateway::start(file.config()).await;
    let call = |words: &'static str| {
        let mut client = gateway.client();
        gateway.telemetry.spawn(async move { client.generate(ask(words)).await })
    };
    let running = call("1?");
    one.arrived(1).await;
    let waiting = call("2?");
    while !gateway.telemetry.prometheus_text().contains("athena_llm_upstream_queued{upstream=\"one\"} 1") {
        tokio::task::yield_now().await;
    }
    let refused = gateway.client().generate(ask("3?")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_secs(5));
    drop(hold);
    for call in [running, waiting] {
        call.await.unwrap().unwrap();
    }
    let text = gateway.telemetry.prometheus_text();
    assert!(text.contains("athena_llm_upstream_shed_total{upstream=\"one\"} 1"), "{text}");
    assert!(text.contains("athena_llm_upstream_running{upstream=\"one\"} 0"), "{text}");
    assert_eq!(one.calls(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_routed_model_and_one_of_the_settings_stand_side_by_side() {
    let (one, any) =
        (Upstream::start(Script::Fixed("routed".into())), Upstream::start(Script::Fixed("any".into())));
    let file = with_fallback(&one.url(), &one.url());
    let gateway = Gateway::start(Config { llm_upstream_url: Some(any.url()), ..file.config() }).await;
    for (model, expected, upstream) in [("", "routed", "one/small"), ("gpt-x", "any", "openai/gpt-x")] {
        let request = wire::GenerateRequest { model: model.into(), ..ask("?") };
        let answer = gateway.client().generate(request).await.unwrap().into_inner();
        assert_eq!((&*answer.text, &*answer.served.unwrap().upstream), (expected, upstream));
    }
    gateway.stop().await;
    let alone = Gateway::start(file.config()).await;
    let unknown = wire::GenerateRequest { model: "gpt-x".into(), ..ask("?") };
    assert_eq!(alone.client().generate(unknown).await.unwrap_err().code(), Code::InvalidArgument);
    alone.stop().await;
}

#[tokio::test]
async fn a_wrong_routes_file_is_refused_at_the_start() {
    let start = async |file: File| {
        bind(Config { llm_port: 0, ..file.config() }, Telemetry::silent("test"), clock::Clock::system()).await
    };
    let error = start(File::of("[[upstream]]\nname = \"one\"\n")).await.unwrap_err();
    assert!(matches!(error, Error::Routes(_)), "{error:?}");
    let unnamed = File::of(&upstream("one", "http://127.0.0.1:1", ""));
    assert!(
        matches!(start(unnamed).await, Err(Error::NoUpstream(_))),
        "the default model is none of the file"
    );
}

#[tokio::test]
async fn settings_that_do_nothing_are_refused_at_the_start() {
    let start = async |change: &dyn Fn(&mut Config)| {
        let file = File::of("[[tenant]]\nname = \"a\"\nusd_per_day = 1.0\n");
        let url = Some("http://127.0.0.1:1/v1".into());
        let mut config = Config { llm_port: 0, llm_upstream_url: url, ..file.config() };
        change(&mut config);
        bind(config, Telemetry::silent("test"), clock::Clock::system()).await.map(drop)
    };
    assert!(matches!(start(&|_| {}).await, Err(Error::Unpriced)), "the budget would never be used");
    start(&|config| config.llm_price_output_per_mtok = 1.0).await.unwrap();
    let verified = |name: &'static str| {
        move |config: &mut Config| {
            config.llm_price_output_per_mtok = 1.0;
            config.llm_semantic_verifier = Some(name.into());
        }
    };
    start(&verified("openai/judge")).await.unwrap();
    let error = start(&verified("builtin/statistics")).await.unwrap_err();
    assert!(matches!(error, Error::Verifier(_)), "{error:?}");
}

/// A fake of Anthropic's API: answers with the words asked, a call of each tool, and what it read from its cache.
pub(crate) fn anthropic(request: &Request) -> Vec<Act> {
    let is_sound = request.path == "/v1/messages"
        && request.headers.get("x-api-key").is_some_and(|key| key == "k")
        && request.headers.contains_key("anthropic-version")
        && request.body["max_tokens"].is_u64();
    if !is_sound {
        return vec![Act::Send(response(401, "application/json", &[], "{}"))];
    }
    let refusal = |status: u16, header: &str, kind: &str, message: &str| {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
        vec![Act::Send(response(status, "application/json", &[header], &body))]
    };
    match (request.words(), request.number) {
        ("busy", 0) => return refusal(529, "retry-after: 0", "overloaded_error", "Overloaded"),
        ("slow down", _) => return refusal(429, "retry-after: 3600", "rate_limit_error", "slow down"),
        ("wrong", _) => {
            let message = "temperature: range: 0..1";
            return refusal(400, "x-request-id: 1", "invalid_request_error", message);
        }
        _ => {}
    }
    let words = request.words();
    let usage = json!({"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 10});
    if !request.is_streamed() {
        let mut content = vec![json!({"type": "text", "text": words})];
        for tool in request.body["tools"].as_array().into_iter().flatten() {
            content.push(
                json!({"type": "tool_use", "id": "t1", "name": tool["name"], "input": {"z": 1, "a": 2}}),
            );
        }
        let reason = if content.len() > 1 { "tool_use" } else { "end_turn" };
        let body = json!({"type": "message", "content": content, "stop_reason": reason, "usage": usage});
        return vec![Act::Send(response(200, "application/json", &[], &body.to_string()))];
    }
    let events = [
        json!({"type": "message_start", "message": {"usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": words}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ];
    let written =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).into_bytes();
    let cut = if words == "cut" { 4 } else { events.len() };
    let events: Vec<u8> = events[..cut].iter().flat_map(written).collect();
    vec![Act::Send([head("text/event-stream"), events].concat())]
}

pub(crate) fn claude(url: &str) -> File {
    File::of(&format!(
        "[[upstream]]\nname = \"claude\"\ndialect = \"anthropic\"\nurl = \"{url}\"\nkey = \"k\"\n\
         [[model]]\nname = \"fast\"\nupstreams = [{{ upstream = \"claude\", model = \"haiku\" }}]\n\
         [[price]]\nmodel = \"haiku\"\ninput = 1.0\ncached_input = 0.1\noutput = 5.0\nsource = \"a test\"\ndate = \"2026-11-25\"\n"
    ))
}

pub(crate) async fn gathered(
    gateway: &Gateway,
    request: wire::GenerateStreamRequest,
) -> (String, wire::StreamEnd) {
    let mut stream = gateway.client().generate_stream(request).await.unwrap().into_inner();
    let mut text = String::new();
    loop {
        match stream.message().await.unwrap().unwrap().part.unwrap() {
            Part::Text(piece) => text.push_str(&piece),
            Part::End(end) => return (text, *end),
            _ => {}
        }
    }
}

#[tokio::test]
async fn anthropic_answers_with_tools_and_what_it_had_cached_has_its_price() {
    let upstream = Faulty::start(anthropic);
    let gateway = Gateway::start(claude(&upstream.url()).config()).await;
    let tool = wire::Tool { name: "price".into(), ..wire::Tool::default() };
    let request = wire::GenerateRequest { tools: vec![tool], ..ask("gas?") };
    let answer = gateway.client().generate(request).await.unwrap().into_inner();
    assert_eq!((&*answer.text, answer.finish_reason()), ("gas?", wire::FinishReason::ToolCalls));
    assert_eq!(
        (&*answer.tool_calls[0].name, &*answer.tool_calls[0].arguments),
        ("price", "{\"z\":1,\"a\":2}")
    );
    let served = answer.served.unwrap();
    let usage = served.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (1_000, 900, 10));
    assert_eq!(&*served.upstream, "claude/haiku");
    assert!((served.cost_usd - 0.000_24).abs() < 1e-12, "{}", served.cost_usd);
    gateway.stop().await;
}

#[tokio::test]
async fn anthropic_streams_and_a_cut_stream_is_a_failure() {
    let upstream = Faulty::start(anthropic);
    let gateway = Gateway::start(claude(&upstream.url()).config()).await;
    let request = |words: &str| wire::GenerateStreamRequest {
        messages: ask(words).messages,
        ..wire::GenerateStreamRequest::default()
    };
    let (text, end) = gathered(&gateway, request("gas is low")).await;
    assert_eq!((&*text, end.finish_reason()), ("gas is low", wire::FinishReason::Stop));
    let usage = end.served.unwrap().usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated), (1_000, 10, false));
    let mut cut = gateway.client().generate_stream(request("cut")).await.unwrap().into_inner();
    let error = loop {
        match cut.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut stream has no end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Internal);
    gateway.stop().await;
}

#[tokio::test]
async fn anthropics_failures_are_mapped() {
    let upstream = Faulty::start(anthropic);
    let gateway = Gateway::start(Config { llm_max_retries: 1, ..claude(&upstream.url()).config() }).await;
    let answer = gateway.client().generate(ask("busy")).await.unwrap().into_inner();
    assert_eq!((&*answer.text, answer.served.unwrap().attempts), ("busy", 2));
    let throttled = gateway.client().generate(ask("slow down")).await.unwrap_err();
    assert_eq!(throttled.code(), Code::ResourceExhausted);
    let delay = throttled.get_error_details().retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_secs(3_600)));
    let refused = gateway.client().generate(ask("wrong")).await.unwrap_err();
    let field = refused.get_error_details().bad_request().unwrap().field_violations[0].field.clone();
    assert_eq!((refused.code(), &*field), (Code::InvalidArgument, "temperature"));
    let shape =
        wire::ResponseFormat { kind: Some(wire::response_format::Kind::JsonObject(wire::JsonObject {})) };
    let unsupported = wire::GenerateRequest { response_format: Some(shape), ..ask("?") };
    let calls = upstream.requests();
    let error = gateway.client().generate(unsupported).await.unwrap_err();
    assert_eq!((error.code(), upstream.requests()), (Code::InvalidArgument, calls), "nobody was asked");
    gateway.stop().await;
}
