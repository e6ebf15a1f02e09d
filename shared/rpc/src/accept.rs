//! Accepts connections, and lets them finish in a bounded time.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tonic::transport::server::TcpConnectInfo;

use crate::{
    again::again,
    connection::Terms,
    door::{Door, Gate},
    draining::{Closing, Stage},
    net::{AnyListener, Io},
};

/// Pause after an accept failed, as it does when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);
/// Least time between two warnings that there is no room.
const TELL: Duration = Duration::from_secs(60);
/// What a drain keeps back, at most and as a part of itself, to send the last words of the calls that it ends.
const LAST_WORDS: (Duration, u32) = (Duration::from_millis(500), 5);

/// Serves connections until they are told to finish.
pub(crate) struct Connections {
    gate: Arc<Gate>,
    router: axum::Router,
    address: SocketAddr,
    terms: Arc<Terms>,
    /// A permit for each connection.
    room: Arc<Semaphore>,
    stage: watch::Sender<Stage>,
    closing: Closing,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Makes room for `most` connections.
    pub(crate) fn new(
        gate: Arc<Gate>,
        router: axum::Router,
        address: SocketAddr,
        terms: Terms,
        most: usize,
    ) -> Self {
        let (stage, closing) = Closing::new();
        let room = Arc::new(Semaphore::new(most));
        Self { gate, router, address, terms: Arc::new(terms), room, stage, closing, tasks: JoinSet::new() }
    }

    /// Accepts until `stop` is ready. While there is no room, the next connections wait in the system's backlog.
    pub(crate) async fn accept(&mut self, listener: &dyn AnyListener, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut told: Option<Instant> = None;
        loop {
            let full = self.room.available_permits() == 0;
            if full && told.is_none_or(|told| told.elapsed() >= TELL) {
                tracing::warn!(connections = self.tasks.len(), "no room for another connection");
                told = Some(Instant::now());
            }
            let room = Arc::clone(&self.room);
            let next = async {
                // Fails only if it is closed, which it never is.
                let room = room.acquire_owned().await.ok();
                (room, listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => return,
                Some(_) = self.tasks.join_next() => {}
                (room, accepted) = next => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer, room),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "connection not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    fn serve(&mut self, stream: Box<dyn Io>, peer: SocketAddr, room: Option<OwnedSemaphorePermit>) {
        let caller = peer.ip().to_string().into();
        let peer = TcpConnectInfo { local_addr: Some(self.address), remote_addr: Some(peer) };
        let closing = self.closing.clone();
        let door = Door { gate: Arc::clone(&self.gate), router: self.router.clone(), peer, caller, closing };
        let served = Arc::clone(&self.terms).serve(stream, door, self.closing.clone());
        // Moved from here on as a pointer: each `async` around it would keep room for it twice, and connections are many.
        let served = self.gate.telemetry.carry(again(Box::pin(served)));
        self.tasks.spawn(async move {
            served.await;
            drop(room);
        });
    }

    /// Lets the connections finish their calls: watches end at once, all else shortly before `limit`, with a status. What is
    /// left at `limit` is cut off. Returns how many connections had to be told.
    pub(crate) async fn finish(mut self, limit: Duration) -> usize {
        let end = Instant::now() + limit;
        self.stage.send_replace(Stage::Closing);
        let calls = end - LAST_WORDS.0.min(limit / LAST_WORDS.1);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let left = if tokio::time::timeout_at(calls, all).await.is_ok() { 0 } else { self.tasks.len() };
        self.stage.send_replace(Stage::Over);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What has no last word by then is cut off with the rest.
        let _ = tokio::time::timeout_at(end, all).await;
        self.tasks.shutdown().await;
        left
    }
}
