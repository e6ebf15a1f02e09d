//! `gateway.exact_hit`: the server CPU of an answer from the exact cache ÷ that of an echo behind the same host.
//!
//! All three servers get the same bytes, over the same number of connections, in turns: a closed loop for the CPU, since there a
//! server does nothing else, and an open loop for the times.

use serde_json::json;
use testkit::load::{Load, Measured, Pace};

use super::{
    Error, MODEL, Round, Server,
    clients::{GENERATE, question},
    run, topic,
};

/// Different questions: each is asked once before, and is in the cache then.
const QUESTIONS: u64 = 64;
/// Calls whose CPU is measured, in as many turns.
const CALLS: u64 = 40_000;
const TURNS: u64 = 4;
/// Calls whose times are measured, and how many a second.
const TIMED: u64 = 8_000;
const RATE: f64 = 1_000.0;
/// Connections, and calls at a time on each.
const CONNECTIONS: usize = 4;
const AT_A_TIME: usize = 4;

/// What was measured of one server.
struct Figures {
    cpu_us: f64,
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
            figures.measure(server, &topic).await?;
        }
    }
    let ratio = |of: &Figures| hit.cpu_us / of.cpu_us.max(f64::MIN_POSITIVE);
    let p99 = |of: &Figures| of.timed.micros(0.99);
    Ok(Round {
        value: ratio(&echoed),
        details: json!({
            "bare_echo_ratio": ratio(&bared),
            "hits_per_s": hit.busy.per_second(),
            "p99_ratio": p99(&hit) / p99(&echoed),
            "cpu_us": hit.cpu_us,
            "echo_cpu_us": echoed.cpu_us,
            "bare_echo_cpu_us": bared.cpu_us,
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
        Ok(Self { cpu_us: 0.0, busy: Measured::nothing()?, timed: Measured::nothing()? })
    }

    /// Takes one of the turns.
    async fn measure(&mut self, server: &Server, topic: &str) -> Result<(), Error> {
        let before = server.process.cpu()?;
        self.busy.add(run(Load { calls: CALLS / TURNS, ..load(server, topic) }).await?);
        let used = server.process.cpu()? - before;
        self.cpu_us += used.as_secs_f64() * 1e6 / CALLS as f64;
        let timed = Load { calls: TIMED / TURNS, pace: Pace::PerSecond(RATE), ..load(server, topic) };
        self.timed.add(run(timed).await?);
        Ok(())
    }
}
