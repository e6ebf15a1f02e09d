//! The dialect of OpenAI's API.

use std::time::Duration;

use llm_gateway::Config;
use reqwest::{Response, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use testkit::upstream::{Reply, Script, Upstream};

use crate::harness::{Gateway, config_for};

async fn post(gateway: &Gateway, body: &Value, headers: &[(&str, &str)]) -> Response {
    let client = reqwest::Client::new();
    let mut request = client.post(format!("{}/chat/completions", gateway.chat_url())).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn ask(words: &str) -> Value {
    json!({"model": "small", "messages": [{"role": "user", "content": words}]})
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).unwrap().to_str().unwrap().to_owned()
}

/// Reads a stream and returns its events; the mark of the end is `null`.
async fn events(response: Response) -> Vec<Value> {
    assert_eq!(header(response.headers(), "content-type"), "text/event-stream");
    let text = response.text().await.unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let read = events.map(|event| match event.strip_prefix("data: ").unwrap() {
        "[DONE]" => Value::Null,
        data => serde_json::from_str(data).unwrap(),
    });
    read.collect()
}

fn words(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

fn tool_reply() -> Reply {
    let function = json!({"name": "price", "arguments": "{\"pool\": \"A\"}"});
    let further = json!({
        "reasoning_content": "hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    });
    Reply {
        further: further.as_object().unwrap().clone(),
        finish_reason: "tool_calls".into(),
        ..Reply::text("")
    }
}

#[tokio::test]
async fn a_completion_comes_from_the_upstream_once_and_then_from_the_cache() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let gateway = Gateway::before(&upstream).await;
    let mut body = ask("?");
    body["reasoning_effort"] = json!("low");
    let first = post(&gateway, &body, &[("authorization", "Bearer whatever")]).await;
    assert_eq!(first.status(), StatusCode::OK);
    let headers = first.headers().clone();
    assert_eq!(
        (header(&headers, "x-athena-served"), header(&headers, "x-athena-saved-usd")),
        ("upstream".into(), "0.000000000".into())
    );
    assert!(header(&headers, "server-timing").contains("upstream;dur="));
    assert_eq!(header(&headers, "x-athena-upstream"), "openai/small");
    let answer: Value = first.json().await.unwrap();
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("small")));
    assert_eq!(answer["choices"][0]["message"], json!({"role": "assistant", "content": "gas is low"}));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    assert_eq!(upstream.requests()[0].body, body, "what the caller sent and nothing else");
    assert!(
        !upstream.requests()[0].headers.contains_key("authorization"),
        "a caller's token is not the upstream's"
    );

    gateway.hand.advance(Duration::from_secs(61));
    let again = post(&gateway, &body, &[]).await;
    assert_eq!(header(again.headers(), "x-athena-served"), "exact");
    assert!(!again.headers().contains_key("x-athena-upstream"), "nobody was asked");
    assert_eq!(header(again.headers(), "x-athena-age-seconds"), "61");
    assert_ne!(header(again.headers(), "x-athena-saved-usd"), "0.000000000");
    let again: Value = again.json().await.unwrap();
    assert_eq!((&again["choices"], &again["usage"]), (&answer["choices"], &answer["usage"]));
    assert_ne!(again["id"], answer["id"]);
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_is_told_in_pieces_and_replayed_from_the_cache() {
    let upstream = Upstream::start(Script::Fixed("gas is low".into()));
    let gateway = Gateway::before(&upstream).await;
    for served in ["upstream", "exact"] {
        let response = post(&gateway, &streamed(ask("?")), &[]).await;
        assert_eq!(header(response.headers(), "x-athena-served"), served);
        let asked = response.headers().get("x-athena-upstream").map(|asked| asked.to_str().unwrap());
        assert_eq!(asked, (served == "upstream").then_some("openai/small"));
        let events = events(response).await;
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(words(&events), "gas is low");
        let [.., last, usage, done] = &events[..] else { panic!("too short: {events:?}") };
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(3)));
        assert!(done.is_null());
        assert!(events[..events.len() - 1].iter().all(|event| event["id"] == events[0]["id"]));
    }
    // A stream and a whole answer are one question.
    let whole = post(&gateway, &ask("?"), &[]).await;
    assert_eq!(header(whole.headers(), "x-athena-served"), "exact");
    assert_eq!(upstream.calls(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn tool_calls_and_reasoning_survive_stream_and_cache() {
    let upstream = Upstream::start(Script::function(|_| tool_reply()));
    let gateway = Gateway::before(&upstream).await;
    let mut body = ask("?");
    let schema =
        json!({"type": "object", "properties": {"pool": {"type": "string"}, "a": {"type": "number"}}});
    body["tools"] = json!([{"type": "function", "function": {"name": "price", "parameters": schema}}]);
    for _ in 0..2 {
        let events = events(post(&gateway, &streamed(body.clone()), &[]).await).await;
        let calls: Vec<_> = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0].as_object())
            .collect();
        assert_eq!(calls.len(), 1);
        assert_eq!(
            (&calls[0]["id"], &calls[0]["function"]["arguments"]),
            (&json!("c1"), &json!("{\"pool\": \"A\"}"))
        );
        assert!(events.iter().any(|event| event["choices"][0]["delta"]["reasoning_content"] == "hm"));
        let whole: Value = post(&gateway, &body, &[]).await.json().await.unwrap();
        let choice = &whole["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["message"]["content"]),
            (&json!("tool_calls"), &Value::Null)
        );
        assert_eq!(choice["message"]["tool_calls"], tool_reply().further["tool_calls"]);
        assert_eq!(choice["message"]["reasoning_content"], "hm");
    }
    assert_eq!(upstream.calls(), 1);
    let sent = serde_json::to_string(&upstream.requests()[0].body["tools"]).unwrap();
    assert!(
        sent.contains(r#"{"pool":{"type":"string"},"a":{"type":"number"}}"#),
        "a schema keeps its order: {sent}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn an_upstream_that_fails_is_told_by_status_before_a_stream_begins() {
    let upstream = Upstream::start(Script::function(|_| {
        let mut reply = Reply::failure(429, "slow down");
        reply.headers.push(("retry-after".into(), "7".into()));
        reply
    }));
    let gateway = Gateway::before(&upstream).await;
    for body in [ask("?"), streamed(ask("?"))] {
        let response = post(&gateway, &body, &[]).await;
        assert_eq!(
            (response.status().as_u16(), header(response.headers(), "retry-after")),
            (429, "7".into())
        );
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["type"], "rate_limit_error");
        assert!(!error.to_string().contains("slow down"), "an upstream's words may repeat the prompt");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_has_an_error_and_no_end_and_is_not_stored() {
    let upstream =
        Upstream::start(Script::function(|_| Reply { cut_after: Some(1), ..Reply::text("gas is low") }));
    let gateway = Gateway::before(&upstream).await;
    let cut = events(post(&gateway, &streamed(ask("?")), &[]).await).await;
    assert_eq!(words(&cut), "gas ");
    assert_eq!(cut.last().unwrap()["error"]["type"], "server_error");
    upstream.change(Script::Fixed("gas is high".into()));
    let whole = events(post(&gateway, &streamed(ask("?")), &[]).await).await;
    assert_eq!(words(&whole), "gas is high");
    gateway.stop().await;
}

#[tokio::test]
async fn cache_control_is_honoured() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let served = async |headers: &[(&str, &str)]| {
        header(post(&gateway, &ask("?"), headers).await.headers(), "x-athena-served")
    };
    assert_eq!(served(&[("cache-control", "no-store")]).await, "upstream");
    assert_eq!(served(&[]).await, "upstream");
    assert_eq!(served(&[("cache-control", "no-cache")]).await, "upstream");
    assert_eq!(served(&[]).await, "exact");
    gateway.hand.advance(Duration::from_secs(10));
    assert_eq!(served(&[("cache-control", "max-age=9")]).await, "upstream");
    let lines = [("cache-control", "max-age=9"), ("cache-control", "no-cache")];
    assert_eq!(served(&lines).await, "upstream", "lines are joined");
    gateway.stop().await;
}

#[tokio::test]
async fn bad_requests_are_errors_of_the_dialect() {
    let upstream = Upstream::start(Script::Echo);
    let gateway =
        Gateway::start(Config { llm_model: "builtin/statistics".into(), ..Config::defaults() }).await;
    let error = async |body: &Value, headers: &[(&str, &str)]| {
        let response = post(&gateway, body, headers).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["error"].clone())
    };
    let (status, missing) = error(&ask("?"), &[]).await;
    assert_eq!((status, &missing["code"]), (404, &json!("model_not_found")));
    let (status, wrong) = error(&json!({"messages": [{"role": "user"}], "n": 3}), &[]).await;
    assert_eq!(
        (status, &wrong["param"], &wrong["type"]),
        (400, &json!("n"), &json!("invalid_request_error"))
    );
    let url = format!("{}/chat/completions", gateway.chat_url());
    let client = reqwest::Client::new();
    let send = async |kind: &str, body: Vec<u8>| {
        client.post(&url).header("content-type", kind).body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send("application/json", b"{".to_vec()).await, 400);
    assert_eq!(send("text/plain", ask("?").to_string().into_bytes()).await, 415);
    assert_eq!(send("application/json", vec![b' '; 17 << 20]).await, 413);
    assert_eq!(upstream.calls(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_is_the_api_key_and_tenants_share_nothing() {
    let upstream = Upstream::start(Script::Echo);
    let tokens = config::Value::parse("secret-a=a:agent,secret-b=b:agent").unwrap();
    let mut config = config_for(&upstream);
    config.host.auth_tokens = tokens;
    let gateway = Gateway::start(config).await;
    for headers in [&[][..], &[("authorization", "Bearer wrong")]] {
        let stranger = post(&gateway, &ask("?"), headers).await;
        assert_eq!(stranger.status().as_u16(), 401);
        assert_eq!(stranger.json::<Value>().await.unwrap()["error"]["type"], "authentication_error");
    }
    for (token, served) in [("secret-a", "upstream"), ("secret-b", "upstream"), ("secret-a", "exact")] {
        let response = post(&gateway, &ask("?"), &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(header(response.headers(), "x-athena-served"), served, "{token}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn models_are_listed() {
    let upstream = Upstream::start(Script::Echo);
    let gateway = Gateway::before(&upstream).await;
    let get = async |path: &str| reqwest::get(format!("{}{path}", gateway.chat_url())).await.unwrap();
    let list: Value = get("/models").await.json().await.unwrap();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(names, ["small", "builtin/statistics", "hashing-512"]);
    let one: Value = get("/models/builtin/statistics").await.json().await.unwrap();
    assert_eq!(one["id"], "builtin/statistics");
    let nothing = get("/nothing").await;
    assert_eq!(nothing.status().as_u16(), 404);
    assert_eq!(nothing.json::<Value>().await.unwrap()["error"]["code"], "unknown_url");
    gateway.stop().await;
}

#[tokio::test]
async fn more_calls_than_are_let_in_are_shed_with_a_wait() {
    let upstream = Upstream::start(Script::Echo);
    let mut config = config_for(&upstream);
    config.host.max_concurrent_calls = 1;
    config.host.max_queued_calls = 0;
    let gateway = Gateway::start(config).await;
    let hold = upstream.hold();
    let first = async {
        let body = ask("one");
        post(&gateway, &body, &[]).await.status().as_u16()
    };
    let second = async {
        upstream.arrived(1).await;
        let body = ask("two");
        let shed = post(&gateway, &body, &[]).await;
        assert!(shed.headers().contains_key("retry-after"));
        drop(hold);
        let status = shed.status().as_u16();
        assert_eq!(shed.json::<Value>().await.unwrap()["error"]["code"], "overloaded");
        status
    };
    assert_eq!(tokio::join!(first, second), (200, 429));
    gateway.stop().await;
}

#[tokio::test]
async fn texts_become_vectors() {
    let gateway = Gateway::alone().await;
    let client = reqwest::Client::new();
    let ask = async |body: Value| {
        client.post(format!("{}/embeddings", gateway.chat_url())).json(&body).send().await.unwrap()
    };
    let answer: Value = ask(json!({"model": "hashing-512", "input": ["gas is low", "gas is low"]}))
        .await
        .json()
        .await
        .unwrap();
    let vector = |place: usize| answer["data"][place]["embedding"].as_array().unwrap().clone();
    assert_eq!((vector(0).len(), answer["data"][1]["index"].as_u64()), (512, Some(1)));
    assert_eq!(vector(0), vector(1));
    let length: f64 = vector(0).iter().map(|value| value.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert_eq!(ask(json!({"model": "another", "input": "x"})).await.status().as_u16(), 404);
    gateway.stop().await;
}
