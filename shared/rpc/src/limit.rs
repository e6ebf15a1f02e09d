//! How many calls of a method run at once, and which of the others wait.
//!
//! A call that finds room runs. Otherwise it waits, for a bounded time and with a bounded number of others; the newest
//! waits shortest, since the oldest is the one whose caller is about to give up. One that does not fit is shed at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng as _;
use telemetry::{Counter, Gauge, KeyValue, Telemetry, names};
use tokio::{sync::oneshot, time::Instant};
use tonic::Code;

use crate::{Deadline, Fault, HostSettings, deadline};

/// What a caller is told to wait with its next attempt, as parts of the longest wait in the queue.
const COME_BACK: (f64, f64) = (0.5, 1.5);

/// The limits of all methods of a host, by path (`/package.Service/Method`).
#[derive(Debug)]
pub(crate) struct Limits {
    methods: HashMap<String, Arc<Limit>>,
    shed: Counter,
    running: Gauge,
    queued: Gauge,
}

/// The limit of one method, or of anything else that takes so many calls at a time.
#[derive(Debug)]
pub struct Limit {
    bounds: Bounds,
    state: Mutex<State>,
    /// Whether there was any call at all.
    used: AtomicBool,
}

/// How much a limit lets in.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls that run at a time.
    pub running: usize,
    /// Calls that wait for one of them to end.
    pub queued: usize,
    /// Longest such wait.
    pub wait: Duration,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Who waits, by order of arrival.
    queue: BTreeMap<u64, oneshot::Sender<Permit>>,
    next: u64,
}

/// The right to run; passed on when it is dropped.
#[derive(Debug)]
pub struct Permit(Option<Arc<Limit>>);

/// Why a call does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room, or it did not come in time.
    Overloaded,
    /// The call's own deadline passed first.
    Late,
}

impl Limits {
    /// Sets the limits of the settings for each of `paths`.
    pub(crate) fn new(
        settings: &HostSettings,
        paths: impl IntoIterator<Item = String>,
        telemetry: &Telemetry,
    ) -> Self {
        let bounds = Bounds {
            running: settings.max_concurrent_calls as usize,
            queued: settings.max_queued_calls as usize,
            wait: settings.max_queue_wait,
        };
        Self {
            methods: paths.into_iter().map(|path| (path, Limit::new(bounds))).collect(),
            shed: telemetry.counter(names::RPC_SHED),
            running: telemetry.gauge(names::RPC_RUNNING),
            queued: telemetry.gauge(names::RPC_QUEUED),
        }
    }

    /// Returns the limit of the method at `path`; `None` if it has none.
    pub(crate) fn of(&self, path: &str) -> Option<&Arc<Limit>> {
        self.methods.get(path)
    }

    /// Counts a call that was shed, and returns what its caller is told.
    pub(crate) fn shed(&self, path: &str, limit: &Limit) -> Fault {
        self.shed.add(1, &[method(path)]);
        overloaded(limit.bounds.wait)
    }

    /// Sets the gauges. They are read now and then, and would cost every call.
    pub(crate) fn report(&self) {
        for (path, limit) in &self.methods {
            if limit.used.load(Ordering::Relaxed) {
                let (running, queued) = limit.counts();
                self.running.set(running as f64, &[method(path)]);
                self.queued.set(queued as f64, &[method(path)]);
            }
        }
    }
}

impl Limit {
    /// Makes a limit that nobody uses yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::default(), used: AtomicBool::new(false) })
    }

    /// Returns whether a call that came now would be shed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.running >= self.bounds.running && state.queue.len() >= self.bounds.queued
    }

    /// Waits for the right to run a call with this deadline.
    ///
    /// # Errors
    /// If there is none, or not in time.
    pub async fn enter(self: &Arc<Self>, deadline: Deadline) -> Result<Permit, Refused> {
        self.used.store(true, Ordering::Relaxed);
        let (ticket, turn) = match self.line_up() {
            Ok(permit) => return Ok(permit),
            Err(place) => place.ok_or(Refused::Overloaded)?,
        };
        let place = Place { limit: self, ticket };
        let patience = Instant::now() + self.bounds.wait;
        let turn = tokio::time::timeout_at(patience.min(deadline.instant()), turn).await;
        drop(place);
        match turn {
            // A turn that comes with the deadline is of no use to anybody.
            Ok(Ok(_)) | Err(_) if deadline.is_over() => Err(Refused::Late),
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refused::Overloaded),
        }
    }

    /// Takes the right to run, or a place in the queue, or neither.
    fn line_up(self: &Arc<Self>) -> Result<Permit, Option<(u64, oneshot::Receiver<Permit>)>> {
        let mut state = self.state.lock();
        if state.running < self.bounds.running {
            state.running += 1;
            return Ok(Permit(Some(Arc::clone(self))));
        }
        if state.queue.len() >= self.bounds.queued {
            return Err(None);
        }
        let (sender, turn) = oneshot::channel();
        let ticket = state.next;
        state.next += 1;
        state.queue.insert(ticket, sender);
        Err(Some((ticket, turn)))
    }

    /// Gives a right that is free to the newest who waits.
    fn pass_on(self: Arc<Self>) {
        loop {
            let newest = {
                let mut state = self.state.lock();
                let newest = state.queue.pop_last();
                if newest.is_none() {
                    state.running -= 1;
                }
                newest
            };
            let Some((_, newest)) = newest else { return };
            match newest.send(Permit(Some(Arc::clone(&self)))) {
                Ok(()) => return,
                // Gone in this moment: the right is still in our hands, and must not be passed on twice.
                Err(mut permit) => drop(permit.0.take()),
            }
        }
    }

    /// Returns how many calls run and how many wait.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.running, state.queue.len())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limit) = self.0.take() {
            limit.pass_on();
        }
    }
}

