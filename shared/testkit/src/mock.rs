//! A model server for measurements: the same answer to every chat completion, fast enough to be no part of the figure.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

/// What the model says, always.
const TEXT: &str = "Gas on this chain is low now: the base fee fell through the night, few blocks are full, and the \
                    tip that lands in the next block is near its minimum. Waiting longer saves little.";

/// A mock of a model server over HTTP/1.1 on one thread of its own, which ends when this is dropped.
///
/// It answers `POST /v1/chat/completions`, whole or as a stream, `GET /v1/models`, and `GET /calls` with the number of
/// completions asked for so far; `PUT /delay` sets how many milliseconds it takes from then on.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    delay_ms: AtomicU64,
    calls: AtomicU64,
    whole: Bytes,
    events: Bytes,
}

impl Mock {
    /// Starts one on a port of the loopback address, 0 for a free one. It answers a completion after `delay`, to the next
    /// millisecond; zero is at once.
    ///
    /// # Errors
    /// If the port is taken or no thread can be had.
    pub fn start(port: u16, delay: Duration) -> io::Result<Self> {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (delay_ms, calls) = (AtomicU64::new(millis(delay)), AtomicU64::new(0));
        let shared = Arc::new(Shared { delay_ms, calls, whole: whole(), events: events() });
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = Arc::clone(&shared);
        let serve = async move {
            tokio::select! {
                ended = accept(listener, serving) => drop(ended),
                _ = stopped => {}
            }
        };
        thread::Builder::new().name("mock".to_owned()).spawn(move || runtime.block_on(serve))?;
        Ok(Self { address, shared, _stop: stop })
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL as clients of the dialect want it, with `/v1` at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Returns how many chat completions were asked for.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }
}

async fn accept(listener: StdListener, shared: Arc<Shared>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(serve(accepted?.0, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until its client closes or breaks it.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.answer(request).await }
    });
    if stream.set_nodelay(true).is_ok() {
        drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        Ok(match (parts.method, parts.uri.path()) {
            (Method::POST, "/v1/chat/completions") => {
                self.completion(&body.collect().await?.to_bytes()).await
            }
            (Method::GET, "/v1/models") => {
                let models = json!({ "object": "list", "data": [{ "id": "mock", "object": "model" }] });
                response(StatusCode::OK, "application/json", Bytes::from(models.to_string()))
            }
            (Method::GET, "/calls") => {
                let calls = self.calls.load(Ordering::Relaxed).to_string();
                response(StatusCode::OK, "text/plain", Bytes::from(calls))
            }
            (Method::PUT, "/delay") => {
                let body = body.collect().await?.to_bytes();
                let delay_ms = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse().ok());
                self.delay_ms.store(delay_ms.unwrap_or(0), Ordering::Relaxed);
                response(StatusCode::NO_CONTENT, "text/plain", Bytes::new())
            }
            _ => response(StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        })
    }

    async fn completion(&self, body: &[u8]) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let Ok(asked) = serde_json::from_slice::<Value>(body) else {
            return response(
                StatusCode::BAD_REQUEST,
                "text/plain",
                Bytes::from_static(b"the body is no JSON"),
            );
        };
        match self.delay_ms.load(Ordering::Relaxed) {
            0 => {}
            delay => tokio::time::sleep(Duration::from_millis(delay)).await,
        }
        if asked["stream"] == true {
            response(StatusCode::OK, "text/event-stream", self.events.clone())
        } else {
            response(StatusCode::OK, "application/json", self.whole.clone())
        }
    }
}

fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static(kind));
    response
}

fn whole() -> Bytes {
    let message = json!({ "role": "assistant", "content": TEXT });
    let choices = json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
    completion("chat.completion", &choices, usage()).to_string().into()
}

/// Every word as a piece, then the reason of the end, the tokens and the mark of the end, all at once.
fn events() -> Bytes {
    let chunk = |delta: Value, reason: Option<&str>| {
        let choices = json!([{ "index": 0, "delta": delta, "finish_reason": reason }]);
        completion("chat.completion.chunk", &choices, Value::Null)
    };
    let mut chunks = vec![chunk(json!({ "role": "assistant", "content": "" }), None)];
    chunks.extend(TEXT.split_inclusive(' ').map(|piece| chunk(json!({ "content": piece }), None)));
    chunks.push(chunk(json!({}), Some("stop")));
    chunks.push(completion("chat.completion.chunk", &json!([]), usage()));
    let events: String = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    format!("{events}data: [DONE]\n\n").into()
}

fn completion(object: &str, choices: &Value, usage: Value) -> Value {
    json!({
        "id": "chatcmpl-mock",
        "object": object,
        "created": 0,
        "model": "mock",
        "choices": choices,
        "usage": usage,
    })
}

fn usage() -> Value {
    json!({ "prompt_tokens": 40, "completion_tokens": 48, "total_tokens": 88 })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn ask(mock: &Mock, body: Value) -> String {
        let url = format!("{}/chat/completions", mock.url());
        let response = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    #[tokio::test]
    async fn whole_and_streamed_answers_say_the_same_and_are_counted() {
        let mock = Mock::start(0, Duration::ZERO).unwrap();
        let whole: Value = serde_json::from_str(&ask(&mock, json!({ "model": "mock" })).await).unwrap();
        assert_eq!(whole["choices"][0]["message"]["content"], TEXT);
        let events = ask(&mock, json!({ "model": "mock", "stream": true })).await;
        let data = events.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        let said: String = data
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(said, TEXT);
        assert!(events.ends_with("data: [DONE]\n\n"));
        assert_eq!(mock.calls(), 2);
        let calls = reqwest::get(format!("http://{}/calls", mock.address())).await.unwrap();
        assert_eq!(calls.text().await.unwrap(), "2");
    }

    #[tokio::test]
    async fn an_answer_takes_its_delay() {
        let mock = Mock::start(0, Duration::from_millis(30)).unwrap();
        let begun = Instant::now();
        ask(&mock, json!({})).await;
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let client = reqwest::Client::new();
        let set = client.put(format!("http://{}/delay", mock.address())).body("60").send().await.unwrap();
        assert_eq!(set.status(), 204);
        let begun = Instant::now();
        ask(&mock, json!({})).await;
        assert!(begun.elapsed() >= Duration::from_millis(60));
    }
}
