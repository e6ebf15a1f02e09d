//! `gateway.overhead`: what the gateway adds to a call that it must pass on, through the OpenAI dialect.
//!
//! The same calls go to the mock upstream directly, to the gateway in front of it and, where there is one, to an Envoy that only
//! forwards, in turns of a few seconds, in open loop. Every question is a new one, and the mock counts that it was asked.

use std::net::SocketAddr;

use serde_json::json;
use testkit::{
    Mock,
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
pub async fn overhead(mock: &Mock, gateway: &Server, envoy: Option<SocketAddr>) -> Result<Round, Error> {
    let ways = [Some(mock.address()), Some(gateway.address), envoy];
    for address in ways.into_iter().flatten() {
        run(load(address, WARM_UP)).await?;
    }
    let mut measured = [const { None }; 3];
    let mut cpu_us = 0.0;
    for _ in 0..TURNS {
        for (way, sum) in ways.iter().zip(&mut measured) {
            let Some(address) = *way else { continue };
            let (asked, used) = (mock.calls(), gateway.process.cpu()?);
            let turn = run(load(address, CALLS / TURNS)).await?;
            let asked = mock.calls() - asked;
            if asked != CALLS / TURNS {
                return Err(Error::Asked { calls: CALLS / TURNS, asked });
            }
            if address == gateway.address {
                cpu_us += (gateway.process.cpu()? - used).as_secs_f64() * 1e6 / CALLS as f64;
            }
            match sum {
                None => *sum = Some(turn),
                Some(sum) => Measured::add(sum, turn),
            }
        }
    }
    let micros = |way: usize, share: f64| measured[way].as_ref().map(|all: &Measured| all.micros(share));
    let added = |way: usize, share: f64| Some(micros(way, share)? - micros(0, share)?);
    Ok(Round {
        value: added(1, 0.99).unwrap_or(f64::NAN),
        details: json!({
            "added_p50_us": added(1, 0.5),
            "cpu_us": cpu_us,
            "envoy_added_p99_us": added(2, 0.99),
            "envoy_added_p50_us": added(2, 0.5),
            "direct_p50_us": micros(0, 0.5),
            "direct_p99_us": micros(0, 0.99),
            "per_s": RATE,
        }),
    })
}

fn load(address: SocketAddr, calls: u64) -> Load {
    Load { calls, connections: CONNECTIONS, pace: Pace::PerSecond(RATE), ..completions(address, topic()) }
}
