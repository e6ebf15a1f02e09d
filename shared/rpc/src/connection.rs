//! One connection from its first byte to its last: handshake, calls, age, drain.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use rand::Rng as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::{
    door::Door,
    draining::{Closing, Stage},
    net::Io,
    tls::Tls,
};

/// What a client of HTTP/2 says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Streams that were reset before they were accepted, per connection. With hyper's default (20) a burst of cancelled calls
/// ends the whole connection, and innocent calls with it (qdrant#1907); with 1024 it still does on a busy machine, where
/// more than that come in before this side gets to run.
const PENDING_RESETS: usize = 8192;
/// Calls at a time on one connection.
const STREAMS: u32 = 1024;
/// Idle time after which a connection is asked whether it lives, and the time it has to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Longest time that a connection on which all is said stays open for its client to close it.
const LINGER: Duration = Duration::from_secs(1);

/// How connections are served; one for all of a host.
pub(crate) struct Terms {
    tls: Option<Arc<Tls>>,
    /// Time for the handshake of TLS and the first bytes.
    handshake_timeout: Duration,
    /// Age at which a connection is asked to end; zero for never.
    max_age: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

/// What one connection is under: its own stages, which the calls on it follow, and those of its host.
struct Life {
    opened: Instant,
    max_age: Duration,
    stage: watch::Sender<Stage>,
    host: Closing,
}

impl Terms {
    /// Returns terms by which a client has `handshake_timeout` for TLS and its first bytes, and is asked to connect anew at
    /// `max_age`, zero for never.
    pub(crate) fn new(tls: Option<Arc<Tls>>, handshake_timeout: Duration, max_age: Duration) -> Self {
        let mut http1 = http1::Builder::new();
        // Vectored, whatever a connection says before its first write.
        http1.timer(TokioTimer::new()).writev(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(KEEPALIVE.0)
            .keep_alive_timeout(KEEPALIVE.1);
        Self { tls, handshake_timeout, max_age, http1, http2 }
    }

    /// Serves `io` until its client is gone, it is too old, or the host ends it.
    pub(crate) async fn serve(self: Arc<Self>, io: Box<dyn Io>, door: Door, host: Closing) {
        let opened = Instant::now();
        let greeted = tokio::select! {
            greeted = tokio::time::timeout_at(opened + self.handshake_timeout, self.greet(io)) => greeted,
            // Nothing was asked yet: there is nothing to finish.
            () = host.reached(Stage::Closing) => return,
        };
        let (line, is_http2) = match greeted {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!("handshake took too long");
                return;
            }
        };
        let (stage, closing) = Closing::new();
        let service = TowerToHyperService::new(Door { closing, ..door });
        let life = Life { opened, max_age: self.max_age, stage, host };
        let line = TokioIo::new(line);
        if is_http2 {
            life.lead(pin!(self.http2.serve_connection(line, service))).await;
        } else {
            life.lead(pin!(self.http1.serve_connection(line, service))).await;
        }
    }

    /// Shakes hands where that is to be done, and hears whether the client speaks HTTP/2.
    async fn greet(&self, io: Box<dyn Io>) -> io::Result<(Line, bool)> {
        let io = match &self.tls {
            // A handshake is larger than all that comes after it.
            Some(tls) => Box::new(Box::pin(tls.accept(io)).await?),
            None => io,
        };
        let mut line = Line::new(io);
        let is_http2 = line.greeted().await?;
        Ok((line, is_http2))
    }
}

impl Life {
    /// Runs a connection, pinned where it was made, to its end. How it ends is the client's matter; every call on it was measured.
    async fn lead(self, mut connection: Pin<&mut impl GracefulConnection>) {
        tokio::select! {
            // First, so that a request that was heard with the greeting is taken before a drain is.
            biased;
            _ = connection.as_mut() => return,
            () = aged(self.opened, self.max_age) => {}
            () = self.host.reached(Stage::Closing) => {}
        }
        self.stage.send_replace(Stage::Closing);
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.host.reached(Stage::Over) => {}
        }
        self.stage.send_replace(Stage::Over);
        // Until the host ends this task.
        let _ = connection.await;
    }
}

/// Waits until a connection that was opened then is too old. A tenth either way keeps the clients of a host from coming
/// back all at once.
async fn aged(opened: Instant, max_age: Duration) {
    if max_age.is_zero() {
        return std::future::pending().await;
    }
    let age = max_age.mul_f64(rand::rng().random_range(0.9..1.1));
    sleep_until(opened + age).await;
}

/// One connection, which tells its protocol by its first bytes and lets the client close first.
struct Line {
    io: Box<dyn Io>,
    /// The first bytes, how many of them were heard, and how many told to whoever reads.
    greeting: [u8; PREFACE.len()],
    heard: usize,
    told: usize,
    /// Whether anything was written.
    spoke: bool,
    /// How long the client may take to close, once all is said.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl Line {
    fn new(io: Box<dyn Io>) -> Self {
        Self { io, greeting: [0; PREFACE.len()], heard: 0, told: 0, spoke: false, lingers: None }
    }

