//! Wire to domain and back; names the field that is wrong.

pub(crate) mod admin;
mod explain;
pub(crate) mod forgettings;
pub(crate) mod lines;
mod outcomes;
pub(crate) mod reembed;
mod stats;

use std::{sync::Arc, time::Duration};

use contracts::memory as wire;
use rpc::{At, Check, Fault, time};

pub(crate) use self::{
    explain::{explained, plan, planned},
    outcomes::{all_remembered, duplicates, got, remembered},
    stats::stats,
};
use crate::{
    config::Limits,
    memory::{Claim, Draft, Expiry, Memory, VECTOR_LENGTHS, length},
    query::{Filter, Likeness, Query, Ranking},
    recall::{Answer, Found, fusion::Weights},
    shape::SpaceKey,
};

/// Most memories of a batch, and most ids of a forget.
pub(crate) const BATCH: usize = 1000;

const AGENT_BYTES: usize = 128;
const CATEGORY_BYTES: usize = 128;
const CONTENT_BYTES: usize = 64 << 10;
const ID_BYTES: usize = 256;
/// Longest a memory may be told to live.
const LONGEST_LIFE: Duration = Duration::from_hours(100 * 365 * 24);
const NAMESPACE_BYTES: usize = 128;
const METADATA_BYTES: usize = 16 << 10;
const METADATA_ENTRIES: usize = 64;
const POOL_BYTES: usize = 256;
const POOLS: usize = 64;
const SOURCES: usize = 64;
const SOURCE_BYTES: usize = 256;
const TAGS: usize = 64;
const TAG_BYTES: usize = 128;
const THREAD_BYTES: usize = 256;
/// Most names of one kind in a query.
const QUERY_NAMES: usize = 64;
const QUERY_TEXT_BYTES: usize = 64 << 10;
const RANKINGS: &str =
    "must be RANKING_HYBRID, RANKING_VECTOR, RANKING_TEXT, RANKING_NEWEST or RANKING_RECIPROCAL";
const WEIGHTS: std::ops::RangeInclusive<f64> = 0.0..=1000.0;

/// Reads a memory to store.
pub(crate) fn draft(memory: Option<wire::Memory>, limits: Limits) -> Result<Draft, Fault> {
    let memory = memory.ok_or_else(|| Fault::invalid("memory", "must be given"))?;
    let mut check = Check::default();
    let draft = read(&mut check, At::from("memory"), memory, limits);
    check.end(draft)
}

/// Reads the memories of a batch.
pub(crate) fn drafts(memories: Vec<wire::Memory>, limits: Limits) -> Result<Vec<Draft>, Fault> {
    let mut check = Check::default();
    let at = At::from("memories");
    if !check.items(at, memories.len(), 1..=BATCH) {
        return check.end(Vec::new());
    }
    let numbered = memories.into_iter().enumerate();
    let drafts = numbered.map(|(number, memory)| read(&mut check, at.item(number), memory, limits)).collect();
    check.end(drafts)
}

fn read(check: &mut Check, at: At<'_>, memory: wire::Memory, limits: Limits) -> Draft {
    check.text(at.field("id"), &memory.id, 0..=ID_BYTES);
    check.text(at.field("category"), &memory.category, 1..=CATEGORY_BYTES);
    check.text(at.field("content"), &memory.content, 1..=CONTENT_BYTES);
    names(check, at.field("pools"), &memory.pools, POOLS, POOL_BYTES);
    check.within(at.field("confidence"), memory.confidence, 0.0..=1.0);
    let bytes: usize = memory.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if check.items(at.field("metadata"), memory.metadata.len(), 0..=METADATA_ENTRIES) {
        let must = format_args!("must have at most {METADATA_BYTES} bytes in all");
        check.require(at.field("metadata"), bytes <= METADATA_BYTES, must);
    }
    vector(check, at.field("embedding"), &memory.embedding, limits.dimensions);
    let time = check.time(at.field("time"), memory.time.as_ref());
    check.text(at.field("agent"), &memory.agent, 0..=AGENT_BYTES);
    names(check, at.field("tags"), &memory.tags, TAGS, TAG_BYTES);
    check.text(at.field("thread"), &memory.thread, 0..=THREAD_BYTES);
    let placed = memory.position.is_none() || !memory.thread.is_empty();
    check.require(at.field("thread"), placed, "must be given where a position is");
    check.within(at.field("importance"), memory.importance, 0.0..=1.0);
    let expires = expiry(check, at, memory.expiration);
    let claim = memory.claim.map(|claim| stated(check, at.field("claim"), claim));
    names(check, at.field("sources"), &memory.sources, SOURCES, SOURCE_BYTES);
    Draft {
        id: (!memory.id.is_empty()).then_some(memory.id),
        category: memory.category,
        content: memory.content,
        pools: memory.pools,
        time,
        confidence: memory.confidence,
        metadata: memory.metadata.into_iter().collect(),
        agent: memory.agent,
        tags: memory.tags,
        place: (!memory.thread.is_empty()).then_some((memory.thread, memory.position)),
        importance: memory.importance,
        expires,
        pinned: memory.pinned,
        claim,
        sources: memory.sources,
        embedding: (!memory.embedding.is_empty()).then_some(memory.embedding),
    }
}

