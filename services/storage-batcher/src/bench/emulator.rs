//! A Firestore in this process that fails at random.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use telemetry::Telemetry;
use tokio::task::JoinHandle;

/// Requests of a thousand that fail.
const SPOILED: u32 = 500;
/// How long an answer takes that comes late.
const LATE: Duration = Duration::from_millis(5);

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is refused with this gRPC code and not applied.
    Refused(u8),
    /// It is applied, and its answer lost.
    Lost,
    /// It is applied, and answered late.
    Late,
}

/// Every kind of fault, each as likely as the others.
const FAULTS: [Fault; 6] = [
    // ABORTED, UNAVAILABLE, RESOURCE_EXHAUSTED.
    Fault::Refused(10),
    Fault::Refused(14),
    Fault::Refused(8),
    Fault::Lost,
    Fault::Lost,
    Fault::Late,
];

/// The emulator; it ends when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    injected: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    running: JoinHandle<()>,
}

impl Emulator {
    /// Starts one whose faults come from `seed`.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(seed: u64) -> io::Result<Self> {
        Self::on(0, seed).await
    }

    /// Starts one without faults.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn quiet(port: u16) -> io::Result<Self> {
        let emulator = Self::on(port, 0).await?;
        emulator.calm();
        Ok(emulator)
    }

    /// Starts one that answers UNAVAILABLE to everything until it is [`back`](Self::back), and is without faults then.
    pub(super) async fn away(port: u16) -> io::Result<Self> {
        let emulator = Self::quiet(port).await?;
        emulator.away.store(true, Relaxed);
        Ok(emulator)
    }

    async fn on(port: u16, seed: u64) -> io::Result<Self> {
        let admin = hidane::Admin::default();
        let listeners = hidane::bind("127.0.0.1", port).await?;
        let address = listeners[0].local_addr()?;
        let injected = Arc::<AtomicU64>::default();
        let [calm, away] = [(); 2].map(|()| Arc::<AtomicBool>::default());
        let random = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
        let (count, is_calm, is_away) = (Arc::clone(&injected), Arc::clone(&calm), Arc::clone(&away));
        let layer = axum::middleware::from_fn(move |request: Request, next: Next| {
            let writes = ["/BatchWrite", "/Commit"].iter().any(|end| request.uri().path().ends_with(end));
            let is_spared = !writes || is_calm.load(Relaxed);
            let fault = match (is_away.load(Relaxed), is_spared) {
                (true, _) => Some(Fault::Refused(14)),
                (false, true) => None,
                (false, false) => draw(&mut random.lock()),
            };
            count.fetch_add(u64::from(fault.is_some()), Relaxed);
            spoil(fault, request, next)
        });
        let routes = hidane::grpc_routes(&admin).layer(layer);
        let served = hidane::serve(listeners, routes, hidane::http_routes(admin), std::future::pending());
        // A failure shows in the calls.
        let running = Telemetry::silent("emulator").spawn(async { drop(served.await) });
        Ok(Self { address, injected, calm, away, running })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many faults there were.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected.load(Relaxed)
    }

    /// Answers UNAVAILABLE no more.
    pub(super) fn back(&self) {
        self.away.store(false, Relaxed);
    }

    /// Fails no more.
    pub(super) fn calm(&self) {
        self.calm.store(true, Relaxed);
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn draw(random: &mut StdRng) -> Option<Fault> {
    (random.random_range(0..1_000) < SPOILED).then(|| FAULTS[random.random_range(0..FAULTS.len())])
}

async fn spoil(fault: Option<Fault>, request: Request, next: Next) -> Response {
    let failed = |code: u8| {
        let code = code.to_string();
        [("content-type", "application/grpc"), ("grpc-status", &*code), ("grpc-message", "injected")]
            .into_response()
    };
    match fault {
        None => next.run(request).await,
        Some(Fault::Refused(code)) => failed(code),
        Some(Fault::Lost) => {
            drop(next.run(request).await);
            failed(14)
        }
        Some(Fault::Late) => {
            let answer = next.run(request).await;
            tokio::time::sleep(LATE).await;
            answer
        }
    }
}
