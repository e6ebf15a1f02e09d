//! Takes document writes and samples, folds them and sends them to a store in batches.
//!
//! Design facts:
//!
//! 1. **Acknowledged is on disk.** A write is answered after the fsync of its commit; all that wait share one commit.
//! 2. **Memory follows the disk.** One task gives sequences, commits and only then shows a write to the rest; it goes on when the caller
//!    leaves.
//! 3. **One document, one write.** Writes to a document fold into one with the same effect ([`change`]) wherever one has it, and at most
//!    one write of a document is on its way, so an old state never overtakes a new one. What has the same effect twice is sent again after
//!    a lost answer; what has not is sealed with a ledger document first, which says whether it has arrived.
//! 4. **A flush holds nobody up.** Batches are taken out, not copied: what arrives during a flush waits for the next one. A document is
//!    forgotten only when the sink has it and the journal has dropped it, in one transaction with the embedded store.
//! 5. **Nothing is lost to the sink's moods.** A failed request is sent again for as long as it takes, after jittered pauses and no faster
//!    than the sink bears; a document that the sink refuses for good is kept as a dead letter, with the reason.
//! 6. **Reads see acknowledged writes**: what waits is laid over what the sink holds.
//! 7. **A bucket is written once**, when its window and the lateness are over ([`aggregate`]). Its samples stay on disk for a day: a late
//!    one rewrites it from all of them. Many buckets may share a document, and each is in one.
//! 8. **A disk that takes no writes stops no read.** Writes are refused with the reason, what is acknowledged waits in memory and on
//!    disk, and sending goes on with the disk; health stays SERVING.
//! 9. **Two clocks.** Flush intervals, buckets and rates run on the agent clock; waiting for the sink is wall time.
//! 10. **A stream keeps its order.** Each of its writes is answered for itself; what is refused for now halts the stream until it comes
//!     again ([`stream`]). [`client`] is the other side.
//! 11. **Tenants share batches and nothing else**: keys, costs, plans and flush reports are the caller's own.

pub mod accept;
pub mod acks;
pub mod aggregate;
pub mod batcher;
#[cfg(feature = "bench")]
pub mod bench;
pub mod buckets;
pub mod budget;
pub mod cache;
pub mod change;
pub mod client;
pub mod codec;
pub mod config;
mod convert;
pub mod dead_letter;
pub mod document;
pub mod error;
pub mod flush;
pub mod keys;
pub mod last_written;
pub mod ledger;
pub mod plan;
pub mod queue;
pub mod read;
mod recall;
mod server;
pub mod shared;
pub mod sink;
mod sizes;
pub mod status;
pub mod store;
pub mod stream;
pub mod waiters;
pub mod write;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Instant,
};

use ::clock::Clock;
use journal::Journal;
use telemetry::Telemetry;
use tokio::sync::watch;

use crate::{
    batcher::Batcher,
    server::{Adapter, Slot},
    sink::{Sink, embedded::Embedded, firestore::Firestore, heard::Heard},
    store::Store,
};
pub use crate::{config::Config, error::Error};

/// The name under which health is asked for.
const SERVICE: &str = "athena.storage.v1.StorageBatcherService";

/// The name under which health tells whether Firestore answers, where that is the sink.
const FIRESTORE: &str = "athena.storage.v1.StorageBatcherService/firestore";

/// The journal's file within `storage_dir`.
const FILE: &str = "storage.redb";

/// A storage batcher whose address is known and which serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    host: rpc::Host,
    batcher: Slot,
    config: Config,
    /// Where it is told whether Firestore answers.
    answers: watch::Sender<Option<bool>>,
    telemetry: Telemetry,
    clock: Clock,
}

/// Opens the listener. Nothing is read or served before [`Bound::run`].
///
/// # Errors
/// [`Error::Server`] if the port is taken or a host setting is wrong.
#[expect(clippy::unused_async, reason = "every service is bound the same way")]
pub async fn bind(config: Config, telemetry: Telemetry, clock: Clock) -> Result<Bound, Error> {
    let host = rpc::Host::bind(&config.host, config.storage_port, telemetry.clone(), clock.clone())?;
    let batcher: Slot = Arc::new(OnceLock::new());
    let checked = Arc::clone(&batcher);
    let check = move || {
        let slot = Arc::clone(&checked);
        // What is still being read is not served anyway.
        async move { slot.get().is_none_or(Batcher::is_well) }
    };
    let mut host = host.add(Adapter::service(Arc::clone(&batcher), config.streams())).check(SERVICE, check);
    let (answers, last) = watch::channel(None);
    if config.firestore().is_some() {
        host = host.part(FIRESTORE, rpc::outcomes(last));
    }
    Ok(Bound { host, batcher, config, answers, telemetry, clock })
}

impl Bound {
    /// Returns the address of the listener.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.host.local_addr()
    }

    /// Serves until `shutdown`. Calls are answered with UNAVAILABLE and health is NOT_SERVING until the journal is read. At the end
    /// what waits is sent, for at most `storage_drain_timeout`; the rest stays in the journal.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::Store`] if the journal cannot be used, [`Error::Server`] if serving fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { host, batcher, config, answers, telemetry, clock } = self;
        let carrier = telemetry.clone();
        let running = Arc::clone(&batcher);
        let shutdown = async move {
            shutdown.await;
            // Who waits for the sink is answered before the calls are ended.
            if let Some(batcher) = running.get() {
                batcher.send_all();
            }
        };
        let open = async {
            let opened = open(&config, answers, telemetry, clock).await?;
            // Only this task fills the slot.
            drop(batcher.set(opened));
            Ok(std::future::ready(()))
        };
        let served = host.run_opening(shutdown, open).await;
        if let Some(batcher) = batcher.get() {
            let drain = async {
                let left = batcher.drain(config.storage_drain_timeout).await;
                tracing::info!(documents_left = left, "drained");
            };
            carrier.carry(drain).await;
        }
        served
    }
}

/// Opens the journal and the sink the settings name, and starts the batcher on them.
async fn open(
    config: &Config,
    answers: watch::Sender<Option<bool>>,
    telemetry: Telemetry,
    clock: Clock,
) -> Result<Batcher, Error> {
    let opening = Instant::now();
    let behaviour = config.options(config.rules()?);
    let (path, options) = (config.storage_dir.join(FILE), config.journal());
    let opened = telemetry.spawn_blocking(move || Journal::open(path, &options)).await;
    let journal = opened.map_err(|_| Error::NotReady)?.map_err(|error| Error::Open(Arc::new(error)))?;
    let sink: Arc<dyn Sink> = match config.firestore() {
        Some(options) => Arc::new(Heard::new(Firestore::new(options, clock.clone()), answers)),
        None => Arc::new(Embedded::open(journal.clone()).await?),
    };
    Batcher::start(behaviour, Store::new(journal, opening), sink, telemetry, clock).await
}
