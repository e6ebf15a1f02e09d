//! What an agent remembers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

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
    use super::length;

    #[test]
    fn a_length_does_not_overflow() {
        assert!((length(&[3.0, 4.0]) - 5.0).abs() < 1e-12);
        assert!(length(&[f32::MAX, f32::MAX]).is_finite());
    }
}
