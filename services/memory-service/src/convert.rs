//! Wire to domain and back; names the field that is wrong.

use std::{collections::BTreeMap, sync::Arc};

use contracts::memory as wire;
use rpc::{At, Check, Fault, time};

use crate::{
    config::Limits,
    engine::{Explained, Stats},
    explain::Stage,
    memory::{Draft, Memory, VECTOR_LENGTHS, length},
    query::{Filter, Likeness, Query},
    recall::{Answer, Found},
};

/// Most memories of a batch, and most ids of a forget.
pub(crate) const BATCH: usize = 1000;

const CATEGORY_BYTES: usize = 128;
const CONTENT_BYTES: usize = 64 << 10;
const ID_BYTES: usize = 256;
const METADATA_BYTES: usize = 16 << 10;
const METADATA_ENTRIES: usize = 64;
const POOL_BYTES: usize = 256;
const POOLS: usize = 64;
/// Most categories of a query, and most pools.
const QUERY_NAMES: usize = 64;
const QUERY_TEXT_BYTES: usize = 64 << 10;

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
    Draft {
        id: (!memory.id.is_empty()).then_some(memory.id),
        category: memory.category,
        content: memory.content,
        pools: memory.pools,
        time,
        confidence: memory.confidence,
        metadata: memory.metadata.into_iter().collect(),
        embedding: (!memory.embedding.is_empty()).then_some(memory.embedding),
    }
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
    let start = check.time(at.field("start_time"), query.start_time.as_ref());
    let end = check.time(at.field("end_time"), query.end_time.as_ref());
    let in_order = start.zip(end).is_none_or(|(start, end)| start < end);
    check.require(at.field("end_time"), in_order, "must be later than start_time");
    check.within(at.field("min_confidence"), query.min_confidence, 0.0..=1.0);
    let limit = check.limit(at.field("limit"), query.limit, limits.default, limits.max);
    let filter = Filter {
        categories: query.categories,
        pools: query.pools,
        start,
        end,
        min_confidence: query.min_confidence,
    };
    let likeness = if query.embedding.is_empty() {
        Likeness::Text(query.text)
    } else {
        Likeness::Vector(query.embedding)
    };
    check.end(Query { likeness, filter, limit, include_embedding: query.include_embedding }.canonical())
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
        check.wrong(
            at,
            format_args!("must have {dimensions} values, as memory_dimensions says, and not {has}"),
        );
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
    }
}

/// Writes an answer. The search is exact, always.
pub(crate) fn recalled(answer: &Answer, cached: bool) -> wire::RecallResponse {
    let memories = answer.found.iter().map(scored).collect();
    wire::RecallResponse { memories, candidates: answer.candidates, exact: true, cached }
}

/// Writes how a recall was run.
pub(crate) fn explained(explained: Explained) -> wire::ExplainResponse {
    wire::ExplainResponse {
        stages: explained.stages.into_iter().map(stage).collect(),
        memories: explained.answer.found.iter().map(scored).collect(),
        would_hit_cache: explained.would_hit_cache,
        total: Some(time::duration_to_proto(explained.total)),
    }
}

/// Writes statistics.
pub(crate) fn stats(stats: Stats) -> wire::GetStatsResponse {
    let categories: BTreeMap<String, u64> = stats.categories;
    wire::GetStatsResponse {
        memories: stats.memories,
        categories: categories.into_iter().collect(),
        dimensions: u32::try_from(stats.dimensions).unwrap_or(u32::MAX),
        embedder: stats.embedder,
        store_bytes: stats.store_bytes,
        cache_hits: stats.cache_hits,
        cache_misses: stats.cache_misses,
        generation: stats.generation,
    }
}

fn scored(found: &Found) -> wire::ScoredMemory {
    let memory = memory(&found.memory, found.embedding.as_deref());
    wire::ScoredMemory { memory: Some(memory), score: found.score }
}

fn stage(stage: Stage) -> wire::Stage {
    wire::Stage {
        name: stage.name.to_owned(),
        detail: stage.detail,
        rows_in: stage.rows_in,
        rows_out: stage.rows_out,
        duration: Some(time::duration_to_proto(stage.duration)),
    }
}
