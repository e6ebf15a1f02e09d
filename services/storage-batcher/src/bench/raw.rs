//! What `storage.ack` is compared with: `Write` that appends the request to a file, which is synced once for all that wait.

use std::{
    convert::Infallible,
    fs::File,
    io::{self, Write as _},
    sync::mpsc,
    task::{Context, Poll},
    thread,
};

use ::clock::Clock;
use contracts::storage::{WriteRequest, WriteResponse};
use futures::{FutureExt as _, future::BoxFuture};
use prost::Message as _;
use rpc::{Code, Fault};
use telemetry::Telemetry;
use tokio::sync::oneshot;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{Error, ack::WRITE};
use crate::config::Config;

/// Most records of a sync.
const MOST: usize = 10_000;

/// A record, and who waits for it.
type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// The service in front of the file.
#[derive(Clone, Debug)]
struct Raw(mpsc::Sender<Waiting>);

impl NamedService for Raw {
    const NAME: &'static str = crate::SERVICE;
}

impl UnaryService<WriteRequest> for Raw {
    type Response = WriteResponse;
    type Future = BoxFuture<'static, Result<Response<WriteResponse>, Status>>;

    fn call(&mut self, request: Request<WriteRequest>) -> Self::Future {
        let (done, synced) = oneshot::channel();
        let sent = self.0.send((request.into_inner().encode_to_vec(), done)).is_ok();
        async move {
            let failed = || Status::from(Fault::new(Code::Unavailable, "the file cannot be written"));
            if sent && synced.await.is_ok() {
                Ok(Response::new(WriteResponse::default()))
            } else {
                Err(failed())
            }
        }
        .boxed()
    }
}

impl tower::Service<http::Request<Body>> for Raw {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != WRITE {
            let missing = Status::from(Fault::new(Code::Unimplemented, "a file only takes writes"));
            return std::future::ready(Ok(missing.into_http())).boxed();
        }
        let raw = self.clone();
        let codec = ProstCodec::<WriteResponse, WriteRequest>::default();
        async move { Ok(Grpc::new(codec).unary(raw, request).await) }.boxed()
    }
}

/// Serves a file in `storage_dir` behind the host of the batcher, with its settings, until `shutdown`.
///
/// # Errors
/// [`Error::Host`] if the port is taken or the server fails, [`Error::Io`] if the file cannot be made.
pub async fn raw(
    config: &Config,
    telemetry: Telemetry,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    std::fs::create_dir_all(&config.storage_dir)?;
    let mut file = File::create(config.storage_dir.join("raw"))?;
    let (sender, waiting) = mpsc::channel();
    thread::Builder::new().name("raw".to_owned()).spawn(move || write(&mut file, &waiting))?;
    let host = rpc::Host::bind(&config.host, config.storage_port, telemetry, clock)?;
    let host = host.add_foreign(Raw(sender));
    host.health().serving();
    Ok(host.run(shutdown).await?)
}

/// Writes what waits, syncs, and answers, until nobody sends any more or the file fails.
fn write(file: &mut File, waiting: &mpsc::Receiver<Waiting>) -> io::Result<()> {
    while let Ok(first) = waiting.recv() {
        let all: Vec<Waiting> = [first].into_iter().chain(waiting.try_iter().take(MOST - 1)).collect();
        let records: Vec<u8> = all.iter().flat_map(|(record, _)| record.iter().copied()).collect();
        file.write_all(&records)?;
        file.sync_data()?;
        for (_, done) in all {
            // Who left is not told.
            let _ = done.send(());
        }
    }
    Ok(())
}
