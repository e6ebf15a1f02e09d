//! What a cycle writes down: samples, documents, memories.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{Completeness, Decision, Machine};
use crate::{
    decide::{DATE, RULE},
    history::Known,
    peers::{Document, Memory, Sample, Writes},
    pool::{Gas, Pool},
};

/// Category of memories of one pool.
pub(super) const POOL: &str = "pool_behavior";
/// Category of memories of APR spikes.
pub(super) const ANOMALY: &str = "apr_anomaly";
/// Category of memories of gas.
pub(super) const GAS: &str = "gas_optimization";
/// Category of memories of the market as a whole.
pub(super) const MARKET: &str = "market_pattern";

/// Collection of one document a cycle with all its decisions: one document instead of one a pool.
const DECISIONS: &str = "agent_decisions";
/// Collection of one document a cycle.
const CYCLES: &str = "agent_cycles";

/// Most bytes kept of an assessment or a summary in a memory.
const WORDS: usize = 2000;

/// Returns the id of the observation of a chain's gas.
pub(super) fn gas_id(gas: &Gas) -> String {
    format!("gas/{}", gas.chain)
}

/// Describes a pool in words, rounded to what matters, to rank memories by.
pub(super) fn describe(pool: &Pool, known: Known) -> String {
    let mut text = format!("{} on {}", pool.name(), pool.chain);
    // Writing to a String cannot fail.
    if let Some(apr) = pool.apr {
        let _ = write!(text, ", APR {apr:.1} %");
    }
    if let Some(mean) = known.mean_apr {
        let _ = write!(text, ", 30-day mean {mean:.1} %");
    }
    if let Some(tvl) = pool.tvl {
        let _ = write!(text, ", TVL {}", usd(tvl));
    }
    text
}

impl Machine {
    /// Returns what the store stage writes.
    pub(super) fn writes(&self) -> Writes {
        let pools = self.seen.pools.iter().filter_map(|pool| {
            let values = [
                ("apr", pool.apr),
                ("tvl", pool.tvl),
                ("apr_base", pool.apr_base),
                ("apr_reward", pool.apr_reward),
                ("volume_24h", pool.volume_24h),
            ];
            sample(pool.id.clone(), values)
        });
        let gas = self.seen.gas_reading();
        let gas = gas.and_then(|(gas, mean)| {
            sample(gas.chain.clone(), [("gas_price", Some(gas.price)), ("avg_gas", mean)])
        });
        let time = self.cycle.time;
        let documents = vec![self.decisions_document(), self.cycle_document()];
        Writes { time, pools: pools.collect(), gas: gas.into_iter().collect(), documents }
    }

    /// Returns what the cycle learned: one memory of the market, one of gas, one of each interesting pool, one of each spike.
    pub(super) fn lessons(&self) -> Vec<Memory> {
        let mut lessons = vec![self.market_lesson()];
        for decision in &self.cycle.decisions {
            let pool = self.seen.pools.iter().find(|pool| pool.id == decision.subject_id);
            if let Some(pool) = pool {
                lessons.push(self.pool_lesson(pool, decision, POOL));
                if decision.rule.ends_with("spike") {
                    lessons.push(self.pool_lesson(pool, decision, ANOMALY));
                }
            } else if self.seen.gas.as_ref().is_some_and(|(gas, _)| gas.chain == decision.subject_id)
                && decision.rule.starts_with("gas")
            {
                let content = format!("gas on {}: {}", decision.subject, decision.action);
                lessons.push(self.lesson("gas", GAS, content, Vec::new(), Some(decision)));
            }
        }
        lessons
    }

    fn market_lesson(&self) -> Memory {
        let mut aprs: Vec<f64> =
            self.seen.pools.iter().filter_map(|pool| pool.apr).filter(|apr| *apr != 0.0).collect();
        aprs.sort_by(f64::total_cmp);
        let median =
            aprs.get(aprs.len() / 2).map(|apr| format!(", median APR {apr:.1} %")).unwrap_or_default();
        let mut content = format!(
            "{} pools on {}{median}, {} interesting",
            self.cycle.pools,
            self.chain(),
            self.cycle.interesting
        );
        if !self.cycle.assessment.is_empty() {
            let _ = write!(content, ": {}", cut(&self.cycle.assessment));
        }
        self.lesson("market", MARKET, content, Vec::new(), None)
    }

    fn pool_lesson(&self, pool: &Pool, decision: &Decision, category: &str) -> Memory {
        let index = self.seen.pools.iter().position(|it| it.id == pool.id);
        let known = index.and_then(|index| self.seen.known.get(index)).copied().unwrap_or_default();
        let mut content = format!("{}: {}", describe(pool, known), decision.action);
        if let Some(finding) = self.finding(&pool.id).filter(|finding| !finding.summary.is_empty()) {
            let _ = write!(content, " ({})", cut(&finding.summary));
        }
        let key = format!("{category}/{}", pool.id);
        self.lesson(&key, category, content, vec![pool.id.clone()], Some(decision))
    }

