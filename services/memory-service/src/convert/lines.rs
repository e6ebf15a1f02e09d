//! Memories as lines of JSON: a header that says what their vectors are, then one memory a line.

use std::{collections::BTreeMap, str::FromStr as _};

use contracts::memory as wire;
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::shape::{Metric, Shape};

/// What is written; a later form gets the next number.
const FORM: u32 = 1;

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
struct Header {
    athena_memories: u32,
    embedder: String,
    dimensions: usize,
    metric: String,
}

/// A memory. What is empty or not stated is left out.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    id: String,
    category: String,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pools: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    confidence: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    agent: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    thread: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    importance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_time: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pinned: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embedding: Vec<f32>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    subject: String,
    field: String,
    value: String,
}

/// Writes the header of memories whose vectors are of `shape`, with its end of line.
pub(crate) fn header(shape: &Shape) -> Result<Vec<u8>, serde_json::Error> {
    let metric = match shape.metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::Euclidean => "euclidean",
    };
    let embedder = shape.embedder.clone();
    let dimensions = shape.dimensions;
    ended(&Header { athena_memories: FORM, embedder, dimensions, metric: metric.to_owned() })
}

/// Reads a header; says what is wrong with it otherwise.
pub(crate) fn shape(line: &[u8]) -> Result<Shape, String> {
    let header: Header = serde_json::from_slice(line).map_err(|error| format!("is no header: {error}"))?;
    let metric = match (header.athena_memories, &*header.metric) {
        (FORM, "cosine") => Metric::Cosine,
        (FORM, "dot") => Metric::Dot,
        (FORM, "euclidean") => Metric::Euclidean,
        (FORM, other) => return Err(format!("names the metric `{other}`")),
        (form, _) => return Err(format!("is of form {form}, and {FORM} is read here")),
    };
    if !Shape::DIMENSIONS.contains(&header.dimensions) {
        return Err("names dimensions that are not from 16 to 4,096".to_owned());
    }
    Ok(Shape { embedder: header.embedder, dimensions: header.dimensions, metric })
}

/// Writes a memory as a line, with its end.
pub(crate) fn line(memory: wire::Memory) -> Result<Vec<u8>, serde_json::Error> {
    let expire_time = match memory.expiration {
        Some(wire::memory::Expiration::ExpireTime(time)) => Some(time.to_string()),
        _ => None,
    };
    let claim = memory.claim.map(|wire::Claim { subject, field, value }| Claim { subject, field, value });
    ended(&Line {
        id: memory.id,
        category: memory.category,
        content: memory.content,
        pools: memory.pools,
        time: memory.time.map(|time| time.to_string()),
        confidence: memory.confidence,
        metadata: memory.metadata.into_iter().collect(),
        agent: memory.agent,
        tags: memory.tags,
        thread: memory.thread,
        position: memory.position,
        importance: memory.importance,
        expire_time,
        pinned: memory.pinned,
        claim,
        sources: memory.sources,
        embedding: memory.embedding,
    })
}

/// Reads a memory from a line; says what is wrong with it otherwise.
pub(crate) fn memory(line: &[u8]) -> Result<wire::Memory, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let time = |name: &str, time: Option<String>| {
        time.map(|time| Timestamp::from_str(&time).map_err(|_| format!("{name} is no time of RFC 3339")))
            .transpose()
    };
    let expire_time = time("expire_time", line.expire_time)?;
    let claim = line.claim.map(|Claim { subject, field, value }| wire::Claim { subject, field, value });
    Ok(wire::Memory {
        id: line.id,
        category: line.category,
        content: line.content,
        pools: line.pools,
        time: time("time", line.time)?,
        confidence: line.confidence,
        metadata: line.metadata.into_iter().collect(),
        embedding: line.embedding,
        agent: line.agent,
        tags: line.tags,
        thread: line.thread,
        position: line.position,
        importance: line.importance,
        expiration: expire_time.map(wire::memory::Expiration::ExpireTime),
        pinned: line.pinned,
        claim,
        sources: line.sources,
    })
}

fn ended(line: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{header, line, memory, shape};
    use crate::{
        convert,
        shape::{Metric, Shape},
        store::full,
    };

    #[test]
    fn a_memory_comes_back_from_its_line_as_it_was() {
        let given = convert::memory(&Arc::new(full()), Some(&[0.1, -1.5e-20, f32::MAX]));
        let bytes = line(given.clone()).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(memory(&bytes), Ok(given));
    }

    #[test]
    fn a_header_says_what_the_vectors_are() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            let given = Shape { embedder: "hashing-16".into(), dimensions: 16, metric };
            assert_eq!(shape(&header(&given).unwrap()), Ok(given));
        }
        assert!(shape(br#"{"athena_memories":2,"embedder":"a","dimensions":16,"metric":"cosine"}"#).is_err());
        assert!(shape(br#"{"id":"a","category":"b","content":"c"}"#).is_err());
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
        assert!(memory(br#"{"category":"b","content":"c","colour":"red"}"#).unwrap_err().contains("colour"));
        assert!(memory(br#"{"time":"yesterday"}"#).unwrap_err().contains("time"));
    }

    proptest! {
        #[test]
        fn any_vector_comes_back(vector in proptest::collection::vec(any::<f32>().prop_filter("finite", |v| v.is_finite()), 1..8)) {
            let given = convert::memory(&Arc::new(full()), Some(&vector));
            prop_assert_eq!(memory(&line(given).unwrap()).unwrap().embedding, vector);
        }
    }
}