fn expiry(check: &mut Check, at: At<'_>, expiration: Option<wire::memory::Expiration>) -> Option<Expiry> {
    match expiration? {
        wire::memory::Expiration::ExpireTime(time) => {
            check.time(at.field("expire_time"), Some(&time)).map(Expiry::At)
        }
        wire::memory::Expiration::Ttl(ttl) => {
            let ttl = check.positive(at.field("ttl"), Some(&ttl))?;
            check.require(at.field("ttl"), ttl <= LONGEST_LIFE, "must be at most 100 years");
            Some(Expiry::After(ttl))
        }
    }
}

fn stated(check: &mut Check, at: At<'_>, claim: wire::Claim) -> Claim {
    check.text(at.field("subject"), &claim.subject, 1..=256);
    check.text(at.field("field"), &claim.field, 1..=128);
    check.text(at.field("value"), &claim.value, 1..=1024);
    Claim { subject: claim.subject, field: claim.field, value: claim.value }
}

/// Reads a query; an absent one asks for the newest memories.
pub(crate) fn query(query: Option<wire::Query>, limits: Limits) -> Result<Query, Fault> {
    let query = query.unwrap_or_default();
    let mut check = Check::default();
    let at = At::from("query");
    check.text(at.field("text"), &query.text, 0..=QUERY_TEXT_BYTES);
    vector(&mut check, at.field("embedding"), &query.embedding, limits.dimensions);
    names(&mut check, at.field("categories"), &query.categories, QUERY_NAMES, CATEGORY_BYTES);
    names(&mut check, at.field("pools"), &query.pools, QUERY_NAMES, POOL_BYTES);
    names(&mut check, at.field("agents"), &query.agents, QUERY_NAMES, AGENT_BYTES);
    names(&mut check, at.field("tags"), &query.tags, QUERY_NAMES, TAG_BYTES);
    names(&mut check, at.field("threads"), &query.threads, QUERY_NAMES, THREAD_BYTES);
    let start = check.time(at.field("start_time"), query.start_time.as_ref());
    let end = check.time(at.field("end_time"), query.end_time.as_ref());
    let in_order = start.zip(end).is_none_or(|(start, end)| start < end);
    check.require(at.field("end_time"), in_order, "must be later than start_time");
    check.within(at.field("min_confidence"), query.min_confidence, 0.0..=1.0);
    let limit = check.limit(at.field("limit"), query.limit, limits.default, limits.max);
    let filter = Filter {
        categories: query.categories,
        pools: query.pools,
        agents: query.agents,
        tags: query.tags,
        threads: query.threads,
        start,
        end,
        min_confidence: query.min_confidence,
    };
    let likeness = match (query.text.is_empty(), query.embedding.is_empty()) {
        (true, true) => Likeness::Newest,
        (false, true) => Likeness::Text(query.text),
        (true, false) => Likeness::Vector(query.embedding),
        (false, false) => Likeness::Both(query.text, query.embedding),
    };
    let ranking = ranking(&mut check, at, query.ranking, &likeness);
    let weights = query.weights.map(|weights| self::weights(&mut check, at.field("weights"), &weights));
    let (weights, include_embedding) = (weights.unwrap_or_default(), query.include_embedding);
    check.end(Query { likeness, ranking, weights, filter, limit, include_embedding })
}

/// Reads what memories are ordered by, which has to go with what they are compared with.
fn ranking(check: &mut Check, at: At<'_>, ranking: i32, likeness: &Likeness) -> Ranking {
    let at = at.field("ranking");
    let has_text = likeness.text().is_some();
    match wire::Ranking::try_from(ranking) {
        Ok(wire::Ranking::Unspecified) => Ranking::Usual,
        Ok(wire::Ranking::Hybrid) => {
            check.require(at, *likeness != Likeness::Newest, "RANKING_HYBRID needs text or embedding");
            Ranking::Hybrid
        }
        Ok(wire::Ranking::Vector) => {
            check.require(at, *likeness != Likeness::Newest, "RANKING_VECTOR needs text or embedding");
            Ranking::Vector
        }
        Ok(wire::Ranking::Text) => {
            check.require(at, has_text, "RANKING_TEXT needs text");
            Ranking::Text
        }
        Ok(wire::Ranking::Newest) => {
            check.require(
                at,
                *likeness == Likeness::Newest,
                "RANKING_NEWEST takes neither text nor embedding",
            );
            Ranking::Newest
        }
        Ok(wire::Ranking::Reciprocal) => {
            check.require(at, has_text, "RANKING_RECIPROCAL needs text");
            Ranking::Ranks
        }
        Err(_) => {
            check.wrong(at, RANKINGS);
            Ranking::Usual
        }
    }
}

