//! What a cycle asks of the other services, and what it gets back, in plain words.

use std::{collections::BTreeMap, time::SystemTime};

use serde_json::{Map, Value};

use crate::branch::Problem;

/// One question to memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The branch it is asked in: `recall general`.
    pub name: String,
    /// What it is about.
    pub about: About,
    /// Words to rank by; empty: newest first.
    pub text: String,
    /// Only these categories.
    pub categories: Vec<String>,
    /// Only memories about this pool.
    pub pool: Option<String>,
    /// Only memories at or after this time.
    pub since: Option<SystemTime>,
    /// Only memories before this time.
    pub until: Option<SystemTime>,
    /// Only memories at least this sure.
    pub min_confidence: f64,
    /// Most memories wanted.
    pub limit: u32,
}

/// What a question to memory is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Gas and the market as a whole.
    #[default]
    General,
    /// What the n-th interesting pool did before.
    Pool(usize),
    /// What happened before where pools looked like the n-th interesting one.
    Pattern(usize),
}

/// Something remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Unique within the tenant.
    pub id: String,
    /// What kind of memory.
    pub category: String,
    /// What is remembered.
    pub content: String,
    /// The pools it is about.
    pub pools: Vec<String>,
    /// When it happened.
    pub time: SystemTime,
    /// How well it is attested, 0 to 1.
    pub confidence: f64,
    /// Further facts.
    pub metadata: BTreeMap<String, String>,
}

/// Something seen, to be analysed.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Unique within the cycle.
    pub id: String,
    /// `pool` or `gas`.
    pub kind: &'static str,
    /// What was seen.
    pub subject: String,
    /// When, as recorded.
    pub time: SystemTime,
    /// Measured values.
    pub values: BTreeMap<&'static str, f64>,
    /// Further facts.
    pub labels: BTreeMap<&'static str, String>,
}

/// What the gateway found about one observation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// One or two sentences.
    pub summary: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
    /// How remarkable, 0 to 1.
    pub salience: f64,
}

/// What the gateway answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysed {
    /// By observation id.
    pub findings: BTreeMap<String, Finding>,
    /// Observations without a finding, with why.
    pub failed: Vec<(String, Problem)>,
    /// The overall assessment.
    pub assessment: String,
    /// Items by what served them.
    pub served: BTreeMap<String, u64>,
    /// Upstream calls made.
    pub upstream_calls: u32,
    /// What it cost, in USD.
    pub cost_usd: f64,
    /// What was saved, in USD.
    pub saved_usd: f64,
    /// The model that answered.
    pub model: String,
}

/// Readings of one entity at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The entity: a pool's id or a chain's name.
    pub entity: String,
    /// Readings by name.
    pub values: BTreeMap<&'static str, f64>,
}

/// A document to set.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The collection.
    pub collection: &'static str,
    /// The id within it.
    pub id: String,
    /// The fields.
    pub fields: Map<String, Value>,
}

/// What the store stage writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Writes {
    /// When the samples were read, on the agent clock.
    pub time: SystemTime,
    /// Pools' readings.
    pub pools: Vec<Sample>,
    /// Gas readings.
    pub gas: Vec<Sample>,
    /// The decisions and the cycle.
    pub documents: Vec<Document>,
}
