//! What is kept where two memories become one.

use std::sync::Arc;

use crate::memory::{Memory, Record};

/// Most sources and tags of a memory, as the contract has it.
const MOST: usize = 64;

/// Makes one memory of an older and a newer one that say the same.
///
/// It keeps the older one's id, so that what refers to it still does, and the newer one's words and vector. Both say when it was so: the
/// later time counts, since what is said again is as good as new, and how often it was said is counted beside the memory. Sources,
/// tags and metadata are those of both (the newest 64 of a kind), importance and confidence the greater one. A claim stays. It is pinned if one of
/// them is, and lives as long as the one that lives longer.
pub(crate) fn merge(older: &Memory, newer: &Record) -> Record {
    let memory = &newer.memory;
    let mut metadata = older.metadata.clone();
    for (name, value) in &memory.metadata {
        // More than the contract allows would come back as a memory that cannot be written again.
        if metadata.len() < MOST || metadata.contains_key(name) {
            metadata.insert(name.clone(), value.clone());
        }
    }
    let merged = Memory {
        id: Arc::clone(&older.id),
        category: older.category.clone(),
        content: memory.content.clone(),
        pools: older.pools.clone(),
        time: older.time.max(memory.time),
        confidence: older.confidence.max(memory.confidence),
        metadata,
        agent: older.agent.clone(),
        tags: union(&older.tags, &memory.tags),
        place: older.place.clone(),
        importance: older.importance.max(memory.importance),
        expires: older.expires.zip(memory.expires).map(|(one, other)| one.max(other)),
        pinned: older.pinned || memory.pinned,
        claim: memory.claim.clone().or_else(|| older.claim.clone()),
        sources: union(&older.sources, &memory.sources),
    };
    // Who compares them finds that both say this.
    Record { memory: Arc::new(merged), embedding: newer.embedding.clone(), saying: newer.saying }
}

/// Returns the names of both, each once, the older ones first; of more than the contract allows the last.
fn union(older: &[String], newer: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(older.len() + newer.len());
    let repeated = |name: &&String| !newer.contains(name);
    for name in older.iter().filter(repeated).chain(newer) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.split_off(names.len().saturating_sub(MOST))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, UNIX_EPOCH},
    };

    use super::{MOST, merge, union};
    use crate::memory::{Claim, Memory, Record};

    fn named(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn second() -> Record {
        let memory = Memory {
            id: "new".into(),
            content: "Gas is low on sunday nights.".into(),
            time: UNIX_EPOCH + Duration::from_secs(9),
            confidence: 0.4,
            importance: 0.9,
            tags: named(&["night", "gas"]),
            sources: named(&["b"]),
            metadata: [("seen".into(), "x".into())].into(),
            ..Memory::bare()
        };
        Record::new(memory, vec![2.0])
    }

    fn first() -> Memory {
        Memory {
            id: "old".into(),
            content: "gas is low on sunday nights".into(),
            time: UNIX_EPOCH + Duration::from_secs(5),
            confidence: 0.7,
            tags: named(&["gas", "cost"]),
            sources: named(&["a"]),
            pinned: true,
            claim: Some(Claim { subject: "gas".into(), field: "night".into(), value: "low".into() }),
            expires: Some(UNIX_EPOCH + Duration::from_secs(100)),
            ..Memory::bare()
        }
    }

    #[test]
    fn the_newer_words_are_kept_under_the_older_id_with_what_both_know() {
        let merged = merge(&first(), &second());
        let memory = &*merged.memory;
        assert_eq!((&*memory.id, memory.content.as_str()), ("old", "Gas is low on sunday nights."));
        assert_eq!(merged.embedding, [2.0]);
        assert_eq!((memory.confidence, memory.importance, memory.pinned), (0.7, 0.9, true));
        assert_eq!(memory.time, UNIX_EPOCH + Duration::from_secs(9));
        assert_eq!(memory.tags, named(&["cost", "night", "gas"]));
        assert_eq!(memory.sources, named(&["a", "b"]));
        assert_eq!(memory.claim, first().claim);
        assert_eq!(memory.metadata.len(), 1);
    }

    #[test]
    fn a_memory_that_never_ends_makes_the_merged_one_endless() {
        assert_eq!(merge(&first(), &second()).memory.expires, None);
        let mut ends = second();
        Arc::make_mut(&mut ends.memory).expires = Some(UNIX_EPOCH + Duration::from_secs(50));
        assert_eq!(merge(&first(), &ends).memory.expires, first().expires);
    }

    #[test]
    fn merging_again_and_again_stays_within_the_contract() {
        let numbered = |from: usize| (from..from + 40).map(|n| n.to_string()).collect::<Vec<_>>();
        let both = union(&numbered(0), &numbered(40));
        assert_eq!((both.len(), both[0].as_str(), both[63].as_str()), (MOST, "16", "79"));
    }
}
