//! `memory.plans`: how well the planner knows beforehand what a query comes to, and what its choice costs beside the best.
//!
//! One memory a recorded pool and day. Queries are drawn from the memories themselves (a memory's own pool, protocol, coins, agent, days
//! around it), so that conditions are related as they are where an agent asks. Every query is planned, run by each plan that can
//! be taken, and its estimate compared with what came out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

pub use super::pool_days::Error;
use super::{
    asking::Asking,
    pool_days::{DIMENSIONS, read},
};
use crate::{
    memory::Memory,
    plan::Strategy,
    query::{Filter, Likeness, Query, Ranking},
    recall::Ran,
    record::Record,
    vector::metric::Metric,
};

/// Queries asked.
const QUERIES: u64 = 2_000;
/// By which factor an estimate may be wrong to count as right.
const FACTOR: f64 = 2.0;

/// What was counted of one plan.
#[derive(Clone, Debug, Default)]
struct Tally {
    runs: u32,
    taken: u32,
    within: u32,
    worst: f64,
    micros: Vec<f64>,
}

/// Runs the queries and returns the share, in percent, of those whose estimate is within a factor of two, and the details.
///
/// # Errors
/// Those of a file that is not one of recorded pools.
pub fn measure(file: &[u8]) -> Result<(f64, Value), Error> {
    let records = read(file)?;
    let asking = Asking::new(Metric::Cosine, DIMENSIONS, records.clone()).map_err(failed)?;
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    let (mut within, mut regrets, mut plans) = (0, Vec::new(), Vec::new());
    for number in 0..QUERIES {
        let query = asked(&records, number);
        let ran = asking.run(&query, None).map_err(failed)?;
        within += u32::from(is_within(&ran));
        let taken = ran.plan.strategy;
        tallies.entry(taken.as_str()).or_default().taken += 1;
        plans.push(step(&ran, "plan"));
        let mut best = f64::INFINITY;
        let mut own = f64::INFINITY;
        for strategy in Strategy::ALL {
            let forced = asking.try_run(&query, Some(strategy)).map_err(failed)?;
            let Some(forced) = forced else { continue };
            let micros = forced.plan.root.duration.unwrap_or_default().as_secs_f64() * 1e6;
            let tally = tallies.entry(strategy.as_str()).or_default();
            tally.runs += 1;
            tally.within += u32::from(is_within(&forced));
            tally.worst = tally.worst.max(factor(&forced));
            tally.micros.push(micros);
            best = best.min(micros);
            own = if strategy == taken { micros } else { own };
        }
        regrets.push(own / best);
    }
    let percent = 100.0 * f64::from(within) / QUERIES as f64;
    let by_plan: Map<String, Value> =
        tallies.into_iter().map(|(name, tally)| (name.to_owned(), tally.shown())).collect();
    let details = json!({
        "memories": records.len(),
        "queries": QUERIES,
        "planning_p50_us": quantile(&mut plans, 0.5),
        "planning_p95_us": quantile(&mut plans, 0.95),
        "over_best_p50": quantile(&mut regrets, 0.5),
        "over_best_p95": quantile(&mut regrets, 0.95),
        "plans": by_plan,
    });
    Ok((percent, details))
}

impl Tally {
    fn shown(mut self) -> Value {
        let percent = 100.0 * f64::from(self.within) / f64::from(self.runs.max(1));
        json!({
            "taken": self.taken,
            "runs": self.runs,
            "within_factor_2_percent": percent,
            "worst_factor": self.worst,
            "p50_us": quantile(&mut self.micros, 0.5),
            "p95_us": quantile(&mut self.micros, 0.95),
        })
    }
}

fn failed(error: super::Error) -> Error {
    Error::Run(error.to_string())
}

/// Returns by which factor the estimate of the candidates was wrong; nothing counts as one.
#[expect(clippy::cast_precision_loss, reason = "row numbers have 32 bits")]
fn factor(ran: &Ran) -> f64 {
    let estimated = ran.plan.root.find("select").map_or(0.0, |select| select.estimated_rows);
    let (estimated, actual) = (estimated.max(1.0), (ran.answer.candidates as f64).max(1.0));
    (estimated / actual).max(actual / estimated)
}

fn is_within(ran: &Ran) -> bool {
    factor(ran) <= FACTOR
}

fn step(ran: &Ran, name: &str) -> f64 {
    let duration = ran.plan.root.find(name).and_then(|node| node.duration);
    duration.unwrap_or_default().as_secs_f64() * 1e6
}

/// Draws a query: some of the conditions that a memory itself passes.
fn asked(records: &[Record], number: u64) -> Query {
    let mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let bits = mixed >> 40;
    let pick = |place: u64| {
        let at = mixed.rotate_left(u32::try_from(place * 13).unwrap_or(0)) % records.len().max(1) as u64;
        usize::try_from(at).ok().and_then(|at| records.get(at)).map(|record| Arc::clone(&record.memory))
    };
    let one = pick(1).unwrap_or_else(|| Arc::new(Memory::bare()));
    let when = |bit: u64| bits >> bit & 1 == 1;
    let mut filter = Filter::default();
    if when(0) {
        let others = (2..2 + bits % 4).filter_map(pick).flat_map(|other| other.pools.clone());
        filter.pools = one.pools.iter().cloned().chain(others.filter(|_| when(6))).collect();
    }
    if when(1) {
        filter.categories = vec![one.category.clone()];
    }
    if when(2) {
        filter.tags = one.tags.iter().take(1).cloned().collect();
    }
    if when(3) {
        let days = Duration::from_hours(24 * [1, 7, 30][usize::try_from(bits % 3).unwrap_or(0)]);
        filter.start = one.time.checked_sub(days / 2);
        filter.end = when(7).then(|| one.time + days / 2);
    }
    if when(4) && when(5) {
        filter.agents = vec![one.agent.clone()];
    }
    if number.is_multiple_of(25) {
        filter.pools = vec!["a pool that nobody recorded".to_owned()];
    }
    if when(8) && when(9) {
        filter.min_confidence = one.confidence * 0.9;
    }
    let likeness = if when(10) { Likeness::Newest } else { Likeness::Text(one.content.clone()) };
    let ranking = if when(11) && when(12) { Ranking::Text } else { Ranking::Usual };
    let ranking = if when(10) { Ranking::Usual } else { ranking };
    Query { likeness, ranking, filter, ..Query::newest(10) }.canonical(Metric::Cosine)
}

/// Returns the value below which `share` of the values lie.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}