    /// Waits until the client has said whether it speaks HTTP/2.
    async fn greeted(&mut self) -> io::Result<bool> {
        while self.heard < PREFACE.len() {
            let bytes = self.io.read(&mut self.greeting[self.heard..]).await?;
            self.heard += bytes;
            if bytes == 0 || !PREFACE.starts_with(&self.greeting[..self.heard]) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl AsyncRead for Line {
    /// Tells the greeting with what follows it where there is room: hyper takes a larger buffer for HTTP/1.1, and keeps it, if the
    /// first bytes come alone.
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { io, greeting, heard, told, .. } = &mut *self;
        let rest = &greeting[*told..*heard];
        if rest.is_empty() {
            return Pin::new(&mut **io).poll_read(task, buffer);
        }
        let rest = &rest[..rest.len().min(buffer.remaining())];
        buffer.put_slice(rest);
        *told += rest.len();
        if buffer.remaining() > 0 {
            // That nothing follows is met again by the next read, and an error must not take the greeting with it.
            let _ = Pin::new(&mut **io).poll_read(task, buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.spoke = true;
        Pin::new(&mut *self.io).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(task)
    }

    /// Says that all is said, then reads on until the client closes too, or [`LINGER`] is over. A socket that is closed
    /// before answers all that still arrives by a reset, and a client that meets one while it writes gives up answers, and
    /// the word that it shall go elsewhere, which it has received and not yet read.
    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        let Self { io, lingers, .. } = &mut *self;
        if lingers.is_none() {
            ready!(Pin::new(&mut **io).poll_shutdown(task))?;
        }
        let lingers = lingers.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        // First, as a client that never pauses leaves the task no turn to look at the clock afterwards.
        if lingers.as_mut().poll(task).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; 1024];
        loop {
            let mut late = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut **io).poll_read(task, &mut late)) {
                Ok(()) if !late.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.spoke = true;
        Pin::new(&mut *self.io).poll_write_vectored(task, slices)
    }

    /// HTTP/2 asks before its first write up to which size it copies a message between its neighbours (1 KiB, or 256 bytes where
    /// writes are vectored): a message that is not copied, and the trailers behind it, are one write more for each call.
    fn is_write_vectored(&self) -> bool {
        self.spoke && self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

    use super::{Line, PREFACE};

    /// The end of a connection that broke.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    /// What is found out about a client that says `parts` one after the other, and what is read of it afterwards at once.
    async fn met(parts: &[&[u8]]) -> (bool, Vec<u8>) {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut line = Line::new(Box::new(server));
        let says = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (is_http2, ()) = tokio::join!(line.greeted(), says);
        let mut read = [0; 1024];
        let bytes = line.read(&mut read).await.unwrap();
        (is_http2.unwrap(), read[..bytes].to_vec())
    }

    #[tokio::test]
    async fn a_preface_is_known_however_it_comes_and_is_read_with_what_follows() {
        let mut parts: Vec<&[u8]> = PREFACE.chunks(1).collect();
        parts.push(b"more");
        assert_eq!(met(&parts).await, (true, [&PREFACE[..], b"more"].concat()));
    }

    #[tokio::test]
    async fn anything_else_is_told_as_it_came() {
        for said in ["G", "GET / HTTP/1.1\r\n\r\n", "PRINT / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            assert_eq!(met(&[said.as_bytes()]).await, (false, said.as_bytes().to_vec()));
        }
    }

    #[tokio::test]
    async fn a_request_that_came_before_its_connection_broke_is_told() {
        let said = b"GET / HTTP/1.0\r\n\r\n";
        let mut line = Line::new(Box::new(tokio::io::join(said.chain(Broken), tokio::io::sink())));
        assert!(!line.greeted().await.unwrap());
        let mut read = [0; 64];
        assert_eq!(line.read(&mut read).await.unwrap(), said.len());
        assert_eq!(line.read(&mut read).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_reader_of_few_bytes_gets_them_all() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(&[&PREFACE[..], b"more"].concat()).await.unwrap();
        let mut line = Line::new(Box::new(server));
        assert!(line.greeted().await.unwrap());
        let mut read = [0; 28];
        for part in read.chunks_mut(8) {
            line.read_exact(part).await.unwrap();
        }
        assert_eq!(read, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore");
    }

    #[tokio::test]
    async fn a_client_that_goes_amid_its_greeting_is_no_error() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"PRI").await.unwrap();
        drop(client);
        assert!(!Line::new(Box::new(server)).greeted().await.unwrap());
    }
}
