//! Memories on their way in: as they are handed in, with what they say and their vectors, and as a write.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use crate::{
    hygiene::saying::Saying,
    memory::{Claim, Expiry, Memory, Place},
};

/// A memory as it is handed in: the service fills in what is absent.
#[derive(Clone, Debug, Default)]
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
    /// The agent it belongs to, at most 128 bytes; empty: none.
    pub(crate) agent: String,
    /// Labels; at most 64.
    pub(crate) tags: Vec<String>,
    /// Its thread, and its position there; absent: by its time.
    pub(crate) place: Option<(String, Option<u64>)>,
    /// How much it matters, 0 to 1; 0: not stated.
    pub(crate) importance: f64,
    /// From when on it is not found.
    pub(crate) expires: Option<Expiry>,
    /// Whether only its id or its expiry forgets it.
    pub(crate) pinned: bool,
    /// What it states.
    pub(crate) claim: Option<Claim>,
    /// Where it comes from; at most 64.
    pub(crate) sources: Vec<String>,
    /// The vector of the content; absent: the service embeds it.
    pub(crate) embedding: Option<Vec<f32>>,
}

/// A memory with the vector of its content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// The memory.
    pub(crate) memory: Arc<Memory>,
    /// Its vector, as it was given or made; all zero if the embedder found nothing in the content.
    pub(crate) embedding: Vec<f32>,
    /// What it says, worked out once.
    pub(crate) saying: Saying,
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
        let time = self.time.unwrap_or(now);
        let place = self.place.map(|(thread, position)| {
            let position = position.unwrap_or_else(|| nanos(time));
            Place { thread, position }
        });
        let expires = self.expires.and_then(|expiry| match expiry {
            Expiry::At(time) => Some(time),
            // A time that cannot be told is never.
            Expiry::After(ttl) => now.checked_add(ttl),
        });
        let memory = Memory {
            id: self.id.unwrap_or_else(make_id).into(),
            category: self.category,
            content: self.content,
            pools: self.pools,
            time,
            confidence: self.confidence,
            metadata: self.metadata,
            agent: self.agent,
            tags: self.tags,
            place,
            importance: self.importance,
            expires,
            pinned: self.pinned,
            claim: self.claim,
            sources: self.sources,
        };
        Record::new(memory, embedding)
    }
}

impl Record {
    /// Works out what `memory` says.
    pub(crate) fn new(memory: impl Into<Arc<Memory>>, embedding: Vec<f32>) -> Self {
        let memory = memory.into();
        Self { saying: Saying::of(&memory), memory, embedding }
    }
}

/// Returns the nanoseconds from 1970 to `time`; 0 before.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Draft, Expiry, Place};

    fn draft() -> Draft {
        Draft {
            category: "pool_behavior".into(),
            content: "fees rise on mondays".into(),
            confidence: 0.5,
            ..Draft::default()
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
    fn a_life_begins_when_it_is_handed_in_and_a_place_without_position_is_its_time() {
        let now = UNIX_EPOCH + Duration::from_secs(7);
        let expires = Some(Expiry::After(Duration::from_secs(3)));
        let placed = Draft { expires, place: Some(("log".into(), None)), ..draft() };
        let record = placed.complete(now, || "made".into(), || vec![1.0]);
        assert_eq!(record.memory.expires, Some(UNIX_EPOCH + Duration::from_secs(10)));
        assert_eq!(record.memory.place, Some(Place { thread: "log".into(), position: 7_000_000_000 }));
        let for_ever = Draft { expires: Some(Expiry::After(Duration::MAX)), ..draft() };
        assert_eq!(for_ever.complete(now, || "made".into(), || vec![1.0]).memory.expires, None);
    }
}
