//! Wire to domain and back; names the field that is wrong.

use std::{collections::BTreeMap, sync::Arc};

use contracts::memory as wire;
use rpc::{Fault, time};

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

/// Collects what is wrong with a request, to say all of it at once.
#[derive(Default)]
struct Check(Option<Fault>);

impl Check {
    fn require(&mut self, holds: bool, field: String, must: String) {
        if !holds {
            self.0 = Some(match self.0.take() {
                Some(fault) => fault.and(field, must),
                None => Fault::invalid(field, must),
            });
        }
    }

    fn text(&mut self, text: &str, field: String, most: usize) {
        self.require((1..=most).contains(&text.len()), field, format!("must have 1 to {most} bytes"));
    }

    fn share(&mut self, value: f64, field: String) {
        self.require((0.0..=1.0).contains(&value), field, "must be from 0 to 1".to_owned());
    }

    fn vector(&mut self, vector: &[f32], field: String, dimensions: usize) {
        let must = if vector.len() != dimensions {
            format!("must have {dimensions} values, as memory_dimensions says; has {}", vector.len())
        } else if !vector.iter().all(|value| value.is_finite()) {
            "must hold finite values only".to_owned()
        } else if !VECTOR_LENGTHS.contains(&length(vector)) {
            "must not be all zero, and no shorter than 1e-18 or longer than 1e18".to_owned()
        } else {
            return;
        };
        self.require(false, field, must);
    }

    fn end<T>(self, value: T) -> Result<T, Fault> {
        self.0.map_or(Ok(value), Err)
    }
}

/// Reads the memory at `field`.
pub(crate) fn draft(memory: Option<wire::Memory>, field: &str, limits: Limits) -> Result<Draft, Fault> {
    let memory = memory.ok_or_else(|| Fault::invalid(field.to_owned(), "must be given".to_owned()))?;
    let mut check = Check::default();
    let at = |name: &str| format!("{field}.{name}");
    check.require(memory.id.len() <= ID_BYTES, at("id"), format!("must have at most {ID_BYTES} bytes"));
    check.text(&memory.category, at("category"), CATEGORY_BYTES);
    check.text(&memory.content, at("content"), CONTENT_BYTES);
    check.require(memory.pools.len() <= POOLS, at("pools"), format!("must be at most {POOLS}"));
    for (number, pool) in memory.pools.iter().enumerate().take(POOLS) {
        check.text(pool, at(&format!("pools[{number}]")), POOL_BYTES);
    }
    check.share(memory.confidence, at("confidence"));
    let bytes: usize = memory.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    check.require(
        memory.metadata.len() <= METADATA_ENTRIES && bytes <= METADATA_BYTES,
        at("metadata"),
        format!("must have at most {METADATA_ENTRIES} entries and {METADATA_BYTES} bytes"),
    );
    let embedding = (!memory.embedding.is_empty()).then_some(memory.embedding);
    if let Some(vector) = &embedding {
        check.vector(vector, at("embedding"), limits.dimensions);
    }
    check.end(())?;
    let time = memory.time.as_ref().map(|time| time::from_proto(time, &at("time"))).transpose()?;
    Ok(Draft {
        id: (!memory.id.is_empty()).then_some(memory.id),
        category: memory.category,
        content: memory.content,
        pools: memory.pools,
        time,
        confidence: memory.confidence,
        metadata: memory.metadata.into_iter().collect(),
        embedding,
    })
}

/// Reads the memories of a batch.
pub(crate) fn drafts(memories: Vec<wire::Memory>, limits: Limits) -> Result<Vec<Draft>, Fault> {
    let mut check = Check::default();
    check.require(
        (1..=BATCH).contains(&memories.len()),
        "memories".to_owned(),
        format!("must be 1 to {BATCH}"),
    );
    check.end(())?;
    let numbered = memories.into_iter().enumerate();
    numbered.map(|(number, memory)| draft(Some(memory), &format!("memories[{number}]"), limits)).collect()
}

/// Reads a query; an absent one asks for the newest memories.
pub(crate) fn query(query: Option<wire::Query>, limits: Limits) -> Result<Query, Fault> {
    let query = query.unwrap_or_default();
    let mut check = Check::default();
    let at = |name: &str| format!("query.{name}");
    for (names, field, most) in
        [(&query.categories, "categories", CATEGORY_BYTES), (&query.pools, "pools", POOL_BYTES)]
    {
        check.require(names.len() <= QUERY_NAMES, at(field), format!("must be at most {QUERY_NAMES}"));
        for (number, name) in names.iter().enumerate().take(QUERY_NAMES) {
            check.text(name, at(&format!("{field}[{number}]")), most);
        }
    }
    check.require(
        query.text.len() <= QUERY_TEXT_BYTES,
        at("text"),
        format!("must have at most {QUERY_TEXT_BYTES} bytes"),
    );
    check.share(query.min_confidence, at("min_confidence"));
    check.require(
        query.limit <= limits.max,
        at("limit"),
        format!("must be at most {}, as query_max_limit says", limits.max),
    );
    let likeness = if query.embedding.is_empty() {
        Likeness::Text(query.text)
    } else {
        check.vector(&query.embedding, at("embedding"), limits.dimensions);
        Likeness::Vector(query.embedding)
    };
    check.end(())?;
    let start =
        query.start_time.as_ref().map(|time| time::from_proto(time, &at("start_time"))).transpose()?;
    let end = query.end_time.as_ref().map(|time| time::from_proto(time, &at("end_time"))).transpose()?;
    let mut check = Check::default();
    let in_order = start.zip(end).is_none_or(|(start, end)| start < end);
    check.require(in_order, at("end_time"), "must be later than start_time".to_owned());
    let filter = Filter {
        categories: query.categories,
        pools: query.pools,
        start,
        end,
        min_confidence: query.min_confidence,
    };
    let limit = if query.limit == 0 { limits.default } else { query.limit } as usize;
    check.end(Query { likeness, filter, limit, include_embedding: query.include_embedding }.canonical())
}

/// Reads an id.
pub(crate) fn id(id: String) -> Result<String, Fault> {
    let mut check = Check::default();
    check.text(&id, "id".to_owned(), ID_BYTES);
    check.end(id)
}

/// Reads the ids of a forget; one that is named twice counts once.
pub(crate) fn ids(ids: Vec<String>) -> Result<Vec<String>, Fault> {
    let mut check = Check::default();
    check.require((1..=BATCH).contains(&ids.len()), "ids".to_owned(), format!("must be 1 to {BATCH}"));
    for (number, id) in ids.iter().enumerate().take(BATCH) {
        check.text(id, format!("ids[{number}]"), ID_BYTES);
    }
    let mut ids = ids;
    ids.sort_unstable();
    ids.dedup();
    check.end(ids)
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
