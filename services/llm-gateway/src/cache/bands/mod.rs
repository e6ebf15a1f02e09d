//! Bands: the stored answer about an entity also serves figures close to those it was made of.
//!
//! 1. A band is centred on the figures of a stored answer, its anchor, and not on a grid: how far off an answer may be is bounded exactly,
//!    and no two close figures are parted by an edge between bands.
//! 2. Anchors never move: figures that creep are compared with what the answer is about, not with what was seen last.
//! 3. The answer that served last goes on serving until the figures leave its band; only then are the entity's other answers tried,
//!    and last the model. So figures that wander about an edge neither change answers nor cause calls (hysteresis).
//! 4. Nothing crosses an entity: tenant, model, question, type, id and subject are exact, and so are labels and which values there are.
//! 5. Answers themselves stay in the exact cache. What is removed there, or too old, is not served from here.

mod tolerance;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use caching::{Bytes, Cache, Options};
use clock::Clock;
use parking_lot::Mutex;

pub use self::tolerance::{Difference, MAX_RELATIVE, Tolerance, Tolerances};
use super::{Found, Key, StoredAnalysis};
use crate::observation::Observation;

/// Most bytes of the anchors of one entity, its key included: the answers that served longest ago leave first.
pub const MAX_ENTITY_BYTES: usize = 64 << 10;
/// What an entry of a map takes beside its text, about.
const ENTRY_BYTES: usize = 48;

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most entities.
    pub entities: u64,
    /// Most answers of an entity, those that served last; at least one.
    pub answers: usize,
    /// Most bytes over all entities.
    pub max_bytes: u64,
    /// How long an entity is kept after its newest answer, on the clock.
    pub ttl: Duration,
}

/// What the stored answers about each entity are about.
#[derive(Debug)]
pub struct Bands {
    entities: Cache<Key, Anchors>,
    most: usize,
}

/// What the answers about one entity are about, the one that served last first.
type Anchors = Arc<Mutex<VecDeque<Anchor>>>;

/// What a stored answer is about, and where it is stored.
#[derive(Debug)]
struct Anchor {
    seen: Observation,
    answer: Key,
}

/// A stored answer about close figures.
#[derive(Clone, Debug)]
pub struct Near {
    /// The answer, with its age.
    pub found: Found<StoredAnalysis>,
    /// What the answer is about.
    pub anchor: Observation,
}

/// What came of looking for an answer: what the one served is about, or why there is none.
pub type Outcome = Result<Observation, Refusal>;

/// Why no stored answer about the entity was served.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// There is none.
    Unknown,
    /// The one that served last differs in this, and none of the others is close either.
    Apart(Difference),
    /// There is one about close figures, which was removed since, or is older than allowed.
    Gone,
}

impl Bands {
    /// Makes an empty index.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock) -> Self {
        let Limits { entities, answers, max_bytes, ttl } = limits;
        let bytes = Some(Bytes {
            most: max_bytes,
            of: |entity, anchors: &Anchors| bytes(entity, &anchors.lock()) as u64,
        });
        let options = Options { entries: entities, ttl, bytes, sizing: None, resized: None };
        Self { entities: Cache::with(options, clock), most: answers.max(1) }
    }

    /// Finds the answer about figures close to those of `now`; `read` looks an answer up where it is stored.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(
        &self,
        entity: &Key,
        now: &Observation,
        tolerances: &Tolerances,
        read: impl Fn(&Key) -> Option<Found<StoredAnalysis>>,
    ) -> Result<Near, Refusal> {
        let Some(anchors) = self.entities.get(entity) else { return Err(Refusal::Unknown) };
        let mut anchors = anchors.value.lock();
        let mut refusal = Refusal::Unknown;
        for place in 0..anchors.len() {
            let Some(anchor) = anchors.get(place) else { break };
            let refused = match tolerances.compare(now, &anchor.seen) {
                Err(difference) => Refusal::Apart(difference),
                Ok(()) => match read(&anchor.answer) {
                    None => Refusal::Gone,
                    Some(found) => {
                        let near = Near { found, anchor: anchor.seen.clone() };
                        to_front(&mut anchors, place);
                        return Ok(near);
                    }
                },
            };
            if place == 0 {
                refusal = refused;
            }
        }
        Err(refusal)
    }

    /// Notes that the answer stored under `answer` is about `seen`, and is the one to try first from now on.
    pub fn note(&self, entity: &Key, seen: &Observation, answer: &Key) {
        let anchors = self.entities.get(entity).map(|hit| hit.value).unwrap_or_default();
        {
            let mut anchors = anchors.lock();
            match anchors.iter().position(|anchor| anchor.answer == *answer) {
                Some(place) => to_front(&mut anchors, place),
                None => anchors.push_front(Anchor { seen: seen.clone(), answer: answer.clone() }),
            }
            anchors.truncate(self.most);
            while bytes(entity, &anchors) > MAX_ENTITY_BYTES {
                if anchors.pop_back().is_none() {
                    return;
                }
            }
        }
        // Stored anew, so that the entity is kept as long as its newest answer is.
        self.entities.insert(entity.clone(), anchors);
    }

    /// Forgets what the answers of `tenant` are about, those of one model or (empty) of all.
    pub fn invalidate(&self, tenant: &str, model: &str) {
        self.entities
            .invalidate_if(|key, _| key.tenant() == tenant && (model.is_empty() || key.model() == model));
    }
}

impl Refusal {
    /// Returns the name of the value or label it is about; empty if it is about none.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Apart(difference) => difference.field(),
            Self::Unknown | Self::Gone => "",
        }
    }
}

impl Anchor {
    fn bytes(&self) -> usize {
        let Observation { id, kind, subject, values, labels, time: _ } = &self.seen;
        let values: usize = values.keys().map(|name| name.len() + ENTRY_BYTES).sum();
        let labels: usize = labels.iter().map(|(name, text)| name.len() + text.len() + ENTRY_BYTES).sum();
        self.answer.bytes() + id.len() + kind.len() + subject.len() + values + labels
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no answer about this entity is known"),
            Self::Apart(difference) => difference.fmt(f),
            Self::Gone => f.write_str("the answer about close figures was removed, or is older than allowed"),
        }
    }
}

/// Returns how many bytes an entity takes, about.
fn bytes(entity: &Key, anchors: &VecDeque<Anchor>) -> usize {
    entity.bytes() + anchors.iter().map(Anchor::bytes).sum::<usize>()
}

fn to_front(anchors: &mut VecDeque<Anchor>, place: usize) {
    if let Some(anchor) = anchors.remove(place) {
        anchors.push_front(anchor);
    }
}
