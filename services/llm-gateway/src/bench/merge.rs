//! Benchmark `gateway.merge`: what sharing calls saves, in front of an upstream that spoils a tenth of what it says.
//!
//! The upstream is a fake over real HTTP. It drops, swaps (each answer with its codes), mangles or repeats (with other words) 10 % of the
//! items of every answer. What it says about a pool repeats the pool's own figures, so that an answer given to another pool is found out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use clock::Clock;
use futures::future::try_join_all;
use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use telemetry::Telemetry;
use testkit::upstream::{Reply, Script, Upstream};

use crate::{
    Config, Error as GatewayError,
    analyze::{Finding, Inquiry},
    assemble,
    gateway::Gateway,
    observation::Observation,
    served::{Control, Terms},
};

/// Pools analysed.
pub const POOLS: usize = 300;
/// How often an item is spoiled.
const SPOILED: f64 = 0.1;
/// Characters a token is counted for.
const TOKEN_CHARS: usize = 4;

/// What a round measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Upstream calls one by one ÷ merged.
    pub value: f64,
    /// Every other quantity.
    pub details: Value,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the pools cannot be read")]
    Csv(#[from] csv::Error),
    /// The file holds too little.
    #[error("the file holds {0} usable pools, and {POOLS} are needed")]
    Few(usize),
    /// The gateway does not start or did not answer.
    #[error("the gateway failed")]
    Gateway(#[from] GatewayError),
}

/// A gateway in front of a spoiling upstream of its own.
struct Bed {
    gateway: Arc<Gateway>,
    upstream: Upstream,
    tokens: Arc<AtomicU64>,
}

/// What came of all pools.
#[derive(Default)]
struct Tally {
    answered: usize,
    failed: usize,
    wrong: usize,
}

/// Reads the first 300 pools of a snapshot by its header: each pool's newest row where there are several days.
///
/// # Errors
/// [`Error::Csv`] if it is no CSV, [`Error::Few`] if it does not hold enough.
pub fn pools(csv: &[u8]) -> Result<Vec<Observation>, Error> {
    let mut reader = csv::Reader::from_reader(csv);
    let (mut order, mut newest) = (Vec::new(), BTreeMap::new());
    for row in reader.deserialize() {
        let row: BTreeMap<String, String> = row?;
        let text = |names: &[&str]| names.iter().find_map(|name| row.get(*name)).cloned().unwrap_or_default();
        let number = |name: &str| {
            row.get(name).and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite())
        };
        let (Some(apr), Some(tvl)) = (number("apy"), number("tvl_usd")) else { continue };
        let (id, day) = (text(&["pool", "pool_id_defillama"]), text(&["timestamp", "dt", "snapshot_day"]));
        let labels = [("chain", text(&["chain"])), ("protocol", text(&["protocol_slug", "project"]))];
        let seen = Observation {
            id: id.clone(),
            kind: "pool".into(),
            subject: text(&["symbol"]),
            values: [("apr".to_owned(), apr), ("tvl".to_owned(), tvl)].into(),
            labels: labels.map(|(name, label)| (name.to_owned(), label)).into(),
            time: None,
        };
        match newest.get(&id) {
            None => order.push(id.clone()),
            Some((earlier, _)) if *earlier > day => continue,
            Some(_) => {}
        }
        newest.insert(id, (day, seen));
    }
    order.truncate(POOLS);
    let found: Vec<Observation> = order.iter().filter_map(|id| Some(newest.remove(id)?.1)).collect();
    if found.len() == POOLS { Ok(found) } else { Err(Error::Few(found.len())) }
}

/// Analyses `pools` one by one, merged, and as 300 callers at once, and compares the upstream calls.
///
/// # Errors
/// [`Error::Gateway`] if a gateway does not start or nothing is answered at all.
pub async fn round(pools: &[Observation], config: &Config) -> Result<Measured, Error> {
    let seed = rand::random();
    let (single, merged, callers) =
        (Bed::start(config, seed).await?, Bed::start(config, seed).await?, Bed::start(config, seed).await?);
    let (mut apart, mut together, mut crowd) = (Tally::default(), Tally::default(), Tally::default());
    for pool in pools.chunks(1) {
        apart.add(&single.ask(pool).await?, pool);
    }
    together.add(&merged.ask(pools).await?, pools);
    let findings = try_join_all(pools.chunks(1).map(|pool| callers.ask(pool))).await?;
    crowd.add(&findings.concat(), pools);
    let (calls_single, calls_merged) = (single.upstream.calls(), merged.upstream.calls());
    let [tokens, tokens_merged, tokens_callers] =
        [&single, &merged, &callers].map(|bed| bed.tokens.load(Ordering::Relaxed));
    Ok(Measured {
        value: ratio(calls_single, calls_merged),
        details: json!({
            "calls_single": calls_single,
            "calls_merged": calls_merged,
            "items": pools.len(),
            "answered": together.answered,
            "failed": together.failed,
            "wrong": apart.wrong + together.wrong + crowd.wrong,
            "tokens_ratio": ratio(tokens, tokens_merged),
            "failed_single": apart.failed,
            "calls_callers": callers.upstream.calls(),
            "answered_callers": crowd.answered,
            "failed_callers": crowd.failed,
            "tokens_ratio_callers": ratio(tokens, tokens_callers),
        }),
    })
}

