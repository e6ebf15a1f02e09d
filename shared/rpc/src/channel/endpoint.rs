//! One address of a server: its connection, its breaker, and what is on its way to it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, body::Body};

use super::target::Target;
use crate::{
    breaker::{Breaker, BreakerOptions, Outcome, Pass},
    call::Ending,
    chance::Chance,
};

/// Wait after a first failed attempt to connect; each further one doubles it, with jitter. Short, as a service of ours
/// starts within some 10 ms.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// Longest such wait: a server that is back is found this soon.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Where an answer carries the details of its status.
const DETAILS: &str = "grpc-status-details-bin";

/// An address, and how it stands.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) target: Arc<Target>,
    pub(super) address: SocketAddr,
    chance: Arc<Chance>,
    in_flight: AtomicUsize,
    state: Mutex<State>,
    /// Ends, with whatever waits for it, when nobody holds this endpoint any more.
    alive: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    link: Link,
    breaker: Breaker,
    /// Attempts to connect that failed in a row.
    failures: u32,
    /// Counts connections, so that the end of an old one is not taken for that of a new one.
    number: u64,
    /// When the last attempt to connect began.
    dialled: Instant,
    /// When the server last began an answer.
    heard: Instant,
}

/// The connection of an endpoint.
#[derive(Debug)]
enum Link {
    /// None is there; the next call wants one.
    Idle,
    /// One is being made.
    Dialling,
    /// One is there. It serves unless the server said otherwise.
    Ready { sender: SendRequest<Body>, serving: bool, watched: bool },
    /// None could be made when it was tried; nobody tries again before then.
    Down { until: Instant },
}

/// How an endpoint stands for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes calls.
    Ready,
    /// It is connected and says that it does not serve; it may still, as a server does that drains.
    NotServing,
    /// A connection could be made.
    Idle,
    /// A connection is being made.
    Dialling,
    /// It could not be reached, and is not tried before then.
    Down(Instant),
    /// Its breaker is open until then.
    Open(Instant),
}

impl Endpoint {
    pub(super) fn new(
        target: Arc<Target>,
        address: SocketAddr,
        breaker: &BreakerOptions,
        chance: Arc<Chance>,
    ) -> Self {
        let now = Instant::now();
        let breaker = Breaker::new(breaker.clone(), now);
        let state = State { link: Link::Idle, breaker, failures: 0, number: 0, dialled: now, heard: now };
        let in_flight = AtomicUsize::new(0);
        Self { target, address, chance, in_flight, state: Mutex::new(state), alive: watch::Sender::new(()) }
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let state = self.state.lock();
        if let Some(until) = state.breaker.blocked(now) {
            return Standing::Open(until);
        }
        match &state.link {
            Link::Ready { sender, .. } if sender.is_closed() => Standing::Idle,
            Link::Ready { serving: true, .. } => Standing::Ready,
            Link::Ready { serving: false, .. } => Standing::NotServing,
            Link::Dialling => Standing::Dialling,
            Link::Down { until, .. } if now < *until => Standing::Down(*until),
            Link::Down { .. } | Link::Idle => Standing::Idle,
        }
    }

