//! Firestore in this process, with faults on demand.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    task::JoinHandle,
};

use crate::harness::Service;

/// What happens to one request that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused with this code and not applied.
    Refuse(u8),
    /// It is applied and its answer lost.
    LoseReply,
    /// It is given up, and applied when that is asked for.
    Late,
}

#[derive(Debug)]
struct Script {
    faults: Mutex<VecDeque<Fault>>,
    calls: Mutex<Vec<Option<Fault>>>,
    /// Open: requests pass. Closed: they wait.
    gate: Semaphore,
    arrived: Notify,
    /// Lets requests that are late go on, and tells when one has been applied.
    late: Notify,
    applied: Notify,
}

#[derive(Debug)]
pub(crate) struct Emulator {
    pub(crate) address: String,
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Emulator {
    pub(crate) async fn start() -> Self {
        let admin = hidane::Admin::default();
        let listeners = hidane::bind("127.0.0.1", 0).await.unwrap();
        let address = listeners[0].local_addr().unwrap().to_string();
        let script = Arc::new(Script {
            faults: Mutex::default(),
            calls: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS >> 1),
            arrived: Notify::new(),
            late: Notify::new(),
            applied: Notify::new(),
        });
        let seen = Arc::clone(&script);
        let layer =
            axum::middleware::from_fn(move |request, next| intercept(Arc::clone(&seen), request, next));
        let routes = hidane::grpc_routes(&admin).layer(layer);
        let (stop, stopped) = oneshot::channel::<()>();
        let serve =
            hidane::serve(listeners, routes, hidane::http_routes(admin), async { drop(stopped.await) });
        let running = telemetry::Telemetry::silent("emulator").spawn(async { serve.await.unwrap() });
        Self { address, script, stop, running }
    }

    /// A batcher that stores here.
    pub(crate) async fn batcher(&self) -> Service {
        Service::with(|config| self.configure(config)).await
    }

    /// A batcher that stores here and gives up what is on its way as soon as it stops.
    pub(crate) async fn hasty_batcher(&self) -> Service {
        Service::with(|config| {
            self.configure(config);
            config.storage_drain_timeout = Duration::ZERO;
        })
        .await
    }

    pub(crate) fn configure(&self, config: &mut storage_batcher::Config) {
        config.firestore_project = Some("demo-athena".into());
        config.firestore_url = Some(self.address.clone());
    }

    /// Makes the next requests fail in this way.
    pub(crate) fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.faults.lock().unwrap().extend(faults);
    }

    /// Takes the faults back that have not happened yet.
    pub(crate) fn calm(&self) {
        self.script.faults.lock().unwrap().clear();
    }

    /// Requests so far, each with what happened to it.
    pub(crate) fn calls(&self) -> Vec<Option<Fault>> {
        self.script.calls.lock().unwrap().clone()
    }

    /// Holds requests back until the permit is dropped.
    pub(crate) async fn hold(&self) -> tokio::sync::SemaphorePermit<'_> {
        let all = u32::try_from(self.script.gate.available_permits().min(u32::MAX as usize)).unwrap();
        self.script.gate.forget_permits(self.script.gate.available_permits() - all as usize);
        self.script.gate.acquire_many(all).await.unwrap()
    }

    /// Waits for a request to arrive.
    pub(crate) async fn arrived(&self) {
        self.script.arrived.notified().await;
    }

    /// Applies a request that is late.
    pub(crate) async fn apply_late(&self) {
        self.script.late.notify_one();
        self.script.applied.notified().await;
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }
}

async fn intercept(script: Arc<Script>, request: Request, next: Next) -> Response {
    if !["/BatchWrite", "/Commit"].iter().any(|end| request.uri().path().ends_with(end)) {
        return next.run(request).await;
    }
    script.arrived.notify_one();
    let pass = script.gate.acquire().await.unwrap();
    let fault = script.faults.lock().unwrap().pop_front();
    script.calls.lock().unwrap().push(fault);
    drop(pass);
    match fault {
        None => next.run(request).await,
        Some(Fault::Refuse(code)) => failed(code),
        Some(Fault::Late) => {
            let late = async move {
                script.late.notified().await;
                drop(next.run(request).await);
                script.applied.notify_one();
            };
            telemetry::Telemetry::silent("emulator").spawn(late);
            failed(14)
        }
        Some(Fault::LoseReply) => {
            drop(next.run(request).await);
            failed(14)
        }
    }
}

fn failed(code: u8) -> Response {
    let code = code.to_string();
    [("content-type", "application/grpc"), ("grpc-status", &*code), ("grpc-message", "injected")]
        .into_response()
}
