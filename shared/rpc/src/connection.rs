//! One connection from its first byte to its last: handshake, calls, age, drain.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rand::Rng as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::{
    door::Door,
    draining::{Closing, Stage},
    net::Io,
    tls::Tls,
};

/// Bytes after which a connection has said what it is: the preface of HTTP/2, longer than the shortest request of HTTP/1.1.
const GREETING: usize = 24;
/// Longest time that a connection on which all is said stays open for its client to close it.
const LINGER: Duration = Duration::from_secs(1);

/// How connections are served; one for all of a host.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) tls: Option<Arc<Tls>>,
    /// Time for the handshake of TLS and the first bytes.
    pub(crate) handshake_timeout: Duration,
    /// Age at which a connection is asked to end; zero for never.
    pub(crate) max_age: Duration,
}

impl Terms {
    /// Serves `io` until its client is gone, it is too old, or the host ends it.
    pub(crate) async fn serve(
        self,
        io: Box<dyn Io>,
        door: Door,
        builder: Builder<TokioExecutor>,
        host: Closing,
    ) {
        let opened = Instant::now();
        let patience = opened + self.handshake_timeout;
        let shaken = tokio::select! {
            shaken = self.shake(io, patience) => shaken,
            // Nothing was asked yet: there is nothing to finish.
            () = host.reached(Stage::Closing) => None,
        };
        let Some(io) = shaken else { return };
        let heard = Arc::new(AtomicUsize::new(0));
        let (stage, closing) = Closing::new();
        let service = TowerToHyperService::new(Door { closing, ..door });
        let io = TokioIo::new(Listened { io, heard: Arc::clone(&heard), spoke: false, lingers: None });
        let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
        // How a connection ends is the client's matter; every call on it was measured.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = silent(heard, patience) => return,
            () = aged(opened, self.max_age) => {}
            () = host.reached(Stage::Closing) => {}
        }
        stage.send_replace(Stage::Closing);
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => return,
            () = host.reached(Stage::Over) => {}
        }
        stage.send_replace(Stage::Over);
        // Until the host ends this task.
        let _ = connection.await;
    }

    /// Shakes hands where that is to be done; `None` if it fails or takes too long.
    async fn shake(&self, io: Box<dyn Io>, patience: Instant) -> Option<Box<dyn Io>> {
        let Some(tls) = &self.tls else { return Some(io) };
        match tokio::time::timeout_at(patience, tls.accept(io)).await {
            Ok(Ok(io)) => return Some(Box::new(io)),
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "tls handshake failed");
            }
            Err(_) => tracing::debug!("tls handshake took too long"),
        }
        None
    }
}

/// Waits until a connection that has not said what it is has had its time.
async fn silent(heard: Arc<AtomicUsize>, patience: Instant) {
    sleep_until(patience).await;
    if heard.load(Ordering::Relaxed) >= GREETING {
        std::future::pending::<()>().await;
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

/// Counts the first bytes that are read, and lets the client close first.
struct Listened {
    io: Box<dyn Io>,
    heard: Arc<AtomicUsize>,
    /// Whether anything was written.
    spoke: bool,
    /// How long the client may take to close, once all is said.
    lingers: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Listened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.io).poll_read(task, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 && self.heard.load(Ordering::Relaxed) < GREETING {
            self.heard.fetch_add(bytes, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Listened {
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
        let mut bytes = [0; 1024];
        loop {
            let mut late = ReadBuf::new(&mut bytes);
            match Pin::new(&mut **io).poll_read(task, &mut late) {
                Poll::Ready(Ok(())) if !late.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return lingers.as_mut().poll(task).map(Ok),
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
