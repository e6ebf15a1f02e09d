//! One connection of a load.

use std::io;

use axum::{
    body::Bytes,
    http::{HeaderMap, Request, header::HOST},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Load, Protocol};

type Body = Full<Bytes>;

/// A way to the server.
pub(super) enum Connection {
    Http1(Option<http1::SendRequest<Body>>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    pub(super) async fn open(load: &Load) -> io::Result<Self> {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        match load.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                drive(connection);
                Ok(Self::Http1(Some(sender)))
            }
            Protocol::Grpc(_) => {
                let handshake = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = handshake.map_err(io::Error::other)?;
                drive(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    /// Returns this connection for another caller: the same over HTTP/2, this one alone over HTTP/1.1.
    pub(super) fn another(&mut self) -> Self {
        match self {
            Self::Http1(sender) => Self::Http1(sender.take()),
            Self::Http2(sender) => Self::Http2(sender.clone()),
        }
    }

    /// Makes one call and reads its answer to the end; the error says what was wrong with it.
    pub(super) async fn call(&mut self, load: &Load, body: Bytes) -> Result<(), String> {
        let request = self.request(load, body).map_err(|error| error.to_string())?;
        let response = match self {
            Self::Http1(Some(sender)) => {
                sender.ready().await.map_err(|error| error.to_string())?;
                sender.send_request(request).await
            }
            Self::Http1(None) => return Err("another caller has the connection".to_owned()),
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let (parts, body) = response.map_err(|error| error.to_string())?.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        if !parts.status.is_success() {
            return Err(format!("{}: {}", parts.status, String::from_utf8_lossy(&body.to_bytes())));
        }
        match load.protocol {
            Protocol::Http1 => Ok(()),
            Protocol::Grpc(_) => grpc_outcome(body.trailers().unwrap_or(&parts.headers)),
        }
    }

    fn request(&self, load: &Load, body: Bytes) -> Result<Request<Body>, axum::http::Error> {
        let request = match self {
            Self::Http1(_) => Request::post(&load.path).header(HOST, load.address.to_string()),
            Self::Http2(_) => Request::post(format!("http://{}{}", load.address, load.path)),
        };
        let mut request = request.body(Body::new(body))?;
        request.headers_mut().extend(load.headers.clone());
        Ok(request)
    }
}

fn grpc_outcome(trailers: &HeaderMap) -> Result<(), String> {
    match trailers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"0") => Ok(()),
        _ => Err(format!("grpc-status {:?} {:?}", trailers.get("grpc-status"), trailers.get("grpc-message"))),
    }
}

/// Keeps a connection going until either side closes it.
#[expect(clippy::disallowed_methods, reason = "a load has no telemetry: what it does is not the mesh's")]
fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    tokio::spawn(connection);
}
