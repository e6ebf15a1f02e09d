//! Where observations come from: recorded days, DefiLlama's yields API, an Ethereum node.
//!
//! A source gives readings as they are; what is wrong with them is found in [`quality`](crate::quality). Pools and gas are read at once,
//! each with its own outcome: gas that cannot be had does not lose the pools.

pub mod csv_gas;
pub mod defillama;
pub mod gas_rpc;
pub mod recording;
pub mod replay;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tracing::Instrument as _;

use crate::{
    branch::{Branch, Problem, bounded},
    history::History,
    pool::{Gas, Moment, Pool},
    quality::{self, Warning},
};

pub use defillama::Defillama;
pub use gas_rpc::GasRpc;
pub use replay::Replay;

/// A source of pools and one of gas.
#[derive(Clone, Debug)]
pub struct Sources {
    pools: Pools,
    gas: GasSource,
}

/// A source of pools.
#[derive(Clone, Debug)]
pub enum Pools {
    /// Recorded pools, one step of the recording a cycle.
    Replay(Arc<Replay>),
    /// DefiLlama's public yields API.
    Defillama(Defillama),
}

/// A source of gas prices.
#[derive(Clone, Debug)]
pub enum GasSource {
    /// The prices recorded with a replay.
    Replay(Arc<csv_gas::Recorded>),
    /// An Ethereum JSON-RPC node.
    Rpc(GasRpc),
    /// None: cycles do without.
    None,
}

/// What the sources gave in one cycle.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When it is from.
    pub moment: Moment,
    /// The pools, and how reading them went.
    pub pools: Branch<Reading>,
    /// The gas price, and how reading it went; `None` without a gas source.
    pub gas: Option<Branch<Option<Gas>>>,
}

/// Pools, and what the source itself says is wrong with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The pools, in the source's order.
    pub pools: Vec<Pool>,
    /// What was found while reading.
    pub warnings: Vec<Warning>,
}

impl Sources {
    /// Makes sources of a pool source and a gas source.
    #[must_use]
    pub fn new(pools: Pools, gas: GasSource) -> Self {
        Self { pools, gas }
    }

    /// Returns whether the recording has nothing for step `cursor`; never true for a live source.
    #[must_use]
    pub fn is_exhausted(&self, cursor: u64) -> bool {
        matches!(&self.pools, Pools::Replay(replay) if replay.moment(cursor).is_none())
    }

    /// Returns how many steps the recording has from its start; `None` for a live source and for one that wraps around.
    #[must_use]
    pub fn steps(&self) -> Option<u64> {
        match &self.pools {
            Pools::Replay(replay) => replay.steps(),
            Pools::Defillama(_) => None,
        }
    }

    /// Returns whether the observations were recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        matches!(self.pools, Pools::Replay(_))
    }

    /// Returns the history as it stands before step `cursor`; empty for a live source, whose days are kept by the journal.
    #[must_use]
    pub fn history(&self, cursor: u64) -> History {
        let mut history = History::default();
        if let Pools::Replay(replay) = &self.pools {
            for (moment, pools) in replay.before(cursor) {
                let mut pools = pools.to_vec();
                // Repairs the values; what is wrong with them was or will be said by their own cycle.
                drop(quality::inspect_pools(&mut pools));
                history.record(moment, &pools, None);
            }
        }
        if let (GasSource::Replay(recorded), Some(replay)) = (&self.gas, self.replay()) {
            recorded.fill(&mut history, replay.moment(cursor).map(|moment| moment.date));
        }
        history
    }

    /// Reads step `cursor` of a recording, or the present of a live source, within `limit`.
    pub async fn observe(&self, cursor: u64, now: SystemTime, limit: Duration) -> Observed {
        let moment = match &self.pools {
            Pools::Replay(replay) => replay.moment(cursor).unwrap_or_else(|| Moment::live(now)),
            Pools::Defillama(_) => Moment::live(now),
        };
        let pools = bounded("source pools", limit, self.read_pools(cursor));
        let gas = async {
            match &self.gas {
                GasSource::None => None,
                _ => Some(bounded("source gas", limit, self.read_gas(moment)).await),
            }
        };
        let (pools, gas) = tokio::join!(pools, gas);
        Observed { moment, pools, gas }
    }

    fn replay(&self) -> Option<&Replay> {
        match &self.pools {
            Pools::Replay(replay) => Some(replay),
            Pools::Defillama(_) => None,
        }
    }

    fn read_pools(&self, cursor: u64) -> BoxFuture<'_, Result<Reading, Problem>> {
        match &self.pools {
            Pools::Replay(replay) => Box::pin(async move {
                replay.read(cursor).ok_or_else(|| Problem::new("OUT_OF_RANGE", "the recording has ended"))
            }),
            Pools::Defillama(source) => {
                let span =
                    tracing::info_span!("GET pools", otel.kind = "client", server.address = source.host());
                Box::pin(source.read().instrument(span))
            }
        }
    }

    fn read_gas(&self, moment: Moment) -> BoxFuture<'_, Result<Option<Gas>, Problem>> {
        match &self.gas {
            GasSource::None => Box::pin(async { Ok(None) }),
            GasSource::Replay(recorded) => Box::pin(async move {
                let missing =
                    || Problem::new("NOT_FOUND", format!("no gas price is recorded for {}", moment.date));
                recorded.on(moment.date).map(Some).ok_or_else(missing)
            }),
            GasSource::Rpc(source) => {
                let span =
                    tracing::info_span!("eth_gasPrice", otel.kind = "client", server.address = source.host());
                Box::pin(async move { source.read().await.map(Some) }.instrument(span))
            }
        }
    }
}

/// Returns the client for HTTP sources.
///
/// # Errors
///
/// Fails if the platform's certificates cannot be read.
pub(crate) fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("athena/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(5))
        .build()
}

/// Returns a failure of an HTTP source as a branch's problem; an address with a key in it is never repeated.
pub(crate) fn http_problem(error: reqwest::Error) -> Problem {
    let error = error.without_url();
    let code = if error.is_timeout() {
        "DEADLINE_EXCEEDED"
    } else if error.is_decode() {
        "DATA_LOSS"
    } else {
        "UNAVAILABLE"
    };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Problem::new(code, format!("{error}{cause}"))
}
