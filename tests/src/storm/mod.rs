//! A storm of frames on one service: valid ones, and all that can be made of them.

mod mutation;
mod otlp;
mod random;
mod raw;
mod source;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use athena::Service;
use futures::StreamExt as _;
use http::HeaderMap;
use parking_lot::Mutex;
use prost::Message as _;
use rpc::{Code, code_name};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

pub use self::source::{Shot, Source};
use crate::{
    inputs,
    wire::{Wire, frame},
};

/// Connections at a time, and calls at a time on each.
const CONNECTIONS: u64 = 4;
const CALLS: usize = 16;
/// How long the answer to what is no call is listened to.
const LISTENED: Duration = Duration::from_millis(50);
/// Most wrong answers that are kept word for word.
const KEPT: usize = 20;

/// Codes with which no frame may be answered: they say that the service failed.
const FAILURES: [Code; 4] = [Code::Unknown, Code::Internal, Code::Unavailable, Code::DataLoss];

/// What came of a storm.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Frames sent.
    pub frames: u64,
    /// Of them, connections that were no client's.
    pub raw: u64,
    /// Answers by code.
    pub codes: BTreeMap<&'static str, u64>,
    /// Answers that no frame may get, with the number of the frame that got it.
    pub wrong: Vec<String>,
    /// Wall time.
    pub took: Duration,
}

impl Report {
    /// Adds what came of another part.
    pub fn merge(&mut self, other: Self) {
        self.frames += other.frames;
        self.raw += other.raw;
        other.codes.into_iter().for_each(|(code, count)| *self.codes.entry(code).or_default() += count);
        self.wrong.extend(other.wrong);
        self.wrong.truncate(KEPT);
        self.took = self.took.max(other.took);
    }
}

/// Sends the frames of these numbers.
///
/// # Errors
///
/// Fails if nobody listens there any more.
pub async fn storm(address: SocketAddr, source: &Arc<Source>, numbers: Range<u64>) -> Result<Report> {
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for first in 0..CONNECTIONS {
        let numbers = (numbers.start + first..numbers.end).step_by(CONNECTIONS as usize);
        workers.spawn(worker(address, Arc::clone(source), numbers));
    }
    let mut report = Report::default();
    while let Some(done) = workers.join_next().await {
        report.merge(done??);
    }
    report.took = begun.elapsed();
    Ok(report)
}

async fn worker(
    address: SocketAddr,
    source: Arc<Source>,
    numbers: impl Iterator<Item = u64> + Send + 'static,
) -> Result<Report> {
    let wire = Mutex::new(Arc::new(Wire::open(address).await?));
    let report = Mutex::new(Report::default());
    let sent = futures::stream::iter(numbers).map(|number| {
        let (wire, report, source) = (&wire, &report, &source);
        async move {
            let outcome = match source.nth(number) {
                Shot::Raw(bytes) => {
                    report.lock().raw += 1;
                    touch(address, &bytes).await.map(|()| None)
                }
                Shot::Call { path, headers, body, stream } => {
                    let own = Arc::clone(&wire.lock());
                    own.call(&path, &headers, body, stream).await.map(Some)
                }
            };
            note(&mut report.lock(), number, &outcome);
            if outcome.is_err() {
                // A connection that was closed ends all its calls; the next ones go over a new one.
                *wire.lock() = Arc::new(Wire::open(address).await?);
            }
            anyhow::Ok(())
        }
    });
    let mut sent = sent.buffer_unordered(CALLS);
    while let Some(outcome) = sent.next().await {
        outcome.context("the service is gone")?;
    }
    drop(sent);
    Ok(report.into_inner())
}

fn note(report: &mut Report, number: u64, outcome: &Result<Option<crate::wire::Answer>>) {
    report.frames += 1;
    let wrong = match outcome {
        Ok(None) => return,
        Ok(Some(answer)) => {
            *report.codes.entry(code_name(answer.code)).or_default() += 1;
            FAILURES.contains(&answer.code).then(|| format!("{:?} {:.200}", answer.code, answer.message))
        }
        Err(error) => Some(format!("no answer: {error:#}")),
    };
    if let Some(wrong) = wrong
        && report.wrong.len() < KEPT
    {
        report.wrong.push(format!("frame {number}: {wrong}"));
    }
}

/// Connects, says `bytes`, and listens for a moment.
async fn touch(address: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    let talk = async {
        // Whether it is heard out is the server's matter.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    };
    let _ = tokio::time::timeout(LISTENED, talk).await;
    Ok(())
}

/// Calls every rpc of a service with a good request, and asks whether it serves.
///
/// # Errors
///
/// Fails with the first call that is not answered as it should be.
pub async fn is_well(address: SocketAddr, service: Service) -> Result<()> {
    let wire = Wire::open(address).await?;
    for method in inputs::methods(service) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let body = frame(&inputs::good(&method.input()).encode_to_vec());
        let answer = wire.call(&path, &HeaderMap::new(), body, method.is_server_streaming()).await?;
        // There may be nothing of what is asked for, and a recording has an end. A good sample is of the stories' now: where the
        // clock is the system's, that is long ago.
        let is_late = answer.fields == ["samples[0].time"];
        // The mesh has no folder for snapshots.
        let is_homeless = method.name() == "TakeSnapshot" && answer.code == Code::FailedPrecondition;
        if !(is_late || is_homeless || matches!(answer.code, Code::Ok | Code::NotFound | Code::OutOfRange)) {
            bail!("{path}: {answer:?}");
        }
    }
    let health = wire.call("/grpc.health.v1.Health/Check", &HeaderMap::new(), frame(&[]), false).await?;
    if health.code != Code::Ok {
        bail!("health: {health:?}");
    }
    Ok(())
}
