//! Calls as bytes: what no generated client would send, and what comes back.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use rpc::Code;
use tokio::{net::TcpStream, task::JoinSet};
use tonic::Status;
use tonic_types::StatusExt as _;

/// Longest wait for an answer: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One HTTP/2 connection. It is closed when this is dropped.
#[derive(Debug)]
pub struct Wire {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    _connection: JoinSet<()>,
}

/// What a server made of a call.
#[derive(Debug)]
pub struct Answer {
    /// The code; of a stream that began, OK.
    pub code: Code,
    /// The message.
    pub message: String,
    /// The paths of `google.rpc.BadRequest`.
    pub fields: Vec<String>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Fails if nothing listens there, or it does not speak HTTP/2.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        // A client that leaves a thousand streams, as a storm does, would otherwise give up on itself.
        let (sender, connection) = builder.max_local_error_reset_streams(None).handshake(stream).await?;
        let mut alive = JoinSet::new();
        // How it ends shows in the calls.
        alive.spawn(async move { drop(connection.await) });
        Ok(Self { sender, address, _connection: alive })
    }

    /// Sends `body`, frames and all, and waits for the code. Of a `stream`'s answer only the beginning is waited for.
    ///
    /// # Errors
    ///
    /// Fails if no gRPC answer comes within 20 s.
    pub async fn call(&self, path: &str, headers: &HeaderMap, body: Bytes, stream: bool) -> Result<Answer> {
        let answer = self.exchange(path, headers, body, stream);
        tokio::time::timeout(PATIENCE, answer).await.context("no answer within 20 s")?
    }

    async fn exchange(&self, path: &str, headers: &HeaderMap, body: Bytes, stream: bool) -> Result<Answer> {
        let mut request = Request::post(format!("http://{}{path}", self.address)).body(())?;
        request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
        request.headers_mut().extend(headers.clone());
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut upload) = sender.send_request(request, false)?;
        // A server that knows enough refuses the rest.
        let _ = upload.send_data(body, true);
        let response = response.await?;
        if !response.status().is_success() {
            bail!("HTTP {}", response.status());
        }
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Ok(answer(&status));
        }
        if stream {
            return Ok(answer(&Status::new(Code::Ok, "")));
        }
        let mut body = response.into_body();
        while let Some(chunk) = body.data().await {
            let length = chunk?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?.context("the answer has no trailers")?;
        Ok(answer(&Status::from_header_map(&trailers).context("the trailers carry no status")?))
    }
}

/// Puts a message into its frame.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    framed(0, u32::try_from(message.len()).unwrap_or(u32::MAX), message)
}

/// Makes a frame whose head says what it is told to.
#[must_use]
pub fn framed(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(message);
    frame.freeze()
}

fn answer(status: &Status) -> Answer {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    Answer {
        code: status.code(),
        message: status.message().to_owned(),
        fields: bad.into_iter().map(|violation| violation.field).collect(),
    }
}