/// A place in the queue, given up when its holder gets the right to run or goes away.
struct Place<'a> {
    limit: &'a Limit,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.limit.state.lock().queue.remove(&self.ticket);
    }
}

impl Refused {
    /// Returns what the caller is told of a call to `path`.
    pub(crate) fn fault(self, limits: &Limits, path: &str, limit: &Limit) -> Fault {
        match self {
            Self::Overloaded => limits.shed(path, limit),
            Self::Late => deadline::exceeded(),
        }
    }
}

/// Returns when a call that was shed may come back, given the longest wait in the queue: half to one and a half of it, so that not all come at once.
#[must_use]
pub fn come_back(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(COME_BACK.0..COME_BACK.1))
}

fn method(path: &str) -> KeyValue {
    KeyValue::new(names::RPC_METHOD, path.trim_start_matches('/').to_owned())
}

fn overloaded(wait: Duration) -> Fault {
    Fault::new(Code::ResourceExhausted, "too many calls of this method are running")
        .reason("OVERLOADED")
        .retry_after(come_back(wait))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt as _;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn limit(running: usize, queued: usize) -> Arc<Limit> {
        Limit::new(Bounds { running, queued, wait: Duration::from_secs(1) })
    }

    async fn enter(limit: &Arc<Limit>, within: Duration) -> Result<Permit, Refused> {
        limit.enter(Deadline::after(within)).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_shed_at_once() {
        let limit = limit(1, 1);
        let running = enter(&limit, LONG).await.unwrap();
        let mut waiting = Box::pin(enter(&limit, LONG));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(limit.is_full());
        assert_eq!(enter(&limit, LONG).now_or_never().unwrap().unwrap_err(), Refused::Overloaded);
        drop(running);
        drop(waiting.await.unwrap());
        assert_eq!(limit.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_runs_first() {
        let limit = limit(1, 2);
        let running = enter(&limit, LONG).await.unwrap();
        let mut older = Box::pin(enter(&limit, LONG));
        let mut newer = Box::pin(enter(&limit, LONG));
        assert!(older.as_mut().now_or_never().is_none() && newer.as_mut().now_or_never().is_none());
        drop(running);
        assert!(older.as_mut().now_or_never().is_none());
        let running = newer.await.unwrap();
        drop(running);
        older.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_bound_or_with_the_deadline() {
        let limit = limit(1, 2);
        let _running = enter(&limit, LONG).await.unwrap();
        let began = Instant::now();
        assert_eq!(enter(&limit, LONG).await.unwrap_err(), Refused::Overloaded);
        assert_eq!(began.elapsed().as_secs(), 1);
        assert_eq!(enter(&limit, Duration::from_millis(10)).await.unwrap_err(), Refused::Late);
        assert_eq!(limit.counts(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_gives_up_place_and_turn() {
        let limit = limit(1, 1);
        let running = enter(&limit, LONG).await.unwrap();
        let mut waiting = Box::pin(enter(&limit, LONG));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        assert_eq!(limit.counts(), (1, 0));
        let mut waiting = Box::pin(enter(&limit, LONG));
        assert!(waiting.as_mut().now_or_never().is_none());
        // The turn is given, and nobody is there to take it.
        drop(running);
        drop(waiting);
        assert_eq!(limit.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_right_is_lost_or_made_whatever_callers_do() {
        let limit = limit(3, 5);
        let runs = Arc::new(AtomicUsize::new(0));
        let caller = || {
            let (limit, runs) = (Arc::clone(&limit), Arc::clone(&runs));
            let mut random = rand::rng();
            let mut millis = |most| Duration::from_millis(random.random_range(0..most));
            let (arrives, within, works, leaves) = (millis(200), millis(100), millis(20), millis(150));
            async move {
                pass(arrives).await;
                let call = async {
                    let Ok(_permit) = enter(&limit, within).await else { return };
                    assert!(runs.fetch_add(1, Ordering::Relaxed) < 3);
                    let _end = Ending(&runs);
                    pass(works).await;
                };
                // Some go away in the middle of it.
                let _ = tokio::time::timeout(leaves, call).await;
            }
        };
        futures::future::join_all((0..2000).map(|_| caller())).await;
        assert_eq!((limit.counts(), runs.load(Ordering::Relaxed)), ((0, 0), 0));
    }

    /// Lets virtual time pass.
    async fn pass(time: Duration) {
        let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
    }

    struct Ending<'a>(&'a AtomicUsize);

    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_caller_is_told_when_to_come_back() {
        let fault = overloaded(Duration::from_secs(1));
        assert_eq!((fault.code(), fault.reason_word()), (Code::ResourceExhausted, Some("OVERLOADED")));
        let delay = fault.retry_delay().unwrap();
        assert!((Duration::from_millis(500)..=Duration::from_millis(1500)).contains(&delay), "{delay:?}");
    }
}