    /// Returns how many calls are on their way.
    pub(super) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes the connection for one call; `None` if it is gone or the breaker has opened by now.
    pub(super) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let Link::Ready { sender, .. } = &state.link else { return None };
        let sender = sender.clone();
        let pass = state.breaker.pass(now)?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Lease { endpoint: self.clone(), sender, pass, begun: now, is_explained: false, is_over: false })
    }

    /// Says that a connection is being made; `None` if that is not wanted. Returns its number.
    pub(super) fn dialling(&self) -> Option<u64> {
        let mut state = self.state.lock();
        let is_wanted = match &state.link {
            Link::Idle => true,
            Link::Ready { sender, .. } => sender.is_closed(),
            Link::Down { until, .. } => *until <= Instant::now(),
            Link::Dialling => false,
        };
        if !is_wanted {
            return None;
        }
        state.link = Link::Dialling;
        state.dialled = Instant::now();
        state.number += 1;
        Some(state.number)
    }

    pub(super) fn connected(&self, number: u64, sender: SendRequest<Body>, serving: bool, watched: bool) {
        let mut state = self.state.lock();
        if state.number == number {
            state.failures = 0;
            state.link = Link::Ready { sender, serving, watched };
        }
    }

    /// Takes that no connection could be made; returns how long nobody tries again.
    pub(super) fn unreachable(&self) -> Duration {
        let mut state = self.state.lock();
        let wait = self.chance.backoff(FIRST_WAIT, LONGEST_WAIT, state.failures).min(LONGEST_WAIT);
        state.failures = state.failures.saturating_add(1);
        state.link = Link::Down { until: Instant::now() + wait };
        wait
    }

    /// Ends the wait of an endpoint whose last attempt began before `since`; returns whether it did. One that was under way then may have
    /// met a server that came back a moment later.
    pub(super) fn hurry(&self, since: Instant) -> bool {
        let mut state = self.state.lock();
        let is_old = matches!(state.link, Link::Down { .. }) && state.dialled < since;
        if is_old {
            state.link = Link::Idle;
        }
        is_old
    }

    /// Takes that the connection of this number has ended.
    pub(super) fn lost(&self, number: u64) {
        let mut state = self.state.lock();
        if state.number == number && matches!(state.link, Link::Ready { .. }) {
            state.link = Link::Idle;
        }
    }

    /// Takes what the server says of its health; returns whether that is news.
    pub(super) fn says(&self, number: u64, now_serving: bool) -> bool {
        let mut state = self.state.lock();
        let is_current = state.number == number;
        match &mut state.link {
            Link::Ready { serving, .. } if is_current => {
                std::mem::replace(serving, now_serving) != now_serving
            }
            _ => false,
        }
    }

    /// Returns the connection and its number if nobody watches its health yet, and takes that on.
    pub(super) fn unwatched(&self) -> Option<(u64, SendRequest<Body>)> {
        let mut state = self.state.lock();
        let number = state.number;
        match &mut state.link {
            Link::Ready { sender, watched, .. } if !*watched => {
                *watched = true;
                Some((number, sender.clone()))
            }
            _ => None,
        }
    }

    /// Returns what ends when this endpoint is given up.
    pub(super) fn alive(&self) -> watch::Receiver<()> {
        self.alive.subscribe()
    }

    fn end(&self, pass: Pass, outcome: Outcome) {
        let mut state = self.state.lock();
        let is_opened = state.breaker.end(pass, outcome, Instant::now(), &self.chance);
        if is_opened {
            // The probe gets a connection of its own: a stuck one would fail it, whatever the server does.
            if matches!(state.link, Link::Ready { .. }) {
                state.link = Link::Idle;
            }
            drop(state);
            tracing::warn!(address = %self.address, "circuit opened");
        } else if pass == Pass::Probe && outcome == Outcome::Success {
            drop(state);
            tracing::info!(address = %self.address, "circuit closed");
        }
    }
}

/// The right to make one call over an endpoint's connection. Dropped without an end, it says nothing about the server.
#[derive(Debug)]
pub(super) struct Lease {
    endpoint: Arc<Endpoint>,
    pub(super) sender: SendRequest<Body>,
    pass: Pass,
    begun: Instant,
    is_explained: bool,
    is_over: bool,
}

impl Lease {
    pub(super) fn target(&self) -> &Target {
        &self.endpoint.target
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Notes that the server began to answer.
    pub(super) fn heard(&self) {
        self.endpoint.state.lock().heard = Instant::now();
    }
}

impl Ending for Lease {
    fn told(&mut self, trailers: &HeaderMap) {
        self.is_explained |= trailers.contains_key(DETAILS);
    }

    /// Tells the breaker how the server answered.
    fn end(mut self: Box<Self>, code: Code) {
        let outcome = match code {
            _ if self.is_explained => Outcome::Success,
            Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Failure,
            Code::Cancelled => Outcome::Unknown,
            // While the server answers others, a deadline that passes is the call's own matter.
            Code::DeadlineExceeded if self.endpoint.state.lock().heard < self.begun => Outcome::Failure,
            Code::DeadlineExceeded => Outcome::Unknown,
            _ => Outcome::Success,
        };
        self.is_over = true;
        self.endpoint.end(self.pass, outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.is_over {
            self.endpoint.end(self.pass, Outcome::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::{Endpoint, Standing, Target};
    use crate::{breaker::BreakerOptions, chance::Chance};

    #[test]
    fn an_attempt_that_was_under_way_when_another_took_calls_is_made_again() {
        let target = Target::several("http://127.0.0.1:1").unwrap().remove(0);
        let address = "127.0.0.1:1".parse().unwrap();
        let endpoint =
            Endpoint::new(target, address, &BreakerOptions::default(), Arc::new(Chance::seeded(1)));
        let before = Instant::now();
        endpoint.dialling().unwrap();
        let since = Instant::now();
        endpoint.unreachable();
        assert!(!endpoint.hurry(before) && matches!(endpoint.standing(since), Standing::Down(_)));
        assert!(endpoint.hurry(since));
        assert_eq!(endpoint.standing(Instant::now()), Standing::Idle);
    }
}
