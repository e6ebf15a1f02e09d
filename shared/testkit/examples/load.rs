//! The mock upstream and the load of the gateway's benchmarks as a program, for whatever is compared with them:
//! `cargo build --release -p testkit --features bench --example load`, then `load mock` and
//! `load http://127.0.0.1:PORT/v1/chat/completions --per-second 1000 --calls 10000`.
//!
//! The mock takes `--port` (0) and `--delay-ms` (0), prints its base URL and answers until it is killed. The load takes
//! `--per-second N`, `--at-once` or, by default, one call after another on each of `--connections` (32); `--calls` (1000),
//! `--model` (mock), `--topic WORD` (calls under another topic are other questions), `--same` (all calls ask the same) and
//! `--header "NAME: VALUE"`. It prints one JSON object, times in microseconds from when a call was due.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use testkit::{
    Mock,
    load::{Load, Pace, chat},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut words = env::args().skip(1);
    match words.next().context("mock, or a URL")?.as_str() {
        "mock" => mock(words).await,
        url => load(url, words).await,
    }
}

async fn mock(mut words: impl Iterator<Item = String>) -> Result<()> {
    let (mut port, mut delay) = (0, 0);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        match &*word {
            "--port" => port = value.parse()?,
            "--delay-ms" => delay = value.parse()?,
            _ => bail!("unknown: {word}"),
        }
    }
    let mock = Mock::start(port, Duration::from_millis(delay))?;
    println!("{}", mock.url());
    std::future::pending().await
}

async fn load(url: &str, mut words: impl Iterator<Item = String>) -> Result<()> {
    let url: axum::http::Uri = url.parse()?;
    let address: SocketAddr = url.authority().context("no host")?.as_str().parse().context("no IP:PORT")?;
    let (mut headers, mut model, mut topic, mut same) =
        (Vec::new(), "mock".to_owned(), "a".to_owned(), false);
    let mut load = Load::http(address, url.path(), |_| axum::body::Bytes::new());
    (load.connections, load.calls) = (32, 1_000);
    while let Some(word) = words.next() {
        match &*word {
            "--same" => same = true,
            "--at-once" => load.pace = Pace::AtOnce,
            _ => {
                let value = words.next().with_context(|| format!("{word} needs a value"))?;
                match &*word {
                    "--per-second" => load.pace = Pace::PerSecond(value.parse()?),
                    "--calls" => load.calls = value.parse()?,
                    "--connections" => load.connections = value.parse()?,
                    "--model" => model = value,
                    "--topic" => topic = value,
                    "--header" => headers.push(value),
                    _ => bail!("unknown: {word}"),
                }
            }
        }
    }
    for header in headers {
        let (name, value) = header.split_once(": ").context("a header is NAME: VALUE")?;
        load = load.header(name, value);
    }
    load.body = std::sync::Arc::new(move |number| chat(&model, &topic, if same { 0 } else { number }));
    let measured = load.run().await?;
    let micros = |share| measured.micros(share);
    let object = json!({
        "answered": measured.answered(),
        "failed": measured.failed,
        "failure": measured.failure,
        "p50_us": micros(0.5),
        "p90_us": micros(0.9),
        "p99_us": micros(0.99),
        "max_us": micros(1.0),
        "per_s": measured.per_second(),
        "took_s": measured.took.as_secs_f64(),
    });
    println!("{object}");
    Ok(())
}
