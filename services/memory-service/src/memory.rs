//! What an agent remembers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::hygiene::saying::Saying;

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
    /// The agent it belongs to, at most 128 bytes; empty: none.
    pub(crate) agent: String,
    /// Labels; at most 64.
    pub(crate) tags: Vec<String>,
    /// Its place in a conversation, task or log.
    pub(crate) place: Option<Place>,
    /// How much it matters, 0 to 1; 0: not stated.
    pub(crate) importance: f64,
    /// From when on it is not found.
    pub(crate) expires: Option<SystemTime>,
    /// Whether only its id or its expiry forgets it.
    pub(crate) pinned: bool,
    /// What it states.
    pub(crate) claim: Option<Claim>,
    /// Where it comes from; at most 64.
    pub(crate) sources: Vec<String>,
}

/// A place in a conversation, task or log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which one, 1 to 256 bytes.
    pub(crate) thread: String,
    /// Where in it, rising.
    pub(crate) position: u64,
}

/// A value stated for a field of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// What it is about.
    pub(crate) subject: String,
    /// What is said of it.
    pub(crate) field: String,
    /// The value.
    pub(crate) value: String,
}

/// When a memory is forgotten by itself, as it is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// At a time.
    At(SystemTime),
    /// So long after it was handed in.
    After(Duration),
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

/// One write to a tenant's memories; on disk all of it or nothing.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Stores records, in this order; a later one replaces an earlier one of its id.
    Put(Vec<Record>),
    /// Deletes the memories of these ids.
    Forget(Vec<String>),
}

impl Memory {
    /// Returns a memory that says nothing yet.
    pub(crate) fn bare() -> Self {
        Self {
            id: "".into(),
            category: String::new(),
            content: String::new(),
            pools: Vec::new(),
            time: SystemTime::UNIX_EPOCH,
            confidence: 0.0,
            metadata: BTreeMap::new(),
            agent: String::new(),
            tags: Vec::new(),
            place: None,
            importance: 0.0,
            expires: None,
            pinned: false,
            claim: None,
            sources: Vec::new(),
        }
    }

    /// Returns how many bytes its words take.
    pub(crate) fn bytes(&self) -> usize {
        let of = |names: &[String]| names.iter().map(String::len).sum::<usize>();
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        let thread = self.place.as_ref().map_or(0, |place| place.thread.len());
        let claim = self.claim.as_ref();
        let claim = claim.map_or(0, |claim| claim.subject.len() + claim.field.len() + claim.value.len());
        let own = self.id.len() + self.category.len() + self.content.len() + self.agent.len();
        own + of(&self.pools) + of(&self.tags) + of(&self.sources) + metadata + thread + claim
    }
}

impl Record {
    /// Works out what `memory` says.
    pub(crate) fn new(memory: impl Into<Arc<Memory>>, embedding: Vec<f32>) -> Self {
        let memory = memory.into();
        Self { saying: Saying::of(&memory), memory, embedding }
    }
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

/// Returns the nanoseconds from 1970 to `time`; 0 before.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the cosine of the angle between two vectors of one length, -1 to 1; 0 where one is all zero.
pub(crate) fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let product: f64 = one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum();
    let lengths = length(one) * length(other);
    #[expect(clippy::cast_possible_truncation, reason = "it is -1 to 1")]
    let cosine = (product / lengths).clamp(-1.0, 1.0) as f32;
    if lengths > 0.0 { cosine } else { 0.0 }
}

/// Returns the Euclidean length of `vector`.
#[must_use]
pub(crate) fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Draft, Expiry, Place, length};

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

    #[test]
    fn a_length_does_not_overflow() {
        assert!((length(&[3.0, 4.0]) - 5.0).abs() < 1e-12);
        assert!(length(&[f32::MAX, f32::MAX]).is_finite());
    }
}
