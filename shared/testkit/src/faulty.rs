//! A model server that does what no server should, byte by byte, and counts its connections.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What is done with a connection after a request was read; each ends with the connection closed, unless the client closes it first.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, with a pause between, until the client leaves.
    Repeat(Vec<u8>, Duration),
    /// Says nothing more until the client leaves.
    Hang,
    /// Resets the connection.
    Reset,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its number, from 0.
    pub number: u64,
    /// Where it was sent to.
    pub path: String,
    /// Header names in lower case, and their values.
    pub headers: BTreeMap<String, String>,
    /// The body; null if it is no JSON.
    pub body: Value,
}

type Script = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

/// A server on a free port of the loopback address, which takes one request a connection. It runs until it is dropped.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: AbortHandle,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    requests: watch::Sender<u64>,
    open: watch::Sender<usize>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared")
            .field("requests", &self.requests)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Faulty {
    /// Starts a server that does what `script` makes of a request. Needs a tokio runtime.
    ///
    /// # Panics
    /// Outside of a runtime, and where the loopback address has no free port.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test without a loopback address cannot go on")]
    #[expect(
        clippy::disallowed_methods,
        reason = "the fake has no telemetry: what it does is not the mesh's"
    )]
    pub fn start(script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let address = listener.local_addr().expect("the address just bound");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            requests: watch::Sender::new(0),
            open: watch::Sender::new(0),
        });
        let server = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Self { address, shared, server }
    }

    /// Returns the base URL of its API, with `/v1` at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Does something else from now on; requests are counted on.
    pub fn change(&self, script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) {
        *self.shared.script.lock() = Arc::new(script);
    }

    /// Returns how many requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        *self.shared.requests.borrow()
    }

    /// Waits until so many requests came.
    pub async fn arrived(&self, requests: u64) {
        // The sender lives as long as this fake.
        let _ = self.shared.requests.subscribe().wait_for(|so_far| *so_far >= requests).await;
    }

    /// Waits until no connection is open.
    pub async fn left(&self) {
        let _ = self.shared.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.open.send_modify(|open| *open += 1);
        let shared = shared.clone();
        connections.spawn(async move {
            let _ = take(stream, &shared).await;
            shared.open.send_modify(|open| *open -= 1);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn take(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let Some(mut request) = request(&mut stream).await? else { return Ok(()) };
    shared.requests.send_modify(|requests| {
        request.number = *requests;
        *requests += 1;
    });
    let script = shared.script.lock().clone();
    for act in script(&request) {
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).await?,
            Act::Repeat(bytes, pause) => loop {
                stream.write_all(&bytes).await?;
                if pause.is_zero() {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(pause).await;
                }
            },
            Act::Hang => {
                // Returns when the client closes its side.
                let _ = stream.read(&mut [0; 1]).await?;
                return Ok(());
            }
            Act::Reset => {
                stream.flush().await?;
                stream.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    stream.shutdown().await
}

/// Reads a request; `None` if the client left before its end.
async fn request(stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut read = Vec::new();
    loop {
        if let Some(request) = parsed(&read) {
            return Ok(Some(request));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    }
}

/// Returns a request once all of it is there.
fn parsed(read: &[u8]) -> Option<Request> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&read[..end]);
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: BTreeMap<_, _> = lines.filter_map(header).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let body = read.get(end + 4..end + 4 + length)?;
    let body = serde_json::from_slice(body).unwrap_or_default();
    Some(Request { number: 0, path, headers, body })
}

/// Makes a whole HTTP response; further headers stand one a line, without their line ends.
#[must_use]
pub fn response(status: u16, kind: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let further: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nconnection: close\r\n{further}");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Makes the head of a response whose body ends with the connection.
#[must_use]
pub fn head(kind: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n").into_bytes()
}

/// Makes the body of a chat completion that says `text`.
#[must_use]
pub fn completion(text: &str) -> String {
    let message = json!({"role": "assistant", "content": text});
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5});
    json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
        .to_string()
}

/// Makes an event of a streamed chat completion that says `text`.
#[must_use]
pub fn event(text: &str) -> Vec<u8> {
    let delta = json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {delta}\n\n").into_bytes()
}

/// Makes the last events of a streamed chat completion.
#[must_use]
pub fn end() -> Vec<u8> {
    let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    format!("data: {last}\n\ndata: [DONE]\n\n").into_bytes()
}

impl Request {
    /// Returns the last words of a conversation; nothing if there are none.
    #[must_use]
    pub fn words(&self) -> &str {
        let last = self.body["messages"].as_array().and_then(|messages| messages.last());
        let content = last.map(|last| &last["content"]);
        content
            .and_then(|content| content.as_str().or_else(|| content[0]["text"].as_str()))
            .unwrap_or_default()
    }

    /// Returns whether the answer is wanted piece by piece.
    #[must_use]
    pub fn is_streamed(&self) -> bool {
        self.body["stream"] == true
    }
}
