//! Runs agent cycles: observe → recall → analyse → decide → store → learn.
//!
//! Design facts:
//!
//! 1. **The cycle is a pure state machine** ([`cycle::Machine`]): it orders, a driver does, it takes what came of it. No I/O and no clock in it.
//! 2. **A branch fails alone.** A late or failed branch becomes a labelled failure with its name, code and message; a dead service costs
//!    its stage, never the cycle.
//! 3. **One deadline.** Each stage gets a share of what is left, with a floor for the later ones ([`budget`]); the share travels with every call
//!    as `grpc-timeout`.
//! 4. **1 + 2N recalls go out at once**, in one task; what they would have taken one after another is in the record.
//! 5. **One cycle of an agent at a time**, numbered without gaps; a cycle goes on when its caller leaves.
//! 6. **One fsync.** A cycle's record, its agent's progress and, live, its day are one commit ([`journal`]); after a restart they agree.
//! 7. **No cycle that cannot be written down**: while the disk takes no writes none is begun, and the kept ones are listed.
//! 8. **Input is not believed.** All zero, all equal, stale, scaled or missing input is reported, counted and labels the decisions made on it
//!    ([`quality`]).
//! 9. **Two times.** Samples carry the agent clock's time; means and ages use the recorded date.

#[cfg(feature = "bench")]
pub mod bench;
pub mod branch;
pub mod budget;
mod clients;
mod config;
mod convert;
pub mod cycle;
pub mod decide;
mod error;
pub mod history;
pub mod interest;
pub mod journal;
mod lease;
pub mod peers;
pub mod pool;
pub mod quality;
mod run;
mod server;
mod setup;
pub mod source;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::clock::Clock;
use telemetry::Telemetry;

use crate::{
    clients::Peers,
    cycle::Limits,
    interest::Rule,
    journal::Journal,
    run::{Parts, Runner},
    server::{Adapter, Slot},
};
pub use crate::{config::Config, error::Error, source::Sources};

/// An orchestrator whose address is known and which serves nothing yet.
#[derive(Debug)]
pub struct Bound {
    host: rpc::Host,
    slot: Slot,
    config: Config,
    sources: Sources,
    rule: Rule,
    peers: Peers,
    telemetry: Telemetry,
    clock: Clock,
}

/// Opens the listener, with the sources that the settings name. Nothing is served before [`Bound::run`].
///
/// # Errors
///
/// [`Error::Setting`], [`Error::Interest`], [`Error::Recording`] or [`Error::Replay`] if a setting cannot be used,
/// [`Error::Host`] if the port is taken or a peer's address is none.
pub async fn bind(config: Config, telemetry: Telemetry, clock: Clock) -> Result<Bound, Error> {
    let sources = setup::sources(&config)?;
    bind_with_source(config, sources, telemetry, clock).await
}

/// Opens the listener, with given sources: the settings' own are not looked at.
///
/// # Errors
///
/// As [`bind`].
#[expect(clippy::unused_async, reason = "every service binds in the same way, and others have to wait")]
pub async fn bind_with_source(
    config: Config,
    sources: Sources,
    telemetry: Telemetry,
    clock: Clock,
) -> Result<Bound, Error> {
    setup::check(&config)?;
    let rule = Rule::compile(&config.agent_interest_rule).map_err(Error::Interest)?;
    let peers = Peers::new(&config, &telemetry)?;
    let host = rpc::Host::bind(&config.host, config.agent_port, telemetry.clone(), clock.clone())?;
    let slot: Slot = Arc::new(OnceLock::new());
    let adapter = Adapter::new(Arc::clone(&slot), config.agent_id.clone(), telemetry.clone());
    let host = clients::follow(host.add(adapter.into_service()), &config)?;
    Ok(Bound { host, slot, config, sources, rule, peers, telemetry, clock })
}

impl Bound {
    /// Returns the address of the listener.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.host.local_addr()
    }

    /// Serves until `shutdown`, and runs cycles by itself if `agent_interval` says so. Health is NOT_SERVING until the
    /// journal is open. At the end a running cycle is finished, for as long as `drain_timeout` allows.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if the journal cannot be used, [`Error::Host`] if serving fails.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { host, slot, config, sources, rule, peers, telemetry, clock } = self;
        let draining = host.draining();
        let (folder, options, kept) = (config.agent_dir.clone(), config.journal(), config.agent_cycles_kept);
        let open = async {
            let opened = telemetry.spawn_blocking(move || Journal::open(&folder, &options, kept)).await;
            let runner = Arc::new(Runner::new(Parts {
                sources,
                peers,
                journal: opened.map_err(Error::Task)??,
                rule,
                limits: Limits {
                    pools: config.agent_max_pools,
                    interesting: config.agent_max_interesting,
                    stale_after: config.agent_stale_after,
                },
                agents: config.agent_max_agents,
                deadline: config.agent_cycle_deadline,
                telemetry: telemetry.clone(),
                clock: clock.clone(),
            }));
            // Only this task fills the slot.
            drop(slot.set(Arc::clone(&runner)));
            let (config, clock) = (&config, &clock);
            Ok(async move {
                tokio::select! {
                    () = periodic(&runner, config, clock) => {}
                    () = draining.started() => {}
                }
                // A cycle whose caller has left is finished too.
                drop(tokio::time::timeout(config.host.drain_timeout, runner.idle()).await);
            })
        };
        let served = host.run_opening(shutdown, open).await;
        // Not before: until then calls come in.
        if let Some(runner) = slot.get() {
            runner.journal().close().await;
        }
        served
    }
}

/// Runs a cycle every `agent_interval` on the agent clock, for ever; never, if it is 0 or the recording has ended.
async fn periodic(runner: &Arc<Runner>, config: &Config, clock: &Clock) {
    if config.agent_interval == Duration::ZERO {
        return std::future::pending().await;
    }
    loop {
        let (tenant, agent) = (config.agent_tenant.as_str().into(), config.agent_id.clone());
        match runner.run(tenant, agent, None).await {
            Ok(_) | Err(Error::Busy) => {}
            Err(Error::Exhausted) => {
                tracing::info!("the recording has ended");
                return std::future::pending().await;
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "cycle not recorded"),
        }
        clock.sleep(config.agent_interval).await;
    }
}