    /// A memory's id is the cycle's and what it is of: learning a cycle twice changes nothing. Its confidence says how well the fact
    /// is attested, by how complete the inputs were; not how sure the decision is.
    fn lesson(
        &self,
        key: &str,
        category: &str,
        content: String,
        pools: Vec<String>,
        decision: Option<&Decision>,
    ) -> Memory {
        let inputs = decision.map_or(Completeness::Complete, |decision| decision.inputs);
        let stale = self.seen.stale || inputs == Completeness::Stale;
        let confidence = match inputs {
            _ if stale => 0.3,
            Completeness::Complete => 0.9,
            _ => 0.7,
        };
        let moment = self.seen.moment;
        let date = moment.map(|moment| moment.date.to_string()).unwrap_or_default();
        let mut metadata = BTreeMap::from([
            (DATE.to_owned(), date),
            ("cycle".to_owned(), self.cycle.id.clone()),
            ("agent".to_owned(), self.cycle.agent.clone()),
        ]);
        metadata.extend(decision.map(|decision| (RULE.to_owned(), decision.rule.clone())));
        Memory {
            id: format!("{}/{key}", self.cycle.id),
            category: category.to_owned(),
            content,
            pools,
            time: moment.map_or(self.cycle.time, |moment| moment.time),
            confidence,
            metadata,
        }
    }

    fn decisions_document(&self) -> Document {
        let decisions: Vec<Value> = self.cycle.decisions.iter().map(decision_fields).collect();
        let mut fields = self.heading();
        fields.insert("decisions".to_owned(), Value::Array(decisions));
        Document { collection: DECISIONS, id: self.cycle.id.clone(), fields }
    }

    /// The cycle as far as it has come: what follows is in the orchestrator's own journal.
    fn cycle_document(&self) -> Document {
        let cycle = &self.cycle;
        let mut fields = self.heading();
        let stages: Map<String, Value> = cycle
            .stages
            .iter()
            .map(|it| (it.stage.as_str().to_owned(), Value::from(it.completeness.as_str())))
            .collect();
        fields.extend([
            ("number".to_owned(), json!(cycle.number)),
            ("trace_id".to_owned(), json!(cycle.trace_id)),
            ("pools".to_owned(), json!(cycle.pools)),
            ("interesting".to_owned(), json!(cycle.interesting)),
            ("recalls".to_owned(), json!(cycle.recalls)),
            ("upstream_calls".to_owned(), json!(cycle.upstream_calls)),
            ("cost_usd".to_owned(), json!(cycle.cost_usd)),
            ("saved_usd".to_owned(), json!(cycle.saved_usd)),
            ("model".to_owned(), json!(cycle.model)),
            ("assessment".to_owned(), json!(cut(&cycle.assessment))),
            ("stages".to_owned(), Value::Object(stages)),
            ("warnings".to_owned(), cycle.input_warnings.iter().map(|it| json!(it.message)).collect()),
        ]);
        Document { collection: CYCLES, id: cycle.id.clone(), fields }
    }

    fn heading(&self) -> Map<String, Value> {
        let heading = [
            ("agent", json!(self.cycle.agent)),
            ("time", json!(jiff::Timestamp::try_from(self.cycle.time).unwrap_or_default().to_string())),
            ("recorded_date", json!(self.cycle.recorded_date)),
        ];
        heading.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn decision_fields(decision: &Decision) -> Value {
    json!({
        "rule": decision.rule,
        "subject": decision.subject,
        "subject_id": decision.subject_id,
        "action": decision.action,
        "confidence": decision.confidence,
        "inputs": decision.inputs.as_str(),
    })
}

fn sample<const N: usize>(entity: String, values: [(&'static str, Option<f64>); N]) -> Option<Sample> {
    let values: BTreeMap<_, _> =
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    (!values.is_empty()).then_some(Sample { entity, values })
}

/// Writes an amount with two digits and its magnitude: `$1.2M`.
fn usd(amount: f64) -> String {
    match amount {
        amount if amount >= 1e9 => format!("${:.1}B", amount / 1e9),
        amount if amount >= 1e6 => format!("${:.1}M", amount / 1e6),
        amount if amount >= 1e3 => format!("${:.1}k", amount / 1e3),
        amount => format!("${amount:.0}"),
    }
}

/// Cuts a text to what a memory keeps of it, between characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS)]
}
