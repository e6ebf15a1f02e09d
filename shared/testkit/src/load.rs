//! Load on a server, from a thread of its own, with the time that each answer took.
//!
//! 1. A call's time counts from when it was meant to be sent, not from when it was: a server that stalls is charged for every
//!    call that had to wait for it (Tene's "coordinated omission").
//! 2. A second thread does nothing but say when the next call is due, to some 50 µs, whatever became of the others.
//! 3. Calls are bytes: HTTP/1.1, or gRPC over HTTP/2 without a message ever being built or read. An answer is read to its end.

mod chat;
mod connection;

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
};

pub use self::chat::{chat, question};
use self::connection::Connection;

/// Longest time that is told apart from others, in nanoseconds; also when a call is given up.
const LONGEST: Duration = Duration::from_secs(60);

/// What is asked of whom, how often.
#[derive(Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// The path of every call.
    pub path: String,
    /// Further headers of every call.
    pub headers: HeaderMap,
    /// Connections; over HTTP/1.1 also the most calls at a time.
    pub connections: usize,
    /// How many calls there are.
    pub calls: u64,
    /// When they are due.
    pub pace: Pace,
    /// The body of the n-th call, from 0 on.
    pub body: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// POST over HTTP/1.1; an answer is good if its status is 2xx.
    Http1,
    /// gRPC without TLS, so many calls at a time on each connection; an answer is good if its `grpc-status` is 0.
    Grpc(usize),
}

/// When calls are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many a second, whatever becomes of them: an open loop.
    PerSecond(f64),
    /// All at the start.
    AtOnce,
    /// Each when an earlier one was answered: a closed loop, for throughput only.
    Closed,
}

/// Returns an encoded message as a gRPC call sends it: not compressed, then its length, then the message.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// What came of a load.
#[derive(Debug)]
pub struct Measured {
    /// Nanoseconds from due to the end of the answer, of good answers only.
    times: Histogram<u64>,
    /// Calls that got no good answer.
    pub failed: u64,
    /// What became of the first of those.
    pub failure: Option<String>,
    /// From the first call to the last answer.
    pub took: Duration,
}

/// A call that is due.
struct Job {
    number: u64,
    due: Instant,
}

impl Load {
    /// Makes a load of one call at a time over HTTP/1.1, to be changed as wanted.
    #[must_use]
    pub fn http(
        address: SocketAddr,
        path: &str,
        body: impl Fn(u64) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self {
            address,
            protocol: Protocol::Http1,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            connections: 1,
            calls: 1,
            pace: Pace::Closed,
            body: Arc::new(body),
        }
        .header("content-type", "application/json")
    }

    /// Makes a load of gRPC calls, at most `calls_at_a_time` on a connection. A body is a message in its [`frame`].
    #[must_use]
    pub fn grpc(
        address: SocketAddr,
        path: &str,
        calls_at_a_time: usize,
        body: impl Fn(u64) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        let load = Self { protocol: Protocol::Grpc(calls_at_a_time), ..Self::http(address, path, body) };
        load.header("content-type", "application/grpc").header("te", "trailers")
    }

    /// Sets a header of every call; one that cannot be sent is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Makes the calls and waits for the last answer.
    ///
    /// # Errors
    /// If the server cannot be connected to, or no thread can be had.
    pub async fn run(self) -> io::Result<Measured> {
        let (done, measured) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || drop(done.send(runtime.block_on(self.drive())));
        thread::Builder::new().name("load".to_owned()).spawn(work)?;
        measured.await.map_err(|_| io::Error::other("the load's thread ended"))?
    }

    async fn drive(self) -> io::Result<Measured> {
        let streams = match self.protocol {
            Protocol::Http1 => 1,
            Protocol::Grpc(streams) => streams.max(1),
        };
        let load = Arc::new(self);
        let mut connections = Vec::new();
        for _ in 0..load.connections.max(1) {
            connections.push(Connection::open(&load).await?);
        }
        let (jobs, begun) = (Jobs::start(&load)?, Instant::now());
        let measured = Arc::new(parking_lot::Mutex::new(Measured::nothing()?));
        let mut callers = JoinSet::new();
        for mut connection in connections {
            for _ in 0..streams {
                let (jobs, measured) = (jobs.clone(), Arc::clone(&measured));
                callers.spawn(call(Arc::clone(&load), connection.another(), jobs, measured));
            }
        }
        while callers.join_next().await.is_some() {}
        let measured = std::mem::replace(&mut *measured.lock(), Measured::nothing()?);
        Ok(Measured { took: begun.elapsed(), ..measured })
    }
}

/// Makes one call after another, as they are due, until none is left.
async fn call(
    load: Arc<Load>,
    mut connection: Connection,
    jobs: Jobs,
    measured: Arc<parking_lot::Mutex<Measured>>,
) {
    while let Some(Job { number, due }) = jobs.next().await {
        let answer = tokio::time::timeout(LONGEST, connection.call(&load, (load.body)(number))).await;
        let took = due.elapsed();
        let failure = match answer {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(failure),
            Err(_) => Some("no answer for a minute".to_owned()),
        };
        let is_broken = failure.is_some();
        measured.lock().note(took, failure);
        if is_broken && let Ok(new) = Connection::open(&load).await {
            connection = new;
        }
    }
}

