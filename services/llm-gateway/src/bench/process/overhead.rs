//! `gateway.overhead`: what the gateway adds to a call that it must pass on, through the OpenAI dialect.
//!
//! The same calls go to the mock upstream directly, to the gateway in front of it and, where there is one, to an Envoy that only
//! forwards, in turns of a few seconds, in open loop. Every question is a new one, and the mock counts that it was asked.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::json;
use testkit::{
    Mock, Process,
    load::{Load, Measured, Pace},
};

use super::{Error, Round, Server, completions, run, topic};

/// Calls of each way, in as many turns.
const CALLS: u64 = 8_000;
const TURNS: u64 = 4;
/// How many a second.
const RATE: f64 = 1_000.0;
/// Connections to the mock, to the gateway and to Envoy.
const CONNECTIONS: usize = 32;
/// Calls before each round: connections are made, memory is warm.
const WARM_UP: u64 = 500;

/// Measures one round.
///
/// # Errors
/// [`Error`] if a call fails, or one through the gateway did not reach the mock.
pub async fn overhead(mock: &Mock, gateway: &Server, envoy: Option<&Server>) -> Result<Round, Error> {
    let mut direct = Way::to(mock.address(), None).await?;
    let mut ours = Way::to(gateway.address, Some(gateway.process)).await?;
    let mut theirs = match envoy {
        Some(envoy) => Some(Way::to(envoy.address, Some(envoy.process)).await?),
        None => None,
    };
    for _ in 0..TURNS {
        for way in [Some(&mut direct), Some(&mut ours), theirs.as_mut()].into_iter().flatten() {
            way.turn(mock).await?;
        }
    }
    let added = |way: &Way, share: f64| way.micros(share) - direct.micros(share);
    Ok(Round {
        value: added(&ours, 0.99),
        details: json!({
            "added_p50_us": added(&ours, 0.5),
            "cpu_us": ours.cpu_us,
            "envoy_added_p99_us": theirs.as_ref().map(|theirs| added(theirs, 0.99)),
            "envoy_added_p50_us": theirs.as_ref().map(|theirs| added(theirs, 0.5)),
            "envoy_cpu_us": theirs.as_ref().map(|theirs| theirs.cpu_us),
            "direct_p50_us": direct.micros(0.5),
            "direct_p99_us": direct.micros(0.99),
            "per_s": RATE,
        }),
    })
}

/// One way to the mock, and what was measured of it.
struct Way {
    address: SocketAddr,
    process: Option<Process>,
    cpu_us: f64,
    measured: Measured,
}

impl Way {
    /// Warms it up.
    async fn to(address: SocketAddr, process: Option<Process>) -> Result<Self, Error> {
        run(load(address, WARM_UP)).await?;
        Ok(Self { address, process, cpu_us: 0.0, measured: Measured::nothing()? })
    }

    async fn turn(&mut self, mock: &Mock) -> Result<(), Error> {
        let calls = CALLS / TURNS;
        let (before, used) = (mock.calls(), self.used()?);
        self.measured.add(run(load(self.address, calls)).await?);
        self.cpu_us += (self.used()? - used).as_secs_f64() * 1e6 / CALLS as f64;
        match mock.calls() - before {
            asked if asked == calls => Ok(()),
            asked => Err(Error::Asked { calls, asked }),
        }
    }

    fn used(&self) -> io::Result<Duration> {
        self.process.map_or(Ok(Duration::ZERO), Process::cpu)
    }

    fn micros(&self, share: f64) -> f64 {
        self.measured.micros(share)
    }
}

fn load(address: SocketAddr, calls: u64) -> Load {
    Load { calls, connections: CONNECTIONS, pace: Pace::PerSecond(RATE), ..completions(address, topic()) }
}
