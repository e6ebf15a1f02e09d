//! The faults of plain tonic, each under the same load as ours; figures by `--nocapture`.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its host has failed")]

use std::{
    collections::BTreeSet,
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use contracts::memory::{
    RecallRequest, RememberRequest, memory_service_client::MemoryServiceClient,
    memory_service_server::MemoryServiceServer,
};
use rpc::HostSettings;
use telemetry::Telemetry;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::bystander::{Bystander, LONG, Running};

/// How long a drain is watched that should be over at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls that a storm cancels.
const STORM: u64 = 20_000;

fn quick() -> Bystander {
    Bystander::telling().0
}

/// Never answers a recall, and everything else at once.
fn slow_to_recall() -> Bystander {
    Bystander::new(|seen| async move {
        if seen.rpc == "recall" {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
}

/// Either kind of server, running.
struct Served {
    address: SocketAddr,
    stop: Box<dyn FnOnce() -> JoinHandle<()> + Send>,
}

impl Served {
    /// A server as tonic makes it, with its own health service.
    async fn plainly(accept_http1: bool, bystander: Bystander) -> Self {
        let telemetry = Telemetry::silent("plain");
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_not_serving::<MemoryServiceServer<Bystander>>().await;
        let server = Server::builder()
            .accept_http1(accept_http1)
            .add_service(health)
            .add_service(MemoryServiceServer::new(bystander));
        let (stop, stopped) = oneshot::channel::<()>();
        let run = telemetry.spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve_with_incoming_shutdown(incoming, stopped).await.unwrap();
            // The health service's reporter must live as long.
            drop(reporter);
        });
        let stop = Box::new(move || {
            drop(stop);
            run
        });
        Self { address, stop }
    }

    fn ours(bystander: Bystander) -> Self {
        let telemetry = Telemetry::silent("ours");
        // A storm is about connections here, and not about the calls of one method.
        let settings = HostSettings { max_concurrent_calls: 10_000, ..HostSettings::defaults() };
        let host = Running::start_with("memory", &settings, bystander, |host| host);
        let address = host.address;
        let stop = Box::new(move || {
            let done = host.stop();
            telemetry.spawn(async move { done.await.unwrap().unwrap() })
        });
        Self { address, stop }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Stops it and returns how long that took; `None` if it did not end within [`PATIENCE`].
    async fn stopped(self) -> Option<Duration> {
        let began = Instant::now();
        let mut run = (self.stop)();
        let done = tokio::time::timeout(PATIENCE, &mut run).await;
        run.abort();
        done.is_ok().then(|| began.elapsed())
    }
}

/// What keeps a connection open.
#[derive(Clone, Copy, Debug)]
enum Open {
    Idle,
    HalfPreface,
    Watch,
}

/// Stops a server that has such a connection.
async fn drain(served: Served, open: Open) -> Option<Duration> {
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    if matches!(open, Open::HalfPreface) {
        idle.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    }
    let channel = served.channel().await;
    let mut watch = None;
    if matches!(open, Open::Watch) {
        drop(idle);
        watch = Some(HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap());
    }
    // A call after the others: they are accepted by then.
    MemoryServiceClient::new(channel.clone()).recall(RecallRequest::default()).await.unwrap();
    let took = served.stopped().await;
    drop((watch, channel));
    took
}

#[tokio::test]
async fn a_drain_hangs_on_what_is_open_and_ours_does_not() {
    let hangs =
        |took: Option<Duration>| took.map_or_else(|| format!("over {PATIENCE:?}"), |it| format!("{it:?}"));
    for open in [Open::Idle, Open::HalfPreface, Open::Watch] {
        let plain = drain(Served::plainly(false, quick()).await, open).await;
        let with_http1 = drain(Served::plainly(true, quick()).await, open).await;
        let ours = drain(Served::ours(quick()), open).await;
        println!(
            "drain with {open:?}: plain tonic {}, with accept_http1 {}, ours {}",
            hangs(plain),
            hangs(with_http1),
            hangs(ours)
        );
        assert!(plain.is_none(), "tonic has mended this: {open:?}");
        assert!(with_http1.is_none() == matches!(open, Open::Watch), "{open:?}");
        assert!(ours.is_some(), "{open:?}");
    }
}

#[tokio::test]
async fn the_whole_is_always_serving_and_ours_is_not() {
    let whole = async |channel: Channel| {
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        answer.into_inner().status()
    };
    let plain = Served::plainly(false, quick()).await;
    let ours = Served::ours(quick());
    let states = (whole(plain.channel().await).await, whole(ours.channel().await).await);
    println!("health of `` while no service serves: plain tonic {:?}, ours {:?}", states.0, states.1);
    assert_eq!(states, (ServingStatus::Serving, ServingStatus::NotServing));
}

/// What came of a storm of cancelled calls.
#[derive(Debug, Default)]
struct Storm {
    cancelled: u64,
    innocent: u64,
    harmed: u64,
    /// What the harmed were told, each once.
    told: BTreeSet<String>,
}

impl Storm {
    fn harm(&mut self, status: &Status) {
        self.harmed += 1;
        let causes = std::iter::successors(status.source(), |cause| (*cause).source());
        self.told.insert(causes.fold(status.code().to_string(), |all, cause| format!("{all}: {cause}")));
    }
}

/// Lets 400 tasks cancel calls after a millisecond each, beside a few whose calls are answered at once, all on one connection.
async fn storm(served: &Served, cancels: u64) -> Storm {
    let channel = served.channel().await;
    let left = Arc::new(AtomicU64::new(cancels));
    let mut tasks = JoinSet::new();
    for number in 0..420 {
        let (mut client, left) = (MemoryServiceClient::new(channel.clone()), Arc::clone(&left));
        tasks.spawn(async move {
            let mut seen = Storm::default();
            while left.load(Ordering::Relaxed) > 0 {
                if number < 400 {
                    let call = client.recall(RecallRequest::default());
                    match tokio::time::timeout(Duration::from_millis(1), call).await {
                        Err(_) => seen.cancelled += 1,
                        Ok(outcome) => seen.harm(&outcome.unwrap_err()),
                    }
                    let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1));
                } else {
                    match client.remember(RememberRequest::default()).await {
                        Ok(_) => seen.innocent += 1,
                        Err(status) => seen.harm(&status),
                    }
                }
            }
            seen
        });
    }
    let seen = tokio::time::timeout(LONG, tasks.join_all()).await.unwrap();
    seen.into_iter().fold(Storm::default(), |all, one| Storm {
        cancelled: all.cancelled + one.cancelled,
        innocent: all.innocent + one.innocent,
        harmed: all.harmed + one.harmed,
        told: all.told.into_iter().chain(one.told).collect(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancelled_calls_harms_no_other() {
    let plain = storm(&Served::plainly(false, slow_to_recall()).await, STORM).await;
    let ours = storm(&Served::ours(slow_to_recall()), STORM).await;
    println!("cancel storm on one connection: plain tonic {plain:?}, ours {ours:?}");
    assert_eq!(ours.harmed, 0, "{ours:?}");
    assert!(ours.cancelled >= STORM / 2 && ours.innocent > 0, "{ours:?}");
}

#[tokio::test]
async fn an_expired_deadline_is_called_cancelled_and_ours_is_not() {
    // Over HTTP/1.1, because every gRPC client has a timer of its own.
    let code = async |address| {
        let head = "POST /athena.memory.v1.MemoryService/Recall HTTP/1.1\r\n\
                    content-type: application/grpc\r\ngrpc-timeout: 50m";
        let answer = crate::bystander::http1(address, head, &[0; 5]).await;
        let code =
            answer.lines().find_map(|line| line.strip_prefix("grpc-status: ")).unwrap_or_default().to_owned();
        Code::from_bytes(code.as_bytes())
    };
    let codes = (
        code(Served::plainly(true, Bystander::stuck().0).await.address).await,
        code(Served::ours(Bystander::stuck().0).address).await,
    );
    println!("expired deadline: plain tonic {:?}, ours {:?}", codes.0, codes.1);
    assert_eq!(codes, (Code::Cancelled, Code::DeadlineExceeded));
}
