//! Benchmarks `memory.serve`, `memory.restart` and `memory.kills`, run by `athena bench` against a service that it starts, stops and
//! kills as a process.
//!
//! The load is bytes on connections of its own (`testkit::load`), in threads of the process that measures. What answers say is checked
//! before and after by counts, and by looking for a memory by its own vector.

mod clients;
pub(super) mod corpus;
mod kills;
mod restart;
mod serve;

use std::{io, net::SocketAddr};

use testkit::{
    Instance, Round, Server,
    load::{Load, Measured, Pace},
};

use self::{clients::Client, corpus::Corpus};
pub use self::{
    corpus::DIMENSIONS,
    kills::{Differences, Killed, Story, kills},
    restart::{Filled, fill, restart},
    serve::serve,
};

/// Memories of a `RememberBatch` by which a store is filled, and how many of those are on their way at a time.
const BATCH: u64 = 1_000;
const AT_A_TIME: usize = 4;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service cannot be reached, started or ended, or its process or its folder not be read.
    #[error("the service cannot be measured")]
    Io(#[from] io::Error),
    /// A call failed that must not.
    #[error("{what} failed: {why}")]
    Call {
        /// Which one.
        what: &'static str,
        /// How it ended.
        why: String,
    },
    /// Other memories are there than were written.
    #[error("{there} memories are there, where {written} were written")]
    Count {
        /// How many there are.
        there: u64,
        /// How many there must be.
        written: u64,
    },
    /// A memory was looked for by its own vector, and another one found.
    #[error("a recall by the vector of `{wanted}` found {found:?} first")]
    Found {
        /// What the memory says.
        wanted: String,
        /// What came first, if anything did.
        found: Option<String>,
    },
    /// There is too little room for the store.
    #[error(
        "{memories} memories need up to {needed_mb} MB of disk and {free_mb} are free: take fewer with --size, or another folder with TMPDIR"
    )]
    Room {
        /// How many were to be written.
        memories: u64,
        /// What they need, in megabytes.
        needed_mb: u64,
        /// What there is.
        free_mb: u64,
    },
    /// Nothing was acknowledged between two kills.
    #[error("the service acknowledged nothing before it was killed")]
    Idle,
}

/// Stores the memories up to this number; returns how long that took.
async fn store(address: SocketAddr, corpus: &Corpus, memories: u64) -> Result<Measured, Error> {
    let corpus = corpus.clone();
    let batch = move |number: u64| {
        let numbers = number * BATCH..memories.min((number + 1) * BATCH);
        clients::batch(numbers.map(|number| corpus.memory(number)))
    };
    let load = Load::grpc(address, clients::REMEMBER_BATCH, AT_A_TIME, batch);
    let measured = Load { calls: memories.div_ceil(BATCH), pace: Pace::Closed, ..load }.run().await?;
    match measured.failure {
        None => Ok(measured),
        Some(why) => Err(Error::Call { what: "filling the store", why }),
    }
}

/// Makes sure that so many memories are searched, and that one of them is found by its own vector.
async fn check(client: &mut Client, corpus: &Corpus, written: u64, number: u64) -> Result<(), Error> {
    let recalled = client.recall(&corpus.twin(number)).await?;
    if recalled.candidates != written {
        return Err(Error::Count { there: recalled.candidates, written });
    }
    let wanted = corpus.memory(number).content;
    if recalled.first.as_ref() == Some(&wanted) {
        Ok(())
    } else {
        Err(Error::Found { wanted, found: recalled.first })
    }
}