/// The calls that are left.
#[derive(Clone)]
enum Jobs {
    Open(Arc<Mutex<mpsc::UnboundedReceiver<Job>>>),
    Closed { next: Arc<AtomicU64>, calls: u64 },
}

impl Jobs {
    fn start(load: &Load) -> io::Result<Self> {
        let rate = match load.pace {
            Pace::Closed => return Ok(Self::Closed { next: Arc::default(), calls: load.calls }),
            Pace::PerSecond(rate) => rate,
            Pace::AtOnce => f64::INFINITY,
        };
        let (sender, jobs) = mpsc::unbounded_channel();
        let calls = load.calls;
        let pace = move || {
            let begun = Instant::now();
            for number in 0..calls {
                let due = begun + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if sender.send(Job { number, due }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("pace".to_owned()).spawn(pace)?;
        Ok(Self::Open(Arc::new(Mutex::new(jobs))))
    }

    async fn next(&self) -> Option<Job> {
        match self {
            Self::Open(jobs) => jobs.lock().await.recv().await,
            Self::Closed { next, calls } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                (number < *calls).then(|| Job { number, due: Instant::now() })
            }
        }
    }
}

impl Measured {
    /// Makes the sum of no loads.
    ///
    /// # Errors
    /// Never in practice: only a bad bound could be refused.
    pub fn nothing() -> io::Result<Self> {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        let times = Histogram::new_with_max(longest, 3).map_err(io::Error::other)?;
        Ok(Self { times, failed: 0, failure: None, took: Duration::ZERO })
    }

    fn note(&mut self, took: Duration, failure: Option<String>) {
        match failure {
            None => self.times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)),
            Some(failure) => {
                self.failed += 1;
                self.failure.get_or_insert(failure);
            }
        }
    }

    /// Adds what came of another load; the time taken is the sum.
    pub fn add(&mut self, other: Self) {
        // Both have the same bounds.
        let _ = self.times.add(other.times);
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.took += other.took;
    }

    /// Returns how many calls got a good answer.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.times.len()
    }

    /// Returns the time within which this share (0 to 1) of the good answers came, in microseconds.
    #[must_use]
    pub fn micros(&self, share: f64) -> f64 {
        self.times.value_at_quantile(share) as f64 / 1e3
    }

    /// Returns good answers a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.answered() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers may hold a key.
        out.debug_struct("Load")
            .field("address", &self.address)
            .field("protocol", &self.protocol)
            .field("path", &self.path)
            .field("calls", &self.calls)
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Mock,
        upstream::{Script, Upstream},
    };

    const PATH: &str = "/v1/chat/completions";

    fn load(address: SocketAddr) -> Load {
        Load::http(address, PATH, |number| Bytes::from(format!("{{\"number\":{number}}}")))
    }

    #[test]
    fn a_frame_says_how_long_its_message_is() {
        assert_eq!(frame(b"abc")[..], *b"\0\0\0\0\x03abc");
    }

    #[tokio::test]
    async fn every_call_is_made_once() {
        let upstream = Upstream::start(Script::Echo);
        let load = Load { calls: 50, connections: 4, ..load(upstream.address()) };
        let measured = load.run().await.unwrap();
        assert_eq!((measured.answered(), measured.failed), (50, 0));
        let mut numbers: Vec<u64> =
            upstream.requests().iter().filter_map(|request| request.body["number"].as_u64()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_call_that_waits_for_others_is_charged_for_it() {
        let mock = Mock::start(0, Duration::from_millis(20)).unwrap();
        let load = Load { calls: 10, pace: Pace::PerSecond(1_000.0), ..load(mock.address()) };
        let measured = load.run().await.unwrap();
        // One connection, ten answers of 20 ms each; the last was due after 9 ms.
        assert!(measured.micros(1.0) >= 190_000.0, "{}", measured.micros(1.0));
    }

    #[tokio::test]
    async fn calls_at_once_do_not_wait_for_each_other() {
        let upstream = Upstream::start(Script::Echo);
        let hold = upstream.hold();
        let load = Load { calls: 20, connections: 20, pace: Pace::AtOnce, ..load(upstream.address()) };
        let release = async {
            upstream.arrived(20).await;
            drop(hold);
        };
        let (measured, ()) = tokio::join!(load.run(), release);
        assert_eq!(measured.unwrap().answered(), 20);
    }

    #[tokio::test]
    async fn a_failure_is_counted_and_said_and_has_no_time() {
        let upstream = Upstream::start(Script::failing(503, "down"));
        let load = Load { calls: 5, ..load(upstream.address()) };
        let measured = load.run().await.unwrap();
        assert_eq!((measured.answered(), measured.failed), (0, 5));
        assert!(measured.failure.unwrap().contains("503"));
    }
}
