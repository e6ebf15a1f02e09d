//! `gateway.exact_hit`: the server CPU of an answer from the exact cache ÷ that of an echo behind the same host.
//!
//! All three servers get the same bytes, over the same number of connections, in turns: a closed loop for the CPU, since there a
//! server does nothing else, and an open loop for the times. A core of a shared machine is up to a third slower at times: the turns are
//! short, each is compared with those next to it, and the median of these ratios counts.

use serde_json::json;
use testkit::{
    load::{Load, Measured, Pace},
    median,
};

use super::{
    Error, MODEL, Round, Server,
    clients::{GENERATE, question},
    run, topic,
};

/// Different questions: each is asked once before, and is in the cache then.
const QUESTIONS: u64 = 64;
/// Turns whose CPU is measured, and the calls of each.
const TURNS: usize = 25;
const CALLS: u64 = 1_600;
/// Turns whose times are measured, the calls of each, and how many a second.
const TIMED_TURNS: usize = 4;
const TIMED_CALLS: u64 = 2_000;
const RATE: f64 = 1_000.0;
/// Connections, and calls at a time on each.
const CONNECTIONS: usize = 4;
const AT_A_TIME: usize = 4;

/// What was measured of one server.
struct Figures {
    /// CPU of a call by turn, in microseconds.
    cpu_us: Vec<f64>,
    busy: Measured,
    timed: Measured,
}

/// Measures one round: a gateway whose upstream is the mock, the echo behind our host, and the one behind tonic's.
///
/// # Errors
/// [`Error`] if a call fails.
pub async fn exact_hit(gateway: &Server, echo: &Server, bare: &Server) -> Result<Round, Error> {
    let topic = topic();
    // Fills the cache, and opens what is opened once.
    for server in [gateway, echo, bare] {
        run(Load { calls: QUESTIONS * 8, ..load(server, &topic) }).await?;
    }
    let (mut hit, mut echoed, mut bared) = (Figures::nothing()?, Figures::nothing()?, Figures::nothing()?);
    for _ in 0..TURNS {
        for (server, figures) in [(gateway, &mut hit), (echo, &mut echoed), (bare, &mut bared)] {
            figures.work(server, &topic).await?;
        }
    }
    for _ in 0..TIMED_TURNS {
        for (server, figures) in [(gateway, &mut hit), (echo, &mut echoed), (bare, &mut bared)] {
            figures.time(server, &topic).await?;
        }
    }
    let ratio = |of: &Figures| median(hit.cpu_us.iter().zip(&of.cpu_us).map(|(hit, of)| hit / of));
    let p99 = |of: &Figures| of.timed.micros(0.99);
    Ok(Round {
        value: ratio(&echoed),
        details: json!({
            "bare_echo_ratio": ratio(&bared),
            "hits_per_s": hit.busy.per_second(),
            "p99_ratio": p99(&hit) / p99(&echoed),
            "cpu_us": hit.cpu_us(),
            "echo_cpu_us": echoed.cpu_us(),
            "bare_echo_cpu_us": bared.cpu_us(),
            "p99_us": p99(&hit),
            "echo_p99_us": p99(&echoed),
            "bare_echo_p99_us": p99(&bared),
        }),
    })
}

fn load(server: &Server, topic: &str) -> Load {
    let questions: Vec<_> = (0..QUESTIONS).map(|number| question(MODEL, topic, number)).collect();
    let body = move |number: u64| questions[(number % QUESTIONS) as usize].clone();
    Load { connections: CONNECTIONS, ..Load::grpc(server.address, GENERATE, AT_A_TIME, body) }
}

impl Figures {
    fn nothing() -> Result<Self, Error> {
        Ok(Self { cpu_us: Vec::new(), busy: Measured::nothing()?, timed: Measured::nothing()? })
    }

    fn cpu_us(&self) -> f64 {
        median(self.cpu_us.iter().copied())
    }

    /// Takes a turn whose CPU is measured.
    async fn work(&mut self, server: &Server, topic: &str) -> Result<(), Error> {
        let before = server.process.cpu()?;
        self.busy.add(run(Load { calls: CALLS, ..load(server, topic) }).await?);
        let used = server.process.cpu()? - before;
        self.cpu_us.push(used.as_secs_f64() * 1e6 / CALLS as f64);
        Ok(())
    }

    /// Takes a turn whose times are measured.
    async fn time(&mut self, server: &Server, topic: &str) -> Result<(), Error> {
        let pace = Pace::PerSecond(RATE);
        self.timed.add(run(Load { calls: TIMED_CALLS, pace, ..load(server, topic) }).await?);
        Ok(())
    }
}