fn weights(check: &mut Check, at: At<'_>, weights: &wire::Weights) -> Weights {
    let wire::Weights { vector, text, entity, period, recency, importance, confidence } = *weights;
    let mut each = |name: &str, weight: f64| {
        check.within(at.field(name), weight, WEIGHTS);
        weight
    };
    Weights {
        vector: each("vector", vector),
        text: each("text", text),
        entity: each("entity", entity),
        period: each("period", period),
        recency: each("recency", recency),
        importance: each("importance", importance),
        confidence: each("confidence", confidence),
    }
}

/// Reads which space of `tenant` is meant.
pub(crate) fn key(tenant: Arc<str>, namespace: &str, field: &str) -> Result<SpaceKey, Fault> {
    let mut check = Check::default();
    check.text(field, namespace, 0..=NAMESPACE_BYTES);
    check.end(SpaceKey::new(tenant, namespace))
}

/// Reads an id.
pub(crate) fn id(id: String) -> Result<String, Fault> {
    let mut check = Check::default();
    check.text("id", &id, 1..=ID_BYTES);
    check.end(id)
}

/// Reads the ids of a forget; one that is named twice counts once.
pub(crate) fn ids(mut ids: Vec<String>) -> Result<Vec<String>, Fault> {
    let mut check = Check::default();
    if check.items("ids", ids.len(), 1..=BATCH) {
        names(&mut check, At::from("ids"), &ids, BATCH, ID_BYTES);
    }
    ids.sort_unstable();
    ids.dedup();
    check.end(ids)
}

/// Checks a list of names of 1 to `bytes` bytes each.
fn names(check: &mut Check, at: At<'_>, names: &[String], most: usize, bytes: usize) {
    if check.items(at, names.len(), 0..=most) {
        for (number, name) in names.iter().enumerate() {
            check.text(at.item(number), name, 1..=bytes);
        }
    }
}

/// Checks a vector, where one is given.
fn vector(check: &mut Check, at: At<'_>, vector: &[f32], dimensions: usize) {
    if vector.is_empty() {
        return;
    }
    let has = vector.len();
    if has != dimensions {
        check.wrong(at, format_args!("must have {dimensions} values, as its namespace says, and not {has}"));
    } else if let Some(place) = vector.iter().position(|value| !value.is_finite()) {
        check.wrong(at.item(place), "must be a finite number");
    } else if !VECTOR_LENGTHS.contains(&length(vector)) {
        check.wrong(at, "must not be all zero, and no shorter than 1e-18 or longer than 1e18");
    }
}

/// Writes a memory; without a vector unless one is given.
pub(crate) fn memory(memory: &Arc<Memory>, embedding: Option<&[f32]>) -> wire::Memory {
    wire::Memory {
        id: memory.id.to_string(),
        category: memory.category.clone(),
        content: memory.content.clone(),
        pools: memory.pools.clone(),
        time: Some(time::to_proto(memory.time)),
        confidence: memory.confidence,
        metadata: memory.metadata.clone().into_iter().collect(),
        embedding: embedding.map(<[f32]>::to_vec).unwrap_or_default(),
        agent: memory.agent.clone(),
        tags: memory.tags.clone(),
        thread: memory.place.as_ref().map(|place| place.thread.clone()).unwrap_or_default(),
        position: memory.place.as_ref().map(|place| place.position),
        importance: memory.importance,
        expiration: memory.expires.map(|at| wire::memory::Expiration::ExpireTime(time::to_proto(at))),
        pinned: memory.pinned,
        claim: memory.claim.clone().map(|Claim { subject, field, value }| wire::Claim {
            subject,
            field,
            value,
        }),
        sources: memory.sources.clone(),
    }
}

/// Writes an answer.
pub(crate) fn recalled(answer: &Answer, cached: bool) -> wire::RecallResponse {
    let memories = answer.found.iter().map(scored).collect();
    let (candidates, error) = (answer.candidates, answer.error);
    wire::RecallResponse { memories, candidates, exact: error == 0.0, cached, error }
}

fn scored(found: &Found) -> wire::ScoredMemory {
    let memory = memory(&found.memory, found.embedding.as_deref());
    let scores = found.parts.map(|parts| wire::Scores {
        vector: parts.vector.into(),
        text: parts.text.into(),
        entity: parts.entity.into(),
        period: parts.period.into(),
        recency: parts.recency.into(),
        importance: parts.importance.into(),
        confidence: parts.confidence.into(),
    });
    let contradicted_by = found.against.iter().map(ToString::to_string).collect();
    wire::ScoredMemory { memory: Some(memory), score: found.score, scores, contradicted_by }
}
