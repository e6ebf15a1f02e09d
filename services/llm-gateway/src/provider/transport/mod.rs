//! How a request reaches its upstream and an answer comes back: the connections of one upstream.
//!
//! 1. A connection of HTTP/1.1 belongs to the request that it carries, and is driven by the task that waits for the answer. As a task of
//!    its own it would cost two wakes of another thread and a hand-over for each request.
//! 2. Where TLS agrees on HTTP/2 one connection, a task of its own, carries all requests.
//! 3. A request whose kept connection is closed before it is sent, or before the upstream looks at it, goes over a new one. Nothing else is
//!    sent twice here.
//! 4. Redirects are not followed.

mod body;
mod connect;
mod connection;
mod pool;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::Full;
use hyper::body::Incoming;
use telemetry::Telemetry;

pub use self::connect::{SetupError, address};
pub(super) use self::{
    body::Body,
    connect::{Outside, usual_port},
};
use self::{connect::Connector, connection::Connection, pool::Pool};

/// The connections of one upstream.
#[derive(Debug)]
pub(super) struct Transport {
    connector: Connector,
    pool: Arc<Pool>,
    /// As it stands in a request of HTTP/1.1: the path, or all of it for a proxy that forwards.
    target: Uri,
    /// The whole of it, for HTTP/2.
    address: Uri,
    /// Of HTTP/1.1, with the host.
    headers: HeaderMap,
}

/// What an upstream sent back; its body may still be on its way.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// Why nothing came back: the cause is for logs alone.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection could be made.
    #[error("the upstream cannot be connected to")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke.
    #[error("the connection to the upstream broke")]
    Broken(#[source] hyper::Error),
}

/// What is sent: a body that is there already.
type Outgoing = Full<Bytes>;

impl Transport {
    /// Prepares to send to `address` with `headers`; connects to nothing yet. A connection may take as long as `connect_timeout`.
    ///
    /// # Errors
    /// [`SetupError`] where the address, the proxy or the authorities cannot be used.
    pub(super) fn new(
        address: Uri,
        mut headers: HeaderMap,
        outside: &Outside,
        connect_timeout: Duration,
        telemetry: &Telemetry,
    ) -> Result<Self, SetupError> {
        headers.insert(header::HOST, connect::host(&address)?);
        let proxy = outside.proxies.intercept(&address);
        let connector = Connector::new(&address, proxy.as_ref(), outside, connect_timeout, telemetry)?;
        let target = match proxy {
            // It reads whom to ask, and who asks.
            Some(proxy) if address.scheme() == Some(&Scheme::HTTP) => {
                headers.extend(proxy.basic_auth().map(|shown| (header::PROXY_AUTHORIZATION, shown.clone())));
                address.clone()
            }
            _ => address.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
        };
        Ok(Self { connector, pool: Pool::new(telemetry), target, address, headers })
    }

    /// Posts `body`, and waits for the head of what comes back.
    ///
    /// # Errors
    /// [`Error`] where there is none.
    pub(super) async fn post(&self, body: &Bytes) -> Result<Reply, Error> {
        if let Some(kept) = self.pool.take() {
            match self.send(kept, body).await {
                Err((_, true)) => {}
                sent => return sent.map_err(|(error, _)| error),
            }
        }
        let made = self.connector.connect().await?;
        let connection = self.pool.enter(made);
        self.send(connection, body).await.map_err(|(error, _)| error)
    }

    /// Sends `body`; of a failure it says whether the upstream has seen nothing of it.
    async fn send(&self, mut connection: Connection, body: &Bytes) -> Result<Reply, (Error, bool)> {
        let sent = connection.send(self.request(&connection, body.clone())).await;
        let response = sent.map_err(|error| {
            let is_unsent = error.message().is_some() || is_unseen(error.error());
            (Error::Broken(error.into_error()), is_unsent)
        })?;
        let (head, incoming) = response.into_parts();
        let body = Body::new(incoming, connection, self.pool.clone());
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    fn request(&self, connection: &Connection, body: Bytes) -> Request<Outgoing> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.headers.clone();
        match connection {
            Connection::Own(_) => *request.uri_mut() = self.target.clone(),
            Connection::Shared(_) => {
                *request.uri_mut() = self.address.clone();
                request.headers_mut().remove(header::HOST);
            }
        }
        request
    }
}

/// Returns whether an upstream said that it did not look at a request: it closes the connection in order, or has no room on it.
fn is_unseen(error: &hyper::Error) -> bool {
    let said = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    said.is_some_and(|said| {
        let closes = said.is_go_away() && said.reason() == Some(h2::Reason::NO_ERROR);
        let refuses = said.is_reset() && said.reason() == Some(h2::Reason::REFUSED_STREAM);
        said.is_remote() && (closes || refuses)
    })
}
