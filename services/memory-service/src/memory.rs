//! What an agent remembers.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

/// Shortest and longest Euclidean length of a vector the service takes: within them no product of a scan leaves the range of `f32`.
pub(crate) const VECTOR_LENGTHS: std::ops::RangeInclusive<f64> = 1e-18..=1e18;

/// A memory as it is kept; never changed, only replaced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memory {
    /// Unique within its tenant, 1 to 256 bytes.
    pub(crate) id: Arc<str>,
    /// Its kind, 1 to 128 bytes.
    pub(crate) category: String,
    /// What is remembered, 1 byte to 64 KiB.
    pub(crate) content: String,
    /// What it is about; at most 64.
    pub(crate) pools: Vec<String>,
    /// When it happened.
    pub(crate) time: SystemTime,
    /// How sure it is, 0 to 1; 0: not stated.
    pub(crate) confidence: f64,
    /// Further facts.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A memory with the vector of its content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// The memory.
    pub(crate) memory: Arc<Memory>,
    /// Its vector, as it was given or made; all zero if the embedder found nothing in the content.
    pub(crate) embedding: Vec<f32>,
}

/// A memory as it is handed in: the service fills in what is absent.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Its id; absent: one is made.
    pub(crate) id: Option<String>,
    /// Its kind.
    pub(crate) category: String,
    /// What is remembered.
    pub(crate) content: String,
    /// What it is about.
    pub(crate) pools: Vec<String>,
    /// When it happened; absent: now.
    pub(crate) time: Option<SystemTime>,
    /// How sure it is.
    pub(crate) confidence: f64,
    /// Further facts.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The vector of the content; absent: the service embeds it.
    pub(crate) embedding: Option<Vec<f32>>,
}

/// One write to a tenant's memories; on disk all of it or nothing.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Stores records, in this order; a later one replaces an earlier one of its id.
    Put(Vec<Record>),
    /// Deletes the memories of these ids.
    Forget(Vec<String>),
}

impl Draft {
    /// Completes the memory with the id, time and vector it lacks.
    #[must_use]
    pub(crate) fn complete(
        self,
        now: SystemTime,
        make_id: impl FnOnce() -> String,
        make_vector: impl FnOnce() -> Vec<f32>,
    ) -> Record {
        let embedding = self.embedding.unwrap_or_else(make_vector);
        let memory = Memory {
            id: self.id.unwrap_or_else(make_id).into(),
            category: self.category,
            content: self.content,
            pools: self.pools,
            time: self.time.unwrap_or(now),
            confidence: self.confidence,
            metadata: self.metadata,
        };
        Record { memory: Arc::new(memory), embedding }
    }
}

/// Returns the Euclidean length of `vector`.
#[must_use]
pub(crate) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{Draft, length};

    fn draft() -> Draft {
        Draft {
            id: None,
            category: "pool_behavior".into(),
            content: "fees rise on mondays".into(),
            pools: vec![],
            time: None,
            confidence: 0.5,
            metadata: BTreeMap::new(),
            embedding: None,
        }
    }

    #[test]
    fn what_is_absent_is_filled_in() {
        let now = UNIX_EPOCH + Duration::from_secs(7);
        let record = draft().complete(now, || "made".into(), || vec![1.0]);
        assert_eq!((&*record.memory.id, record.memory.time), ("made", now));
        assert_eq!(record.embedding, [1.0]);
    }

    #[test]
    fn what_is_given_is_kept() {
        let time = UNIX_EPOCH + Duration::from_secs(1);
        let given =
            Draft { id: Some("mine".into()), time: Some(time), embedding: Some(vec![2.0]), ..draft() };
        let record = given.complete(
            UNIX_EPOCH,
            || unreachable!("the id is given"),
            || unreachable!("so is the vector"),
        );
        assert_eq!((&*record.memory.id, record.memory.time), ("mine", time));
        assert_eq!(record.embedding, [2.0]);
    }

    #[test]
    fn a_length_does_not_overflow() {
        assert!((length(&[3.0, 4.0]) - 5.0).abs() < 1e-12);
        assert!(length(&[f32::MAX, f32::MAX]).is_finite());
    }
}
