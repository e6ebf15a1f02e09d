//! Keeps an agent's memories and finds the ones that matter.
//!
//! Design facts:
//!
//! 1. **Exact.** Filters are bitmaps; every memory that passes them is compared. A recall never returns fewer than
//!    `limit` memories if that many pass, and says how many passed. Every plan finds the same ones in the same order.
//! 2. **Durable, then seen.** A write is acknowledged after its fsync and after memory has it: the next call finds it.
//! 3. **Disk and memory agree.** A write and the generation it makes are one commit; memory applies writes in the order
//!    of their generations, in a task of its own that goes on when the caller leaves.
//! 4. **A dead memory is never served.** The generation is part of the query cache's key, and every change goes
//!    through one function, which also takes the older answers out of the cache.
//! 5. **A scan holds nobody up.** It runs on rows that are only appended and shared with the writer, on threads of its own, and ends within
//!    a chunk of its deadline or of its caller's leaving.
//! 6. **Everything that is searched is in memory, and nothing else**: about (dimensions + words + 300) bytes a memory. Contents and full
//!    vectors are read from the store, of what was found and of what the order has to be proven with.
//! 7. **A disk that takes no writes stops no recall.** Remember and Forget are refused with the reason; health stays SERVING.
//! 8. **One maker of vectors a space.** A space is one namespace of one tenant; its embedder, dimensions and metric are stored
//!    with it, and vectors of others are refused. Re-embedding makes a second set beside the first and changes to it at once: no answer and
//!    no commit ever has vectors of two makers. A default namespace whose vectors nobody here makes ends the start with an error that
//!    names the setting.
//! 9. **A number is never given twice.** A memory has a number in its space, a space one in the store: what is cached or
//!    kept under one cannot come to mean something else.
//! 10. **A file that cannot be read is set aside**, whole, and a new one begun: the start neither fails for ever nor loses it. Health
//!     and a metric say so until somebody has taken it away.
//! 11. **What is forgotten can come back** for `memory_undo_window`: it goes to the trash in the commit that deletes it, whatever the cause, and is
//!     removed for good after that. No forgetting takes what was written since it was planned.
//! 12. **What says the same finds itself.** What a memory says is a number ([`hygiene::saying`]), and rows are listed by it: a write looks up
//!     what may say the same without comparing any, and the commit refuses if that has changed since.

mod administer;
mod answers;
mod backend;
#[cfg(feature = "bench")]
pub mod bench;
mod config;
mod convert;
mod engine;
mod error;
mod explain;
mod held;
mod hygiene;
mod index;
mod known;
mod local;
mod memory;
mod plan;
mod query;
mod recall;
mod server;
mod shape;
mod space;
mod spaces;
mod stop;
mod store;
mod upkeep;
mod vector;
mod written;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use ::clock::Clock;
use telemetry::Telemetry;
use tokio::sync::{oneshot, watch};

pub use crate::{
    config::{Config, DuplicateHandling},
    error::Error,
};
use crate::{
    engine::Engine,
    server::{Adapter, Admin, Slot},
};

/// The name under which health is asked for.
const SERVICE: &str = "athena.memory.v1.MemoryService";

/// The part of health that says whether the store is whole.
const STORE: &str = "athena.memory.v1.MemoryService/store";

/// A memory service whose address is known and which serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    host: rpc::Host,
    engine: Slot,
    whole: watch::Sender<Option<bool>>,
    config: Config,
    telemetry: Telemetry,
    clock: Clock,
}

/// Opens the listener. Nothing is read or served before [`Bound::run`].
///
/// # Errors
/// [`Error::Setting`] if settings contradict each other, [`Error::Host`] if the port is taken or a host setting is wrong.
pub async fn bind(config: Config, telemetry: Telemetry, clock: Clock) -> Result<Bound, Error> {
    let limits = config.limits()?;
    // Made by `run`; here a wrong setting ends the start before anything is opened.
    config.choice()?;
    config.next_choice()?;
    config.policy()?;
    let host = rpc::Host::bind(&config.host, config.memory_port, telemetry.clone(), clock.clone())
        .map_err(Error::Host)?;
    let engine: Slot = Arc::new(OnceLock::new());
    let adapter = Adapter::new(Arc::clone(&engine), limits, &telemetry);
    let (whole, heard) = watch::channel(None);
    let (checked, tell) = (Arc::clone(&engine), whole.clone());
    let check = move || {
        let engine = checked.get().cloned();
        if let Some(engine) = &engine {
            tell.send_replace(Some(engine.is_whole()));
        }
        // What is still being read is not served anyway.
        async move { engine.is_none_or(|engine| engine.is_open()) }
    };
    let host = host
        .add(adapter.into_service())
        .add_admin(Admin::service(Arc::clone(&engine), limits))
        .part(STORE, rpc::outcomes(heard))
        .check(SERVICE, check);
    Ok(Bound { host, engine, whole, config, telemetry, clock })
}

impl Bound {
    /// Returns the address of the listener.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.host.local_addr()
    }

    /// Serves until `shutdown`. Calls are answered with UNAVAILABLE and health is NOT_SERVING until every memory is
    /// loaded. At the end the writes on their way are finished.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Store`] or [`Error::Maker`] if the store cannot be used, [`Error::Host`] if serving fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { host, engine, whole, config, telemetry, clock } = self;
        let (ending, ended) = oneshot::channel::<()>();
        let shutdown = async move {
            shutdown.await;
            drop(ending);
        };
        let open = async {
            let opened = Engine::open(&config, telemetry, clock).await?;
            whole.send_replace(Some(opened.is_whole()));
            // Only this task fills the slot.
            drop(engine.set(Arc::clone(&opened)));
            // After SERVING: nobody waits for it.
            Ok(async move {
                opened.calibrate().await;
                tokio::select! {
                    never = opened.store.keep_checkpoints() => match never {},
                    never = opened.keep_up() => match never {},
                    never = opened.keep_reembedding() => match never {},
                    _ = ended => {}
                }
            })
        };
        let served = host.run_opening(shutdown, open).await;
        if let Some(engine) = engine.get() {
            engine.close().await;
        }
        served
    }
}