impl Bed {
    async fn start(config: &Config, seed: u64) -> Result<Self, GatewayError> {
        let tokens = Arc::new(AtomicU64::new(0));
        let (counted, random) = (tokens.clone(), Mutex::new(StdRng::seed_from_u64(seed)));
        let upstream =
            Upstream::start(Script::function(move |body| spoilt(body, &mut random.lock(), &counted)));
        let config = Config {
            llm_upstream_url: Some(upstream.url()),
            llm_model: "openai/mock".to_owned(),
            llm_max_retries: 0,
            llm_cache_size: 10_000,
            ..config.clone()
        };
        let clock = Clock::manual(UNIX_EPOCH).0;
        let gateway = assemble(&config, &Telemetry::silent("llm-gateway"), &clock).await?;
        Ok(Self { gateway: Arc::new(gateway), upstream, tokens })
    }

    async fn ask(&self, pools: &[Observation]) -> Result<Vec<Finding>, GatewayError> {
        let terms =
            Terms { tenant: "bench".into(), deadline: None, control: Control::default(), max_cost_usd: None };
        let inquiry = Inquiry { observations: pools.to_vec(), ..Inquiry::default() };
        Ok(self.gateway.analyze(&terms, &inquiry).await?.findings)
    }
}

impl Tally {
    fn add(&mut self, findings: &[Finding], pools: &[Observation]) {
        for (finding, pool) in findings.iter().zip(pools) {
            match &finding.outcome {
                Ok(found) => {
                    self.answered += 1;
                    self.wrong += usize::from(found.summary != words(&json!(pool.values), &pool.subject));
                }
                Err(_) => self.failed += 1,
            }
        }
    }
}

/// What the fake says about a pool.
fn words(values: &Value, subject: &str) -> String {
    format!("{subject} yields {} % on {} USD.", values["apr"], values["tvl"])
}

/// Answers a merged prompt and spoils a tenth of the items.
fn spoilt(body: &Value, random: &mut StdRng, tokens: &AtomicU64) -> Reply {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = messages.iter().filter_map(|message| message["content"].as_str()).collect();
    let asked: Value = texts.last().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let parts = list(&asked["parts"]);
    let seen =
        parts.iter().flat_map(|part| list(&part["groups"])).flat_map(|group| list(&group["observations"]));
    let mut entries: Vec<String> = seen.map(entry).collect();
    for place in 0..entries.len() {
        if random.random_bool(SPOILED) {
            spoil(&mut entries, place, random.random_range(0..4));
        }
    }
    entries.retain(|entry| !entry.is_empty());
    let assessed = parts.iter().filter(|part| part.get("part").is_some()).map(assessment);
    let assessed: Vec<String> = assessed.collect();
    let text = format!("{{\"items\":[{}],\"assessments\":[{}]}}", entries.join(","), assessed.join(","));
    let count = |text: &str| text.chars().count().div_ceil(TOKEN_CHARS) as u64;
    let schema = body["response_format"].to_string();
    let read = texts.iter().map(|text| count(text)).sum::<u64>() + count(&schema);
    tokens.fetch_add(read + count(&text), Ordering::Relaxed);
    Reply::text(text.clone()).counted(read, count(&text))
}

/// Drops, swaps, mangles or repeats the entry at `place`.
fn spoil(entries: &mut [String], place: usize, fault: u8) {
    let other = (place + 1) % entries.len();
    match (fault, entries.get_mut(place)) {
        (0, Some(entry)) => entry.clear(),
        (1, Some(_)) => entries.swap(place, other),
        (2, Some(entry)) => *entry = entry.chars().take(entry.chars().count() / 2).collect(),
        (_, Some(entry)) => {
            let twin = serde_json::from_str(entry).map(|mut twin: Value| {
                twin["summary"] = json!("another story");
                twin.to_string()
            });
            *entry = format!("{entry},{}", twin.unwrap_or_default());
        }
        (_, None) => {}
    }
}

fn entry(seen: &Value) -> String {
    let summary = words(&seen["values"], seen["subject"].as_str().unwrap_or_default());
    json!({
        "tag": seen["tag"],
        "check": seen["check"],
        "summary": summary,
        "confidence": 0.5,
        "salience": 0.5,
    })
    .to_string()
}

fn assessment(part: &Value) -> String {
    let none: [&str; 0] = [];
    json!({
        "part": part["part"],
        "overall_assessment": "calm",
        "correlations": none,
        "focus_areas": none,
        "risk_warnings": none,
    })
    .to_string()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn ratio(one: u64, two: u64) -> f64 {
    one as f64 / two.max(1) as f64
}
