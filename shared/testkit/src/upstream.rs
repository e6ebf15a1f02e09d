//! A fake model server that speaks the OpenAI dialect: chat completions, whole or streamed, embeddings, and the list of models.

mod answer;
mod script;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::HeaderMap,
    response::Response,
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, task::AbortHandle};

pub use script::{Reply, Script, Usage};

/// A fake model server on a free port of the loopback address. It answers until it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

/// What the fake was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Header names in lower case, and their values.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Value,
}

/// Keeps the answers of an [`Upstream`] back until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Hold(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    calls: watch::Sender<u64>,
    holds: watch::Sender<usize>,
}

impl Upstream {
    /// Starts a server that answers by `script`. Needs a tokio runtime.
    ///
    /// # Panics
    /// Outside of a runtime, and where the loopback address has no free port.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test without a loopback address cannot go on")]
    #[expect(
        clippy::disallowed_methods,
        reason = "the fake has no telemetry: what it does is not the mesh's"
    )]
    pub fn start(script: Script) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let address = listener.local_addr().expect("the address just bound");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            requests: Mutex::default(),
            calls: watch::Sender::new(0),
            holds: watch::Sender::new(0),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .route("/v1/embeddings", post(complete))
            .route("/v1/models", get(models))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Self { address, shared, server }
    }

    /// Returns the base URL as clients of the dialect want it, with `/v1` at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many chat completions and embeddings were asked for.
    #[must_use]
    pub fn calls(&self) -> u64 {
        *self.shared.calls.borrow()
    }

    /// Returns the requests for chat completions and embeddings so far, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().clone()
    }

    /// Waits until at least `calls` chat completions and embeddings were asked for.
    pub async fn arrived(&self, calls: u64) {
        // The sender lives as long as this fake.
        let _ = self.shared.calls.subscribe().wait_for(|so_far| *so_far >= calls).await;
    }

    /// Answers by another script from now on.
    pub fn change(&self, script: Script) {
        *self.shared.script.lock() = script;
    }

    /// Keeps every answer back until the hold is dropped. Calls are counted when they arrive.
    pub fn hold(&self) -> Hold {
        self.shared.holds.send_modify(|holds| *holds += 1);
        Hold(Arc::clone(&self.shared))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.send_modify(|holds| *holds -= 1);
    }
}

async fn complete(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return answer::failure(400, "the body is no JSON");
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    shared.requests.lock().push(Request { headers, body: body.clone() });
    shared.calls.send_modify(|calls| *calls += 1);
    // The script is taken out of its lock: it may be slow, and it may change the script.
    let script = shared.script.lock().clone();
    let reply = script.reply(&body);
    let _ = shared.holds.subscribe().wait_for(|holds| *holds == 0).await;
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    answer::render(&reply, &body)
}

async fn models() -> Json<Value> {
    Json(
        json!({ "object": "list", "data": [{ "id": "fake", "object": "model", "created": 0, "owned_by": "testkit" }] }),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn ask(upstream: &Upstream, body: Value) -> reqwest::Response {
        let url = format!("{}/chat/completions", upstream.url());
        reqwest::Client::new().post(url).bearer_auth("key").json(&body).send().await.unwrap()
    }

    fn question(text: &str) -> Value {
        json!({ "model": "small", "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": text }] })
    }

    fn streamed(text: &str) -> Value {
        let mut body = question(text);
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        body
    }

    #[tokio::test]
    async fn an_echo_answers_with_the_last_message_and_counts_tokens() {
        let upstream = Upstream::start(Script::Echo);
        let answer: Value = ask(&upstream, question("What is gas?")).await.json().await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "What is gas?");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["model"], "small");
        assert_eq!(answer["usage"], json!({ "prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9 }));
    }

    #[tokio::test]
    async fn a_streamed_answer_comes_in_pieces_with_usage_and_an_end() {
        let upstream = Upstream::start(Script::Fixed("gas is low".to_owned()));
        let response = ask(&upstream, streamed("?")).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.text().await.unwrap();
        let events: Vec<&str> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.last(), Some(&"[DONE]"));
        let chunks: Vec<Value> =
            events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let content: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(content, "gas is low");
        assert_eq!(chunks.len(), 6, "role, three words, end, usage: {chunks:#?}");
        assert_eq!(chunks[5]["usage"]["completion_tokens"], 3);
    }

    #[tokio::test]
    async fn a_stream_can_break() {
        let cut = Reply { cut_after: Some(2), ..Reply::text("one two three four") };
        let upstream = Upstream::start(Script::function(move |_| cut.clone()));
        let mut response = ask(&upstream, streamed("?")).await;
        let mut text = String::new();
        let error = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        assert!(error.is_some(), "the connection must break");
        assert!(text.contains("two") && !text.contains("three") && !text.contains("[DONE]"), "{text}");
    }

    #[tokio::test]
    async fn a_failure_has_its_status_headers_and_message() {
        let busy = Reply::failure(429, "slow down").header("retry-after", "7");
        let upstream = Upstream::start(Script::function(move |_| busy.clone()));
        let response = ask(&upstream, question("?")).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["message"], "slow down");
    }

    #[tokio::test]
    async fn requests_are_counted_and_kept() {
        let upstream = Upstream::start(Script::Fixed("yes".to_owned()));
        for text in ["one", "two"] {
            assert!(ask(&upstream, question(text)).await.status().is_success());
        }
        let requests = upstream.requests();
        assert_eq!(upstream.calls(), 2);
        assert_eq!(requests[1].body["messages"][1]["content"], "two");
        assert_eq!(requests[0].headers["authorization"], "Bearer key");
    }

    #[tokio::test]
    async fn held_answers_come_after_the_hold() {
        let upstream = Upstream::start(Script::Echo);
        let hold = upstream.hold();
        let mut asked = Box::pin(ask(&upstream, question("?")));
        tokio::select! {
            _ = &mut asked => panic!("answered while held"),
            () = upstream.arrived(1) => {}
        }
        drop(hold);
        assert!(asked.await.status().is_success());
    }

    #[tokio::test]
    async fn an_embedding_counts_the_letters_of_its_text() {
        let upstream = Upstream::start(Script::Echo);
        let body = json!({ "model": "small", "input": ["aab", "i"], "dimensions": 4 });
        let url = format!("{}/embeddings", upstream.url());
        let response = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["data"][0]["embedding"], json!([0.0, 2.0, 1.0, 0.0]));
        assert_eq!(
            answer["data"][1],
            json!({ "object": "embedding", "index": 1, "embedding": [0.0, 1.0, 0.0, 0.0] })
        );
        assert_eq!(upstream.calls(), 1);
    }

    #[tokio::test]
    async fn a_script_can_change_and_an_answer_can_be_broken() {
        let upstream = Upstream::start(Script::failing(503, "down"));
        assert_eq!(ask(&upstream, question("?")).await.status(), 503);
        upstream.change(Script::function(|_| Reply::json(&json!({ "a": 1 })).mangled().finished("length")));
        let answer: Value = ask(&upstream, question("?")).await.json().await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "{\"a");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        let broken = Reply { body: Some("{".to_owned()), ..Reply::text("") };
        upstream.change(Script::function(move |_| broken.clone().after(Duration::from_millis(1))));
        assert!(ask(&upstream, question("?")).await.json::<Value>().await.is_err());
    }
}
