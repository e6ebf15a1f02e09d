//! Benchmarks `gateway.exact_hit`, `gateway.overhead`, `gateway.memory` and `gateway.single_flight`, run by `athena bench` against
//! processes that it has started.
//!
//! A gateway is always a process of its own, as are those it is compared with, so that its CPU time and its memory are its own.
//! The load and the mock upstream are threads of the process that measures.

mod clients;
mod exact_hit;
mod memory;
mod overhead;
mod server;
mod single_flight;

use std::{io, net::SocketAddr};

use testkit::{
    Round, Server,
    load::{Load, Measured, chat},
};

pub use self::{
    exact_hit::exact_hit,
    memory::memory,
    overhead::overhead,
    server::{bare_echo, echo},
    single_flight::{DELAY as SINGLE_FLIGHT_DELAY, single_flight},
};

/// The model that the mock upstream is asked for.
pub const MODEL: &str = "mock";
/// Where chat completions are asked for, of us and of everybody else.
const COMPLETIONS: &str = "/v1/chat/completions";

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A server cannot be reached, or a process not be read.
    #[error("a server cannot be measured")]
    Io(#[from] io::Error),
    /// Calls failed: the others' figures would not mean what they say.
    #[error("{failed} of {calls} calls failed, the first with {failure}")]
    Failed {
        /// How many.
        failed: u64,
        /// Of how many.
        calls: u64,
        /// What became of the first.
        failure: String,
    },
    /// The upstream was asked another number of times than it must have been.
    #[error("{calls} calls made {asked} upstream calls")]
    Asked {
        /// How many calls there were.
        calls: u64,
        /// How many of them reached the upstream.
        asked: u64,
    },
    /// The echo cannot be served.
    #[error("the echo cannot be served")]
    Echo(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Makes a load of chat completions, each another question of the same topic.
fn completions(address: SocketAddr, topic: String) -> Load {
    Load::http(address, COMPLETIONS, move |number| chat(MODEL, &topic, number))
}

/// Runs a load of which every call must get an answer.
async fn run(load: Load) -> Result<Measured, Error> {
    let calls = load.calls;
    let measured = load.run().await?;
    match &measured.failure {
        None => Ok(measured),
        Some(failure) => Err(Error::Failed { failed: measured.failed, calls, failure: failure.clone() }),
    }
}

/// Returns a word that no other call of this process or another got: what is asked under it was never asked before.
fn topic() -> String {
    let random: u64 = rand::random();
    (0..8).map(|at| char::from(b'a' + ((random >> (at * 5)) % 26) as u8)).collect()
}
